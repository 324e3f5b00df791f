/*
 * Local APIC of one vCPU, and LapicBus, over which the local APICs of a machine reach each other.
 *
 * Source: SDM 3A chapter 11 (APIC; 10 in older editions).  xAPIC registers in a 4 KiB page and x2APIC MSRs, six LVT
 * entries, timer with one-shot, periodic and TSC-deadline modes (input clock 1 GHz before the divider), flat and
 * cluster destinations.  The chip's page belongs to its own vCPU only, so it is not on the MMIO bus: vm/ asks
 * lapic_covers() first.  With the APIC globally disabled, or LVT LINT0 set to ExtINT, the 8259's INTR passes through;
 * the boot processor comes out of reset wired that way (virtual wire). Thread: machine lock held.
 */
#pragma once

#include "core/addr.h"
#include "core/bus.h"
#include "core/clock.h"
#include "core/cpu.h"
#include "core/irq.h"
#include "core/stream.h"
#include "devices/apic-message.h"

typedef struct Lapic Lapic;
typedef struct LapicBus LapicBus;

#define LAPIC_DEFAULT_BASE UINT64_C(0xfee00000)
#define LAPIC_SIZE         0x1000
#define LAPIC_TIMER_HZ     UINT64_C(1000000000)
#define LAPIC_MSI_BASE     UINT64_C(0xfee00000) /* DMA writes to 1 MiB from here are messages */

typedef struct LapicWires {
    Clock *clock;
    unsigned index;                       /* vCPU number = APIC ID; 0 is the boot processor */
    LapicBus *bus;                        /* outlives the chip */
    unsigned physical_bits;               /* of an address, for APIC_BASE's reserved bits; 0 means 52 */
    IrqLine cpu_irq;                      /* INTR of the vCPU: an interrupt waits.  Level, set only on changes */
    uint64_t tsc_hz;                      /* of the guest's TSC; 0: TSC-deadline mode is not offered */
    uint64_t (*guest_tsc)(void *opaque);  /* the vCPU's TSC now */
    int (*pic_acknowledge)(void *opaque); /* INTA to the 8259 pair: vector */
    void (*nmi)(void *opaque);
    void (*init)(void *opaque); /* INIT: reset, then wait for SIPI (or run from the reset vector: the BSP) */
    void (*startup)(void *opaque, uint8_t vector); /* SIPI: start at vector << 12 if waiting for it */
    void *opaque;
} LapicWires;

extern const BusOps lapic_ops; /* LAPIC_SIZE bytes; device is the Lapic.  Takes any size and needs no Bus */

/* lapic_bus_set_eoi: @eoi is told of every EOI for a level-triggered vector: the I/O APIC listens. */
LapicBus *lapic_bus_new(void);
void lapic_bus_free(LapicBus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LapicBus, lapic_bus_free)
void lapic_bus_set_eoi(LapicBus *bus, void (*eoi)(void *opaque, uint8_t vector), void *opaque);
/* lapic_bus_deliver: to every local APIC that the message names.  Unknown destinations and reserved modes vanish.
 * Returns: whether one accepted it. */
bool lapic_bus_deliver(LapicBus *bus, const ApicMessage *message);
ApicSink lapic_bus_sink(LapicBus *bus); /* the same as a sink */
/* lapic_bus_set_remote: the local APICs are @remote's from now on, an engine's: messages go there.  The chips here neither interrupt nor count
 * then; all they do is to pass the 8259's INTR and NMI on, and to hold what lapic_take() gave them.  An empty sink: they are in charge again,
 * with the timers as taken. */
void lapic_bus_set_remote(LapicBus *bus, ApicSink remote);

Lapic *lapic_new(const LapicWires *wires);
void lapic_free(Lapic *lapic);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Lapic, lapic_free)
void lapic_reset(Lapic *lapic); /* power-on state, APIC_BASE included */
void lapic_init(Lapic *lapic);  /* INIT state: as reset, but APIC_BASE and the APIC ID stay */

/* lapic_covers: whether @gpa is in the chip's page (enabled and in xAPIC mode). */
bool lapic_covers(const Lapic *lapic, Gpa gpa);
uint64_t lapic_base(const Lapic *lapic); /* APIC_BASE MSR */

/* lapic_acknowledge: the INTA cycle.  Returns: the vector to deliver now, 0–255 (spurious included), or -1. */
int lapic_acknowledge(Lapic *lapic);
bool lapic_irq_waits(const Lapic *lapic); /* level of cpu_irq */

bool lapic_holds(const Lapic *lapic, uint8_t vector); /* it is requested or in service */

/* lapic_deliver: @message has already been addressed to this chip.  Returns: whether it took it. */
bool lapic_deliver(Lapic *lapic, const ApicMessage *message);

/* lapic_set_lint: level of the local interrupt pin: 0 is the 8259's INTR, 1 is NMI. */
void lapic_set_lint(Lapic *lapic, unsigned lint, bool level);
IrqLine lapic_lint(Lapic *lapic, unsigned lint);

/* lapic_msr_read, lapic_msr_write: APIC_BASE, TSC_DEADLINE and 0x800–0x8ff.  Return: false for #GP. */
bool lapic_msr_read(Lapic *lapic, uint32_t msr, uint64_t *out_value);
bool lapic_msr_write(Lapic *lapic, uint32_t msr, uint64_t value);
/* lapic_tpr_count: so often the guest has read or written the TPR by its address or as an MSR.  CR8 is not counted here. */
uint64_t lapic_tpr_count(const Lapic *lapic);
uint64_t lapic_cr8_read(const Lapic *lapic);
void lapic_cr8_write(Lapic *lapic, uint64_t value); /* 0–15 */
/* lapic_tsc_changed: the guest's TSC was written or its offset changed: deadlines are recomputed. */
void lapic_tsc_changed(Lapic *lapic);

/* lapic_save_page, lapic_load_page: the chip in the layout of its xAPIC page (as KVM_GET_LAPIC has it), current count
 * included, for switching and snapshots.  TSC deadline and APIC_BASE travel as MSRs: load APIC_BASE first, TSC_DEADLINE
 * last. */
/* lapic_give, lapic_take: the same with APIC_BASE and TSC_DEADLINE, at once and without the rules for software. */
void lapic_give(const Lapic *lapic, CpuApic *out_apic);
void lapic_take(Lapic *lapic, const CpuApic *apic);
void lapic_save_page(const Lapic *lapic, uint8_t out_page[LAPIC_SIZE]);
void lapic_load_page(Lapic *lapic, const uint8_t page[LAPIC_SIZE]);

/* device is the Lapic.  The TSC must have its value when this is loaded, or lapic_tsc_changed() be called after. */
extern const StateOps lapic_state;
