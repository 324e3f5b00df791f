/*
 * Run: all vCPUs of a machine, the one loop that all engines run in, and what is done to all of them together.
 *
 * vcpu.h is one of them.  A reset is made on the boot processor's thread when all others are parked.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "core/cpu.h"
#include "core/cpuid.h"
#include "core/dirty.h"
#include "core/stream.h"
#include "vm/board.h"
#include "vm/boot.h"
#include "vm/handover.h"

typedef struct Run Run;

typedef struct RunWires {
    const CpuOps *ops;
    Ram *ram;
    const CpuidModel *cpuid; /* copied for each vCPU */
    const struct Symbols *symbols; /* CpuConfig.symbols */
    unsigned ncpus;          /* 1 to CONFIG_MAX_CPUS */
    CpuidTopology topology;
    GMutex *lock;
    Boot *boot;
    bool start_paused;
    bool awaits_state; /* a saved machine will be loaded: it is not put into its first state before */
    bool wants_engine_apic; /* CpuConfig.wants_apic */
    /* What only the machine can decide; called on a vCPU's thread with the lock held. */
    void (*triple_fault)(void *opaque, const char *reason); /* ask for a reset or end */
    void (*failed)(void *opaque, const char *reason);       /* the loader cannot go on */
    void (*engine_failed)(void *opaque, const char *reason);
    void (*debug_stop)(void *opaque, unsigned index, const CpuExit *exit);
    void (*long_mode)(void *opaque);                        /* the guest has entered it in an engine that can tell */
    void *opaque;
} RunWires;

/* run_new: creates the vCPUs.   run_start: their threads; the first loads kernel or firmware first; @board outlives the threads. */
Run *run_new(const RunWires *wires, GError **error);
void run_start(Run *run, Board *board);
/* run_finish: ends the threads.  FALSE when one did not end within three seconds; @run must not be freed then. */
bool run_finish(Run *run);
void run_free(Run *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Run, run_free)

IrqLine run_irq_line(Run *run, unsigned index); /* the INTR input */
uint64_t run_guest_tsc(const Run *run);

/* Requests: lock held. */
void run_ask_reset(Run *run); /* whole machine, before the next instruction */
void run_ask_init(Run *run, unsigned index); /* this CPU only */
void run_ask_startup(Run *run, unsigned index, uint8_t vector); /* SIPI; nothing unless it waits for one */
void run_nmi(Run *run, unsigned index);

/* run_pause: returns when every vCPU stands between two instructions; calls nest, run_resume() undoes one.  Lock held, dropped meanwhile;
 * never on a vCPU's thread: there run_ask_pause() takes effect before the next instruction. */
void run_pause(Run *run);
void run_ask_pause(Run *run);
void run_resume(Run *run);
typedef struct RunSwitchTimes { /* nanoseconds */
    uint64_t stop_ns;     /* from asking until no vCPU runs */
    uint64_t connect_ns;  /* local APICs and interrupt lines */
    uint64_t downtime_ns; /* from asking until they may run again */
    HandoverTimes handover;
} RunSwitchTimes;

/**
 * run_switch:
 * Every vCPU goes on in a new one of @ops.  FALSE with that engine's reason, and the guest goes on in the old ones.
 * Lock not held; the main thread's.
 */
gboolean run_switch(Run *run, const CpuOps *ops, RunSwitchTimes *out_times, GError **error);

char *run_describe(Run *run, unsigned index); /* registers; the vCPUs must be paused, the lock not held */
void run_save(Run *run, unsigned index, X86State *out_state); /* the same rules */
void run_counters(Run *run, CpuCounterFunc *row, void *opaque); /* sums over all; lock held */
char *run_profile(Run *run); /* of all, (transfer full); lock held; NULL: none is made */
int run_thread_id(Run *run, unsigned index); /* of the host; 0 before it runs.  Lock held */

/* run_log_writes: what the guest writes is noted in Ram.dirty, from @is_on to !@is_on; the vCPUs go on noting over a run_switch().
 * run_log_take: moves what has been noted into @pages.   *out_npages: how many @pages has now.   The main thread's; lock not held; the
 * vCPUs stand still for a moment.  FALSE with VMM_ERROR_HOST. */
gboolean run_log_writes(Run *run, bool is_on, GError **error);
gboolean run_log_take(Run *run, PageSet *pages, uint64_t *out_npages, GError **error);

/* run_debug: what a debugger wants of vCPU @index (copied; NULL: nothing), which runs no instruction while @is_frozen.  The vCPUs are paused, lock
 * not held.  It stays in force over a run_switch().  FALSE with VMM_ERROR_USAGE: the engine has no room for it.
 * run_load: new registers for it; its TSC goes on as it was.  The same rules. */
gboolean run_debug(Run *run, unsigned index, const CpuDebug *debug, bool is_frozen, GError **error);
unsigned run_debug_room(const Run *run); /* CpuOps.max_debug_points */
void run_load(Run *run, unsigned index, const X86State *state);

/* run_time_stop, run_time_start: the vCPUs' TSCs stand still between the two, as the clock does.  Calls do not nest.  The vCPUs are paused;
 * run_time_start() is called without the lock. */
void run_time_stop(Run *run);
void run_time_start(Run *run);

/* Saved state; the vCPUs are paused and their time is stopped.  run_cpu_save: in @out_state, tsc is the TSC's value when it was stopped.
 * run_cpu_load: FALSE with VMM_ERROR_HOST when the engine does not take the state.  Both without the lock. */
unsigned run_cpu_count(const Run *run);
void run_cpu_save(Run *run, unsigned index, X86State *out_state);
gboolean run_cpu_load(Run *run, unsigned index, const X86State *state, GError **error);
extern const StateOps run_state; /* device is the Run: what was asked for and not done yet */
