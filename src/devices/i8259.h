/*
 * Two cascaded 8259A interrupt controllers, as in a PC: slave on the master's input 2, ELCR at 0x4d0.
 *
 * Source: Intel 8259A datasheet (231468); 82371SB (PIIX3) datasheet for ELCR.  All of ICW1–4 and OCW1–3: rotation,
 * AEOI, special mask, special fully nested, poll.  An INTA cycle with nothing to deliver answers spurious IRQ 7 (or 15)
 * and sets no ISR bit.  Input 0–15 is the ISA IRQ number; input 2 is the cascade and ignored.  Thread: machine lock
 * held.
 */
#pragma once

#include "core/bus.h"
#include "core/irq.h"
#include "core/stream.h"

typedef struct I8259 I8259;

typedef struct I8259Wires {
    IrqLine output; /* INTR of the master; level */
} I8259Wires;

extern const BusOps i8259_master_ops; /* 2 ports, 0x20 */
extern const BusOps i8259_slave_ops;  /* 2 ports, 0xa0 */
extern const BusOps i8259_elcr_ops;   /* 2 ports, 0x4d0 */

I8259 *i8259_new(const I8259Wires *wires);
void i8259_free(I8259 *pic);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(I8259, i8259_free)
void i8259_reset(I8259 *pic);

void i8259_set_irq(I8259 *pic, unsigned irq, bool level); /* @irq 0–15 */
IrqLine i8259_input(I8259 *pic, unsigned irq);            /* the same as a line */

/* pic_acknowledge: the INTA cycle.  Returns: the vector, 0–255; spurious ones included. */
int pic_acknowledge(I8259 *pic);
bool i8259_output(const I8259 *pic); /* level of INTR now */
extern const StateOps i8259_state; /* device is the I8259 */
