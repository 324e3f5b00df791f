/*
 * Adaptive policy: from what an engine counts, in which mode the guest would get on fastest, and whether a switch pays.
 *
 * Pure: no clock, no switcher; adaptive-watch.h feeds it.  The measure is the CPU time that one second of the guest's own work takes in each
 * mode: what happens per second of work, counted, times what that costs there.  What exits cost is measured on the host; where it could not be, a
 * hardware mode's time outside the guest is the host's system time, and the cost of an exit is learned from that.
 * docs/adaptive.md has the model and where its numbers come from.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vm/plan.h"

/* What has been counted since some beginning, all vCPUs together. */
typedef struct AdaptiveCounts {
    double wall_s;
    double vcpu_s;   /* CPU time of the vCPUs' threads */
    double system_s; /* of the process in the host's kernel */
    double emulations; /* bt: MMIO, which the host's kernel would emulate.  Else: what it emulates */
    double users;    /* bt: ports.  Else: exits to the monitor */
    double exits;    /* bt: what would be an exit (ports, MMIO, interrupts).  Else: exits of the CPU */
    double tables;   /* bt: flushes, INVLPG, page faults: what shadow paging would have to see.  Else: those of exits that are about paging */
    double misses;   /* bt: of the software TLB.  Else 0: the CPU does not tell */
    double tpr;      /* accesses to the TPR, as far as the engine sees them; for people */
} AdaptiveCounts;

/* adaptive_count: adds one counter (CpuOps.counters) to the field it belongs to in @mode; others are left out. */
void adaptive_count(AdaptiveCounts *counts, PlanMode mode, const char *name, uint64_t value);

/* What holds on every host until something better is known; times in nanoseconds. */
typedef struct AdaptiveModel {
    double bt_factor;             /* CPU time in bt of one second of work in which nothing happens */
    double bt_exit_ns, bt_table_ns, bt_miss_ns;
    double exit_ns;               /* measured (adaptive_calibrate()), or learned */
    double emulation_ns, user_ns; /* of an emulated instruction and an exit to the monitor, more than of an exit; measured, else 0 */
    bool is_calibrated;
    double shadow_exits;          /* that one table event costs in hv */
    double nested_miss_ns;        /* hwmmu: of what is a miss in bt */
    double least_gain;            /* part of the CPU time that a switch must save */
    double least_load;            /* CPUs in use, below which nothing is decided */
    double least_stay_s;          /* in a mode; doubles each time a switch is taken back soon */
    double horizon_s;             /* how long a phase is believed to last */
    double switch_s;              /* what a switch costs; as measured, when there was one */
    unsigned confirmations;       /* windows in a row that must say the same */
} AdaptiveModel;

extern const AdaptiveModel adaptive_model; /* the defaults */

typedef struct AdaptiveState {
    AdaptiveModel model;
    double now_s, switched_s; /* wall */
    double stay_s;            /* least_stay_s, grown */
    unsigned votes;
    PlanMode vote;
    PlanMode before;          /* the mode before the last switch; PLAN_NMODES: there was none */
} AdaptiveState;

typedef enum AdaptiveAction {
    ADAPTIVE_STAY,  /* no other mode is nearly as good, or the guest does little */
    ADAPTIVE_CLOSE, /* stay, but @reason says what was missing */
    ADAPTIVE_SWITCH,
    ADAPTIVE_FAILED, /* adaptive-watch.c: the switch was refused; @reason is the refusal */
} AdaptiveAction;

typedef struct AdaptiveDecision {
    AdaptiveAction action;
    PlanMode from, to;         /* to: the best, when it is not STAY */
    const char *reason;        /* a sentence; static, but for FAILED */
    double cost[PLAN_NMODES];  /* CPU seconds for a second of work; 0: not allowed or not known */
    double gain;               /* part of the CPU time that @to saves */
    double load;               /* CPUs in use */
    double exits, emulations, users, tables, misses, tpr; /* a second of CPU time */
    double exit_ns, switch_s;  /* as the model has them now */
} AdaptiveDecision;

void adaptive_init(AdaptiveState *state);

/* adaptive_calibrate: what leaving the guest costs on this host, in nanoseconds (kvm/calibrate.h).  From then on nothing is learned from system time, which
 * the host counts by ticks: a guest that leaves all the time is mostly found outside, or mostly inside, as the timer has it. */
void adaptive_calibrate(AdaptiveState *state, double exit_ns, double emulation_ns, double user_ns);

/**
 * adaptive_decide:
 * @before, @now: the ends of one window, in one mode all the time
 * @allowed: the modes the guest may be in, by PlanMode; that of @mode is not looked at
 * Returns: what to do.   @state learns.
 */
AdaptiveDecision adaptive_decide(AdaptiveState *state, PlanMode mode, const bool allowed[PLAN_NMODES], const AdaptiveCounts *before,
                                 const AdaptiveCounts *now);

/* adaptive_switched: what adaptive_decide() chose was done; it took @cost_s, preparations and the time in which the guest stood still together. */
void adaptive_switched(AdaptiveState *state, PlanMode from, double cost_s);
