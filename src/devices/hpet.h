/*
 * High precision event timer: one block, three comparators, 64-bit counter at 100 MHz.
 *
 * Source: IA-PC HPET specification 1.0a.  Timer 0 is periodic capable; each can be edge or level, 32-bit mode, routed
 * to I/O APIC pins 2, 8 and 16–23, or by legacy replacement to IRQ 0 and 8.  FSB delivery is not offered.  Periods
 * shorter than 100 µs are delivered at that rate at most.  Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/stream.h"

#define HPET_BASE      UINT64_C(0xfed00000)
#define HPET_SIZE      0x400
#define HPET_PERIOD_FS 10000000u /* 10 ns */
#define HPET_NTIMERS   3

typedef struct Hpet Hpet;

typedef struct HpetWires {
    Clock *clock;
    /* set(opaque, gsi, level): I/O APIC pins by GSI.  In legacy replacement timer 0 uses ISA IRQ 0 and timer 1 ISA IRQ
     * 8, given through isa_irq below.  irq.number is ignored. */
    IrqLine gsi;
    IrqLine isa_irq;
    void (*legacy_changed)(void *opaque, bool is_on); /* PIT and RTC lose (true) or regain their lines; may be NULL */
    void *opaque;
} HpetWires;

extern const BusOps hpet_ops; /* HPET_SIZE bytes at HPET_BASE; 4 and 8 byte registers */

Hpet *hpet_new(const HpetWires *wires);
void hpet_free(Hpet *hpet);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hpet, hpet_free)
void hpet_reset(Hpet *hpet);
extern const StateOps hpet_state; /* device is the Hpet */
