/*
 * virtio-net: a network card with one pair of queues, no offloads and no control queue.
 *
 * Source: VIRTIO 1.2, 5.1.  Frames are Ethernet's without checksum.  The link is down while nothing is wired.  Thread: machine
 * lock held.
 */
#pragma once

#include "devices/virtio.h"

#define VIRTIO_NET_FRAME_MAX 65550u /* bytes; longer ones of the guest's are dropped */

typedef struct VirtioNet VirtioNet;

typedef struct VirtioNetWires {
    const Ram *ram;
    uint8_t mac[6];
    void (*send)(void *opaque, const uint8_t *frame, size_t size); /* the guest sends a frame; NULL: no cable */
    void (*can_receive)(void *opaque);                              /* there may be room for frames again; may be NULL */
    void *opaque;
} VirtioNetWires;

VirtioNet *virtio_net_new(const VirtioNetWires *wires);
void virtio_net_free(VirtioNet *net);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtioNet, virtio_net_free)
VirtioDevice *virtio_net_device(VirtioNet *net);

/* virtio_net_set_link: pulls the cable out, or puts it in. */
void virtio_net_set_link(VirtioNet *net, bool is_up);
bool virtio_net_link(const VirtioNet *net);

/* virtio_net_receive: a frame for the guest.  False: no room now, try again after can_receive().  A frame that fits no buffer is dropped. */
bool virtio_net_receive(VirtioNet *net, const uint8_t *frame, size_t size);
