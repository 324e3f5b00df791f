/*
 * A debugger's break- and watchpoints in the translator.  No guest memory is changed and no debug register taken: blocks end before an address
 * that has, or had, a breakpoint, and the instruction there is a block of its own that is reached through the dispatcher only, which
 * looks.  With watchpoints the vCPU is in MODE_DEBUG, as with the guest's own.
 *
 * set: not in run().  The others run with the guest's vector registers live.
 */
#pragma once

#include "bt/cpu.h"

typedef struct BtDebugger {
    Gva *breaks;      /* nbreaks of them, sorted */
    unsigned nbreaks;
    Gva *fences;      /* where blocks end: breaks and what was one; sorted */
    unsigned nfences;
    CpuWatch *watches;
    unsigned nwatches;
    bool steps, has_stepped;
    CpuStop stop;     /* why run() is to return */
    Gva address;
} BtDebugger;

/* bt_debugger_set: CpuOps.debug. */
void bt_debugger_set(BtCpu *cpu, const CpuDebug *debug);
void bt_debugger_free(BtDebugger *debugger);

/* bt_debugger_stops: whether the vCPU must not execute the instruction at cpu->rip; the reason is in the debugger then. */
bool bt_debugger_stops(BtCpu *cpu);
bool bt_debugger_is_fence(const BtCpu *cpu, Gva gva);
Gva bt_debugger_here(const BtCpu *cpu); /* linear address of cpu->rip */
void bt_debugger_access(BtCpu *cpu, Gva gva, unsigned size, bool is_write);
/* bt_debugger_masks: no interrupt comes between two steps, so that a step ends in the code that is looked at. */
static inline bool bt_debugger_masks(const BtCpu *cpu) { return cpu->debugger && cpu->debugger->steps && !cpu->halted; }
