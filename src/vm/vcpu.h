/*
 * Vcpu: one virtual processor of a machine: its engine's Cpu, its thread, and what others have asked of it.
 *
 * The thread takes the machine lock for everything but CpuOps.run(), and each CpuHost call takes it again inside.  Requests from other
 * threads are fields under the lock, followed by vcpu_kick().  The loop that the thread runs is in run.c.
 * Source: SDM 3A 9.4 (INIT, wait-for-SIPI, SIPI).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <time.h>

#include "core/cpu.h"
#include "core/irq.h"
#include "vm/board.h"

typedef struct Vcpu {
    unsigned index; /* number and APIC ID; 0 is the boot processor */
    struct Run *run;
    GMutex *lock; /* the machine lock */
    Board *board; /* from run_start() on */
    Cpu *cpu;
    CpuidModel cpuid; /* the machine's, with this processor's place in the topology */
    GThread *thread;
    clockid_t clock; /* of its CPU time, once thread_id is not 0 */
    GCond wake; /* something changed for this vCPU */

    /* Under the lock. */
    int thread_id;       /* the host's, 0 before it runs */
    bool is_parked;      /* stands between two instructions, and stays while the machine is paused or waits for its reset */
    bool is_finished;    /* the thread has left the loop */
    bool waits_for_sipi; /* other processors begin so: nothing but a startup IPI or INIT concerns it.  An engine that has the local
                          * APIC looks after it itself; this is what vcpu_load() tells it and vcpu_save() hears */
    bool init_asked;
    int startup_page;    /* of a startup IPI that has come, -1: none */
    bool nmi_waits;
    unsigned nmis;       /* so many came */
    bool is_frozen;      /* by a debugger: stands still while others run */
    CpuDebug *debug;     /* what a debugger wants; NULL: nothing */
    X86State state;      /* scratch for load and save */
} Vcpu;

extern const CpuHost vcpu_host; /* host_opaque is the Vcpu */

/* Requests: lock held, any thread. */
void vcpu_kick(Vcpu *vcpu);
void vcpu_nmi(Vcpu *vcpu);
void vcpu_ask_init(Vcpu *vcpu);
void vcpu_ask_startup(Vcpu *vcpu, uint8_t vector);
IrqLine vcpu_irq_line(Vcpu *vcpu); /* the INTR input */

/* Lock held and dropped meanwhile, while the vCPU is not in run(): the engine calls CpuHost. */
void vcpu_load(Vcpu *vcpu); /* vcpu->state → engine */
void vcpu_save(Vcpu *vcpu); /* engine → vcpu->state */
/* vcpu_take_init, vcpu_take_startup: what was asked happens; the state after it is in the engine. */
void vcpu_take_init(Vcpu *vcpu);
void vcpu_take_startup(Vcpu *vcpu);
/* vcpu_log_state: for -d cpu_reset. */
void vcpu_log_state(Vcpu *vcpu, const char *what);
char *vcpu_describe(const Vcpu *vcpu); /* registers; parked, lock not held; (transfer full) */
