/*
 * The watchdog of the Intel 6300ESB I/O controller: a PCI function whose timer runs in two stages.
 *
 * The first stage's end may interrupt; the second one's is the machine's to act on, unless the guest writes in time.  A register takes a
 * write only after 80 and 86 (hex) were written to the reload register.  One tick is 2^15 cycles of 33 MHz, or 2^5.
 * Source: Intel 6300ESB I/O Controller Hub datasheet (300641), chapter 16.   Thread: machine lock held.
 */
#pragma once

#include "core/clock.h"
#include "core/stream.h"
#include "devices/pci.h"

typedef struct I6300esb I6300esb;

typedef struct I6300esbWires {
    Clock *clock;
    PciBus *bus;
    uint8_t devfn;
    void (*expired)(void *opaque); /* the second stage has ended and the guest wants a reset then; the watchdog is off */
    void *opaque;
} I6300esbWires;

/* i6300esb_new: NULL with the bus's error when @devfn is taken. */
I6300esb *i6300esb_new(const I6300esbWires *wires, GError **error);
void i6300esb_free(I6300esb *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(I6300esb, i6300esb_free)
extern const StateOps i6300esb_state; /* device is the I6300esb; its configuration space is the bus's */
