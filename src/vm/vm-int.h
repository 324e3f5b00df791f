/* The running machine, for the vm*.c files only. */
#pragma once

#include "core/clock.h"
#include "core/cpuid.h"
#include "core/symbols.h"
#include "vm/adaptive-watch.h"
#include "vm/board.h"
#include "vm/boot.h"
#include "vm/migration.h"
#include "vm/pci-devices.h"
#include "vm/run.h"
#include "vm/switch.h"
#include "vm/vm.h"

struct Vm {
    const Config *config;
    GMutex lock; /* the machine lock: devices, clock, requests.  Taken before a Chardev's own */
    GMainLoop *loop;
    Clock *clock;
    Ram *ram;
    Boot *boot;
    Chardev *serial[CONFIG_MAX_SERIAL], *debugcon, *monitor, *console;
    Chardev *monitor_shared; /* one of the above: the monitor's when it has none of its own */
    CpuidModel cpuid;
    bool wants_engine_apic;
    Run *run;
    Switcher *switcher;
    AdaptiveWatch *adaptive; /* NULL: off */
    Migration *migration;
    Board *board;
    PciDevices *devices;
    uint64_t tsc_hz;
    Symbols *symbols; /* of the guest's kernel, for the profile, or NULL */
    VmEventFunc event_func; /* may be NULL */
    VmModeFunc mode_func;   /* the same */
    VmAdaptiveFunc adaptive_func; /* the same */
    VmMigrationFunc migration_func; /* the same */
    bool has_migration_events;
    VmDebugFunc debug_func; /* the same */
    VmGdbserverFunc gdbserver_func; /* the same */
    void *event_opaque, *mode_opaque, *adaptive_opaque, *migration_opaque, *debug_opaque, *gdbserver_opaque;

    /* Under the lock. */
    unsigned nholds; /* > 0: the guest and its time stand still */
    bool is_stopped; /* by the user, or after power-off with -no-shutdown */
    bool is_debugged; /* stopped for a debugger */
    bool has_started; /* not waiting for the first cont under -S */
    bool is_off;      /* powered off with -no-shutdown */
    bool is_incoming; /* the guest has not arrived yet */
    bool starts;      /* incoming: it runs as soon as it has arrived */
    bool has_left;    /* the guest is elsewhere now */
    bool is_panicked; /* reported a panic with -no-shutdown */
    bool has_ended;
    bool is_stuck; /* the vCPU's thread did not end */
    int status;
    char *message;
};
