/*
 * A split virtqueue: descriptor chains from the guest, used buffers back.
 *
 * Source: VIRTIO 1.2, 2.7 (split virtqueues), 2.7.10 (event index), 2.7.5.3 (indirect descriptors).  Everything in the
 * rings is the guest's word and is checked: a chain that loops, is longer than the queue, mixes directions wrongly or
 * leaves RAM makes the queue broken until it is reset.  Rings are little-endian, also for legacy drivers (x86). Thread:
 * machine lock held.
 */
#pragma once

#include <stddef.h>

#include "core/addr.h"
#include "core/ram.h"

#define VIRTQ_MAX_SIZE 256

typedef struct VirtBuffer {
    uint8_t *host;
    Gpa gpa;
    uint32_t size; /* bytes */
} VirtBuffer;

/* A chain: first what the device reads ("out"), then what it writes ("in"). */
typedef struct VirtChain {
    uint16_t head;                     /* descriptor index, for the used ring */
    uint16_t nout, nin;                /* buffers */
    uint64_t out_size, in_size;        /* bytes */
    VirtBuffer buffer[VIRTQ_MAX_SIZE]; /* nout + nin of them */
} VirtChain;

typedef struct VirtQueue {
    const Ram *ram;
    uint16_t max_size; /* power of two, at most VIRTQ_MAX_SIZE; 0: no such queue */
    uint16_t size;     /* what the driver chose */
    bool is_ready, is_broken;
    bool has_event_index, has_indirect; /* negotiated */
    Gpa desc, avail, used;
    uint16_t last_avail;     /* next entry of the available ring */
    uint16_t last_used;      /* next entry of the used ring */
    uint16_t signalled_used; /* used index at the last interrupt */
    bool signalled_valid;
    uint16_t vector; /* MSI-X */
    /* Host addresses of the rings while is_ready. */
    uint8_t *host_desc, *host_avail, *host_used;
} VirtQueue;

typedef enum VirtqPop { VIRTQ_EMPTY, VIRTQ_CHAIN, VIRTQ_BROKEN } VirtqPop;

void virtq_init(VirtQueue *queue, const Ram *ram, uint16_t max_size);
void virtq_reset(VirtQueue *queue); /* max_size and ram stay */

/* virtq_start: the driver has set size and addresses.  False, and broken, when the rings are not all RAM or misaligned.
 */
bool virtq_start(VirtQueue *queue);

/* virtq_pop: takes the next chain.  On VIRTQ_EMPTY the driver has been asked to notify.  VIRTQ_BROKEN: tell the driver
 * with virtio_fail(); nothing more comes out. */
VirtqPop virtq_pop(VirtQueue *queue, VirtChain *out_chain) G_GNUC_WARN_UNUSED_RESULT;
/* virtq_unpop: puts the chain popped last back. */
void virtq_unpop(VirtQueue *queue);

/* virtq_push: gives @chain back, with @written bytes put into its "in" buffers from the start. */
void virtq_push(VirtQueue *queue, const VirtChain *chain, uint32_t written);

/* virtq_wants_interrupt: whether the driver wants to hear of what was pushed since the last time.  Asked once after a
 * batch. */
bool virtq_wants_interrupt(VirtQueue *queue);

/* virt_chain_read: copies @size bytes at @offset of the "out" part.  virt_chain_write: into the "in" part.  Return:
 * bytes copied, fewer at the end. */
size_t virt_chain_read(const VirtChain *chain, uint64_t offset, void *out_bytes, size_t size);
size_t virt_chain_write(const VirtChain *chain, uint64_t offset, const void *bytes, size_t size);

/* virt_chain_copy: a heap copy that holds only its own buffers (g_free()). */
VirtChain *virt_chain_copy(const VirtChain *chain);
