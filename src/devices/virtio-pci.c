#include "devices/virtio-pci-int.h"

#include <string.h>

#define VENDOR    0x1af4

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };

/* BAR 4. */
enum {
    REGION_COMMON = 0x0000,
    REGION_ISR = 0x1000,
    REGION_DEVICE = 0x2000,
    REGION_NOTIFY = 0x3000,
    REGION_SIZE = 0x1000,
    MODERN_SIZE = 0x4000
};
#define NOTIFY_STEP 4

enum { MSIX_TABLE_OFFSET = 0, MSIX_PBA_OFFSET = 0x800, MSIX_BAR_SIZE = 0x1000 };

/* Capability types (4.1.4). */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };

/* Common configuration (4.1.4.3). */
enum {
    COMMON_DEVICE_FEATURE_SELECT = 0x00,
    COMMON_DEVICE_FEATURE = 0x04,
    COMMON_DRIVER_FEATURE_SELECT = 0x08,
    COMMON_DRIVER_FEATURE = 0x0c,
    COMMON_CONFIG_VECTOR = 0x10,
    COMMON_NUM_QUEUES = 0x12,
    COMMON_STATUS = 0x14,
    COMMON_GENERATION = 0x15,
    COMMON_QUEUE_SELECT = 0x16,
    COMMON_QUEUE_SIZE = 0x18,
    COMMON_QUEUE_VECTOR = 0x1a,
    COMMON_QUEUE_ENABLE = 0x1c,
    COMMON_QUEUE_NOTIFY_OFF = 0x1e,
    COMMON_QUEUE_DESC = 0x20,
    COMMON_QUEUE_AVAIL = 0x28,
    COMMON_QUEUE_USED = 0x30,
    COMMON_SIZE = 0x38
};

static void update_intx(VirtioPci *pci) { pci_set_intx(&pci->pci, pci->s.isr != 0 && !pci_msix_enabled(&pci->pci)); }

static void interrupt(void *opaque, int queue)
{
    VirtioPci *pci = opaque;
    if (pci_msix_enabled(&pci->pci)) {
        unsigned vector = queue >= 0 ? pci->device->queue[queue].vector : pci->s.config_vector;
        if (vector != VIRTIO_PCI_NO_VECTOR)
            pci_msix_notify(&pci->pci, vector);
        return;
    }
    pci->s.isr |= queue >= 0 ? ISR_QUEUE : ISR_QUEUE | ISR_CONFIG;
    update_intx(pci);
}

uint8_t virtio_pci_read_isr(VirtioPci *pci)
{
    uint8_t value = pci->s.isr;
    pci->s.isr = 0;
    update_intx(pci);
    return value;
}

static void reset_registers(VirtioPci *pci)
{
    pci->s = (VirtioPciState){.config_vector = VIRTIO_PCI_NO_VECTOR};
    update_intx(pci);
}

void virtio_pci_set_status(VirtioPci *pci, uint8_t status)
{
    virtio_set_status(pci->device, status);
    if (status == 0)
        reset_registers(pci);
}

bool virtio_pci_has_selected(const VirtioPci *pci) { return pci->s.queue_select < pci->device->ops->nqueues; }

VirtQueue *virtio_pci_selected(VirtioPci *pci)
{
    return virtio_pci_has_selected(pci) ? &pci->device->queue[pci->s.queue_select] : &pci->none;
}

uint16_t virtio_pci_valid_vector(const VirtioPci *pci, uint16_t vector)
{
    return vector < pci->pci.msix.nvectors ? vector : VIRTIO_PCI_NO_VECTOR;
}

uint32_t virtio_pci_config_read(VirtioPci *pci, unsigned offset, unsigned size)
{
    uint8_t config[256] = {0};
    g_assert(pci->device->ops->config_size <= sizeof config);
    if (pci->device->ops->config_read)
        pci->device->ops->config_read(pci->device, config);
    uint32_t value = 0;
    for (unsigned i = 0; i < size && offset + i < pci->device->ops->config_size; i++)
        value |= (uint32_t)config[offset + i] << (8 * i);
    return value;
}

void virtio_pci_config_write(VirtioPci *pci, unsigned offset, unsigned size, uint32_t value)
{
    if (pci->device->ops->config_write && offset + size <= pci->device->ops->config_size)
        pci->device->ops->config_write(pci->device, offset, size, value);
}

/* --- modern --- */

static uint32_t common_read(VirtioPci *pci, unsigned offset)
{
    const VirtQueue *queue = virtio_pci_selected(pci);
    switch (offset) {
    case COMMON_DEVICE_FEATURE_SELECT:
        return pci->s.device_feature_select;
    case COMMON_DEVICE_FEATURE:
        return pci->s.device_feature_select < 2
                   ? (uint32_t)(pci->device->features >> (32 * pci->s.device_feature_select))
                   : 0;
    case COMMON_DRIVER_FEATURE_SELECT:
        return pci->s.driver_feature_select;
    case COMMON_DRIVER_FEATURE:
        return pci->s.driver_feature_select < 2
                   ? (uint32_t)(pci->device->driver_features >> (32 * pci->s.driver_feature_select))
                   : 0;
    case COMMON_CONFIG_VECTOR:
        return pci->s.config_vector;
    case COMMON_NUM_QUEUES:
        return pci->device->ops->nqueues;
    case COMMON_STATUS:
        return pci->device->status;
    case COMMON_GENERATION:
        return pci->device->config_generation;
    case COMMON_QUEUE_SELECT:
        return pci->s.queue_select;
    case COMMON_QUEUE_SIZE:
        return queue->size;
    case COMMON_QUEUE_VECTOR:
        return virtio_pci_has_selected(pci) ? queue->vector : VIRTIO_PCI_NO_VECTOR;
    case COMMON_QUEUE_ENABLE:
        return queue->is_ready;
    case COMMON_QUEUE_NOTIFY_OFF:
        return pci->s.queue_select;
    case COMMON_QUEUE_DESC:
        return (uint32_t)queue->desc;
    case COMMON_QUEUE_DESC + 4:
        return (uint32_t)(queue->desc >> 32);
    case COMMON_QUEUE_AVAIL:
        return (uint32_t)queue->avail;
    case COMMON_QUEUE_AVAIL + 4:
        return (uint32_t)(queue->avail >> 32);
    case COMMON_QUEUE_USED:
        return (uint32_t)queue->used;
    case COMMON_QUEUE_USED + 4:
        return (uint32_t)(queue->used >> 32);
    default:
        return 0;
    }
}

static void set_half(Gpa *address, unsigned offset, uint32_t value)
{
    if (offset & 4)
        *address = (uint32_t)*address | (uint64_t)value << 32;
    else
        *address = (*address & ~UINT64_C(0xffffffff)) | value;
}

static void queue_write(VirtioPci *pci, unsigned offset, uint32_t value)
{
    VirtQueue *queue = virtio_pci_selected(pci);
    if (!virtio_pci_has_selected(pci))
        return;
    if (offset == COMMON_QUEUE_VECTOR) {
        queue->vector = virtio_pci_valid_vector(pci, (uint16_t)value);
        return;
    }
    if (queue->is_ready) /* the rings do not move while they are in use */
        return;
    switch (offset) {
    case COMMON_QUEUE_SIZE:
        queue->size = (uint16_t)value;
        break;
    case COMMON_QUEUE_ENABLE:
        if (value == 1 && !virtq_start(queue))
            virtio_fail(pci->device);
        break;
    case COMMON_QUEUE_DESC:
    case COMMON_QUEUE_DESC + 4:
        set_half(&queue->desc, offset, value);
        break;
    case COMMON_QUEUE_AVAIL:
    case COMMON_QUEUE_AVAIL + 4:
        set_half(&queue->avail, offset, value);
        break;
    case COMMON_QUEUE_USED:
    case COMMON_QUEUE_USED + 4:
        set_half(&queue->used, offset, value);
        break;
    }
}

static void common_write(VirtioPci *pci, unsigned offset, uint32_t value)
{
    VirtioDevice *device = pci->device;
    switch (offset) {
    case COMMON_DEVICE_FEATURE_SELECT:
        pci->s.device_feature_select = value;
        break;
    case COMMON_DRIVER_FEATURE_SELECT:
        pci->s.driver_feature_select = value;
        break;
    case COMMON_DRIVER_FEATURE:
        if (pci->s.driver_feature_select < 2 && !(device->status & VIRTIO_STATUS_FEATURES_OK))
            set_half(&device->driver_features, pci->s.driver_feature_select ? 4 : 0, value);
        break;
    case COMMON_CONFIG_VECTOR:
        pci->s.config_vector = virtio_pci_valid_vector(pci, (uint16_t)value);
        break;
    case COMMON_STATUS:
        virtio_pci_set_status(pci, (uint8_t)value);
        break;
    case COMMON_QUEUE_SELECT:
        pci->s.queue_select = (uint16_t)value;
        break;
    default:
        queue_write(pci, offset, value);
        break;
    }
}

/* The width of the common register at @offset. */
static unsigned common_width(unsigned offset)
{
    if (offset == COMMON_STATUS || offset == COMMON_GENERATION)
        return 1;
    return offset >= COMMON_CONFIG_VECTOR && offset < COMMON_QUEUE_DESC ? 2 : 4;
}

static uint64_t modern_read(void *opaque, uint64_t at, unsigned size)
{
    VirtioPci *pci = opaque;
    unsigned offset = (unsigned)at & (REGION_SIZE - 1);
    uint64_t value = 0;
    switch (at & ~(uint64_t)(REGION_SIZE - 1)) {
    case REGION_COMMON:
        for (unsigned done = 0; done < size && offset + done < COMMON_SIZE;) {
            unsigned width = common_width(offset + done);
            value |= (uint64_t)common_read(pci, offset + done) << (8 * done);
            done += width;
        }
        return value;
    case REGION_ISR:
        return offset == 0 ? virtio_pci_read_isr(pci) : 0;
    case REGION_DEVICE:
        return virtio_pci_config_read(pci, offset, size);
    default:
        return 0;
    }
}

static void modern_write(void *opaque, uint64_t at, unsigned size, uint64_t value)
{
    VirtioPci *pci = opaque;
    unsigned offset = (unsigned)at & (REGION_SIZE - 1);
    switch (at & ~(uint64_t)(REGION_SIZE - 1)) {
    case REGION_COMMON:
        if (offset + size <= COMMON_SIZE && size == common_width(offset))
            common_write(pci, offset, (uint32_t)value);
        break;
    case REGION_DEVICE:
        virtio_pci_config_write(pci, offset, size, (uint32_t)value);
        break;
    case REGION_NOTIFY:
        virtio_notify(pci->device, offset / NOTIFY_STEP);
        break;
    }
}

static const BusOps modern_ops = {.name = "virtio-modern", .read = modern_read, .write = modern_write, .max_size = 4};

/* --- MSI-X and configuration space --- */

static uint64_t msix_read(void *opaque, uint64_t offset, unsigned size)
{
    VirtioPci *pci = opaque;
    return offset >= MSIX_PBA_OFFSET ? pci_msix_pba_read(&pci->pci, (uint32_t)offset - MSIX_PBA_OFFSET)
                                     : pci_msix_read(&pci->pci, (uint32_t)offset);
}

static void msix_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    VirtioPci *pci = opaque;
    if (offset < MSIX_PBA_OFFSET)
        pci_msix_write(&pci->pci, (uint32_t)offset, (uint32_t)value);
}

static const BusOps msix_ops = {
    .name = "virtio-msix", .read = msix_read, .write = msix_write, .min_size = 4, .max_size = 4};

/* Configuration access capability (4.1.4.9): a window into BAR 4 for firmware that cannot map it. */
static bool window_target(VirtioPci *pci, uint32_t *out_offset, unsigned *out_size)
{
    unsigned at = pci->window;
    uint32_t offset = pci_config_get(&pci->pci, at + 8, 4), length = pci_config_get(&pci->pci, at + 12, 4);
    if (pci_config_get(&pci->pci, at + 4, 1) != BAR_MODERN || (length != 1 && length != 2 && length != 4) ||
        offset > MODERN_SIZE - length || offset & (length - 1))
        return false;
    *out_offset = offset;
    *out_size = length;
    return true;
}

static bool touches_window(const VirtioPci *pci, unsigned offset, unsigned size)
{
    unsigned data = pci->window + 16u;
    return offset < data + 4 && offset + size > data;
}

static void config_reading(PciDevice *device, unsigned offset, unsigned size)
{
    VirtioPci *pci = (VirtioPci *)device;
    uint32_t at;
    unsigned length;
    if (pci->window && touches_window(pci, offset, size) && window_target(pci, &at, &length))
        pci_config_set(device, pci->window + 16u, 4, (uint32_t)modern_read(pci, at, length));
}

static void config_written(PciDevice *device, unsigned offset, unsigned size)
{
    VirtioPci *pci = (VirtioPci *)device;
    uint32_t at;
    unsigned length;
    if (pci->window && touches_window(pci, offset, size) && window_target(pci, &at, &length))
        modern_write(pci, at, length, pci_config_get(device, pci->window + 16u, length));
    update_intx(pci); /* MSI-X may have been switched */
}

static void pci_reset(PciDevice *device)
{
    VirtioPci *pci = (VirtioPci *)device;
    virtio_reset(pci->device);
    reset_registers(pci);
}

static uint8_t add_region(VirtioPci *pci, uint8_t type, uint32_t offset, uint32_t length, uint8_t size)
{
    uint8_t at = pci_add_capability(&pci->pci, PCI_CAP_VENDOR, size);
    pci_config_set(&pci->pci, at + 2, 1, size);
    pci_config_set(&pci->pci, at + 3, 1, type);
    pci_config_set(&pci->pci, at + 4, 1, BAR_MODERN);
    pci_config_set(&pci->pci, at + 8, 4, offset);
    pci_config_set(&pci->pci, at + 12, 4, length);
    return at;
}

static void add_capabilities(VirtioPci *pci)
{
    add_region(pci, CAP_COMMON, REGION_COMMON, COMMON_SIZE, 16);
    add_region(pci, CAP_ISR, REGION_ISR, 1, 16);
    add_region(pci, CAP_DEVICE, REGION_DEVICE, MAX(pci->device->ops->config_size, 4), 16);
    uint8_t notify = add_region(pci, CAP_NOTIFY, REGION_NOTIFY, NOTIFY_STEP * VIRTIO_MAX_QUEUES, 20);
    pci_config_set(&pci->pci, notify + 16, 4, NOTIFY_STEP);
    pci->window = add_region(pci, CAP_PCI, 0, 0, 20);
    memset(pci->pci.writable + pci->window + 4, 0xff, 1);
    memset(pci->pci.writable + pci->window + 8, 0xff, 12);
}

VirtioPci *virtio_pci_new(PciBus *bus, uint8_t devfn, VirtioDevice *device, VirtioPciKind kind, GError **error)
{
    g_autofree VirtioPci *pci = g_new0(VirtioPci, 1);
    const VirtioOps *ops = device->ops;
    bool is_modern = kind == VIRTIO_PCI_MODERN;
    /* Transitional IDs (4.1.2.1) in the order network, block, balloon, console, SCSI, entropy. */
    static const uint16_t transitional[] = {
        [1] = 0x1000, [2] = 0x1001, [3] = 0x1003, [4] = 0x1005, [5] = 0x1002, [8] = 0x1004};
    bool has_transitional = ops->type < G_N_ELEMENTS(transitional) && transitional[ops->type];
    is_modern |= !has_transitional;
    PciIdentity identity = {
        .vendor = VENDOR,
        .device = is_modern ? 0x1040 + ops->type : transitional[ops->type],
        .subsystem_vendor = VENDOR,
        .subsystem = is_modern ? 0x1100 : ops->type,
        .revision = is_modern ? 1 : 0,
        .class_code = ops->pci_class,
        .interrupt_pin = 1,
    };
    pci_device_init(&pci->pci, ops->name, &identity);
    pci->device = device;
    pci->kind = kind;
    pci->s.config_vector = VIRTIO_PCI_NO_VECTOR;
    unsigned legacy_size = 32;
    while (legacy_size < VIRTIO_PCI_LEGACY_CONFIG_MSIX + (unsigned)ops->config_size)
        legacy_size *= 2;
    if (!is_modern)
        pci_add_bar(&pci->pci, BAR_LEGACY,
                    &(PciBar){.size = legacy_size, .is_io = true, .ops = &virtio_pci_legacy_ops, .device = pci});
    pci_add_bar(&pci->pci, BAR_MSIX, &(PciBar){.size = MSIX_BAR_SIZE, .ops = &msix_ops, .device = pci});
    pci_add_bar(
        &pci->pci, BAR_MODERN,
        &(PciBar){.size = MODERN_SIZE, .is_64 = true, .is_prefetchable = true, .ops = &modern_ops, .device = pci});
    add_capabilities(pci);
    pci_add_msix(&pci->pci, ops->nqueues + 1u, BAR_MSIX, MSIX_TABLE_OFFSET, MSIX_PBA_OFFSET);
    pci->pci.config_reading = config_reading;
    pci->pci.config_written = config_written;
    pci->pci.reset = pci_reset;
    if (!pci_attach(bus, &pci->pci, devfn, error))
        return NULL;
    device->transport = pci;
    device->interrupt = interrupt;
    return g_steal_pointer(&pci);
}

void virtio_pci_free(VirtioPci *pci)
{
    if (!pci)
        return;
    virtio_reset(pci->device);
    pci->device->interrupt = NULL;
    pci_detach(&pci->pci);
    g_free(pci);
}

PciDevice *virtio_pci_device(VirtioPci *pci) { return &pci->pci; }
