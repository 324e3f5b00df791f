#include "devices/pci-int.h"

/* ISA IRQs that PIIX3 lets a PIRQ reach: not 0–2, 8 and 13. */
#define ROUTABLE 0xdef8u

#define MSI_ENABLE  0x0001u
#define MSIX_ENABLE 0x8000u
#define MSIX_MASK   0x4000u

/* Offsets in the MSI capability with a 64-bit address and masking. */
enum { MSI_CONTROL = 2, MSI_ADDRESS = 4, MSI_DATA = 12, MSI_MASKED = 16, MSI_PENDING = 20, MSI_SIZE = 24 };
enum { MSIX_CONTROL = 2, MSIX_TABLE = 4, MSIX_PBA = 8, MSIX_SIZE = 12 };

static unsigned pirq_of(uint8_t devfn, unsigned pin) { return ((devfn >> 3) + (pin - 1) + 3) % PCI_NPIRQS; }

static unsigned routed_irq(const PciBus *bus, unsigned pirq)
{
    uint8_t route = bus->isa_bridge.config[PIIX_PIRQ_ROUTES + pirq];
    unsigned irq = route & 15;
    return route & PIIX_PIRQ_OFF || !(ROUTABLE >> irq & 1) ? 0 : irq;
}

unsigned pci_bus_irq(const PciBus *bus, uint8_t devfn, unsigned pin)
{
    return pin >= 1 && pin <= 4 ? routed_irq(bus, pirq_of(devfn, pin)) : 0;
}

void pci_bus_set_default_routes(PciBus *bus)
{
    static const uint8_t routes[PCI_NPIRQS] = {10, 10, 11, 11};
    for (unsigned i = 0; i < PCI_NPIRQS; i++)
        bus->isa_bridge.config[PIIX_PIRQ_ROUTES + i] = routes[i];
    pci_bus_update_intx(bus);
}

void pci_bus_update_intx(PciBus *bus)
{
    uint16_t levels = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(bus->devices); i++) {
        const PciDevice *device = bus->devices[i];
        if (!device || !device->intx_level || pci_config_get(device, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE)
            continue;
        unsigned irq = pci_bus_irq(bus, device->devfn, device->config[PCI_INTERRUPT_PIN]);
        if (irq)
            levels |= (uint16_t)(1u << irq);
    }
    uint16_t changed = levels ^ bus->isa_levels;
    bus->isa_levels = levels;
    for (unsigned irq = 0; changed >> irq; irq++) {
        if (!(changed >> irq & 1))
            continue;
        IrqLine line = bus->wires.isa_irq;
        line.number = irq;
        irq_set(line, levels >> irq & 1);
    }
}

void pci_set_intx(PciDevice *device, bool level)
{
    if (device->intx_level == level)
        return;
    device->intx_level = level;
    device->config[PCI_STATUS] = (uint8_t)((device->config[PCI_STATUS] & ~8u) | (level ? 8u : 0));
    if (device->bus)
        pci_bus_update_intx(device->bus);
}

static void send(PciDevice *device, uint64_t address, uint32_t data)
{
    /* A message is a memory write; only those to the APIC range mean anything here. */
    if (!device->bus || address >> 20 != 0xfee)
        return;
    ApicMessage message = apic_message_from_msi(address, data);
    apic_send(device->bus->wires.msi, &message);
}

void pci_add_msi(PciDevice *device)
{
    uint8_t at = pci_add_capability(device, PCI_CAP_MSI, MSI_SIZE);
    device->msi_capability = at;
    pci_config_set(device, at + MSI_CONTROL, 2, 0x0180); /* 64-bit address, maskable, one vector */
    device->writable[at + MSI_CONTROL] = MSI_ENABLE;
    for (unsigned i = MSI_ADDRESS; i < MSI_DATA + 2; i++)
        device->writable[at + i] = i == MSI_ADDRESS ? 0xfc : 0xff;
    device->writable[at + MSI_MASKED] = 1;
}

bool pci_msi_enabled(const PciDevice *device)
{
    return device->msi_capability && device->config[device->msi_capability + MSI_CONTROL] & MSI_ENABLE;
}

static void msi_send(PciDevice *device)
{
    unsigned at = device->msi_capability;
    uint64_t address =
        pci_config_get(device, at + MSI_ADDRESS, 4) | (uint64_t)pci_config_get(device, at + MSI_ADDRESS + 4, 4) << 32;
    send(device, address, pci_config_get(device, at + MSI_DATA, 2));
}

void pci_msi_notify(PciDevice *device)
{
    if (!pci_msi_enabled(device))
        return;
    if (device->config[device->msi_capability + MSI_MASKED] & 1)
        device->config[device->msi_capability + MSI_PENDING] |= 1;
    else
        msi_send(device);
}

void pci_add_msix(PciDevice *device, unsigned nvectors, unsigned bar, uint32_t table_offset, uint32_t pba_offset)
{
    g_assert(nvectors >= 1 && nvectors <= G_N_ELEMENTS(device->msix.vector) && bar < PCI_NBARS);
    uint8_t at = pci_add_capability(device, PCI_CAP_MSIX, MSIX_SIZE);
    device->msix.capability = at;
    device->msix.nvectors = nvectors;
    pci_config_set(device, at + MSIX_CONTROL, 2, nvectors - 1);
    device->writable[at + MSIX_CONTROL + 1] = (MSIX_ENABLE | MSIX_MASK) >> 8;
    pci_config_set(device, at + MSIX_TABLE, 4, table_offset | bar);
    pci_config_set(device, at + MSIX_PBA, 4, pba_offset | bar);
    for (unsigned i = 0; i < nvectors; i++)
        device->msix.vector[i].control = 1;
}

bool pci_msix_enabled(const PciDevice *device)
{
    return device->msix.nvectors && pci_config_get(device, device->msix.capability + MSIX_CONTROL, 2) & MSIX_ENABLE;
}

/* Sends what is pending and no longer masked. */
static void msix_flush(PciDevice *device)
{
    if (!pci_msix_enabled(device) || pci_config_get(device, device->msix.capability + MSIX_CONTROL, 2) & MSIX_MASK)
        return;
    for (unsigned i = 0; i < device->msix.nvectors; i++) {
        if (!(device->msix.pending >> i & 1) || device->msix.vector[i].control & 1)
            continue;
        device->msix.pending &= ~(UINT64_C(1) << i);
        send(device, device->msix.vector[i].address, device->msix.vector[i].data);
    }
}

void pci_msix_notify(PciDevice *device, unsigned vector)
{
    if (!pci_msix_enabled(device) || vector >= device->msix.nvectors)
        return;
    device->msix.pending |= UINT64_C(1) << vector;
    msix_flush(device);
}

uint32_t pci_msix_read(PciDevice *device, uint32_t table_offset)
{
    unsigned vector = table_offset / 16;
    if (vector >= device->msix.nvectors)
        return 0;
    switch (table_offset >> 2 & 3) {
    case 0:
        return (uint32_t)device->msix.vector[vector].address;
    case 1:
        return (uint32_t)(device->msix.vector[vector].address >> 32);
    case 2:
        return device->msix.vector[vector].data;
    default:
        return device->msix.vector[vector].control;
    }
}

void pci_msix_write(PciDevice *device, uint32_t table_offset, uint32_t value)
{
    unsigned vector = table_offset / 16;
    if (vector >= device->msix.nvectors)
        return;
    uint64_t *address = &device->msix.vector[vector].address;
    switch (table_offset >> 2 & 3) {
    case 0:
        *address = (*address & ~UINT64_C(0xffffffff)) | (value & ~3u);
        break;
    case 1:
        *address = (uint32_t)*address | (uint64_t)value << 32;
        break;
    case 2:
        device->msix.vector[vector].data = value;
        break;
    default:
        device->msix.vector[vector].control = value & 1;
        msix_flush(device);
        break;
    }
}

uint32_t pci_msix_pba_read(PciDevice *device, uint32_t pba_offset)
{
    return pba_offset < 8 ? (uint32_t)(device->msix.pending >> (pba_offset & 4 ? 32 : 0)) : 0;
}

void pci_msi_config_written(PciDevice *device, unsigned offset, unsigned size)
{
    unsigned at = device->msi_capability;
    if (at && pci_msi_enabled(device) && device->config[at + MSI_PENDING] & 1 &&
        !(device->config[at + MSI_MASKED] & 1)) {
        device->config[at + MSI_PENDING] = 0;
        msi_send(device);
    }
    msix_flush(device);
}
