/*
 * Where the CPU time of a vCPU's thread goes, by samples: a timer on the thread's CPU clock interrupts it, and the signal handler counts the
 * block or the host function it finds there.  Nothing is compiled into translated code, so that it costs nothing when it is off.
 *
 * The clock does not run while the vCPU sleeps.  Bounded: what the tables cannot hold is counted as lost.
 */
#pragma once

#include <glib.h>

#include "bt/cpu.h"
#include "core/symbols.h"

typedef struct BtProfile BtProfile;

/* profile_new: nothing is sampled yet.  @symbols: of the guest's kernel, outlives the profile, may be NULL.  NULL when too many are alive. */
BtProfile *profile_new(const BtCpu *cpu, const Symbols *symbols);
void profile_free(BtProfile *profile); /* the vCPU's thread is not in run() */

/* profile_thread_init: samples the calling thread from now on; unwind_thread_init() comes before. */
void profile_thread_init(BtProfile *profile);

/* profile_report: tables by kind, by host function and by guest function, largest first; (transfer full).  Any thread. */
char *profile_report(const BtProfile *profile);
