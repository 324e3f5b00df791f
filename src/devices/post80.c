#include "devices/post80.h"

static uint64_t post80_read(void *device, uint64_t offset, unsigned size)
{
    Post80 *port = device;
    return port->code;
}

static void post80_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    Post80 *port = device;
    port->code = (uint8_t)value;
}

const BusOps post80_ops = {
    .name = "post80",
    .read = post80_read,
    .write = post80_write,
    .max_size = 1,
};

static void state_visit(void *device, Stream *stream)
{
    Post80 *port = device;
    stream_u8(stream, &port->code);
}

const StateOps post80_state = {.name = "post80", .version = 1, .visit = state_visit};
