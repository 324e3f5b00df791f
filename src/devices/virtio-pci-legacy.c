#include "devices/virtio-pci-int.h"

/* Legacy registers (4.1.4.8). */
enum {
    LEGACY_DEVICE_FEATURES = 0x00,
    LEGACY_DRIVER_FEATURES = 0x04,
    LEGACY_QUEUE_PFN = 0x08,
    LEGACY_QUEUE_SIZE = 0x0c,
    LEGACY_QUEUE_SELECT = 0x0e,
    LEGACY_QUEUE_NOTIFY = 0x10,
    LEGACY_STATUS = 0x12,
    LEGACY_ISR = 0x13,
    LEGACY_CONFIG_VECTOR = 0x14,
    LEGACY_QUEUE_VECTOR = 0x16
};

static unsigned legacy_config_start(const VirtioPci *pci)
{
    return pci_msix_enabled(&pci->pci) ? VIRTIO_PCI_LEGACY_CONFIG_MSIX : VIRTIO_PCI_LEGACY_CONFIG;
}

static uint64_t legacy_read(void *opaque, uint64_t at, unsigned size)
{
    VirtioPci *pci = opaque;
    unsigned offset = (unsigned)at, config = legacy_config_start(pci);
    if (offset >= config)
        return virtio_pci_config_read(pci, offset - config, size);
    const VirtQueue *queue = virtio_pci_selected(pci);
    switch (offset) {
    case LEGACY_DEVICE_FEATURES:
        return (uint32_t)(pci->device->features | VIRTIO_F_ANY_LAYOUT);
    case LEGACY_DRIVER_FEATURES:
        return (uint32_t)pci->device->driver_features;
    case LEGACY_QUEUE_PFN:
        return (uint32_t)(queue->desc >> PAGE_SHIFT);
    case LEGACY_QUEUE_SIZE:
        return queue->max_size;
    case LEGACY_QUEUE_SELECT:
        return pci->s.queue_select;
    case LEGACY_STATUS:
        return pci->device->status;
    case LEGACY_ISR:
        return virtio_pci_read_isr(pci);
    case LEGACY_CONFIG_VECTOR:
        return pci->s.config_vector;
    case LEGACY_QUEUE_VECTOR:
        return virtio_pci_has_selected(pci) ? queue->vector : VIRTIO_PCI_NO_VECTOR;
    default:
        return 0;
    }
}

/* 2.7.2: descriptors, then the available ring, then the used ring on the next page. */
static void legacy_set_pfn(VirtioPci *pci, uint32_t pfn)
{
    VirtQueue *queue = virtio_pci_selected(pci);
    if (!virtio_pci_has_selected(pci))
        return;
    uint16_t vector = queue->vector;
    virtq_reset(queue);
    queue->vector = vector;
    if (pfn == 0)
        return;
    queue->desc = (uint64_t)pfn << PAGE_SHIFT;
    queue->avail = queue->desc + 16u * queue->size;
    queue->used = page_of(queue->avail + 6 + 2u * queue->size + PAGE_SIZE - 1);
    if (!virtq_start(queue))
        virtio_fail(pci->device);
}

static void legacy_write(void *opaque, uint64_t at, unsigned size, uint64_t value)
{
    VirtioPci *pci = opaque;
    unsigned offset = (unsigned)at, config = legacy_config_start(pci);
    if (offset >= config) {
        virtio_pci_config_write(pci, offset - config, size, (uint32_t)value);
        return;
    }
    switch (offset) {
    case LEGACY_DRIVER_FEATURES:
        pci->device->driver_features = (uint32_t)value & (uint32_t)(pci->device->features | VIRTIO_F_ANY_LAYOUT);
        break;
    case LEGACY_QUEUE_PFN:
        legacy_set_pfn(pci, (uint32_t)value);
        break;
    case LEGACY_QUEUE_SELECT:
        pci->s.queue_select = (uint16_t)value;
        break;
    case LEGACY_QUEUE_NOTIFY:
        virtio_notify(pci->device, (uint16_t)value);
        break;
    case LEGACY_STATUS:
        virtio_pci_set_status(pci, (uint8_t)value);
        break;
    case LEGACY_CONFIG_VECTOR:
        pci->s.config_vector = virtio_pci_valid_vector(pci, (uint16_t)value);
        break;
    case LEGACY_QUEUE_VECTOR:
        if (virtio_pci_has_selected(pci))
            virtio_pci_selected(pci)->vector = virtio_pci_valid_vector(pci, (uint16_t)value);
        break;
    }
}

const BusOps virtio_pci_legacy_ops = {
    .name = "virtio-legacy",
    .read = legacy_read,
    .write = legacy_write,
    .max_size = 4,
};
