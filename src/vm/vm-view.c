/*
 * What others ask of a running machine, and what they are told by: vCPUs' registers, counters, a debugger's points, the functions that events go to.
 */
#include "core/error.h"
#include "vm/vm-int.h"

char *vm_describe_cpu(Vm *vm, unsigned index)
{
    g_mutex_lock(&vm->lock);
    run_pause(vm->run);
    g_mutex_unlock(&vm->lock);
    char *text = run_describe(vm->run, index);
    g_mutex_lock(&vm->lock);
    run_resume(vm->run);
    g_mutex_unlock(&vm->lock);
    return text;
}

void vm_cpu_state(Vm *vm, unsigned index, X86State *out_state)
{
    g_mutex_lock(&vm->lock);
    run_pause(vm->run);
    g_mutex_unlock(&vm->lock);
    run_save(vm->run, index, out_state);
    g_mutex_lock(&vm->lock);
    run_resume(vm->run);
    g_mutex_unlock(&vm->lock);
}

gboolean vm_debug(Vm *vm, unsigned index, const CpuDebug *debug, bool is_frozen, GError **error)
{
    g_mutex_lock(&vm->lock);
    run_pause(vm->run);
    g_mutex_unlock(&vm->lock);
    gboolean is_ok = run_debug(vm->run, index, debug, is_frozen, error);
    g_mutex_lock(&vm->lock);
    run_resume(vm->run);
    g_mutex_unlock(&vm->lock);
    return is_ok;
}

void vm_cpu_load(Vm *vm, unsigned index, const X86State *state)
{
    g_mutex_lock(&vm->lock);
    run_pause(vm->run);
    g_mutex_unlock(&vm->lock);
    run_load(vm->run, index, state);
    g_mutex_lock(&vm->lock);
    run_resume(vm->run);
    g_mutex_unlock(&vm->lock);
}

bool vm_has_long_mode(const Vm *vm) { return cpuid_model_has(&vm->cpuid, "lm"); }

unsigned vm_debug_room(Vm *vm) { return run_debug_room(vm->run); }

void vm_set_debug_func(Vm *vm, VmDebugFunc func, void *opaque)
{
    g_mutex_lock(&vm->lock);
    vm->debug_func = func;
    vm->debug_opaque = opaque;
    g_mutex_unlock(&vm->lock);
}

void vm_set_gdbserver_func(Vm *vm, VmGdbserverFunc func, void *opaque)
{
    vm->gdbserver_func = func;
    vm->gdbserver_opaque = opaque;
}

gboolean vm_gdbserver(Vm *vm, const char *where, GError **error)
{
    if (vm->gdbserver_func)
        return vm->gdbserver_func(vm->gdbserver_opaque, where, error);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, "this program has no gdbserver");
    return FALSE;
}

int vm_thread_id(Vm *vm, unsigned index)
{
    g_mutex_lock(&vm->lock);
    int id = run_thread_id(vm->run, index);
    g_mutex_unlock(&vm->lock);
    return id;
}

void vm_counters(Vm *vm, CpuCounterFunc *row, void *opaque)
{
    g_mutex_lock(&vm->lock);
    run_counters(vm->run, row, opaque);
    g_mutex_unlock(&vm->lock);
}

char *vm_profile(Vm *vm)
{
    g_mutex_lock(&vm->lock);
    char *text = run_profile(vm->run);
    g_mutex_unlock(&vm->lock);
    return text;
}

Ram *vm_ram(Vm *vm) { return vm->ram; }

const Config *vm_config(const Vm *vm) { return vm->config; }

const char *vm_mode_name(const Vm *vm) { return plan_mode_name(switcher_mode(vm->switcher)); }

PciDevices *vm_devices(Vm *vm) { return vm->devices; }
Switcher *vm_switcher(Vm *vm) { return vm->switcher; }

Migration *vm_migration(Vm *vm) { return vm->migration; }

const char *vm_snapshot_dir(const Vm *vm) { return vm->config->snapshot_dir; }

void vm_set_migration_events(Vm *vm, bool is_on) { vm->has_migration_events = is_on; }

bool vm_migration_events(const Vm *vm) { return vm->has_migration_events; }

void vm_set_migration_func(Vm *vm, VmMigrationFunc func, void *opaque)
{
    vm->migration_func = func;
    vm->migration_opaque = opaque;
}

void vm_set_mode_func(Vm *vm, VmModeFunc func, void *opaque)
{
    vm->mode_func = func;
    vm->mode_opaque = opaque;
}

void vm_set_adaptive_func(Vm *vm, VmAdaptiveFunc func, void *opaque)
{
    vm->adaptive_func = func;
    vm->adaptive_opaque = opaque;
}

Chardev *vm_monitor_chardev(Vm *vm) { return vm->monitor ? vm->monitor : vm->monitor_shared; }
