/*
 * Vm: one virtual machine, built from a Config in one visible order and run until it ends.
 *
 * vm_new, vm_run and the requests belong to the thread of the default main context, which also runs timers and back ends.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/config.h"
#include "core/cpu.h"
#include "vm/adaptive.h"
#include "vm/chardev.h"
#include "vm/migration.h"
#include "vm/pci-devices.h"
#include "vm/switch.h"

typedef struct Vm Vm;

typedef enum VmStatus {
    VM_STATUS_OFF = 0, /* powered off, or told to quit */
    VM_STATUS_NO_MODE = 3, /* no mode is left in which the guest could go on */
    VM_STATUS_CRASHED = 5,
    VM_STATUS_INTERNAL = 6,
} VmStatus;

/* vm_new: nothing runs yet.  @config and @ops outlive the machine.  NULL with VMM_ERROR and its code as exit status. */
Vm *vm_new(const Config *config, const CpuOps *ops, GError **error);
void vm_free(Vm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)

/* vm_run: until the guest or the user ends it.  Returns: the exit status; *out_message: why, for stderr, or NULL; (transfer full). */
int vm_run(Vm *vm, char **out_message);

/* Requests of a monitor; no lock held. */
void vm_quit(Vm *vm);
void vm_stop(Vm *vm);       /* the guest and its time stand still; nothing when they do */
void vm_cont(Vm *vm);
bool vm_is_running(const Vm *vm);
void vm_reset(Vm *vm);
void vm_power_button(Vm *vm);
void vm_nmi(Vm *vm);
char *vm_describe_cpu(Vm *vm, unsigned index); /* (transfer full) */
int vm_thread_id(Vm *vm, unsigned index); /* of vCPU @index on the host; 0 before it runs */
/* vm_cpu_state: of vCPU @index, which stands still for a moment.   vm_counters: the engine's, without a pause. */
void vm_cpu_state(Vm *vm, unsigned index, X86State *out_state);
void vm_counters(Vm *vm, CpuCounterFunc *row, void *opaque);
char *vm_profile(Vm *vm); /* where host time went (transfer full); NULL without -d prof, or when the engine cannot tell */
Ram *vm_ram(Vm *vm);
const Config *vm_config(const Vm *vm);
const char *vm_mode_name(const Vm *vm);
Migration *vm_migration(Vm *vm); /* savevm, loadvm, migrate */
const char *vm_snapshot_dir(const Vm *vm); /* NULL: none was given */
PciDevices *vm_devices(Vm *vm);
Switcher *vm_switcher(Vm *vm); /* modes, and changing them */

/* What happened to the machine, for monitors. */
typedef enum VmEvent { VM_EVENT_STOP, VM_EVENT_RESUME, VM_EVENT_RESET, VM_EVENT_SHUTDOWN, VM_EVENT_POWERDOWN,
               VM_EVENT_PANICKED, VM_EVENT_CRASH_LOADED, VM_EVENT_WATCHDOG } VmEvent;
/* @reason: RESET and SHUTDOWN, in QEMU's words ("guest-shutdown"); PANICKED, CRASH_LOADED, WATCHDOG: what is done about it ("pause"); else NULL.  Any thread, the machine lock held. */
typedef void (*VmEventFunc)(void *opaque, VmEvent event, bool by_guest, const char *reason);
void vm_set_event_func(Vm *vm, VmEventFunc func, void *opaque); /* before vm_run() */
const char *vm_state_name(const Vm *vm); /* "running", "paused", "debug", "prelaunch", "shutdown", "guest-panicked", "inmigrate" or "postmigrate" */

/* A migration's status changed, in QEMU's words.  Main thread, no lock held. */
typedef void (*VmMigrationFunc)(void *opaque, const char *status);
/* vm_set_migration_events: whether it is called (QEMU's capability "events", off at first). */
void vm_set_migration_events(Vm *vm, bool is_on);
bool vm_migration_events(const Vm *vm);
void vm_set_migration_func(Vm *vm, VmMigrationFunc func, void *opaque); /* before vm_run() */

/* The machine changed its mode, or could not.  Any thread, the machine lock held. */
typedef void (*VmModeFunc)(void *opaque, const SwitchEvent *event);
void vm_set_mode_func(Vm *vm, VmModeFunc func, void *opaque); /* before vm_run() */

/* For a debugger.  Main thread, no lock held.
 * vm_debug: run_debug() and vm_cpu_load: run_load(), with the vCPUs paused for it. */
gboolean vm_debug(Vm *vm, unsigned index, const CpuDebug *debug, bool is_frozen, GError **error);
void vm_cpu_load(Vm *vm, unsigned index, const X86State *state);
bool vm_has_long_mode(const Vm *vm); /* the guest's CPU */
unsigned vm_debug_room(Vm *vm); /* break- and watchpoints that the mode can have together; 0: any number */
/* vCPU @index has come to something that was asked for, and the machine stands still; or (@exit is NULL) it was stopped or ended by others.  Any
 * thread, the machine lock held. */
typedef void (*VmDebugFunc)(void *opaque, unsigned index, const CpuExit *exit);
void vm_set_debug_func(Vm *vm, VmDebugFunc func, void *opaque);
/* vm_gdbserver: lets a debugger come at @where ("tcp::1234"), or at none; FALSE with VMM_ERROR_USAGE.  Who can do that says so with
 * vm_set_gdbserver_func(). */
typedef gboolean (*VmGdbserverFunc)(void *opaque, const char *where, GError **error);
void vm_set_gdbserver_func(Vm *vm, VmGdbserverFunc func, void *opaque);
gboolean vm_gdbserver(Vm *vm, const char *where, GError **error);

/* monitor.adaptive has decided; @decision lives for the call.  Main thread, no lock held. */
typedef void (*VmAdaptiveFunc)(void *opaque, const AdaptiveDecision *decision);
void vm_set_adaptive_func(Vm *vm, VmAdaptiveFunc func, void *opaque); /* before vm_run() */

/* vm_monitor_chardev: where the human monitor talks, or NULL; shared with a serial port when -serial mon:… says so. */
Chardev *vm_monitor_chardev(Vm *vm);
