/*
 * MC146818 real-time clock with 128 bytes of CMOS RAM at ports 0x70 and 0x71.
 *
 * Source: Motorola MC146818A datasheet; PC/AT CMOS map for memory sizes (0x15–0x18, 0x30–0x31, 0x34–0x35, 0x5b–0x5d),
 * the century byte (0x32), the reset code (0x0f) and the extra processors that SeaBIOS reads (0x5f).  Time is the start
 * time plus guest time plus what the guest set.  UIP is up for the last 244 µs of a second.  The NMI mask (port 0x70
 * bit 7) is kept and ignored. Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/stream.h"

typedef struct Mc146818 Mc146818;

typedef struct Mc146818Wires {
    Clock *clock;
    IrqLine irq;           /* IRQ 8, level until register C is read */
    int64_t start_time_s;  /* UNIX time at guest time 0; the RTC shows UTC */
    uint64_t ram_below_4g; /* bytes */
    uint64_t ram_above_4g; /* bytes */
    unsigned ncpus;        /* at least 1 */
} Mc146818Wires;

extern const BusOps mc146818_ops; /* 2 ports, 0x70 */

Mc146818 *mc146818_new(const Mc146818Wires *wires);
void mc146818_free(Mc146818 *rtc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Mc146818, mc146818_free)
void mc146818_reset(Mc146818 *rtc); /* interrupts off; time and CMOS are battery backed and stay */

/* mc146818_set_cmos: what the board wants in byte @index (14–127), e.g. boot order in 0x3d and 0x38. */
void mc146818_set_cmos(Mc146818 *rtc, uint8_t index, uint8_t value);
uint8_t mc146818_cmos(const Mc146818 *rtc, uint8_t index);

/* mc146818_set_irq_enabled: the HPET's legacy replacement takes IRQ 8 away (false) and gives it back (true). */
void mc146818_set_irq_enabled(Mc146818 *rtc, bool enabled);
extern const StateOps mc146818_state; /* device is the Mc146818 */
