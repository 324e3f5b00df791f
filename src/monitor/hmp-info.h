/* The human monitor's views of the machine: what was configured, what the engine counts. */
#pragma once

#include "vm/vm.h"

void hmp_info_name(Vm *vm, GString *out);
void hmp_info_block(Vm *vm, GString *out);
void hmp_info_chardev(Vm *vm, GString *out);
void hmp_info_stats(Vm *vm, GString *out);
void hmp_info_profile(Vm *vm, GString *out);
void hmp_info_mtree(Vm *vm, GString *out);
void hmp_info_devices(Vm *vm, GString *out);
