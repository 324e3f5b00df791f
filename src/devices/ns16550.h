/*
 * 16550A UART: one serial port, eight I/O ports wide.
 *
 * Source: National Semiconductor PC16550D datasheet.  Transmission completes at once, so THRE and TEMT always read as
 * one; the THRE interrupt is nevertheless latched and cleared as on the part (set by a THR write and by IER.ETBEI going
 * up, cleared by reading IIR while it is the reported cause), which is what the Linux 8250 driver probes for.  Received
 * bytes wait outside until the guest's FIFO has room, so nothing is ever overrun by us.  In loopback (MCR bit 4)
 * nothing leaves the chip and nothing enters. Thread: machine lock held.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/stream.h"

typedef struct Ns16550 Ns16550;

typedef struct Ns16550Wires {
    Clock *clock;                                                    /* for the receive timeout interrupt */
    IrqLine irq;                                                     /* level */
    void (*write)(void *opaque, const uint8_t *bytes, size_t count); /* guest output; NULL: discarded */
    void (*can_receive)(void *opaque); /* room appeared in the receive FIFO; may call ns16550_receive(); may be NULL */
    void *opaque;
} Ns16550Wires;

extern const BusOps ns16550_ops; /* 8 ports, e.g. 0x3f8 */

Ns16550 *ns16550_new(const Ns16550Wires *wires);
void ns16550_free(Ns16550 *uart);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ns16550, ns16550_free)
void ns16550_reset(Ns16550 *uart);

/* ns16550_receive_room: bytes that ns16550_receive() would take now: 0–16, or 0–1 while the FIFOs are off. */
size_t ns16550_receive_room(const Ns16550 *uart);

/* ns16550_receive: puts up to @count bytes into the FIFO.  Returns: how many were taken; the rest waits for
 * can_receive. */
size_t ns16550_receive(Ns16550 *uart, const uint8_t *bytes, size_t count);

/* ns16550_receive_break: a break condition arrives (LSR.BI with a zero byte).  Lost when the FIFO is full. */
void ns16550_receive_break(Ns16550 *uart);
extern const StateOps ns16550_state; /* device is the Ns16550 */
