#include "devices/pc-testdev.h"

#include <string.h>

enum { BYTES = 0, FLUSH = 4, BYTES_SINGLY = 8 };

struct PcTestdev {
    IrqLine line;
    uint8_t byte[4];
    uint8_t memory[PC_TESTDEV_MMIO_SIZE];
};

static bool is_data(uint64_t offset, unsigned size)
{
    return offset >= BYTES_SINGLY ? size == 1 : offset + size <= FLUSH;
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    PcTestdev *device = opaque;
    uint64_t value = 0;
    if (is_data(offset, size))
        memcpy(&value, device->byte + (offset & 3), size);
    return value;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    PcTestdev *device = opaque;
    if (is_data(offset, size))
        memcpy(device->byte + (offset & 3), &value, size);
}

static uint64_t line_read(void *opaque, uint64_t offset, unsigned size) { return 0; }

static void line_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    PcTestdev *device = opaque;
    IrqLine line = device->line;
    line.number = (unsigned)offset;
    irq_set(line, value != 0);
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    PcTestdev *device = opaque;
    uint64_t value = 0;
    memcpy(&value, device->memory + offset, size);
    return value;
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    PcTestdev *device = opaque;
    memcpy(device->memory + offset, &value, size);
}

const BusOps pc_testdev_port_ops = { .name = "pc-testdev", .read = port_read, .write = port_write, .max_size = 4 };
const BusOps pc_testdev_line_ops = { .name = "pc-testdev lines", .read = line_read, .write = line_write, .max_size = 1 };
const BusOps pc_testdev_mmio_ops = { .name = "pc-testdev memory", .read = mmio_read, .write = mmio_write };

PcTestdev *pc_testdev_new(IrqLine line)
{
    PcTestdev *device = g_new0(PcTestdev, 1);
    device->line = line;
    return device;
}

void pc_testdev_free(PcTestdev *device) { g_free(device); }

static void state_visit(void *device, Stream *stream)
{
    PcTestdev *testdev = device;
    stream_bytes(stream, testdev->byte, sizeof testdev->byte);
    stream_bytes(stream, testdev->memory, sizeof testdev->memory);
}

const StateOps pc_testdev_state = {.name = "pc-testdev", .version = 1, .visit = state_visit};
