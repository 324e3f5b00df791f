#include "devices/virtio-console.h"

#include <string.h>

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, NQUEUES };

#define F_EMERGENCY_WRITE (UINT64_C(1) << 2)

typedef struct ConsoleConfig {
    uint16_t columns, rows;
    uint32_t nports, emergency_write;
} ConsoleConfig;

struct VirtioConsole {
    VirtioDevice virtio; /* first */
    VirtioConsoleWires wires;
};

static void transmit(VirtioConsole *console)
{
    VirtQueue *queue = &console->virtio.queue[QUEUE_TRANSMIT];
    VirtChain chain;
    bool has_pushed = false;
    for (unsigned n = 0; n < VIRTQ_MAX_SIZE; n++) {
        VirtqPop outcome = virtq_pop(queue, &chain);
        if (outcome == VIRTQ_BROKEN)
            virtio_fail(&console->virtio);
        if (outcome != VIRTQ_CHAIN)
            break;
        for (unsigned i = 0; i < chain.nout; i++)
            if (console->wires.write)
                console->wires.write(console->wires.opaque, chain.buffer[i].host, chain.buffer[i].size);
        virtq_push(queue, &chain, 0);
        has_pushed = true;
    }
    if (has_pushed)
        virtio_interrupt(&console->virtio, QUEUE_TRANSMIT);
}

size_t virtio_console_receive(VirtioConsole *console, const uint8_t *bytes, size_t count)
{
    VirtQueue *queue = &console->virtio.queue[QUEUE_RECEIVE];
    VirtChain chain;
    size_t done = 0;
    while (done < count && virtio_is_running(&console->virtio)) {
        VirtqPop outcome = virtq_pop(queue, &chain);
        if (outcome == VIRTQ_BROKEN)
            virtio_fail(&console->virtio);
        if (outcome != VIRTQ_CHAIN)
            break;
        size_t piece = virt_chain_write(&chain, 0, bytes + done, MIN(count - done, 65536));
        virtq_push(queue, &chain, (uint32_t)piece);
        done += piece;
    }
    if (done)
        virtio_interrupt(&console->virtio, QUEUE_RECEIVE);
    return done;
}

static void console_notify(VirtioDevice *virtio, unsigned queue)
{
    VirtioConsole *console = (VirtioConsole *)virtio;
    if (queue == QUEUE_TRANSMIT)
        transmit(console);
    else if (console->wires.can_receive)
        console->wires.can_receive(console->wires.opaque);
}

static void console_config_read(VirtioDevice *virtio, uint8_t *out_config)
{
    ConsoleConfig config = {.columns = 80, .rows = 25, .nports = 1};
    memcpy(out_config, &config, sizeof config);
}

static void console_config_write(VirtioDevice *virtio, unsigned offset, unsigned size, uint32_t value)
{
    VirtioConsole *console = (VirtioConsole *)virtio;
    uint8_t byte = (uint8_t)value;
    if (offset == G_STRUCT_OFFSET(ConsoleConfig, emergency_write) && console->wires.write)
        console->wires.write(console->wires.opaque, &byte, 1);
}

static const VirtioOps console_ops = {
    .name = "virtio-console",
    .type = 3,
    .pci_class = 0x078000,
    .nqueues = NQUEUES,
    .queue_size = 128,
    .config_size = sizeof(ConsoleConfig),
    .features = F_EMERGENCY_WRITE,
    .notify = console_notify,
    .config_read = console_config_read,
    .config_write = console_config_write,
};

VirtioDevice *virtio_console_device(VirtioConsole *console) { return &console->virtio; }

VirtioConsole *virtio_console_new(const VirtioConsoleWires *wires)
{
    VirtioConsole *console = g_new0(VirtioConsole, 1);
    virtio_init(&console->virtio, &console_ops, wires->ram);
    console->wires = *wires;
    return console;
}

void virtio_console_free(VirtioConsole *console) { g_free(console); }
