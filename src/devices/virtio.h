/*
 * VirtioDevice: what every virtio device has, whatever it does and whatever bus it is on: status, features, queues.
 *
 * Source: VIRTIO 1.2, chapters 2 and 3.  A kind of device (virtio-blk.c, …) embeds a VirtioDevice and gives VirtioOps;
 * a transport (virtio-pci.c) drives it and takes its interrupts.  Thread: machine lock held.
 */
#pragma once

#include "core/stream.h"
#include "devices/virtio-queue.h"

#define VIRTIO_MAX_QUEUES 8

/* Device status (2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER      0x02u
#define VIRTIO_STATUS_DRIVER_OK   0x04u
#define VIRTIO_STATUS_FEATURES_OK 0x08u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED      0x80u

/* Feature bits that belong to no kind of device (6). */
#define VIRTIO_F_NOTIFY_ON_EMPTY (UINT64_C(1) << 24) /* legacy */
#define VIRTIO_F_ANY_LAYOUT      (UINT64_C(1) << 27) /* legacy */
#define VIRTIO_F_INDIRECT_DESC   (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX       (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1       (UINT64_C(1) << 32)

typedef struct VirtioDevice VirtioDevice;

typedef struct VirtioOps {
    const char *name;
    uint16_t type;      /* device ID of VIRTIO 5: 2 block, 3 console, 4 entropy */
    uint32_t pci_class; /* 24 bits */
    uint16_t nqueues, queue_size;
    uint16_t config_size; /* bytes of device configuration */
    uint64_t features;    /* of its kind; may be narrowed per device in VirtioDevice.features */
    void (*notify)(VirtioDevice *device, unsigned queue); /* the driver may have added buffers; only after DRIVER_OK */
    void (*config_read)(VirtioDevice *device, uint8_t *out_config); /* fills config_size bytes */
    void (*config_write)(VirtioDevice *device, unsigned offset, unsigned size, uint32_t value); /* may be NULL */
    void (*visit)(VirtioDevice *device, Stream *stream); /* saved state of its kind, which config_read may depend on; may be NULL */
    void (*reset)(VirtioDevice *device); /* before the queues are reset; may be NULL */
} VirtioOps;

struct VirtioDevice {
    const VirtioOps *ops;
    const Ram *ram;
    uint64_t features;        /* offered */
    uint64_t driver_features; /* accepted */
    uint8_t status;
    uint8_t config_generation;
    VirtQueue queue[VIRTIO_MAX_QUEUES];
    /* Set by the transport: queue number, or -1 for a configuration change. */
    void (*interrupt)(void *transport, int queue);
    void *transport;
};

void virtio_init(VirtioDevice *device, const VirtioOps *ops, const Ram *ram);
void virtio_reset(VirtioDevice *device);
/* virtio_set_status: the driver wrote the status register; 0 resets. */
void virtio_set_status(VirtioDevice *device, uint8_t status);
/* virtio_notify: the driver kicked @queue; ignored before DRIVER_OK and for queues that do not exist. */
void virtio_notify(VirtioDevice *device, unsigned queue);
/* virtio_interrupt: after pushing to @queue: interrupts when the driver wants it. */
void virtio_interrupt(VirtioDevice *device, unsigned queue);
void virtio_config_changed(VirtioDevice *device);
/* virtio_fail: the driver broke the rules: NEEDS_RESET, and a configuration interrupt. */
void virtio_fail(VirtioDevice *device);
bool virtio_is_running(const VirtioDevice *device); /* DRIVER_OK and not failed */
