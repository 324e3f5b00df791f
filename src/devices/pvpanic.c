#include "devices/pvpanic.h"

#define EVENTS   0x03u
#define BAR_SIZE 16u /* the least a memory BAR can be; byte 0 is the register */

struct Pvpanic {
    PciDevice pci; /* attached or not */
    PvpanicWires wires;
};

static uint64_t pvpanic_read(void *device, uint64_t offset, unsigned size) { return offset ? 0 : EVENTS; }

static void pvpanic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    const Pvpanic *device = opaque;
    if (!offset && value & EVENTS && device->wires.panicked)
        device->wires.panicked(device->wires.opaque, (uint8_t)(value & EVENTS));
}

const BusOps pvpanic_ops = {.name = "pvpanic", .read = pvpanic_read, .write = pvpanic_write, .max_size = 1};

Pvpanic *pvpanic_new(const PvpanicWires *wires)
{
    Pvpanic *device = g_new0(Pvpanic, 1);
    device->wires = *wires;
    return device;
}

Pvpanic *pvpanic_pci_new(const PvpanicWires *wires, PciBus *bus, uint8_t devfn, GError **error)
{
    g_autoptr(Pvpanic) device = pvpanic_new(wires);
    pci_device_init(&device->pci, "pvpanic-pci", &(PciIdentity){ .vendor = 0x1b36, .device = 0x0011, .subsystem_vendor = 0x1af4,
                                                                 .subsystem = 0x1100, .revision = 1, .class_code = 0x088000 });
    pci_add_bar(&device->pci, 0, &(PciBar){ .size = BAR_SIZE, .ops = &pvpanic_ops, .device = device });
    return pci_attach(bus, &device->pci, devfn, error) ? g_steal_pointer(&device) : NULL;
}

void pvpanic_free(Pvpanic *device)
{
    if (device && device->pci.bus)
        pci_detach(&device->pci);
    g_free(device);
}
