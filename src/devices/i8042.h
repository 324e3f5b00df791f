/*
 * 8042 keyboard controller with a keyboard and a PS/2 mouse that answer probes, and port 0x92.
 *
 * Source: IBM PS/2 Hardware Interface Technical Reference (keyboard and auxiliary device controller); Intel UPI-41 for
 * the part.  Commands complete at once.  Scancodes arrive in set 2 and are translated to set 1 while command byte bit 6
 * is set.  The output port's bit 0 (pulsed by 0xfe) is the reset, bit 1 is A20.  Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "core/irq.h"
#include "core/stream.h"

typedef struct I8042 I8042;

typedef struct I8042Wires {
    IrqLine keyboard_irq;                       /* IRQ 1 */
    IrqLine mouse_irq;                          /* IRQ 12 */
    void (*reset)(void *opaque);                /* the guest asks for a machine reset */
    void (*a20)(void *opaque, bool is_enabled); /* A20 gate changed; may be NULL */
    void *opaque;
} I8042Wires;

extern const BusOps i8042_data_ops;    /* 1 port, 0x60 */
extern const BusOps i8042_command_ops; /* 1 port, 0x64 */
extern const BusOps i8042_port92_ops;  /* 1 port, 0x92: fast A20 (bit 1) and reset (bit 0) */

I8042 *i8042_new(const I8042Wires *wires);
void i8042_free(I8042 *kbc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(I8042, i8042_free)
void i8042_reset(I8042 *kbc);

/* i8042_key: raw set 2 bytes from the keyboard, e.g. 1c, f0 1c for "a" pressed and released.  Returns: false, nothing
 * taken, when the keyboard's buffer has no room for all of them or scanning is off. */
bool i8042_key(I8042 *kbc, const uint8_t *bytes, unsigned count);
extern const StateOps i8042_state; /* device is the I8042 */
