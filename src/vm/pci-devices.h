/*
 * PciDevices: the virtio functions that the configuration asks for, on the board's PCI bus from slot 3 up, in order.
 */
#pragma once

#include "config/config.h"
#include "core/clock.h"
#include "core/ram.h"
#include "core/stream.h"
#include "devices/pci.h"
#include "vm/chardev.h"
#include "vm/netdev.h"

typedef struct PciDevices PciDevices;

typedef struct PciDevicesWires {
    PciBus *bus;
    const Ram *ram;
    GMutex *lock;     /* the machine lock */
    Clock *clock;
    Chardev *console; /* of the virtconsole, or NULL */
} PciDevicesWires;

/* pci_devices_overlay: disk number @index of those with an overlay (snapshot=on), NULL behind the last. */
struct Block *pci_devices_overlay(const PciDevices *devices, unsigned index);

/* pci_devices_new: opens disk images.  NULL with VMM_ERROR_USAGE naming the file. */
PciDevices *pci_devices_new(const Config *config, const PciDevicesWires *wires, GError **error);
void pci_devices_free(PciDevices *devices); /* machine lock not held; waits for requests on their way */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PciDevices, pci_devices_free)
/* pci_devices_drain: waits until no disk request is being carried out.  Machine lock not held. */
void pci_devices_drain(PciDevices *devices);
/* pci_devices_each_state: names every function's saved state, in order; nothing may be on its way. */
void pci_devices_each_state(PciDevices *devices, void (*func)(void *opaque, const StateOps *ops, int instance, void *device), void *opaque);
/* pci_devices_hold: while held, devices take no input from outside.  Machine lock held. */
void pci_devices_hold(PciDevices *devices, bool is_held);

/* Network cards, for monitors; main thread, machine lock not held.  @name: of the card or of its network; for pci_devices_network(), NULL is the first.
 * Return false or NULL when there is none. */
bool pci_devices_set_link(PciDevices *devices, const char *name, bool is_up);
Netdev *pci_devices_network(PciDevices *devices, const char *name);
typedef void (*PciCardFunc)(void *opaque, const NicConfig *nic, bool is_up, const NetdevConfig *network, Netdev *netdev); /* NULLs: no cable */
void pci_devices_each_card(PciDevices *devices, PciCardFunc func, void *opaque);
