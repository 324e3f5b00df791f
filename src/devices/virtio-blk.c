#include "core/sandbox.h"
#include "devices/virtio-blk.h"

#include <errno.h>
#include <string.h>

#define SECTOR           512u
#define ID_SIZE          20
#define MAX_ZERO_SECTORS (UINT32_C(1) << 22) /* 2 GiB a request */

#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

enum { TYPE_READ = 0, TYPE_WRITE = 1, TYPE_FLUSH = 4, TYPE_GET_ID = 8, TYPE_DISCARD = 11, TYPE_WRITE_ZEROES = 13 };
enum { STATUS_OK = 0, STATUS_IO_ERROR = 1, STATUS_UNSUPPORTED = 2 };

typedef struct RequestHeader {
    uint32_t type, reserved;
    uint64_t sector;
} RequestHeader;

typedef struct ZeroRange {
    uint64_t sector;
    uint32_t nsectors, flags;
} ZeroRange;

/* struct virtio_blk_config, as far as it is used. */
typedef struct BlkConfig {
    uint64_t capacity; /* sectors */
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
} BlkConfig;
#define BLK_CONFIG_SIZE 60u /* without the padding at its end */
G_STATIC_ASSERT(G_STRUCT_OFFSET(BlkConfig, unused1) == 57);

typedef struct Request {
    VirtChain *chain;
    RequestHeader header;
} Request;

struct VirtioBlk {
    VirtioDevice virtio; /* first */
    VirtioBlkWires wires;
    char serial[ID_SIZE];
    /* The worker's side.  work_lock comes after the machine lock and is held only for moments, never during I/O. */
    GMutex work_lock;
    GCond work_cond;                        /* a request was added, one was finished, or is_ending */
    GQueue requests;                        /* of Request; guarded by work_lock */
    bool is_busy, is_completing, is_ending; /* guarded by work_lock */
    unsigned generation;                    /* counts resets; guarded by work_lock */
    GThread *worker;
};

static void request_free(Request *request)
{
    if (!request)
        return;
    g_free(request->chain);
    g_free(request);
}

/* Fills @iov with @count buffers, without the first @skip bytes and at most @limit bytes.  Returns: entries. */
static unsigned fill_iov(const VirtBuffer *buffer, unsigned count, uint64_t skip, uint64_t limit, struct iovec *iov)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && limit; i++) {
        if (skip >= buffer[i].size) {
            skip -= buffer[i].size;
            continue;
        }
        uint64_t size = MIN(buffer[i].size - skip, limit);
        iov[n++] = (struct iovec){.iov_base = buffer[i].host + skip, .iov_len = size};
        limit -= size;
        skip = 0;
    }
    return n;
}

static bool in_range(const VirtioBlk *blk, uint64_t sector, uint64_t size)
{
    uint64_t end = block_size(blk->wires.block) / SECTOR * SECTOR;
    return size % SECTOR == 0 && sector <= end / SECTOR && size <= end - sector * SECTOR;
}

static uint8_t status_of(int error) { return error ? STATUS_IO_ERROR : STATUS_OK; }

static uint8_t do_read(VirtioBlk *blk, const Request *request, uint32_t *written)
{
    const VirtChain *chain = request->chain;
    struct iovec iov[VIRTQ_MAX_SIZE];
    uint64_t size = chain->in_size - 1;
    if (!in_range(blk, request->header.sector, size))
        return STATUS_IO_ERROR;
    unsigned n = fill_iov(chain->buffer + chain->nout, chain->nin, 0, size, iov);
    int error = n ? block_read(blk->wires.block, iov, n, request->header.sector * SECTOR) : 0;
    if (!error)
        *written += (uint32_t)size;
    return status_of(error);
}

static uint8_t do_write(VirtioBlk *blk, const Request *request)
{
    const VirtChain *chain = request->chain;
    struct iovec iov[VIRTQ_MAX_SIZE];
    uint64_t size = chain->out_size - sizeof request->header;
    if (!in_range(blk, request->header.sector, size))
        return STATUS_IO_ERROR;
    unsigned n = fill_iov(chain->buffer, chain->nout, sizeof request->header, size, iov);
    return status_of(n ? block_write(blk->wires.block, iov, n, request->header.sector * SECTOR) : 0);
}

/* Discard is a hint and is done as writing zeros: holes are punched where the file system can. */
static uint8_t do_zero(VirtioBlk *blk, const Request *request)
{
    ZeroRange range;
    if (request->chain->out_size != sizeof request->header + sizeof range)
        return STATUS_UNSUPPORTED;
    virt_chain_read(request->chain, sizeof request->header, &range, sizeof range);
    if (range.flags & ~1u || (range.flags && request->header.type == TYPE_DISCARD))
        return STATUS_UNSUPPORTED;
    uint64_t size = (uint64_t)range.nsectors * SECTOR;
    if (range.nsectors > MAX_ZERO_SECTORS || !in_range(blk, range.sector, size))
        return STATUS_IO_ERROR;
    return status_of(block_zero(blk->wires.block, range.sector * SECTOR, size));
}

/* Runs on the worker.  Returns: bytes written into the chain, counted from its start. */
static uint32_t execute(VirtioBlk *blk, const Request *request)
{
    uint32_t written = 0;
    uint8_t status = STATUS_UNSUPPORTED;
    switch (request->header.type) {
    case TYPE_READ:
        status = do_read(blk, request, &written);
        break;
    case TYPE_WRITE:
        status = do_write(blk, request);
        break;
    case TYPE_FLUSH:
        status = status_of(block_flush(blk->wires.block));
        break;
    case TYPE_GET_ID:
        written +=
            (uint32_t)virt_chain_write(request->chain, 0, blk->serial, MIN(ID_SIZE, request->chain->in_size - 1));
        status = STATUS_OK;
        break;
    case TYPE_DISCARD:
    case TYPE_WRITE_ZEROES:
        status = do_zero(blk, request);
        break;
    }
    /* The status is the last byte, so everything before it counts as written. */
    virt_chain_write(request->chain, request->chain->in_size - 1, &status, 1);
    return (uint32_t)request->chain->in_size;
}

/* Takes the finished request to the guest, unless the device was reset meanwhile. */
static void complete(VirtioBlk *blk, const Request *request, uint32_t written, unsigned generation)
{
    g_mutex_lock(blk->wires.lock);
    g_mutex_lock(&blk->work_lock);
    bool is_current = generation == blk->generation;
    bool is_last = g_queue_is_empty(&blk->requests);
    g_mutex_unlock(&blk->work_lock);
    if (is_current) {
        virtq_push(&blk->virtio.queue[0], request->chain, written);
        virtio_interrupt(&blk->virtio, 0);
        /* Look again before sleeping: with the event index the driver kicks only when asked. */
        if (is_last)
            virtio_notify(&blk->virtio, 0);
    }
    g_mutex_unlock(blk->wires.lock);
}

static void *work(void *opaque)
{
    VirtioBlk *blk = opaque;
    g_mutex_lock(&blk->work_lock);
    while (!blk->is_ending) {
        Request *request = g_queue_pop_head(&blk->requests);
        if (!request) {
            g_cond_wait(&blk->work_cond, &blk->work_lock);
            continue;
        }
        unsigned generation = blk->generation;
        blk->is_busy = blk->is_completing = true;
        g_mutex_unlock(&blk->work_lock);
        sandbox_enter(SANDBOX_DISK); /* with the first request, when all is built */
        uint32_t written = execute(blk, request);
        g_mutex_lock(&blk->work_lock);
        blk->is_busy = false;
        g_cond_broadcast(&blk->work_cond);
        g_mutex_unlock(&blk->work_lock);
        complete(blk, request, written, generation);
        request_free(request);
        g_mutex_lock(&blk->work_lock);
        blk->is_completing = false;
        g_cond_broadcast(&blk->work_cond);
    }
    g_mutex_unlock(&blk->work_lock);
    return NULL;
}

static void blk_notify(VirtioDevice *virtio, unsigned queue)
{
    VirtioBlk *blk = (VirtioBlk *)virtio;
    VirtChain chain;
    for (;;) {
        switch (virtq_pop(&virtio->queue[0], &chain)) {
        case VIRTQ_EMPTY:
            return;
        case VIRTQ_BROKEN:
            virtio_fail(virtio);
            return;
        case VIRTQ_CHAIN:
            break;
        }
        g_autofree Request *request = g_new0(Request, 1);
        if (virt_chain_read(&chain, 0, &request->header, sizeof request->header) != sizeof request->header ||
            chain.in_size == 0 || chain.in_size > UINT32_MAX) {
            virtio->queue[0].is_broken = true;
            virtio_fail(virtio);
            return;
        }
        request->chain = virt_chain_copy(&chain);
        g_mutex_lock(&blk->work_lock);
        g_queue_push_tail(&blk->requests, g_steal_pointer(&request));
        g_cond_broadcast(&blk->work_cond);
        g_mutex_unlock(&blk->work_lock);
    }
}

static void blk_config_read(VirtioDevice *virtio, uint8_t *out_config)
{
    const VirtioBlk *blk = (VirtioBlk *)virtio;
    BlkConfig config = {
        .capacity = block_size(blk->wires.block) / SECTOR,
        .seg_max = VIRTQ_MAX_SIZE - 2,
        .blk_size = SECTOR,
        .num_queues = 1,
        .max_discard_sectors = MAX_ZERO_SECTORS,
        .max_discard_seg = 1,
        .discard_sector_alignment = 1,
        .max_write_zeroes_sectors = MAX_ZERO_SECTORS,
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };
    memcpy(out_config, &config, BLK_CONFIG_SIZE);
}

/* The machine lock is held, so complete() cannot be waited for; it sees the generation instead. */
static void blk_reset(VirtioDevice *virtio)
{
    VirtioBlk *blk = (VirtioBlk *)virtio;
    g_mutex_lock(&blk->work_lock);
    blk->generation++;
    g_queue_clear_full(&blk->requests, (GDestroyNotify)request_free);
    while (blk->is_busy)
        g_cond_wait(&blk->work_cond, &blk->work_lock);
    g_mutex_unlock(&blk->work_lock);
}

static const VirtioOps blk_ops = {
    .name = "virtio-blk",
    .type = 2,
    .pci_class = 0x010000,
    .nqueues = 1,
    .queue_size = VIRTQ_MAX_SIZE,
    .config_size = BLK_CONFIG_SIZE,
    .features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
    .notify = blk_notify,
    .config_read = blk_config_read,
    .reset = blk_reset,
};

VirtioDevice *virtio_blk_device(VirtioBlk *blk) { return &blk->virtio; }

void virtio_blk_drain(VirtioBlk *blk)
{
    g_mutex_lock(&blk->work_lock);
    while (blk->is_completing || !g_queue_is_empty(&blk->requests))
        g_cond_wait(&blk->work_cond, &blk->work_lock);
    g_mutex_unlock(&blk->work_lock);
}

VirtioBlk *virtio_blk_new(const VirtioBlkWires *wires)
{
    VirtioBlk *blk = g_new0(VirtioBlk, 1);
    virtio_init(&blk->virtio, &blk_ops, wires->ram);
    blk->wires = *wires;
    if (wires->serial)
        memcpy(blk->serial, wires->serial, MIN(strlen(wires->serial), ID_SIZE));
    if (block_is_read_only(wires->block)) {
        blk->virtio.features |= F_RO;
        blk->virtio.features &= ~(F_DISCARD | F_WRITE_ZEROES);
    }
    g_mutex_init(&blk->work_lock);
    g_cond_init(&blk->work_cond);
    g_queue_init(&blk->requests);
    blk->worker = g_thread_new("virtio-blk", work, blk);
    return blk;
}

void virtio_blk_free(VirtioBlk *blk)
{
    if (!blk)
        return;
    g_mutex_lock(&blk->work_lock);
    blk->is_ending = true;
    blk->generation++;
    g_cond_broadcast(&blk->work_cond);
    g_mutex_unlock(&blk->work_lock);
    g_thread_join(blk->worker);
    g_queue_clear_full(&blk->requests, (GDestroyNotify)request_free);
    g_mutex_clear(&blk->work_lock);
    g_cond_clear(&blk->work_cond);
    g_free(blk);
}
