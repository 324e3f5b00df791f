/*
 * virtio-rng: entropy from the host's kernel.  Source: VIRTIO 1.2, 5.4.  Every buffer is filled at once, up to 64 KiB
 * of it. Thread: machine lock held.
 */
#pragma once

#include "devices/virtio.h"

typedef struct VirtioRng VirtioRng;

VirtioRng *virtio_rng_new(const Ram *ram);
void virtio_rng_free(VirtioRng *rng);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtioRng, virtio_rng_free)
VirtioDevice *virtio_rng_device(VirtioRng *rng);
