#include "devices/virtio-queue.h"

#include <string.h>

#define DESC_SIZE     16
#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

#define AVAIL_NO_INTERRUPT 1u

typedef struct Desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
} Desc;

/* The guest writes the rings while we read them: each field is read once. */
static uint16_t load16(const uint8_t *at)
{
    return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE);
}
static void store16(uint8_t *at, uint16_t value) { __atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELEASE); }

static uint8_t *avail_index(const VirtQueue *queue) { return queue->host_avail + 2; }
static uint8_t *used_event(const VirtQueue *queue) { return queue->host_avail + 4 + 2u * queue->size; }
static uint8_t *avail_event(const VirtQueue *queue) { return queue->host_used + 4 + 8u * queue->size; }

void virtq_init(VirtQueue *queue, const Ram *ram, uint16_t max_size)
{
    memset(queue, 0, sizeof *queue);
    queue->ram = ram;
    queue->max_size = max_size;
    virtq_reset(queue);
}

void virtq_reset(VirtQueue *queue)
{
    VirtQueue fresh = {.ram = queue->ram, .max_size = queue->max_size, .size = queue->max_size, .vector = 0xffff};
    *queue = fresh;
}

bool virtq_start(VirtQueue *queue)
{
    uint32_t size = queue->size;
    bool is_aligned = !(queue->desc & 15) && !(queue->avail & 1) && !(queue->used & 3);
    bool is_power = size && !(size & (size - 1)) && size <= queue->max_size;
    queue->is_broken = true;
    if (!is_aligned || !is_power)
        return false;
    queue->host_desc = ram_slice(queue->ram, queue->desc, DESC_SIZE * (uint64_t)size);
    queue->host_avail = ram_slice(queue->ram, queue->avail, 6 + 2 * (uint64_t)size);
    queue->host_used = ram_slice(queue->ram, queue->used, 6 + 8 * (uint64_t)size);
    const RamSlot *used_slot = ram_find(queue->ram, queue->used);
    if (!queue->host_desc || !queue->host_avail || !queue->host_used || used_slot->is_rom)
        return false;
    queue->is_broken = false;
    queue->is_ready = true;
    return true;
}

static bool add_buffer(VirtQueue *queue, VirtChain *chain, const Desc *desc)
{
    unsigned count = chain->nout + chain->nin;
    bool is_in = desc->flags & DESC_WRITE;
    if (count == VIRTQ_MAX_SIZE || (!is_in && chain->nin))
        return false;
    uint8_t *host = ram_slice(queue->ram, desc->addr, desc->len);
    if (!host || desc->len == 0)
        return false;
    const RamSlot *slot = ram_find(queue->ram, desc->addr);
    if (is_in && slot->is_rom)
        return false;
    chain->buffer[count] = (VirtBuffer){.host = host, .gpa = desc->addr, .size = desc->len};
    if (is_in) {
        chain->nin++;
        chain->in_size += desc->len;
    } else {
        chain->nout++;
        chain->out_size += desc->len;
    }
    return true;
}

static Desc load_desc(const uint8_t *table, unsigned index)
{
    Desc desc;
    memcpy(&desc, table + (size_t)index * DESC_SIZE, sizeof desc);
    return desc;
}

/* Follows one table, the queue's own or an indirect one.  @count bounds both indexes and steps, so that loops end. */
static bool walk_table(VirtQueue *queue, VirtChain *chain, const uint8_t *table, unsigned count, unsigned index,
                       bool is_indirect)
{
    for (unsigned steps = 0; steps < count && index < count; steps++) {
        Desc desc = load_desc(table, index);
        if (desc.flags & DESC_INDIRECT) {
            /* It must be alone in the chain, and not nested. */
            if (is_indirect || !queue->has_indirect || steps || desc.flags & (DESC_NEXT | DESC_WRITE) ||
                desc.len % DESC_SIZE || desc.len == 0)
                return false;
            unsigned entries = desc.len / DESC_SIZE;
            const uint8_t *inner = ram_slice(queue->ram, desc.addr, desc.len);
            return inner && entries <= VIRTQ_MAX_SIZE * 4u && walk_table(queue, chain, inner, entries, 0, true);
        }
        if (!add_buffer(queue, chain, &desc))
            return false;
        if (!(desc.flags & DESC_NEXT))
            return true;
        index = desc.next;
    }
    return false;
}

VirtqPop virtq_pop(VirtQueue *queue, VirtChain *out_chain)
{
    if (queue->is_broken)
        return VIRTQ_BROKEN;
    if (!queue->is_ready)
        return VIRTQ_EMPTY;
    uint16_t available = load16(avail_index(queue));
    if (available == queue->last_avail) {
        if (!queue->has_event_index)
            return VIRTQ_EMPTY;
        /* Ask for a notification, then look again: the driver may have added one before it saw that. */
        store16(avail_event(queue), queue->last_avail);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        available = load16(avail_index(queue));
        if (available == queue->last_avail)
            return VIRTQ_EMPTY;
    }
    if ((uint16_t)(available - queue->last_avail) > queue->size) {
        queue->is_broken = true;
        return VIRTQ_BROKEN;
    }
    uint16_t head = load16(queue->host_avail + 4 + 2u * (queue->last_avail & (queue->size - 1)));
    out_chain->head = head;
    out_chain->nout = out_chain->nin = 0;
    out_chain->out_size = out_chain->in_size = 0;
    if (head >= queue->size || !walk_table(queue, out_chain, queue->host_desc, queue->size, head, false)) {
        queue->is_broken = true;
        return VIRTQ_BROKEN;
    }
    queue->last_avail++;
    return VIRTQ_CHAIN;
}

void virtq_unpop(VirtQueue *queue) { queue->last_avail--; }

static void note_written(const VirtQueue *queue, const VirtChain *chain, uint32_t written)
{
    for (unsigned i = 0; written && i < chain->nin; i++) {
        const VirtBuffer *buffer = &chain->buffer[chain->nout + i];
        uint32_t size = MIN(buffer->size, written);
        ram_wrote(queue->ram, buffer->gpa, size);
        written -= size;
    }
}

void virtq_push(VirtQueue *queue, const VirtChain *chain, uint32_t written)
{
    note_written(queue, chain, written);
    if (queue->is_broken || !queue->is_ready)
        return;
    unsigned slot = queue->last_used & (queue->size - 1);
    uint32_t entry[2] = {chain->head, written};
    memcpy(queue->host_used + 4 + 8u * slot, entry, sizeof entry);
    queue->last_used++;
    store16(queue->host_used + 2, queue->last_used);
    ram_wrote(queue->ram, queue->used, 6 + 8 * (uint64_t)queue->size);
}

bool virtq_wants_interrupt(VirtQueue *queue)
{
    if (queue->is_broken || !queue->is_ready)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* used index before the driver's wish */
    if (!queue->has_event_index)
        return !(load16(queue->host_avail) & AVAIL_NO_INTERRUPT);
    uint16_t now = queue->last_used, before = queue->signalled_used;
    bool was_valid = queue->signalled_valid;
    queue->signalled_used = now;
    queue->signalled_valid = true;
    uint16_t event = load16(used_event(queue));
    return !was_valid || (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

/* Copies between @bytes and the buffers [first, first + count), from @offset on. */
typedef enum CopyWay { COPY_FROM_GUEST, COPY_TO_GUEST } CopyWay;

static size_t copy(const VirtBuffer *buffer, unsigned count, uint64_t offset, uint8_t *bytes, size_t size, CopyWay way)
{
    size_t done = 0;
    for (unsigned i = 0; i < count && done < size; i++) {
        if (offset >= buffer[i].size) {
            offset -= buffer[i].size;
            continue;
        }
        size_t piece = MIN(size - done, buffer[i].size - offset);
        if (way == COPY_TO_GUEST)
            memcpy(buffer[i].host + offset, bytes + done, piece);
        else
            memcpy(bytes + done, buffer[i].host + offset, piece);
        done += piece;
        offset = 0;
    }
    return done;
}

size_t virt_chain_read(const VirtChain *chain, uint64_t offset, void *out_bytes, size_t size)
{
    return copy(chain->buffer, chain->nout, offset, out_bytes, size, COPY_FROM_GUEST);
}

size_t virt_chain_write(const VirtChain *chain, uint64_t offset, const void *bytes, size_t size)
{
    return copy(chain->buffer + chain->nout, chain->nin, offset, (uint8_t *)(uintptr_t)bytes, size, COPY_TO_GUEST);
}

VirtChain *virt_chain_copy(const VirtChain *chain)
{
    return g_memdup2(chain, offsetof(VirtChain, buffer) + (size_t)(chain->nout + chain->nin) * sizeof chain->buffer[0]);
}
