#include "vm/vm.h"

#include <glib-unix.h>
#include <signal.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "devices/lapic.h"
#include "kvm/calibrate.h"
#include "kvm/kvm.h"
#include "vm/tsc.h"
#include "vm/vm-int.h"

/* --- ending --- */

static gboolean loop_quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

/* Lock held. */
static void vm_event(Vm *vm, VmEvent event, bool by_guest, const char *reason)
{
    if (vm->event_func && !vm->has_ended)
        vm->event_func(vm->event_opaque, event, by_guest, reason);
    if (vm->debug_func && event == VM_EVENT_STOP && !vm->is_debugged)
        vm->debug_func(vm->debug_opaque, 0, NULL);
}

/* Lock held; the first end counts.  A guest may end before the loop runs, when quitting it at once would be forgotten. */
static void vm_end(Vm *vm, int status, const char *message)
{
    if (vm->has_ended)
        return;
    vm->has_ended = true;
    vm->status = status;
    vm->message = g_strdup(message);
    run_ask_pause(vm->run);
    g_idle_add(loop_quit, vm->loop);
}

/* --- standing still --- */

/* Lock held, the vCPUs paused or asked to be. */
static void time_hold(Vm *vm)
{
    if (vm->nholds++)
        return;
    clock_stop(vm->clock);
    run_time_stop(vm->run);
    board_hold(vm->board, true);
    pci_devices_hold(vm->devices, true);
}

/* Lock held, dropped meanwhile. */
static void guest_hold(Vm *vm)
{
    run_pause(vm->run);
    /* What the guest has asked its disks for is done, and seen by it, before it counts as stopped. */
    g_mutex_unlock(&vm->lock);
    pci_devices_drain(vm->devices);
    g_mutex_lock(&vm->lock);
    time_hold(vm);
}

/* Undoes one; lock held, dropped meanwhile. */
static void guest_release(Vm *vm)
{
    if (vm->nholds == 1) {
        run_pause(vm->run); /* they may only have been asked to */
        g_mutex_unlock(&vm->lock);
        run_time_start(vm->run);
        g_mutex_lock(&vm->lock);
        clock_start(vm->clock);
        board_hold(vm->board, false);
        pci_devices_hold(vm->devices, false);
        run_resume(vm->run);
    }
    vm->nholds--;
    run_resume(vm->run);
}

/* --- for migrations --- */

static void migration_machine(void *opaque, SnapshotMachine *out_machine)
{
    Vm *vm = opaque;
    *out_machine = (SnapshotMachine){ .config = vm->config, .ram = vm->ram, .clock = vm->clock, .board = vm->board, .devices = vm->devices,
                                      .run = vm->run, .cpuid = &vm->cpuid, .tsc_hz = vm->tsc_hz, .lock = &vm->lock,
                                      .mode = vm_mode_name(vm) };
}

static bool migration_runs(void *opaque)
{
    Vm *vm = opaque;
    return vm_is_running(vm);
}

static void migration_hold(void *opaque)
{
    Vm *vm = opaque;
    g_mutex_lock(&vm->lock);
    guest_hold(vm);
    if (!vm->is_stopped)
        vm_event(vm, VM_EVENT_STOP, false, NULL);
    g_mutex_unlock(&vm->lock);
}

static void migration_release(void *opaque)
{
    Vm *vm = opaque;
    g_mutex_lock(&vm->lock);
    if (!vm->is_stopped)
        vm_event(vm, VM_EVENT_RESUME, false, NULL);
    guest_release(vm);
    g_mutex_unlock(&vm->lock);
}

static void migration_left(void *opaque)
{
    Vm *vm = opaque;
    g_mutex_lock(&vm->lock);
    vm->has_left = true;
    if (vm->is_stopped)
        guest_release(vm);
    vm->is_stopped = true;
    g_mutex_unlock(&vm->lock);
}

static void migration_arrived(void *opaque)
{
    Vm *vm = opaque;
    g_mutex_lock(&vm->lock);
    vm->is_incoming = false;
    vm->has_started = true;
    guest_release(vm);
    g_mutex_unlock(&vm->lock);
    if (vm->starts)
        vm_cont(vm);
}

static void migration_lost(void *opaque, const char *message)
{
    Vm *vm = opaque;
    g_mutex_lock(&vm->lock);
    vm_event(vm, VM_EVENT_SHUTDOWN, false, "host-error");
    vm_end(vm, VMM_ERROR_USAGE, message);
    g_mutex_unlock(&vm->lock);
}

static void migration_event(void *opaque, const char *status)
{
    Vm *vm = opaque;
    if (vm->migration_func && vm->has_migration_events)
        vm->migration_func(vm->migration_opaque, status);
}

/* The vCPU's thread has begun, and stands still. */
static void incoming_begin(Vm *vm)
{
    const Config *config = vm->config;
    g_autoptr(GError) error = NULL;
    if (config->loadvm && migration_load_snapshot(vm->migration, config->loadvm, false, &error)) {
        migration_hold(vm);
        migration_arrived(vm);
    } else if (config->incoming && strcmp(config->incoming, "defer") != 0) {
        migration_receive(vm->migration, config->incoming, &error);
    }
    if (!error)
        return;
    g_prefix_error(&error, config->loadvm ? "-loadvm: " : "-incoming: ");
    migration_lost(vm, error->message);
}

/* Lock held: the guest's doing, so a monitor may look at it and go on. */
static void guest_stop(Vm *vm)
{
    vm->is_stopped = true;
    vm_event(vm, VM_EVENT_STOP, true, NULL);
    run_ask_pause(vm->run);
    time_hold(vm);
}

static void guest_power_off(void *opaque)
{
    Vm *vm = opaque;
    if (vm->config->no_shutdown) {
        if (!vm->is_stopped) {
            vm->is_off = true;
            vm_event(vm, VM_EVENT_SHUTDOWN, true, "guest-shutdown");
            guest_stop(vm);
        }
        return;
    }
    vm_event(vm, VM_EVENT_SHUTDOWN, true, "guest-shutdown");
    vm_end(vm, VM_STATUS_OFF, NULL);
}

/* Lock held. */
static void reset_or_end(Vm *vm, bool by_guest, const char *reason)
{
    vm_event(vm, vm->config->no_reboot ? VM_EVENT_SHUTDOWN : VM_EVENT_RESET, by_guest, reason);
    if (vm->config->no_reboot)
        vm_end(vm, VM_STATUS_OFF, NULL);
    else
        run_ask_reset(vm->run);
}

static void guest_reset(void *opaque) { reset_or_end(opaque, true, "guest-reset"); }

/* Lock held. */
static void guest_died(Vm *vm, VmEvent event, const char *what)
{
    vm_event(vm, event, true, "poweroff");
    vm_event(vm, VM_EVENT_SHUTDOWN, true, event == VM_EVENT_PANICKED ? "guest-panic" : "guest-shutdown");
    vm_end(vm, VM_STATUS_CRASHED, what);
}

static void guest_panicked(void *opaque, uint8_t event)
{
    Vm *vm = opaque;
    const Config *config = vm->config;
    bool is_panic = event & 1;
    if (!is_panic) {
        vm_event(vm, VM_EVENT_CRASH_LOADED, true, "run");
    } else if (config->panic_action == PANIC_NONE) {
        vm_event(vm, VM_EVENT_PANICKED, true, "run");
    } else if (config->panic_action == PANIC_SHUTDOWN && !config->no_shutdown) {
        guest_died(vm, VM_EVENT_PANICKED, "guest crashed: its kernel reported a panic");
    } else if (!vm->is_stopped) {
        vm->is_panicked = true;
        vm_event(vm, VM_EVENT_PANICKED, true, "pause");
        guest_stop(vm);
    }
}

/* On the main thread. */
static void guest_watchdog(void *opaque)
{
    Vm *vm = opaque;
    static const char what[] = "guest crashed: its watchdog expired";
    WatchdogAction action = vm->config->watchdog_action;
    bool ends = action == WATCHDOG_POWEROFF || (action == WATCHDOG_RESET && vm->config->no_reboot);
    if (ends) {
        guest_died(vm, VM_EVENT_WATCHDOG, what);
        return;
    }
    vm_event(vm, VM_EVENT_WATCHDOG, true, config_watchdog_name(action));
    switch (action) {
    case WATCHDOG_RESET:
        reset_or_end(vm, true, "guest-reset");
        break;
    case WATCHDOG_SHUTDOWN:
        vm_event(vm, VM_EVENT_POWERDOWN, true, NULL);
        board_power_button(vm->board);
        break;
    case WATCHDOG_PAUSE:
        if (!vm->is_stopped)
            guest_stop(vm);
        break;
    case WATCHDOG_INJECT_NMI:
        for (unsigned i = 0; i < vm->config->ncpus; i++)
            run_nmi(vm->run, i);
        break;
    case WATCHDOG_DEBUG:
        log_text(LOG_GUEST_ERRORS, "%s", what);
        break;
    case WATCHDOG_POWEROFF:
    case WATCHDOG_NONE:
    case WATCHDOG_NACTIONS:
        break;
    }
}

static void guest_debug_exit(void *opaque, unsigned status)
{
    Vm *vm = opaque;
    vm_event(vm, VM_EVENT_SHUTDOWN, true, "guest-shutdown");
    vm_end(vm, (int)(status & 0xff), NULL);
}

static void guest_cpu_init(void *opaque, unsigned cpu)
{
    Vm *vm = opaque;
    run_ask_init(vm->run, cpu);
}

static void guest_cpu_startup(void *opaque, unsigned cpu, uint8_t vector)
{
    Vm *vm = opaque;
    run_ask_startup(vm->run, cpu, vector);
}

static void guest_triple_fault(void *opaque, const char *reason)
{
    Vm *vm = opaque;
    if (vm->config->no_reboot) {
        g_autofree char *message = g_strdup_printf("guest crashed: %s", reason);
        vm_event(vm, VM_EVENT_SHUTDOWN, true, "guest-reset");
        vm_end(vm, VM_STATUS_CRASHED, message);
    } else {
        vm_event(vm, VM_EVENT_RESET, true, "guest-reset");
        run_ask_reset(vm->run);
    }
}

static void run_failed(void *opaque, const char *reason)
{
    Vm *vm = opaque;
    vm_event(vm, VM_EVENT_SHUTDOWN, false, "host-error");
    vm_end(vm, VM_STATUS_INTERNAL, reason);
}

static void engine_failed(void *opaque, const char *reason)
{
    Vm *vm = opaque;
    if (!switcher_engine_failed(vm->switcher, reason))
        run_failed(vm, reason);
}

/* On the vCPU's thread. */
static void debug_stop(void *opaque, unsigned index, const CpuExit *exit)
{
    Vm *vm = opaque;
    if (vm->is_stopped) /* it will come there again */
        return;
    vm->is_stopped = vm->is_debugged = true;
    if (vm->debug_func)
        vm->debug_func(vm->debug_opaque, index, exit);
    vm_event(vm, VM_EVENT_STOP, false, NULL);
    run_ask_pause(vm->run);
    time_hold(vm);
}

/* --- modes --- */

static void long_mode_entered(void *opaque)
{
    Vm *vm = opaque;
    switcher_long_mode(vm->switcher);
}

static void mode_event(void *opaque, const SwitchEvent *event)
{
    Vm *vm = opaque;
    if (vm->mode_func && !vm->has_ended)
        vm->mode_func(vm->mode_opaque, event);
}

static void mode_missing(void *opaque, const char *message)
{
    Vm *vm = opaque;
    vm_event(vm, VM_EVENT_SHUTDOWN, false, "host-error");
    vm_end(vm, VM_STATUS_NO_MODE, message);
}

static bool vm_has_ended(void *opaque)
{
    Vm *vm = opaque;
    return vm->has_ended;
}

static bool adaptive_costs(double out_ns[3])
{
    KvmCosts costs;
    g_autoptr(GError) error = NULL;
    if (!kvm_calibrate(&costs, &error)) {
        log_text(LOG_SWITCH, "adaptive: %s", error->message);
        return false;
    }
    out_ns[0] = costs.exit_ns;
    out_ns[1] = costs.emulation_ns;
    out_ns[2] = costs.user_ns;
    return true;
}

static bool adaptive_runs(void *opaque)
{
    Vm *vm = opaque;
    return !vm->is_stopped && !vm->nholds && !vm->has_ended;
}

static void adaptive_counters(void *opaque, CpuCounterFunc *row, void *row_opaque) { vm_counters(opaque, row, row_opaque); }

static void adaptive_decided(void *opaque, const AdaptiveDecision *decision)
{
    Vm *vm = opaque;
    if (vm->adaptive_func && !vm->has_ended)
        vm->adaptive_func(vm->adaptive_opaque, decision);
}

static void wire_nmi(void *opaque, unsigned cpu)
{
    Vm *vm = opaque;
    run_nmi(vm->run, cpu);
}

static uint64_t wire_guest_tsc(void *opaque)
{
    Vm *vm = opaque;
    return run_guest_tsc(vm->run);
}

static void char_quit(void *opaque)
{
    Vm *vm = opaque;
    vm_quit(vm);
}

/* --- building --- */

static gboolean chardev_build(Vm *vm, const char *option, const CharConfig *config, Chardev **out_chardev, GError **error)
{
    if (!config || config->kind == CHAR_NONE)
        return TRUE;
    *out_chardev = chardev_new(config, &(CharWires){ .quit = char_quit, .opaque = vm }, error);
    if (!*out_chardev) {
        g_prefix_error(error, "%s: ", option);
        return FALSE;
    }
    return TRUE;
}

static gboolean chardevs_build(Vm *vm, GError **error)
{
    const Config *config = vm->config;
    for (unsigned i = 0; i < config->nserials; i++) {
        if (!chardev_build(vm, "-serial", config->serial[i], &vm->serial[i], error))
            return FALSE;
        if (config->serial_mon[i])
            vm->monitor_shared = vm->serial[i];
    }
    for (guint i = 0; i < config->virtio->len; i++) {
        const VirtioConfig *virtio = g_ptr_array_index(config->virtio, i);
        if (virtio->chardev && !chardev_build(vm, "-device virtconsole", virtio->chardev, &vm->console, error))
            return FALSE;
    }
    return chardev_build(vm, "-monitor", config->monitor, &vm->monitor, error) &&
           chardev_build(vm, "-device isa-debugcon", config->debugcon, &vm->debugcon, error);
}

static gboolean cpuid_build(Vm *vm, GError **error)
{
    const Config *config = vm->config;
    cpuid_model_init(&vm->cpuid);
    /* One CPU for every engine that may ever run this guest, and so for those of the host's KVM wherever it can be used. */
    bool may_use_hardware = kvm_require(KVM_MMU_ANY, NULL);
    if (may_use_hardware)
        cpuid_model_follow_host(&vm->cpuid);
    if (config->irqchip == CONFIG_IRQCHIP_SPLIT && may_use_hardware && !kvm_has_apic()) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_MODE, "-machine kernel-irqchip=split: this host's KVM lacks KVM_CAP_SPLIT_IRQCHIP; "
                    "write off, or leave it out");
        return FALSE;
    }
    vm->wants_engine_apic = config->irqchip != CONFIG_IRQCHIP_OFF && (!may_use_hardware || kvm_has_apic());
    if (config->cpu_vendor)
        cpuid_model_set_vendor(&vm->cpuid, config->cpu_vendor);
    if (config->cpu_signature)
        cpuid_model_set_signature(&vm->cpuid, config->cpu_signature);
    for (guint i = 0; i < config->cpu_features->len; i++) {
        const ConfigCpuFeature *feature = g_ptr_array_index(config->cpu_features, i);
        if (!cpuid_model_set(&vm->cpuid, feature->name, feature->on, error))
            return FALSE;
    }
    return !may_use_hardware || kvm_cpuid_restrict(&vm->cpuid, vm->wants_engine_apic, error);
}

Vm *vm_new(const Config *config, const CpuOps *ops, GError **error)
{
    g_autoptr(Vm) vm = g_new0(Vm, 1);
    vm->config = config;
    g_mutex_init(&vm->lock);
    vm->loop = g_main_loop_new(NULL, FALSE);
    /* Sockets first: a driver may connect before anything slow has happened. */
    if (!chardevs_build(vm, error) || !cpuid_build(vm, error))
        return NULL;
    vm->boot = boot_open(&(BootParams){ .kernel = config->kernel, .initrd = config->initrd, .append = config->append, .bios = config->bios,
                                        .has_long_mode = cpuid_model_has(&vm->cpuid, "lm") },
                         error);
    if (!vm->boot)
        return NULL;
    if (config->symbols_path && !(vm->symbols = symbols_load(config->symbols_path, error)))
        return NULL;
    vm->ram = ram_new(config->ram_bytes, error);
    if (!vm->ram)
        return NULL;
    /* A malformed image is the user's error now, not an internal one on the vCPU's thread later. */
    X86State first;
    if (!boot_load(vm->boot, vm->ram, 0, &first, error))
        return NULL;
    vm->clock = clock_new(NULL, &vm->lock, error);
    if (!vm->clock)
        return NULL;
    vm->tsc_hz = tsc_hz_measure();
    cpuid_model_set_clocks(&vm->cpuid, vm->tsc_hz, LAPIC_TIMER_HZ);
    vm->is_stopped = config->start_stopped || config->incoming || config->loadvm;
    vm->has_started = !vm->is_stopped;
    vm->is_incoming = config->incoming || config->loadvm;
    vm->starts = !config->start_stopped;
    const CpuidTopology topology = { .nsockets = config->nsockets, .ncores = config->ncores, .nthreads = config->nthreads };
    vm->run = run_new(&(RunWires){ .ops = ops, .ram = vm->ram, .cpuid = &vm->cpuid, .ncpus = config->ncpus,
                                   .topology = topology, .lock = &vm->lock, .boot = vm->boot,
                                   .symbols = vm->symbols,
                                   .wants_engine_apic = vm->wants_engine_apic, .start_paused = vm->is_stopped, .awaits_state = vm->is_incoming,
                                   .triple_fault = guest_triple_fault, .failed = run_failed, .debug_stop = debug_stop, .engine_failed = engine_failed,
                                   .long_mode = long_mode_entered, .opaque = vm },
                      error);
    if (!vm->run)
        return NULL;
    vm->switcher = switcher_new(&(SwitcherWires){ .config = config, .run = vm->run, .lock = &vm->lock, .cpuid = &vm->cpuid,
                                                  .wants_engine_apic = vm->wants_engine_apic, .event = mode_event, .no_mode = mode_missing, .failed = run_failed,
                                                  .has_ended = vm_has_ended, .opaque = vm });
    BoardWires wires = {
        .ram = vm->ram, .clock = vm->clock, .lock = &vm->lock, .ncpus = config->ncpus, .tsc_hz = vm->tsc_hz,
        .guest_tsc = wire_guest_tsc, .nmi = wire_nmi, .power_off = guest_power_off, .reset = guest_reset,
        .debug_exit = guest_debug_exit, .panicked = guest_panicked, .watchdog = guest_watchdog, .cpu_init = guest_cpu_init, .cpu_startup = guest_cpu_startup, .opaque = vm, .debugcon = vm->debugcon,
        .is_firmware_boot = boot_is_firmware(vm->boot),
    };
    for (unsigned i = 0; i < config->ncpus; i++) {
        wires.cpu_irq[i] = run_irq_line(vm->run, i);
        wires.apic_id[i] = (uint8_t)cpuid_apic_id(&topology, i);
    }
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
        wires.serial[i] = vm->serial[i];
    vm->board = board_new(config, &wires, error);
    if (!vm->board)
        return NULL;
    vm->devices = pci_devices_new(config, &(PciDevicesWires){ .bus = board_pci(vm->board), .ram = vm->ram, .lock = &vm->lock,
                                                              .clock = vm->clock, .console = vm->console },
                                  error);
    if (!vm->devices)
        return NULL;
    if (vm->is_stopped)
        time_hold(vm);
    vm->migration = migration_new(&(MigrationWires){ .machine = migration_machine, .runs = migration_runs, .hold = migration_hold, .release = migration_release,
                                                     .left = migration_left, .arrived = migration_arrived, .lost = migration_lost,
                                                     .event = migration_event, .opaque = vm });
    return g_steal_pointer(&vm);
}

void vm_free(Vm *vm)
{
    if (!vm || vm->is_stuck) /* a thread still uses it: only the end of the process frees it */
        return;
    migration_free(vm->migration);
    pci_devices_free(vm->devices); /* first: its threads raise interrupts */
    switcher_free(vm->switcher);
    if (vm->board)
        apic_link_connect(board_apic_link(vm->board), NULL);
    run_free(vm->run);
    board_free(vm->board);
    clock_free(vm->clock);
    ram_free(vm->ram);
    boot_free(vm->boot);
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
        chardev_free(vm->serial[i]);
    chardev_free(vm->debugcon);
    chardev_free(vm->monitor);
    chardev_free(vm->console);
    if (vm->loop)
        g_main_loop_unref(vm->loop);
    g_free(vm->message);
    g_mutex_clear(&vm->lock);
    symbols_free(vm->symbols);
    g_free(vm);
}

/* --- running --- */

static void chardevs_each(Vm *vm, void (*func)(Chardev *chardev))
{
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
        if (vm->serial[i])
            func(vm->serial[i]);
    if (vm->debugcon)
        func(vm->debugcon);
    if (vm->monitor)
        func(vm->monitor);
    if (vm->console)
        func(vm->console);
}

static gboolean signal_arrived(Vm *vm, int number)
{
    g_autofree char *message = g_strdup_printf("terminating on signal %d", number);
    g_mutex_lock(&vm->lock);
    vm_event(vm, VM_EVENT_SHUTDOWN, false, "host-signal");
    vm_end(vm, VM_STATUS_OFF, message);
    g_mutex_unlock(&vm->lock);
    return G_SOURCE_CONTINUE;
}

static gboolean signal_int(gpointer data) { return signal_arrived(data, SIGINT); }
static gboolean signal_term(gpointer data) { return signal_arrived(data, SIGTERM); }
static gboolean signal_hup(gpointer data) { return signal_arrived(data, SIGHUP); }

int vm_run(Vm *vm, char **out_message)
{
    static const struct {
        int number;
        GSourceFunc func;
    } signals[] = { { SIGINT, signal_int }, { SIGTERM, signal_term }, { SIGHUP, signal_hup } };
    guint sources[G_N_ELEMENTS(signals)];
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        sources[i] = g_unix_signal_add(signals[i].number, signals[i].func, vm);
    signal(SIGPIPE, SIG_IGN);

    chardevs_each(vm, chardev_start);
    if (vm->config->fallback_text) {
        g_mutex_lock(&vm->lock);
        mode_event(vm, &(SwitchEvent){ .kind = SWITCH_EVENT_FALLBACK, .mode = switcher_mode(vm->switcher), .text = vm->config->fallback_text });
        g_mutex_unlock(&vm->lock);
    }
    run_start(vm->run, vm->board);
    if (vm->config->modes.adaptive)
        vm->adaptive = adaptive_watch_new(&(AdaptiveWires){ .switcher = vm->switcher, .modes = &vm->config->modes, .calibrate = adaptive_costs,
                                                            .runs = adaptive_runs, .counters = adaptive_counters, .decided = adaptive_decided, .opaque = vm });
    if (vm->is_incoming)
        incoming_begin(vm);
    g_main_loop_run(vm->loop);
    g_clear_pointer(&vm->adaptive, adaptive_watch_free);

    chardevs_each(vm, chardev_cancel);
    bool is_finished = run_finish(vm->run);
    chardevs_each(vm, chardev_flush);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        g_source_remove(sources[i]);
    if (log_on(LOG_PROF) && is_finished) {
        for (unsigned i = 0; i < vm->config->ncpus; i++) {
            g_autofree char *text = run_describe(vm->run, i);
            log_text(LOG_PROF, "%s", text);
        }
        g_autofree char *profile = run_profile(vm->run);
        if (profile)
            log_text(LOG_PROF, "%s", profile);
    }
    *out_message = g_steal_pointer(&vm->message);
    if (!is_finished) {
        vm->is_stuck = true;
        g_free(*out_message);
        *out_message = g_strdup("internal error: the virtual CPU does not stop");
        return VM_STATUS_INTERNAL;
    }
    return vm->status;
}

/* --- requests --- */

void vm_quit(Vm *vm)
{
    g_mutex_lock(&vm->lock);
    vm_event(vm, VM_EVENT_SHUTDOWN, false, "host-qmp-quit");
    vm_end(vm, VM_STATUS_OFF, NULL);
    g_mutex_unlock(&vm->lock);
}

void vm_stop(Vm *vm)
{
    g_mutex_lock(&vm->lock);
    if (!vm->is_stopped) {
        vm->is_stopped = true;
        guest_hold(vm);
        vm_event(vm, VM_EVENT_STOP, false, NULL);
    }
    g_mutex_unlock(&vm->lock);
}

void vm_cont(Vm *vm)
{
    g_mutex_lock(&vm->lock);
    if (vm->is_incoming) {
        vm->starts = true;
    } else if (vm->is_stopped) {
        vm->is_stopped = vm->is_off = vm->is_panicked = vm->has_left = vm->is_debugged = false;
        vm->has_started = true;
        vm_event(vm, VM_EVENT_RESUME, false, NULL);
        guest_release(vm);
    }
    g_mutex_unlock(&vm->lock);
}

void vm_set_event_func(Vm *vm, VmEventFunc func, void *opaque)
{
    vm->event_func = func;
    vm->event_opaque = opaque;
}

const char *vm_state_name(const Vm *vm)
{
    return vm->is_incoming ? "inmigrate" : vm->is_panicked ? "guest-panicked" : vm->has_left ? "postmigrate" : vm->is_off ? "shutdown" : !vm->has_started ? "prelaunch" : vm->is_debugged ? "debug" : vm->is_stopped ? "paused" : "running";
}

bool vm_is_running(const Vm *vm) { return !vm->is_stopped; }

void vm_reset(Vm *vm)
{
    g_mutex_lock(&vm->lock);
    reset_or_end(vm, false, "host-qmp-system-reset");
    g_mutex_unlock(&vm->lock);
}

void vm_power_button(Vm *vm)
{
    g_mutex_lock(&vm->lock);
    vm_event(vm, VM_EVENT_POWERDOWN, false, NULL);
    board_power_button(vm->board);
    g_mutex_unlock(&vm->lock);
}

void vm_nmi(Vm *vm)
{
    g_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->config->ncpus; i++)
        run_nmi(vm->run, i);
    g_mutex_unlock(&vm->lock);
}
