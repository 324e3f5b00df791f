#include "vm/pci-devices.h"

#include <string.h>

#include "core/error.h"
#include "devices/block.h"
#include "devices/virtio-blk.h"
#include "devices/virtio-console.h"
#include "devices/virtio-net.h"
#include "devices/virtio-pci.h"
#include "devices/virtio-rng.h"
#include "vm/netdev.h"

#define FIRST_SLOT 3u
#define LAST_SLOT 30u /* 31 is pci-testdev's */

typedef struct Function {
    PciDevices *owner;
    VirtioPci *pci;
    Block *block;
    VirtioBlk *blk;
    VirtioRng *rng;
    VirtioConsole *console;
    VirtioNet *net;
    const NicConfig *nic;
    const NetdevConfig *network; /* NULL: no cable */
    Netdev *netdev;
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
    function->block = block_open(drive->path, drive->format, mode, error);
    if (!function->block)
        return NULL;
    function->blk = virtio_blk_new(&(VirtioBlkWires){ .ram = function->owner->wires.ram, .lock = function->owner->wires.lock,
                                                      .block = function->block, .serial = drive->serial });
    return virtio_blk_device(function->blk);
}

static bool net_receive(void *opaque, const uint8_t *frame, size_t size)
{
    Function *function = opaque;
    return !function->owner->is_held && virtio_net_receive(function->net, frame, size);
}

static void net_send(void *opaque, const uint8_t *frame, size_t size) { netdev_send(((Function *)opaque)->netdev, frame, size); }

static void net_can_receive(void *opaque)
{
    Function *function = opaque;
    if (function->netdev)
        netdev_can_receive(function->netdev);
}

static VirtioDevice *net_build(Function *function, const Config *config, const NicConfig *nic, GError **error)
{
    const PciDevicesWires *wires = &function->owner->wires;
    function->nic = nic;
    if (nic->netdev >= 0) {
        function->network = g_ptr_array_index(config->netdevs, nic->netdev);
        function->netdev = netdev_new(function->network,
                                      &(NetdevWires){ .clock = wires->clock, .lock = wires->lock, .receive = net_receive, .opaque = function },
                                      error);
        if (!function->netdev)
            return NULL;
    }
    VirtioNetWires net = { .ram = wires->ram, .send = function->netdev ? net_send : NULL, .can_receive = net_can_receive, .opaque = function };
    memcpy(net.mac, nic->mac, sizeof net.mac);
    function->net = virtio_net_new(&net);
    return virtio_net_device(function->net);
}

static VirtioDevice *function_build(Function *function, const Config *config, const VirtioConfig *virtio, GError **error)
{
    const PciDevicesWires *wires = &function->owner->wires;
    switch (virtio->kind) {
    case VIRTIO_KIND_BLK:
        return blk_build(function, g_ptr_array_index(config->drives, virtio->drive), error);
    case VIRTIO_KIND_NET:
        return net_build(function, config, g_ptr_array_index(config->nics, virtio->nic), error);
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
        netdev_free(function->netdev);
        virtio_pci_free(function->pci);
        virtio_net_free(function->net);
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
    for (unsigned i = 0; !is_held && i < devices->nfunctions; i++)
        if (devices->function[i].netdev)
            netdev_can_receive(devices->function[i].netdev);
}

static Function *card_find(PciDevices *devices, const char *name)
{
    for (unsigned i = 0; i < devices->nfunctions; i++) {
        Function *function = &devices->function[i];
        if (function->net && (!strcmp(function->nic->id, name) || (function->network && !strcmp(function->network->id, name))))
            return function;
    }
    return NULL;
}

bool pci_devices_set_link(PciDevices *devices, const char *name, bool is_up)
{
    Function *function = card_find(devices, name);
    if (!function)
        return false;
    g_mutex_lock(devices->wires.lock);
    virtio_net_set_link(function->net, is_up);
    g_mutex_unlock(devices->wires.lock);
    return true;
}

Netdev *pci_devices_network(PciDevices *devices, const char *name)
{
    Function *function = name ? card_find(devices, name) : NULL;
    for (unsigned i = 0; !name && !function && i < devices->nfunctions; i++)
        if (devices->function[i].netdev)
            function = &devices->function[i];
    return function ? function->netdev : NULL;
}

void pci_devices_each_card(PciDevices *devices, PciCardFunc func, void *opaque)
{
    for (unsigned i = 0; i < devices->nfunctions; i++) {
        Function *function = &devices->function[i];
        if (function->net)
            func(opaque, function->nic, virtio_net_link(function->net), function->network, function->netdev);
    }
}
