/*
 * A PCI function whose BARs count writes: QEMU's pci-testdev.
 *
 * Source: QEMU docs/specs/pci-testdev.  1b36:0005, BAR 0 memory, BAR 1 ports.  Each begins with a header: byte 0 selects a test,
 * byte 1 tells the width to write, bytes 4–7 where, 8–11 what, 12–15 how often it was written, then the test's name.  Thread: machine lock held.
 */
#pragma once

#include "core/stream.h"
#include "devices/pci.h"

typedef struct PciTestdev PciTestdev;

PciTestdev *pci_testdev_new(PciBus *bus, uint8_t devfn, GError **error);
void pci_testdev_free(PciTestdev *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PciTestdev, pci_testdev_free)
extern const StateOps pci_testdev_state; /* device is the PciTestdev; its configuration space is the bus's */
