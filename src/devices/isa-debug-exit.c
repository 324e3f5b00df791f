#include "devices/isa-debug-exit.h"

struct IsaDebugExit {
    IsaDebugExitWires wires;
};

static uint64_t isa_debug_exit_read(void *device, uint64_t offset, unsigned size) { return 0; }

static void isa_debug_exit_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    const IsaDebugExit *device = opaque;
    if (device->wires.exit)
        device->wires.exit(device->wires.opaque, (unsigned)value << 1 | 1);
}

const BusOps isa_debug_exit_ops = {
    .name = "isa-debug-exit",
    .read = isa_debug_exit_read,
    .write = isa_debug_exit_write,
    .max_size = 4,
};

IsaDebugExit *isa_debug_exit_new(const IsaDebugExitWires *wires)
{
    IsaDebugExit *device = g_new0(IsaDebugExit, 1);
    device->wires = *wires;
    return device;
}

void isa_debug_exit_free(IsaDebugExit *device) { g_free(device); }
