#include "virtio-driver.h"

#include <string.h>

enum { DEVICE_SELECT = 0, DEVICE_FEATURES = 4, DRIVER_SELECT = 8, DRIVER_FEATURES = 0xc, STATUS = 0x14, QUEUE_SELECT = 0x16, QUEUE_SIZE = 0x18,
       QUEUE_ENABLE = 0x1c, QUEUE_DESC = 0x20, QUEUE_AVAIL = 0x28, QUEUE_USED = 0x30, NOTIFY = 0x3000 };

static void isa_set(void *opaque, unsigned number, bool level) { irq_set(chip_line(opaque, number), level); }

static bool deliver(void *opaque, const ApicMessage *message)
{
    chip_note(opaque, "%02x ", message->vector);
    return true;
}

void driver_init(VirtioDriver *driver)
{
    memset(driver, 0, sizeof *driver);
    chip_script_init(&driver->script);
    g_mutex_init(&driver->lock);
    driver->memory = g_malloc0(DRIVER_RAM_SIZE + PAGE_SIZE);
    uint8_t *aligned = (uint8_t *)page_of((uintptr_t)driver->memory + PAGE_SIZE - 1);
    driver->ram = ram_new_array(aligned, DRIVER_RAM_SIZE);
    driver->pci = pci_bus_new(&(PciBusWires){.ports = driver->script.bus, .memory = driver->script.bus,
                                             .isa_irq = {.set = isa_set, .opaque = &driver->script},
                                             .msi = {.deliver = deliver, .opaque = &driver->script}});
    chip_script_map(&driver->script, 0xcf8, 8, &pci_bus_ops, driver->pci);
}

void driver_clear(VirtioDriver *driver)
{
    virtio_pci_free(driver->device);
    pci_bus_free(driver->pci);
    ram_free(driver->ram);
    g_free(driver->memory);
    g_mutex_clear(&driver->lock);
    chip_script_clear(&driver->script);
}

uint64_t driver_desc(const VirtioDriver *driver, unsigned queue) { return 0x10000u * (queue + 1); }

uint64_t driver_avail(const VirtioDriver *driver, unsigned queue)
{
    return driver_desc(driver, queue) + (driver->layout == DRIVER_LEGACY ? 16u * driver->queue_size[queue] : 0x4000);
}

uint64_t driver_used(const VirtioDriver *driver, unsigned queue)
{
    if (driver->layout == DRIVER_LEGACY)
        return page_of(driver_avail(driver, queue) + 6 + 2u * driver->queue_size[queue] + PAGE_SIZE - 1);
    return driver_desc(driver, queue) + 0x6000;
}

static uint32_t config(VirtioDriver *driver, unsigned offset)
{
    bus_write(driver->script.bus, 0xcf8, 4, 0x80001800 | offset);
    return (uint32_t)bus_read(driver->script.bus, 0xcfc, 4);
}

static void probe_modern(VirtioDriver *driver, unsigned nqueues, uint64_t features)
{
    Bus *bus = driver->script.bus;
    uint64_t at = driver->modern;
    bus_write(bus, at + STATUS, 1, 0);
    bus_write(bus, at + STATUS, 1, 3);
    features |= VIRTIO_F_VERSION_1;
    for (unsigned half = 0; half < 2; half++) {
        bus_write(bus, at + DRIVER_SELECT, 4, half);
        bus_write(bus, at + DRIVER_FEATURES, 4, (uint32_t)(features >> (32 * half)));
    }
    bus_write(bus, at + STATUS, 1, 0xb);
    ck_assert_uint_eq(bus_read(bus, at + STATUS, 1), 0xb);
    for (unsigned i = 0; i < nqueues; i++) {
        bus_write(bus, at + QUEUE_SELECT, 2, i);
        driver->queue_size[i] = MIN(DRIVER_QUEUE_SIZE, (unsigned)bus_read(bus, at + QUEUE_SIZE, 2));
        bus_write(bus, at + QUEUE_SIZE, 2, driver->queue_size[i]);
        bus_write(bus, at + QUEUE_DESC, 8, driver_desc(driver, i));
        bus_write(bus, at + QUEUE_AVAIL, 8, driver_avail(driver, i));
        bus_write(bus, at + QUEUE_USED, 8, driver_used(driver, i));
        bus_write(bus, at + QUEUE_ENABLE, 2, 1);
    }
    bus_write(bus, at + STATUS, 1, 0xf);
}

static void probe_legacy(VirtioDriver *driver, unsigned nqueues, uint64_t features)
{
    Bus *bus = driver->script.bus;
    uint64_t at = driver->legacy;
    bus_write(bus, at + 0x12, 1, 0);
    bus_write(bus, at + 0x12, 1, 3);
    bus_write(bus, at + 4, 4, (uint32_t)features);
    for (unsigned i = 0; i < nqueues; i++) {
        bus_write(bus, at + 0xe, 2, i);
        driver->queue_size[i] = (unsigned)bus_read(bus, at + 0xc, 2);
        bus_write(bus, at + 8, 4, driver_desc(driver, i) >> PAGE_SHIFT);
    }
    bus_write(bus, at + 0x12, 1, 7);
}

void driver_probe(VirtioDriver *driver, VirtioDevice *device, DriverLayout layout, uint64_t features)
{
    driver->layout = layout;
    driver->device = virtio_pci_new(driver->pci, PCI_DEVFN(3, 0), device, VIRTIO_PCI_TRANSITIONAL, NULL);
    ck_assert_ptr_nonnull(driver->device);
    pci_bus_set_default_routes(driver->pci);
    ck_assert(pci_bus_assign(driver->pci, NULL));
    driver->legacy = config(driver, PCI_BAR0) & ~3u;
    driver->msix = config(driver, PCI_BAR0 + 4) & ~15u;
    driver->modern = config(driver, PCI_BAR0 + 16) & ~15u;
    if (layout == DRIVER_MODERN)
        probe_modern(driver, device->ops->nqueues, features);
    else
        probe_legacy(driver, device->ops->nqueues, features);
}

void driver_add(VirtioDriver *driver, unsigned queue, const DriverBuffer *buffers, unsigned count)
{
    unsigned size = driver->queue_size[queue], head = driver->next_desc % size;
    uint8_t *desc = ram_slice(driver->ram, driver_desc(driver, queue), 16u * size);
    uint8_t *avail = ram_slice(driver->ram, driver_avail(driver, queue), 6 + 2u * size);
    for (unsigned i = 0; i < count; i++) {
        unsigned at = (head + i) % size;
        uint16_t flags = (uint16_t)((i + 1 < count ? 1 : 0) | (buffers[i].is_in ? 2 : 0)), next = (uint16_t)((at + 1) % size);
        memcpy(desc + 16u * at, &buffers[i].gpa, 8);
        memcpy(desc + 16u * at + 8, &buffers[i].size, 4);
        memcpy(desc + 16u * at + 12, &flags, 2);
        memcpy(desc + 16u * at + 14, &next, 2);
    }
    driver->next_desc = (head + count) % size;
    uint16_t entry = (uint16_t)head;
    memcpy(avail + 4 + 2u * (driver->avail[queue] % size), &entry, 2);
    driver->avail[queue]++;
    __atomic_store_n((uint16_t *)(void *)(avail + 2), driver->avail[queue], __ATOMIC_RELEASE);
}

void driver_kick(VirtioDriver *driver, unsigned queue)
{
    g_mutex_lock(&driver->lock);
    if (driver->layout == DRIVER_MODERN)
        bus_write(driver->script.bus, driver->modern + NOTIFY + 4u * queue, 2, queue);
    else
        bus_write(driver->script.bus, driver->legacy + 0x10, 2, queue);
    g_mutex_unlock(&driver->lock);
}

bool driver_takeable(const VirtioDriver *driver, unsigned queue)
{
    const uint8_t *used = ram_slice(driver->ram, driver_used(driver, queue), 4);
    return __atomic_load_n((const uint16_t *)(const void *)(used + 2), __ATOMIC_ACQUIRE) != driver->used[queue];
}

int64_t driver_take(VirtioDriver *driver, unsigned queue)
{
    for (unsigned i = 0; i < 60000 && !driver_takeable(driver, queue); i++)
        g_usleep(1000);
    if (!driver_takeable(driver, queue))
        return -1;
    const uint8_t *used = ram_slice(driver->ram, driver_used(driver, queue), 6 + 8u * driver->queue_size[queue]);
    uint32_t written;
    memcpy(&written, used + 4 + 8u * (driver->used[queue] % driver->queue_size[queue]) + 4, 4);
    driver->used[queue]++;
    return written;
}

uint8_t driver_status(VirtioDriver *driver)
{
    return (uint8_t)(driver->layout == DRIVER_MODERN ? bus_read(driver->script.bus, driver->modern + STATUS, 1)
                                                     : bus_read(driver->script.bus, driver->legacy + 0x12, 1));
}
