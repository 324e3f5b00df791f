#include "devices/pvpanic.h"

#define EVENTS 0x03u

struct Pvpanic {
    PvpanicWires wires;
};

static uint64_t pvpanic_read(void *device, uint64_t offset, unsigned size) { return EVENTS; }

static void pvpanic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    const Pvpanic *device = opaque;
    if (value & EVENTS && device->wires.panicked)
        device->wires.panicked(device->wires.opaque, (uint8_t)(value & EVENTS));
}

const BusOps pvpanic_ops = {.name = "pvpanic", .read = pvpanic_read, .write = pvpanic_write, .max_size = 1};

Pvpanic *pvpanic_new(const PvpanicWires *wires)
{
    Pvpanic *device = g_new0(Pvpanic, 1);
    device->wires = *wires;
    return device;
}

void pvpanic_free(Pvpanic *device) { g_free(device); }
