#include "devices/virtio-net.h"

#include <string.h>

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, NQUEUES };

#define F_MAC        (UINT64_C(1) << 5)
#define F_STATUS     (UINT64_C(1) << 16)
#define STATUS_LINK_UP 1u

typedef struct NetHeader { /* 5.1.6 */
    uint8_t flags, gso_type;
    uint16_t header_size, gso_size, checksum_start, checksum_offset;
    uint16_t nbuffers; /* not there for legacy drivers */
} NetHeader;
#define SHORT_HEADER_SIZE 10u

typedef struct NetConfig {
    uint8_t mac[6];
    uint16_t status;
} NetConfig;

struct VirtioNet {
    VirtioDevice virtio; /* first */
    VirtioNetWires wires;
    bool is_unplugged; /* set_link */
    uint8_t frame[VIRTIO_NET_FRAME_MAX];
};

static size_t header_size(const VirtioNet *net)
{
    return net->virtio.driver_features & VIRTIO_F_VERSION_1 ? sizeof(NetHeader) : SHORT_HEADER_SIZE;
}

bool virtio_net_link(const VirtioNet *net) { return net->wires.send && !net->is_unplugged; }

/* --- to the network --- */

static void transmit(VirtioNet *net)
{
    VirtQueue *queue = &net->virtio.queue[QUEUE_TRANSMIT];
    VirtChain chain;
    bool has_pushed = false;
    for (unsigned n = 0; n < VIRTQ_MAX_SIZE; n++) {
        VirtqPop outcome = virtq_pop(queue, &chain);
        if (outcome == VIRTQ_BROKEN)
            virtio_fail(&net->virtio);
        if (outcome != VIRTQ_CHAIN)
            break;
        size_t skip = header_size(net);
        if (chain.out_size > skip && chain.out_size - skip <= sizeof net->frame && virtio_net_link(net)) {
            size_t size = virt_chain_read(&chain, skip, net->frame, sizeof net->frame);
            net->wires.send(net->wires.opaque, net->frame, size);
        }
        virtq_push(queue, &chain, 0);
        has_pushed = true;
    }
    if (has_pushed)
        virtio_interrupt(&net->virtio, QUEUE_TRANSMIT);
}

/* --- to the guest --- */

bool virtio_net_receive(VirtioNet *net, const uint8_t *frame, size_t size)
{
    VirtQueue *queue = &net->virtio.queue[QUEUE_RECEIVE];
    const NetHeader header = { .nbuffers = 1 };
    size_t skip = header_size(net);
    VirtChain chain;
    if (!virtio_is_running(&net->virtio) || !virtio_net_link(net))
        return true; /* nobody listens: as on a cable without a driver */
    switch (virtq_pop(queue, &chain)) {
    case VIRTQ_EMPTY:
        return false;
    case VIRTQ_BROKEN:
        virtio_fail(&net->virtio);
        return true;
    case VIRTQ_CHAIN:
        break;
    }
    if (chain.in_size < skip + size) {
        virtq_unpop(queue);
        return true;
    }
    virt_chain_write(&chain, 0, &header, skip);
    virt_chain_write(&chain, skip, frame, size);
    virtq_push(queue, &chain, (uint32_t)(skip + size));
    virtio_interrupt(&net->virtio, QUEUE_RECEIVE);
    return true;
}

/* --- the device --- */

static void net_notify(VirtioDevice *virtio, unsigned queue)
{
    VirtioNet *net = (VirtioNet *)virtio;
    if (queue == QUEUE_TRANSMIT)
        transmit(net);
    else if (net->wires.can_receive)
        net->wires.can_receive(net->wires.opaque);
}

static void net_config_read(VirtioDevice *virtio, uint8_t *out_config)
{
    const VirtioNet *net = (VirtioNet *)virtio;
    NetConfig config = { .status = virtio_net_link(net) ? STATUS_LINK_UP : 0 };
    memcpy(config.mac, net->wires.mac, sizeof config.mac);
    memcpy(out_config, &config, sizeof config);
}

static void net_visit(VirtioDevice *virtio, Stream *stream) { stream_bool(stream, &((VirtioNet *)virtio)->is_unplugged); }

static const VirtioOps net_ops = {
    .name = "virtio-net",
    .type = 1,
    .pci_class = 0x020000,
    .nqueues = NQUEUES,
    .queue_size = VIRTQ_MAX_SIZE,
    .config_size = sizeof(NetConfig),
    .features = F_MAC | F_STATUS,
    .notify = net_notify,
    .config_read = net_config_read,
    .visit = net_visit,
};

VirtioDevice *virtio_net_device(VirtioNet *net) { return &net->virtio; }

VirtioNet *virtio_net_new(const VirtioNetWires *wires)
{
    VirtioNet *net = g_new0(VirtioNet, 1);
    virtio_init(&net->virtio, &net_ops, wires->ram);
    net->wires = *wires;
    return net;
}

void virtio_net_set_link(VirtioNet *net, bool is_up)
{
    if (net->is_unplugged != is_up)
        return;
    net->is_unplugged = !is_up;
    virtio_config_changed(&net->virtio);
}

void virtio_net_free(VirtioNet *net) { g_free(net); }
