/* What the two register layouts of virtio-pci share: virtio-pci.c (modern, capabilities), virtio-pci-legacy.c. */
#pragma once

#include "devices/virtio-pci.h"

#define VIRTIO_PCI_NO_VECTOR 0xffff

typedef struct VirtioPciState {
    uint32_t device_feature_select, driver_feature_select;
    uint16_t queue_select, config_vector;
    uint8_t isr;
} VirtioPciState;

struct VirtioPci {
    PciDevice pci; /* first */
    VirtioDevice *device;
    VirtioPciKind kind;
    VirtioPciState s;
    uint8_t window; /* offset of the configuration access capability */
    VirtQueue none; /* what a queue that does not exist reads as; never written */
};

/* The start of the device configuration in the legacy BAR, with and without MSI-X (4.1.4.8). */
#define VIRTIO_PCI_LEGACY_CONFIG 0x14
#define VIRTIO_PCI_LEGACY_CONFIG_MSIX 0x18

extern const BusOps virtio_pci_legacy_ops; /* device is a VirtioPci */

/* virtio-pci.c */
uint8_t virtio_pci_read_isr(VirtioPci *pci); /* clears it and lowers INTx */
void virtio_pci_set_status(VirtioPci *pci, uint8_t status);
bool virtio_pci_has_selected(const VirtioPci *pci); /* queue_select names a queue of the device */
VirtQueue *virtio_pci_selected(VirtioPci *pci);     /* that queue, or one that is all zero and must not be written */
uint16_t virtio_pci_valid_vector(const VirtioPci *pci, uint16_t vector);
uint32_t virtio_pci_config_read(VirtioPci *pci, unsigned offset, unsigned size);
void virtio_pci_config_write(VirtioPci *pci, unsigned offset, unsigned size, uint32_t value);
