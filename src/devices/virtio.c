#include "devices/virtio.h"

#include <string.h>

void virtio_init(VirtioDevice *device, const VirtioOps *ops, const Ram *ram)
{
    g_assert(ops->nqueues <= VIRTIO_MAX_QUEUES);
    memset(device, 0, sizeof *device);
    device->ops = ops;
    device->ram = ram;
    device->features = ops->features | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        virtq_init(&device->queue[i], ram, i < ops->nqueues ? ops->queue_size : 0);
}

void virtio_reset(VirtioDevice *device)
{
    device->status = 0;
    if (device->ops->reset)
        device->ops->reset(device);
    device->driver_features = 0;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        virtq_reset(&device->queue[i]);
}

bool virtio_is_running(const VirtioDevice *device)
{
    return (device->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET)) == VIRTIO_STATUS_DRIVER_OK;
}

void virtio_set_status(VirtioDevice *device, uint8_t status)
{
    if (status == 0) {
        virtio_reset(device);
        return;
    }
    uint8_t old = device->status;
    /* Features that were not offered are refused by not keeping FEATURES_OK. */
    if (status & ~old & VIRTIO_STATUS_FEATURES_OK && device->driver_features & ~device->features)
        status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    device->status = status | (old & VIRTIO_STATUS_NEEDS_RESET);
    if (!(status & ~old & VIRTIO_STATUS_DRIVER_OK))
        return;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        device->queue[i].has_event_index = device->driver_features & VIRTIO_F_EVENT_IDX;
        device->queue[i].has_indirect = device->driver_features & VIRTIO_F_INDIRECT_DESC;
    }
    /* Old drivers add buffers, and kick, before they say DRIVER_OK. */
    for (unsigned i = 0; i < device->ops->nqueues; i++)
        if (device->queue[i].is_ready)
            virtio_notify(device, i);
}

void virtio_notify(VirtioDevice *device, unsigned queue)
{
    if (virtio_is_running(device) && queue < device->ops->nqueues)
        device->ops->notify(device, queue);
}

void virtio_interrupt(VirtioDevice *device, unsigned queue)
{
    if (virtq_wants_interrupt(&device->queue[queue]) && device->interrupt)
        device->interrupt(device->transport, (int)queue);
}

void virtio_config_changed(VirtioDevice *device)
{
    device->config_generation++;
    if (device->status & VIRTIO_STATUS_DRIVER_OK && device->interrupt)
        device->interrupt(device->transport, -1);
}

void virtio_fail(VirtioDevice *device)
{
    if (device->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    device->status |= VIRTIO_STATUS_NEEDS_RESET;
    virtio_config_changed(device);
}
