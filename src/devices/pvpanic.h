/*
 * pvpanic: the guest's kernel reports its own panic, at port 0x505 (ISA) or in byte 0 of a memory BAR (PCI 1b36:0011).
 * Source: QEMU docs/specs/pvpanic.  Bit 0: panicked, bit 1: crash kernel loaded.  Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "devices/pci.h"

typedef struct Pvpanic Pvpanic;

typedef struct PvpanicWires {
    void (*panicked)(void *opaque, uint8_t event); /* the bits written, known ones only, at least one */
    void *opaque;
} PvpanicWires;

extern const BusOps pvpanic_ops; /* 1 port */

Pvpanic *pvpanic_new(const PvpanicWires *wires);
Pvpanic *pvpanic_pci_new(const PvpanicWires *wires, PciBus *bus, uint8_t devfn, GError **error); /* NULL: @devfn is taken */
void pvpanic_free(Pvpanic *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pvpanic, pvpanic_free)
