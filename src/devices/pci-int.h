/* What the files of the PCI bus share: pci.c (configuration space), pci-irq.c (INTx, MSI, MSI-X), pci-board.c (the
 * fixed chips). */
#pragma once

#include "devices/pci.h"

#define PCI_NPIRQS       4
#define PIIX_PIRQ_ROUTES 0x60 /* PIRQRC[A–D] of the ISA bridge */
#define PIIX_PIRQ_OFF    0x80

typedef struct PciBusState {
    uint32_t address;      /* port 0xcf8 */
    uint8_t reset_control; /* port 0xcf9 */
} PciBusState;

struct PciBus {
    PciBusWires wires;
    PciBusState s;
    PciDevice *devices[256]; /* by devfn; NULL: none */
    PciDevice host_bridge, isa_bridge, power;
    uint16_t isa_levels; /* one bit an ISA IRQ, as last driven */
};

/* pci.c */
void pci_update_bars(PciDevice *device); /* puts them where configuration space says */
void pci_unmap_bars(PciDevice *device);

/* pci-irq.c */
void pci_bus_update_intx(PciBus *bus); /* recomputes every ISA IRQ from the devices' pins and the routes */
void pci_msi_config_written(PciDevice *device, unsigned offset, unsigned size);

/* pci-board.c */
void pci_board_init(PciBus *bus);
