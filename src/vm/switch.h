/*
 * Switcher: which mode the guest is in, why, and how it gets into another while it runs.
 *
 * A switch is a handover (vm/handover.h) between the engines of two modes.  `hv` and `hwmmu` are one engine whose host module is loaded in two
 * ways: between them the guest goes through `bt` while the module is loaded again.  Thread: the default main context's; what says "lock
 * held" any.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/config.h"
#include "core/cpu.h"
#include "kvm/slat-helper.h"
#include "vm/plan.h"
#include "vm/run.h"

typedef struct Switcher Switcher;

typedef enum SwitchReason {
    SWITCH_START,
    SWITCH_MONITOR,     /* somebody asked */
    SWITCH_LONG_MODE,   /* the guest entered long mode */
    SWITCH_FALLBACK,    /* the mode that was wanted, or in use, does not work */
    SWITCH_SLAT_RELOAD, /* in bt while the host's module is loaded again */
    SWITCH_ADAPTIVE,
    SWITCH_RESTORE,     /* the guest was saved in another mode */
    SWITCH_NREASONS,
} SwitchReason;

const char *switch_reason_name(SwitchReason reason);

typedef struct SwitchDone {
    PlanMode from, to;
    SwitchReason reason;
    RunSwitchTimes times;
} SwitchDone;

typedef struct SwitchStats {
    uint64_t count, failed;
    uint64_t downtime_ns, downtime_max_ns; /* the sum; the longest */
} SwitchStats;

typedef enum SwitchEventKind {
    SWITCH_EVENT_SWITCHED, /* @done */
    SWITCH_EVENT_FALLBACK, /* @text: what was wanted, what is missing */
    SWITCH_EVENT_LONG_MODE, /* LMA became 1; @action, @text when it is a warning */
} SwitchEventKind;

typedef struct SwitchEvent {
    SwitchEventKind kind;
    PlanMode mode; /* the guest is in now */
    SwitchDone done;
    PlanLongMode action;
    const char *text; /* NULL: nothing to say */
} SwitchEvent;

typedef struct SwitcherWires {
    const Config *config;
    Run *run;
    GMutex *lock;
    const CpuidModel *cpuid;
    bool wants_engine_apic; /* CpuConfig.wants_apic */
    void (*event)(void *opaque, const SwitchEvent *event);  /* lock held, any thread */
    void (*no_mode)(void *opaque, const char *message);     /* lock held: the guest must not go on in any mode it could have */
    void (*failed)(void *opaque, const char *message);      /* lock held: the engine cannot go on */
    bool (*has_ended)(void *opaque);                        /* lock held */
    void *opaque;
} SwitcherWires;

/* switcher_new: the guest is in config->accel. */
Switcher *switcher_new(const SwitcherWires *wires);
void switcher_free(Switcher *switcher);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Switcher, switcher_free)

/* switcher_set_helper: @helper outlives the switcher; NULL, as at first: the host's module stays as it is. */
void switcher_set_helper(Switcher *switcher, SlatHelper *helper);

/**
 * switcher_switch:
 * @out_done: may be NULL.  From and to the same: nothing happened
 *
 * Moves the guest.  FALSE when it goes on in its old mode: the message says what refused.  Between `hv` and `hwmmu` the default main context is
 * iterated meanwhile, so that the guest's devices go on.  Lock not held.
 */
gboolean switcher_switch(Switcher *switcher, PlanMode to, SwitchReason reason, SwitchDone *out_done, GError **error);

/* switcher_renew: the guest goes on in another vCPU of an engine by its name ("bt", "bt-one-insn", "kvm"), also when it is in that one already.
 * For tests and for finding faults; FALSE as above, and for an unknown name. */
gboolean switcher_renew(Switcher *switcher, const char *engine, SwitchDone *out_done, GError **error);

PlanMode switcher_mode(const Switcher *switcher);
SwitchReason switcher_reason(const Switcher *switcher);
const SwitchStats *switcher_stats(const Switcher *switcher);
/* switcher_can: what switcher_switch() would say to @to, as far as can be told without doing it. */
gboolean switcher_can(Switcher *switcher, PlanMode to, GError **error);

/* The engine's exits, on a vCPU's thread, lock held.  switcher_engine_failed: FALSE: nothing can be done. */
void switcher_long_mode(Switcher *switcher);
gboolean switcher_engine_failed(Switcher *switcher, const char *reason);
