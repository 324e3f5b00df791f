/*
 * virtio over PCI, transitional: the legacy I/O BAR and the modern capabilities on one function.
 *
 * Source: VIRTIO 1.2, 4.1 (PCI transport), 4.1.4.8 (legacy layout).  BAR 0: legacy registers (ports); BAR 1: MSI-X; BAR
 * 4: common, ISR, device and notify regions (memory).  Interrupts by MSI-X where the driver enables it, otherwise INTA
 * with the ISR register. Thread: machine lock held.
 */
#pragma once

#include "devices/pci.h"
#include "devices/virtio.h"

typedef struct VirtioPci VirtioPci;

typedef enum VirtioPciKind { VIRTIO_PCI_TRANSITIONAL, VIRTIO_PCI_MODERN } VirtioPciKind;

/**
 * virtio_pci_new: puts @device, which outlives the transport, on @bus at @devfn.
 * Returns: NULL with VMM_ERROR_USAGE when @devfn is taken.
 */
VirtioPci *virtio_pci_new(PciBus *bus, uint8_t devfn, VirtioDevice *device, VirtioPciKind kind, GError **error);
void virtio_pci_free(VirtioPci *pci); /* detaches it */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtioPci, virtio_pci_free)
PciDevice *virtio_pci_device(VirtioPci *pci);
/* device is the VirtioPci, with no request on its way; its configuration space is the bus's. */
extern const StateOps virtio_pci_state;
