/*
 * virtio-blk: a disk with one request queue.
 *
 * Source: VIRTIO 1.2, 5.2.  Reads, writes, flush, get-ID, discard and write-zeroes.  Requests are taken from the queue
 * with the machine lock held and carried out by a thread of the device's own without it; each completion takes the
 * lock.  A reset waits for the request being carried out and drops the others.
 */
#pragma once

#include "devices/block.h"
#include "devices/virtio.h"

typedef struct VirtioBlk VirtioBlk;

typedef struct VirtioBlkWires {
    const Ram *ram;
    GMutex *lock;       /* the machine lock */
    Block *block;       /* owned by the caller, outlives the device */
    const char *serial; /* up to 20 bytes, copied; NULL: empty */
} VirtioBlkWires;

VirtioBlk *virtio_blk_new(const VirtioBlkWires *wires);
void virtio_blk_free(VirtioBlk *blk); /* machine lock not held */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtioBlk, virtio_blk_free)
VirtioDevice *virtio_blk_device(VirtioBlk *blk);
/* virtio_blk_drain: waits until nothing is queued or being carried out; for stopping the machine.  Machine lock not
 * held. */
void virtio_blk_drain(VirtioBlk *blk);
