#include "devices/pci-int.h"

#include <string.h>

#include "core/error.h"

static void store(uint8_t *bytes, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t fetch(const uint8_t *bytes, unsigned size)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint32_t)bytes[i] << (8 * i);
    return value;
}

void pci_config_set(PciDevice *device, unsigned offset, unsigned size, uint32_t value)
{
    g_return_if_fail(offset + size <= PCI_CONFIG_SIZE);
    store(device->config + offset, size, value);
}

uint32_t pci_config_get(const PciDevice *device, unsigned offset, unsigned size)
{
    g_return_val_if_fail(offset + size <= PCI_CONFIG_SIZE, 0);
    return fetch(device->config + offset, size);
}

void pci_device_init(PciDevice *device, const char *name, const PciIdentity *identity)
{
    memset(device, 0, sizeof *device);
    device->name = name;
    pci_config_set(device, PCI_VENDOR_ID, 2, identity->vendor);
    pci_config_set(device, PCI_DEVICE_ID, 2, identity->device);
    pci_config_set(device, PCI_REVISION, 1, identity->revision);
    pci_config_set(device, PCI_CLASS, 2, identity->class_code & 0xffff);
    pci_config_set(device, PCI_CLASS + 2, 1, identity->class_code >> 16);
    pci_config_set(device, PCI_SUBSYSTEM_VENDOR, 2, identity->subsystem_vendor);
    pci_config_set(device, PCI_SUBSYSTEM_ID, 2, identity->subsystem);
    pci_config_set(device, PCI_INTERRUPT_PIN, 1, identity->interrupt_pin);
    store(device->writable + PCI_COMMAND, 2,
          PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE | 0x140);
    store(device->clearable + PCI_STATUS, 2, 0xf900);
    device->writable[0x0c] = 0xff; /* cache line size and latency timer: stored only */
    device->writable[0x0d] = 0xff;
    device->writable[PCI_INTERRUPT_LINE] = 0xff;
    device->next_capability = 0x40;
}

void pci_add_bar(PciDevice *device, unsigned index, const PciBar *bar)
{
    g_assert(index < PCI_NBARS && !(bar->is_64 && index + 1 >= PCI_NBARS));
    g_assert(bar->size >= (bar->is_io ? 4 : 16) && (bar->size & (bar->size - 1)) == 0);
    unsigned offset = PCI_BAR0 + 4 * index;
    uint64_t mask = ~(bar->size - 1);
    device->bar[index] = *bar;
    device->bar[index].is_mapped = false;
    uint32_t flags = bar->is_io ? 1 : (bar->is_64 ? 4u : 0) | (bar->is_prefetchable ? 8u : 0);
    pci_config_set(device, offset, 4, flags);
    store(device->writable + offset, 4, mask);
    if (bar->is_64) {
        pci_config_set(device, offset + 4, 4, 0);
        store(device->writable + offset + 4, 4, mask >> 32);
    }
}

uint8_t pci_add_capability(PciDevice *device, uint8_t id, uint8_t size)
{
    uint8_t offset = device->next_capability;
    g_assert(offset + size <= PCI_CONFIG_SIZE);
    device->config[offset] = id;
    device->config[offset + 1] = device->config[PCI_CAPABILITIES];
    device->config[PCI_CAPABILITIES] = offset;
    device->config[PCI_STATUS] |= 0x10;
    device->next_capability = (uint8_t)((offset + size + 3) & ~3);
    return offset;
}

/* bar_address: where the registers say the BAR is; 0 when that is nowhere, as while its size is being probed. */
static uint64_t bar_address(const PciDevice *device, unsigned index)
{
    const PciBar *bar = &device->bar[index];
    uint32_t command = pci_config_get(device, PCI_COMMAND, 2);
    if (!(command & (bar->is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
        return 0;
    uint64_t address = pci_config_get(device, PCI_BAR0 + 4 * index, 4) & (bar->is_io ? ~3u : ~15u);
    uint64_t last = UINT32_MAX;
    if (bar->is_64) {
        address |= (uint64_t)pci_config_get(device, PCI_BAR0 + 4 * index + 4, 4) << 32;
        last = UINT64_MAX;
    }
    if (address + (bar->size - 1) == last || (uint32_t)address == (uint32_t) ~(bar->size - 1))
        return 0;
    return address;
}

void pci_update_bars(PciDevice *device)
{
    if (!device->bus)
        return;
    for (unsigned i = 0; i < PCI_NBARS; i++) {
        PciBar *bar = &device->bar[i];
        if (bar->size == 0)
            continue;
        Bus *bus = bar->is_io ? device->bus->wires.ports : device->bus->wires.memory;
        uint64_t address = bar_address(device, i);
        if (bar->is_mapped && bar->mapped == address)
            continue;
        if (bar->is_mapped)
            bus_remove(bus, bar->mapped);
        /* Where the guest puts it over something else, it stays off. */
        bar->is_mapped = address && bus_add(bus, address, bar->size, bar->ops, bar->device, NULL);
        bar->mapped = address;
    }
}

void pci_unmap_bars(PciDevice *device)
{
    for (unsigned i = 0; i < PCI_NBARS; i++) {
        PciBar *bar = &device->bar[i];
        if (bar->size && bar->is_mapped)
            bus_remove(bar->is_io ? device->bus->wires.ports : device->bus->wires.memory, bar->mapped);
        bar->is_mapped = false;
    }
}

static void config_write(PciDevice *device, unsigned offset, unsigned size, uint32_t value)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i;
        uint8_t byte = (uint8_t)(value >> (8 * i)), writable = device->writable[at];
        device->config[at] = (uint8_t)((device->config[at] & ~writable) | (byte & writable));
        device->config[at] &= (uint8_t) ~(byte & device->clearable[at]);
    }
    if (offset < PCI_BAR0 + 4 * PCI_NBARS)
        pci_update_bars(device);
    pci_bus_update_intx(device->bus);
    pci_msi_config_written(device, offset, size);
    if (device->config_written)
        device->config_written(device, offset, size);
}

static PciDevice *selected(const PciBus *bus)
{
    uint32_t address = bus->s.address;
    return address & 0x80000000u && (address >> 16 & 0xff) == 0 ? bus->devices[address >> 8 & 0xff] : NULL;
}

static uint64_t pci_bus_read(void *opaque, uint64_t offset, unsigned size)
{
    PciBus *bus = opaque;
    if (offset == 0 && size == 4)
        return bus->s.address;
    if (offset == 1 && size == 1)
        return bus->s.reset_control;
    PciDevice *device = selected(bus);
    if (offset < 4 || !device)
        return UINT64_MAX >> (64 - 8 * size);
    unsigned at = (bus->s.address & 0xfc) + (unsigned)offset - 4;
    if (device->config_reading)
        device->config_reading(device, at, size);
    return pci_config_get(device, at, size);
}

static void pci_bus_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    PciBus *bus = opaque;
    if (offset == 0 && size == 4) {
        bus->s.address = (uint32_t)value & 0x80fffffcu;
    } else if (offset == 1 && size == 1) {
        /* PIIX3 RC register: a reset when bit 2 rises. */
        bool rises = value & ~bus->s.reset_control & 4;
        bus->s.reset_control = value & 2;
        if (rises && bus->wires.reset)
            bus->wires.reset(bus->wires.opaque);
    } else if (offset >= 4) {
        PciDevice *device = selected(bus);
        if (device)
            config_write(device, (bus->s.address & 0xfc) + (unsigned)offset - 4, size, (uint32_t)value);
    }
}

const BusOps pci_bus_ops = {.name = "pci-config", .read = pci_bus_read, .write = pci_bus_write, .max_size = 4};

gboolean pci_attach(PciBus *bus, PciDevice *device, uint8_t devfn, GError **error)
{
    if (bus->devices[devfn]) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "PCI %02x.%x is taken by %s, %s cannot have it too", devfn >> 3,
                    devfn & 7, bus->devices[devfn]->name, device->name);
        return FALSE;
    }
    device->bus = bus;
    device->devfn = devfn;
    bus->devices[devfn] = device;
    unsigned pin = device->config[PCI_INTERRUPT_PIN];
    if (pin && device->config[PCI_INTERRUPT_LINE] == 0)
        device->config[PCI_INTERRUPT_LINE] = (uint8_t)pci_bus_irq(bus, devfn, pin);
    memcpy(device->reset_config, device->config, sizeof device->config);
    return TRUE;
}

void pci_detach(PciDevice *device)
{
    PciBus *bus = device->bus;
    if (!bus)
        return;
    pci_config_set(device, PCI_COMMAND, 2, 0);
    pci_update_bars(device);
    device->intx_level = false;
    pci_bus_update_intx(bus);
    bus->devices[device->devfn] = NULL;
    device->bus = NULL;
}

void pci_bus_reset(PciBus *bus)
{
    bus->s = (PciBusState){0};
    for (unsigned i = 0; i < G_N_ELEMENTS(bus->devices); i++) {
        PciDevice *device = bus->devices[i];
        if (!device)
            continue;
        memcpy(device->config, device->reset_config, sizeof device->config);
        device->intx_level = false;
        device->msix.pending = 0;
        for (unsigned v = 0; v < device->msix.nvectors; v++) {
            memset(&device->msix.vector[v], 0, sizeof device->msix.vector[v]);
            device->msix.vector[v].control = 1;
        }
        pci_update_bars(device);
        if (device->reset)
            device->reset(device);
    }
    pci_bus_update_intx(bus);
}

/* take: the first multiple of @size at or after *@next; false when [address, +size) would pass @limit. */
static bool take(uint64_t *next, uint64_t size, uint64_t limit, uint64_t *out_address)
{
    uint64_t address = (*next + size - 1) & ~(size - 1);
    if (address + size > limit)
        return false;
    *next = address + size;
    *out_address = address;
    return true;
}

gboolean pci_bus_assign(PciBus *bus, GError **error)
{
    uint64_t port = 0xc000, memory = 0xe0000000;
    for (unsigned i = 0; i < G_N_ELEMENTS(bus->devices); i++) {
        PciDevice *device = bus->devices[i];
        if (!device)
            continue;
        uint32_t command = pci_config_get(device, PCI_COMMAND, 2);
        for (unsigned b = 0; b < PCI_NBARS; b++) {
            const PciBar *bar = &device->bar[b];
            if (bar->size == 0 || bar->is_mapped)
                continue;
            uint64_t address = 0;
            if (!(bar->is_io ? take(&port, bar->size, 0xff00, &address)
                             : take(&memory, MAX(bar->size, 4096), 0xfec00000, &address))) {
                g_set_error(error, VMM_ERROR, VMM_ERROR_HOST,
                            "no PCI %s space left for BAR %u of %s (%" G_GUINT64_FORMAT " bytes)",
                            bar->is_io ? "port" : "memory", b, device->name, bar->size);
                return FALSE;
            }
            unsigned offset = PCI_BAR0 + 4 * b;
            pci_config_set(device, offset, 4, (uint32_t)address | (device->config[offset] & 15));
            command |= bar->is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
        }
        pci_config_set(device, PCI_COMMAND, 2, command);
        unsigned pin = device->config[PCI_INTERRUPT_PIN];
        if (pin && pci_bus_irq(bus, device->devfn, pin))
            device->config[PCI_INTERRUPT_LINE] = (uint8_t)pci_bus_irq(bus, device->devfn, pin);
        pci_update_bars(device);
    }
    return TRUE;
}

PciBus *pci_bus_new(const PciBusWires *wires)
{
    PciBus *bus = g_new0(PciBus, 1);
    bus->wires = *wires;
    pci_board_init(bus);
    return bus;
}

void pci_bus_free(PciBus *bus)
{
    if (!bus)
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(bus->devices); i++)
        if (bus->devices[i])
            pci_detach(bus->devices[i]);
    g_free(bus);
}
