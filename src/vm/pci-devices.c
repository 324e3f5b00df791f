#include "vm/pci-devices.h"

#include "core/error.h"
#include "devices/block.h"
#include "devices/virtio-blk.h"
#include "devices/virtio-console.h"
#include "devices/virtio-pci.h"
#include "devices/virtio-rng.h"

#define FIRST_SLOT 3u
#define LAST_SLOT 30u /* 31 is pci-testdev's */

typedef struct Function {
    PciDevices *owner;
    VirtioPci *pci;
    Block *block;
    VirtioBlk *blk;
    VirtioRng *rng;
    VirtioConsole *console;
} Function;

struct PciDevices {
    PciDevicesWires wires;
    bool is_held; /* under the machine lock */
    unsigned nfunctions;
    Function function[LAST_SLOT - FIRST_SLOT + 1];
};

Block *pci_devices_overlay(const PciDevices *devices, unsigned index)
{
    for (unsigned i = 0; i < devices->nfunctions; i++) {
        Block *block = devices->function[i].block;
        if (block && block_has_overlay(block) && !index--)
            return block;
    }
    return NULL;
}

static size_t console_receive(void *opaque, const uint8_t *bytes, size_t count)
{
    Function *function = opaque;
    g_mutex_lock(function->owner->wires.lock);
    size_t taken = function->owner->is_held ? 0 : virtio_console_receive(function->console, bytes, count);
    g_mutex_unlock(function->owner->wires.lock);
    return taken;
}

static void console_write(void *opaque, const uint8_t *bytes, size_t count)
{
    Function *function = opaque;
    chardev_write(function->owner->wires.console, bytes, count);
}

static void console_can_receive(void *opaque)
{
    Function *function = opaque;
    chardev_ready(function->owner->wires.console);
}

static VirtioDevice *blk_build(Function *function, const DriveConfig *drive, GError **error)
{
    BlockMode mode = drive->is_snapshot ? BLOCK_SNAPSHOT : drive->is_read_only ? BLOCK_READ_ONLY : BLOCK_READ_WRITE;
    function->block = block_open_raw(drive->path, mode, error);
    if (!function->block)
        return NULL;
    function->blk = virtio_blk_new(&(VirtioBlkWires){ .ram = function->owner->wires.ram, .lock = function->owner->wires.lock,
                                                      .block = function->block, .serial = drive->serial });
    return virtio_blk_device(function->blk);
}

static VirtioDevice *function_build(Function *function, const Config *config, const VirtioConfig *virtio, GError **error)
{
    const PciDevicesWires *wires = &function->owner->wires;
    switch (virtio->kind) {
    case VIRTIO_KIND_BLK:
        return blk_build(function, g_ptr_array_index(config->drives, virtio->drive), error);
    case VIRTIO_KIND_RNG:
        function->rng = virtio_rng_new(wires->ram);
        return virtio_rng_device(function->rng);
    case VIRTIO_KIND_CONSOLE:
        function->console = virtio_console_new(&(VirtioConsoleWires){ .ram = wires->ram, .write = console_write,
                                                                      .can_receive = console_can_receive, .opaque = function });
        chardev_set_front(wires->console, CHAR_SLOT_GUEST, &(CharFront){ .receive = console_receive, .opaque = function });
        return virtio_console_device(function->console);
    }
    g_assert_not_reached();
}

PciDevices *pci_devices_new(const Config *config, const PciDevicesWires *wires, GError **error)
{
    g_autoptr(PciDevices) devices = g_new0(PciDevices, 1);
    devices->wires = *wires;
    for (guint i = 0; i < config->virtio->len; i++) {
        if (devices->nfunctions == G_N_ELEMENTS(devices->function)) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-device, -drive: at most %u PCI devices", devices->nfunctions);
            return NULL;
        }
        Function *function = &devices->function[devices->nfunctions++];
        function->owner = devices;
        VirtioDevice *device = function_build(function, config, g_ptr_array_index(config->virtio, i), error);
        if (!device)
            return NULL;
        function->pci = virtio_pci_new(wires->bus, PCI_DEVFN(FIRST_SLOT + devices->nfunctions - 1, 0), device, VIRTIO_PCI_TRANSITIONAL,
                                       error);
        if (!function->pci)
            return NULL;
    }
    return g_steal_pointer(&devices);
}

void pci_devices_free(PciDevices *devices)
{
    if (!devices)
        return;
    for (unsigned i = 0; i < devices->nfunctions; i++) {
        Function *function = &devices->function[i];
        virtio_pci_free(function->pci);
        virtio_blk_free(function->blk);
        virtio_rng_free(function->rng);
        virtio_console_free(function->console);
        block_free(function->block);
    }
    g_free(devices);
}

void pci_devices_drain(PciDevices *devices)
{
    for (unsigned i = 0; i < devices->nfunctions; i++)
        if (devices->function[i].blk)
            virtio_blk_drain(devices->function[i].blk);
}

void pci_devices_each_state(PciDevices *devices, void (*func)(void *opaque, const StateOps *ops, int instance, void *device), void *opaque)
{
    for (unsigned i = 0; i < devices->nfunctions; i++)
        func(opaque, &virtio_pci_state, (int)i, devices->function[i].pci);
}

void pci_devices_hold(PciDevices *devices, bool is_held)
{
    devices->is_held = is_held;
    if (!is_held && devices->wires.console)
        chardev_ready(devices->wires.console);
}
