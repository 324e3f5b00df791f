/* Saved state of the PCI bus and of what every function on it has: configuration space, BARs, interrupt pin, MSI-X table. */
#include <string.h>

#include "devices/pci-int.h"

static void config_visit(PciDevice *device, Stream *stream)
{
    uint8_t config[PCI_CONFIG_SIZE];
    memcpy(config, device->config, sizeof config);
    stream_bytes(stream, config, sizeof config);
    if (stream_is_loading(stream) && stream_check(stream, !memcmp(config, device->config, 4), "vendor and device of a PCI function"))
        memcpy(device->config, config, sizeof config);
}

static void msix_visit(PciMsix *msix, Stream *stream)
{
    for (unsigned i = 0; i < msix->nvectors; i++) {
        stream_u64(stream, &msix->vector[i].address);
        stream_u32(stream, &msix->vector[i].data);
        stream_u32(stream, &msix->vector[i].control);
        msix->vector[i].control &= 1;
    }
    stream_u64(stream, &msix->pending);
}

static void device_visit(void *opaque, Stream *stream)
{
    PciDevice *device = opaque;
    config_visit(device, stream);
    stream_bool(stream, &device->intx_level);
    msix_visit(&device->msix, stream);
}

const StateOps pci_device_state = {.name = "pci", .version = 1, .visit = device_visit};

static void bus_visit(void *opaque, Stream *stream)
{
    PciBus *bus = opaque;
    stream_u32(stream, &bus->s.address);
    stream_u8(stream, &bus->s.reset_control);
    stream_u16(stream, &bus->isa_levels);
    stream_check(stream, !(bus->s.address & ~0x80fffffcu), "PCI configuration address");
    if (!stream_is_loading(stream) || !stream_is_ok(stream))
        return;
    /* All BARs off before any goes on: on their way they must not get in each other's place. */
    for (unsigned i = 0; i < G_N_ELEMENTS(bus->devices); i++)
        if (bus->devices[i])
            pci_unmap_bars(bus->devices[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(bus->devices); i++)
        if (bus->devices[i])
            pci_update_bars(bus->devices[i]);
}

const StateOps pci_bus_state = {.name = "pci-bus", .version = 1, .visit = bus_visit};

PciDevice *pci_bus_device(const PciBus *bus, uint8_t devfn) { return bus->devices[devfn]; }
