/* Saved state of a virtio device on PCI: the transport's registers, status, features, queues.  Few kinds of device have any of their
 * own while no request is on its way; what they tell the driver of themselves is compared. */
#include <string.h>

#include "devices/virtio-pci-int.h"

#define CONFIG_MAX_BYTES 256u

static void queue_visit(VirtQueue *queue, Stream *stream)
{
    bool is_ready = queue->is_ready, is_broken = queue->is_broken;
    stream_u16(stream, &queue->size);
    stream_bool(stream, &is_ready);
    stream_bool(stream, &is_broken);
    stream_bool(stream, &queue->has_event_index);
    stream_bool(stream, &queue->has_indirect);
    stream_u64(stream, &queue->desc);
    stream_u64(stream, &queue->avail);
    stream_u64(stream, &queue->used);
    stream_u16(stream, &queue->last_avail);
    stream_u16(stream, &queue->last_used);
    stream_u16(stream, &queue->signalled_used);
    stream_bool(stream, &queue->signalled_valid);
    stream_u16(stream, &queue->vector);
    if (!stream_is_loading(stream))
        return;
    if (is_ready && !is_broken)
        stream_check(stream, virtq_start(queue), "place of a virtqueue");
    queue->is_ready = is_ready;
    queue->is_broken = is_broken;
}

static void config_compare(VirtioDevice *device, Stream *stream)
{
    uint8_t mine[CONFIG_MAX_BYTES] = { 0 }, saved[CONFIG_MAX_BYTES];
    uint16_t size = device->ops->config_size;
    uint64_t features = device->features;
    g_assert(size <= sizeof mine);
    if (device->ops->config_read)
        device->ops->config_read(device, mine);
    memcpy(saved, mine, sizeof mine);
    stream_u64(stream, &features);
    stream_u16(stream, &size);
    if (!stream_check(stream, size == device->ops->config_size, "a virtio device of another kind"))
        return;
    stream_bytes(stream, saved, size);
    stream_check(stream, !memcmp(saved, mine, size), "the virtio device is another one, such as a disk of another size");
    stream_check(stream, features == device->features, "the virtio device offers other features, such as a disk that is read-only");
}

static void state_visit(void *opaque, Stream *stream)
{
    VirtioPci *pci = opaque;
    VirtioDevice *device = pci->device;
    VirtioPciState *s = &pci->s;
    if (device->ops->visit)
        device->ops->visit(device, stream);
    config_compare(device, stream);
    if (!stream_is_ok(stream))
        return;
    if (stream_is_loading(stream))
        virtio_reset(device);
    stream_u32(stream, &s->device_feature_select);
    stream_u32(stream, &s->driver_feature_select);
    stream_u16(stream, &s->queue_select);
    stream_u16(stream, &s->config_vector);
    stream_u8(stream, &s->isr);
    stream_u64(stream, &device->driver_features);
    stream_u8(stream, &device->status);
    stream_u8(stream, &device->config_generation);
    for (unsigned i = 0; i < device->ops->nqueues; i++)
        queue_visit(&device->queue[i], stream);
}

const StateOps virtio_pci_state = { .name = "virtio-pci", .version = 1, .visit = state_visit };
