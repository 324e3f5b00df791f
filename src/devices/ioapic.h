/*
 * I/O APIC with 24 pins and an EOI register.
 *
 * Source: Intel 82093AA datasheet; ICH9 datasheet 13.5 for version 0x20 and the EOI register at offset 0x40.  Edge pins
 * send once a rising edge; level pins send when high, unmasked and without remote IRR, and again after EOI if still
 * high.  ISA IRQ 0 belongs on pin 2; that is the board's wiring.  Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "core/irq.h"
#include "core/stream.h"
#include "devices/apic-message.h"

#define IOAPIC_BASE  UINT64_C(0xfec00000)
#define IOAPIC_SIZE  0x1000
#define IOAPIC_NPINS 24

typedef struct Ioapic Ioapic;

typedef struct IoapicWires {
    ApicSink sink;
    uint8_t id; /* initial APIC ID, 4 bits */
    void (*route_changed)(void *opaque, unsigned pin); /* a level-triggered entry came, went or means another message now; may be NULL */
    void *opaque;
} IoapicWires;

extern const BusOps ioapic_ops; /* IOAPIC_SIZE bytes at IOAPIC_BASE */

Ioapic *ioapic_new(const IoapicWires *wires);
void ioapic_free(Ioapic *ioapic);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ioapic, ioapic_free)
void ioapic_reset(Ioapic *ioapic);

void ioapic_set_irq(Ioapic *ioapic, unsigned pin, bool level); /* @pin 0–23; active level, polarity is ignored */
IrqLine ioapic_pin(Ioapic *ioapic, unsigned pin);

/* ioapic_eoi: a local APIC ended level-triggered @vector.  @ioapic is an Ioapic; the shape fits lapic_bus_set_eoi(). */
void ioapic_eoi(void *ioapic, uint8_t vector);
/* ioapic_waits: whether a level pin waits for the end of @vector. */
bool ioapic_waits(const Ioapic *ioapic, uint8_t vector);
/* ioapic_level_message: what level-triggered pin @pin sends, masked or not.  Returns: false when it is edge-triggered. */
bool ioapic_level_message(const Ioapic *ioapic, unsigned pin, ApicMessage *out_message);
/* ioapic_handles: whether a level pin uses @vector (engines that filter EOIs ask). */
bool ioapic_handles(const Ioapic *ioapic, uint8_t vector);
extern const StateOps ioapic_state; /* device is the Ioapic */
