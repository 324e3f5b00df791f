/*
 * 8254 programmable interval timer, with the PC's port 0x61 (gate 2, speaker, refresh toggle, OUT2).
 *
 * Source: Intel 8254 datasheet (231164), all six modes, BCD, counter latch and read-back.  Counts are computed from the
 * clock when they are read; only channel 0 has a timer, and only while its output will change.  Periods shorter than
 * 100 µs are delivered at that rate at most, and edges that were missed are coalesced into one.  Thread: machine lock
 * held.
 */
#pragma once

#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/stream.h"

#define I8254_HZ 1193182

typedef struct I8254 I8254;

typedef struct I8254Wires {
    Clock *clock;
    IrqLine irq; /* OUT of channel 0 */
} I8254Wires;

extern const BusOps i8254_ops;         /* 4 ports, 0x40 */
extern const BusOps i8254_speaker_ops; /* 1 port, 0x61 */

I8254 *i8254_new(const I8254Wires *wires);
void i8254_free(I8254 *pit);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(I8254, i8254_free)
void i8254_reset(I8254 *pit);

/* i8254_set_irq_enabled: the HPET's legacy replacement takes IRQ 0 away (false) and gives it back (true, after reset).
 */
void i8254_set_irq_enabled(I8254 *pit, bool enabled);
extern const StateOps i8254_state; /* device is the I8254 */
