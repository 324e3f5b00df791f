#include "devices/debugcon.h"

struct Debugcon {
    DebugconWires wires;
};

static uint64_t debugcon_read(void *device, uint64_t offset, unsigned size)
{
    const Debugcon *console = device;
    return console->wires.readback;
}

static void debugcon_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    const Debugcon *console = device;
    uint8_t byte = (uint8_t)value;
    if (console->wires.write)
        console->wires.write(console->wires.opaque, &byte, 1);
}

const BusOps debugcon_ops = {.name = "debugcon", .read = debugcon_read, .write = debugcon_write, .max_size = 1};

Debugcon *debugcon_new(const DebugconWires *wires)
{
    Debugcon *console = g_new0(Debugcon, 1);
    console->wires = *wires;
    return console;
}

void debugcon_free(Debugcon *console) { g_free(console); }
