/* The human monitor's commands for network cards and the networks behind them. */
#pragma once

#include "vm/vm.h"

void hmp_info_network(Vm *vm, GString *out);
void hmp_info_usernet(Vm *vm, GString *out);
void hmp_hostfwd_add(Vm *vm, const char *args, GString *out);
void hmp_hostfwd_remove(Vm *vm, const char *args, GString *out);
void hmp_set_link(Vm *vm, const char *args, GString *out);
