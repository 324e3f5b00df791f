/*
 * Handover: the vCPUs of one engine go on in another, between two instructions, by way of X86State.
 *
 * In two steps, so that what is slow happens while the guest runs: handover_new() makes the new vCPUs, handover_commit() moves the state
 * while the guest stands still.  Until that has succeeded the old vCPUs are as they were, and the guest can go on in them.
 * Thread: any one, while no vCPU is in CpuOps.run() during the commit.
 */
#pragma once

#include <glib.h>

#include "core/cpu.h"

typedef struct Handover Handover;

/* One vCPU: where the machine keeps it, and what it is made with. */
typedef struct HandoverSlot {
    Cpu **cpu;
    CpuConfig config;
    bool *waits_for_sipi; /* the machine's note, for engines that do not know it themselves; NULL: never */
} HandoverSlot;

typedef struct HandoverTimes { /* nanoseconds */
    uint64_t create_ns;        /* the guest runs meanwhile */
    uint64_t save_ns, load_ns; /* it stands still; all vCPUs together */
} HandoverTimes;

/**
 * handover_new:
 * @slots: @count of them, copied; the Cpu pointers they lead to are not looked at yet
 *
 * Creates @count vCPUs of @ops.   Returns: NULL with that engine's error; nothing has changed then.
 */
Handover *handover_new(const CpuOps *ops, const HandoverSlot *slots, unsigned count, GError **error);

/**
 * handover_commit:
 * Saves the state of every vCPU and loads it into the new ones.  The machine lock is not held: both call CpuHost.
 * Returns: FALSE with VMM_ERROR_HOST when one engine says that it could not; the new vCPUs are of no use then and the old ones go on.
 * On success handover_swap() is due.
 */
gboolean handover_commit(Handover *handover, GError **error);

/* handover_swap: puts the new vCPUs where the old ones were, and keeps those.  Lock held. */
void handover_swap(Handover *handover);

const HandoverTimes *handover_times(const Handover *handover);
/* handover_free: and the vCPUs that are of no use now, old or new. */
void handover_free(Handover *handover);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Handover, handover_free)
