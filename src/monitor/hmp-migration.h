/* The human monitor about saved guests: savevm, loadvm, delvm, migrate and the info that goes with them. */
#pragma once

#include <glib.h>

#include "vm/vm.h"

void hmp_savevm(Vm *vm, const char *args, GString *out);
void hmp_loadvm(Vm *vm, const char *args, GString *out);
void hmp_delvm(Vm *vm, const char *args, GString *out);
void hmp_migrate(Vm *vm, const char *args, GString *out);
void hmp_migrate_cancel(Vm *vm, const char *args, GString *out);
void hmp_migrate_set_parameter(Vm *vm, const char *args, GString *out);
void hmp_info_migrate_parameters(Vm *vm, GString *out);
void hmp_migrate_incoming(Vm *vm, const char *args, GString *out);
void hmp_info_snapshots(Vm *vm, GString *out);
void hmp_info_migrate(Vm *vm, GString *out);
