/* The driver's side of virtio-pci for tests: a PCI bus with one device in slot 3, 1 MiB of RAM, and the rings in it. */
#pragma once

#include "chip-script.h"
#include "devices/virtio-pci.h"

#define DRIVER_RAM_SIZE 0x100000
#define DRIVER_QUEUE_SIZE 16 /* entries in use of each queue in the modern layout */

typedef enum DriverLayout { DRIVER_MODERN, DRIVER_LEGACY } DriverLayout;

typedef struct VirtioDriver {
    ChipScript script; /* bus: ports and memory in one; lines by ISA IRQ; notes: MSI vectors */
    GMutex lock;       /* the machine lock */
    uint8_t *memory;
    Ram *ram;
    PciBus *pci;
    VirtioPci *device;
    DriverLayout layout;
    uint64_t legacy, modern, msix; /* where the BARs are */
    unsigned queue_size[VIRTIO_MAX_QUEUES];
    uint16_t avail[VIRTIO_MAX_QUEUES], used[VIRTIO_MAX_QUEUES]; /* indexes, the driver's view */
    unsigned next_desc;
} VirtioDriver;

typedef struct DriverBuffer {
    uint64_t gpa;
    uint32_t size;
    bool is_in; /* the device writes */
} DriverBuffer;

void driver_init(VirtioDriver *driver);
void driver_clear(VirtioDriver *driver);
/* driver_probe: attaches @device, assigns BARs, resets it, accepts @features and sets up its queues up to DRIVER_OK. */
void driver_probe(VirtioDriver *driver, VirtioDevice *device, DriverLayout layout, uint64_t features);
/* Ring addresses in guest RAM. */
uint64_t driver_desc(const VirtioDriver *driver, unsigned queue);
uint64_t driver_avail(const VirtioDriver *driver, unsigned queue);
uint64_t driver_used(const VirtioDriver *driver, unsigned queue);
/* driver_add: one chain; no kick.  driver_kick: notifies under the lock. */
void driver_add(VirtioDriver *driver, unsigned queue, const DriverBuffer *buffers, unsigned count);
void driver_kick(VirtioDriver *driver, unsigned queue);
/* driver_take: waits for the next used entry, up to a minute: a disk of a busy host takes its time.  Returns: bytes written, or -1 when nothing came. */
int64_t driver_take(VirtioDriver *driver, unsigned queue);
/* driver_takeable: whether an entry is there now. */
bool driver_takeable(const VirtioDriver *driver, unsigned queue);
uint8_t driver_status(VirtioDriver *driver);
