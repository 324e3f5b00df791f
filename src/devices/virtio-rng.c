#include "devices/virtio-rng.h"

#include <errno.h>
#include <sys/random.h>

#define MAX_FILL 65536u

struct VirtioRng {
    VirtioDevice virtio; /* first */
};

/* Fills the chain from the host.  Returns: bytes written. */
static uint32_t fill(const VirtChain *chain)
{
    uint32_t done = 0;
    uint8_t bytes[256];
    while (done < MAX_FILL && done < chain->in_size) {
        ssize_t got = getrandom(bytes, MIN(sizeof bytes, chain->in_size - done), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (uint32_t)virt_chain_write(chain, done, bytes, (size_t)got);
    }
    return done;
}

static void rng_notify(VirtioDevice *virtio, unsigned index)
{
    VirtQueue *queue = &virtio->queue[index];
    VirtChain chain;
    bool has_pushed = false;
    for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++) {
        VirtqPop outcome = virtq_pop(queue, &chain);
        if (outcome == VIRTQ_BROKEN)
            virtio_fail(virtio);
        if (outcome != VIRTQ_CHAIN)
            break;
        virtq_push(queue, &chain, fill(&chain));
        has_pushed = true;
    }
    if (has_pushed)
        virtio_interrupt(virtio, index);
}

static const VirtioOps rng_ops = {
    .name = "virtio-rng",
    .type = 4,
    .pci_class = 0x00ff00,
    .nqueues = 1,
    .queue_size = 8,
    .notify = rng_notify,
};

VirtioDevice *virtio_rng_device(VirtioRng *rng) { return &rng->virtio; }

VirtioRng *virtio_rng_new(const Ram *ram)
{
    VirtioRng *rng = g_new0(VirtioRng, 1);
    virtio_init(&rng->virtio, &rng_ops, ram);
    return rng;
}

void virtio_rng_free(VirtioRng *rng) { g_free(rng); }
