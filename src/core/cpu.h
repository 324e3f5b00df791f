/*
 * The seam between the machine and an execution engine.
 *
 * vm/run.c has one loop for all engines: vcpu->ops->run() returns a CpuExit in our own words, whatever the engine is.  In the other direction an
 * engine sees the machine only as a CpuHost.  Port and MMIO accesses are made through CpuHost during run(), at the point where the guest
 * makes them; when run() returns, the vCPU always stands at an instruction boundary with nothing half done.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/ram.h"
#include "x86/state.h"

typedef enum CpuExitKind {
    CPU_EXIT_KICKED,          /* cpu_kick() was called; nothing else happened */
    CPU_EXIT_HALT,            /* HLT with nothing to deliver: wait until host->irq_ready() */
    CPU_EXIT_SHUTDOWN,        /* triple fault; @reason describes it */
    CPU_EXIT_LONG_MODE_ENTRY, /* LMA has just become 1; only when asked for (CpuConfig) */
    CPU_EXIT_DEBUG,           /* something that CpuOps.debug() asked for: @stop, @address */
    CPU_EXIT_ERROR,           /* the engine cannot go on; @reason says why.  Never caused by guest input */
} CpuExitKind;

/* Why a vCPU stands still for a debugger. */
typedef enum CpuStop {
    CPU_STOP_NONE,
    CPU_STOP_BREAK, /* before the instruction at @address */
    CPU_STOP_STEP,  /* one instruction is through */
    CPU_STOP_WATCH, /* one that touched the bytes at @address is */
} CpuStop;

typedef struct CpuExit {
    CpuExitKind kind;
    CpuStop stop;
    Gva address; /* linear */
    const char *reason; /* SHUTDOWN, ERROR: a sentence, owned by the vCPU, valid until the next run() */
} CpuExit;

/* A local APIC as data: what moves between the machine's chip and an engine that has one itself. */
typedef struct CpuApic {
    uint64_t base;         /* MSR APIC_BASE */
    uint64_t tsc_deadline; /* MSR; 0: not armed */
    uint8_t page[4096];    /* the registers where the xAPIC page has them, current count included; the x2APIC ID has no shift */
} CpuApic;

/* What an engine may ask of the machine.  Every call takes the machine lock itself; called from the vCPU's thread only, with the
 * host's own FPU and vector state. @opaque is CpuConfig.host_opaque. */
typedef struct CpuHost {
    uint64_t (*port_read)(void *opaque, uint16_t port, unsigned size);
    void (*port_write)(void *opaque, uint16_t port, unsigned size, uint64_t value);
    uint64_t (*mmio_read)(void *opaque, Gpa gpa, unsigned size); /* size 1, 2, 4 or 8 */
    void (*mmio_write)(void *opaque, Gpa gpa, unsigned size, uint64_t value);
    /* irq_acknowledge: the vector the interrupt controllers deliver now (0–255), -1 for none.  Runs the INTA cycle. */
    int (*irq_acknowledge)(void *opaque);
    /* Local APIC registers that the CPU reaches other than by MMIO.  MSRs: APIC_BASE, TSC_DEADLINE and x2APIC 0x800–0x8ff.
     * Return false for #GP. */
    bool (*apic_msr_read)(void *opaque, uint32_t msr, uint64_t *out_value);
    bool (*apic_msr_write)(void *opaque, uint32_t msr, uint64_t value);
    uint64_t (*cr8_read)(void *opaque);              /* TPR bits 7:4 */
    void (*cr8_write)(void *opaque, uint64_t value); /* 0–15 */
    /* eoi: the engine's local APIC ended the level-triggered @vector.  Engines without one never call it. */
    void (*eoi)(void *opaque, uint8_t vector);
} CpuHost;

typedef struct CpuConfig {
    Ram *ram;
    unsigned index; /* vCPU number = initial APIC ID */
    const CpuHost *host;
    void *host_opaque;
    const struct CpuidModel *cpuid; /* what CPUID answers; outlives the vCPU */
    int64_t tsc_offset;             /* guest TSC = host TSC + offset */
    const struct Symbols *symbols;  /* of the guest's kernel, for profiles; outlives the vCPU; may be NULL */
    bool wants_apic;                /* the local APICs shall be the engine's, if it is one that can have them */
    bool stops_at_long_mode;        /* return LONG_MODE_ENTRY; an engine in which guests enter it unseen ignores this */
} CpuConfig;

/* What a debugger wants.  The guest's own debug registers are not touched, and none of this is seen by the guest. */
typedef struct CpuWatch {
    Gva start;
    uint64_t size; /* bytes */
    bool on_read, on_write;
} CpuWatch;

typedef struct CpuDebug {
    const Gva *breaks; /* linear addresses */
    unsigned nbreaks;
    const CpuWatch *watches;
    unsigned nwatches;
    bool steps; /* one instruction, then DEBUG; no interrupt comes before it */
} CpuDebug;

typedef struct Cpu Cpu;

/* One counter of an engine: counts from the vCPU's creation on.  @name: lower case, words joined by "-". */
typedef void CpuCounterFunc(void *opaque, const char *name, uint64_t value);

typedef struct CpuOps {
    const char *name; /* "bt", "kvm" */
    Cpu *(*create)(const CpuConfig *config, GError **error);
    void (*free)(Cpu *cpu);
    /* run: on the vCPU's own thread, always the same one.  Returns when there is something for the machine to decide. */
    CpuExit (*run)(Cpu *cpu);
    void (*load)(Cpu *cpu, const X86State *state); /* engine ← canonical */
    void (*save)(Cpu *cpu, X86State *out_state);   /* engine → canonical */
    /* failure: why the vCPU cannot go on with what load() and save() have moved, a sentence owned by it; NULL: nothing went wrong.
     * May be left out by an engine that takes every state. */
    const char *(*failure)(Cpu *cpu);
    /* kick: makes run() return soon (KICKED).  Any thread, also from a signal handler. */
    void (*kick)(Cpu *cpu);
    /* set_irq: the level of the vCPU's INTR input changed: an interrupt waits in the controllers, or no longer.  Any thread. */
    void (*set_irq)(Cpu *cpu, bool level);
    void (*nmi)(Cpu *cpu); /* latches one NMI.  Any thread */
    /* Only with Cpu.has_apic.  msi: an interrupt message as a device writes it (SDM 3A 11.11), to whichever local APIC of this machine it
     * names.  Any thread.  Returns: whether one took it.   route: what pin @pin of the I/O APIC will send as msi(), so that the end of a
     * level-triggered one is told by CpuHost.eoi(); @data 0: nothing.   apic_get, apic_set: the whole chip; the vCPU is not in run(). */
    bool (*msi)(Cpu *cpu, uint64_t address, uint32_t data);
    void (*route)(Cpu *cpu, unsigned pin, uint64_t address, uint32_t data);
    void (*apic_get)(Cpu *cpu, CpuApic *out_apic);
    void (*apic_set)(Cpu *cpu, const CpuApic *apic);
    /* log_writes: from now on (until it is off) the pages of RAM that the guest writes are noted for Ram.dirty.   log_take: what has been noted
     * is there now, and a page that is written from now on is noted again.  The vCPU is not in run().  FALSE with VMM_ERROR_HOST. */
    gboolean (*log_writes)(Cpu *cpu, bool is_on, GError **error);
    gboolean (*log_take)(Cpu *cpu, GError **error);
    /* debug: from now on @debug (copied) is in force; NULL: nothing.  To be called again after each DEBUG.  The vCPU is not in run().   FALSE with
     * VMM_ERROR_USAGE: more than the engine has room for. */
    gboolean (*debug)(Cpu *cpu, const CpuDebug *debug, GError **error);
    unsigned max_debug_points; /* break- and watchpoints together; 0: any number */
    /* text: human-readable statistics and registers for logs and the monitor; (transfer full). */
    char *(*describe)(Cpu *cpu);
    /* counters: calls @row for each.  Any thread, also while the vCPU runs: values may be a moment old.  May be NULL. */
    void (*counters)(Cpu *cpu, CpuCounterFunc *row, void *opaque);
    /* profile: where host time went, as text (transfer full).  Any thread.  NULL, or left out: not known. */
    char *(*profile)(Cpu *cpu);
} CpuOps;

/* Every engine's vCPU begins with this. */
struct Cpu {
    const CpuOps *ops;
    /* The local APIC is in the engine, and set_irq() is about the 8259's output only; HLT and waiting for SIPI happen inside run(). */
    bool has_apic;
};

/* One CPUID leaf of the model fixed at power-on. */
typedef struct CpuidLeaf {
    uint32_t leaf, subleaf;
    bool subleaf_significant;
    uint32_t eax, ebx, ecx, edx;
} CpuidLeaf;

typedef struct CpuidModel {
    unsigned nleaves;
    CpuidLeaf leaf[64];
    uint64_t xcr0_mask; /* XCR0 bits that the guest may set */
    uint64_t arch_capabilities; /* the MSR of this name, where the leaves have it: what the CPU is not vulnerable to */
    bool is_intel;              /* the vendor; else AMD and those that follow it */
} CpuidModel;
