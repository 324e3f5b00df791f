/*
 * Netdev: what a network card's cable leads to: a private network made by libslirp, in which the guest has 10.0.2.15, the host is 10.0.2.2 and
 * answers DHCP, and 10.0.2.3 is a name server.  Connections go out as this process's own, without rights.
 *
 * libslirp runs on the main thread only; frames of the guest's wait in a queue that is bounded and loses what is too much, as a cable does.
 */
#pragma once

#include "config/config.h"
#include "core/clock.h"

typedef struct Netdev Netdev;

typedef struct NetdevWires {
    Clock *clock;
    GMutex *lock; /* the machine lock */
    /* A frame for the guest, lock held.  False: no room, try again after netdev_can_receive(). */
    bool (*receive)(void *opaque, const uint8_t *frame, size_t size);
    void *opaque;
} NetdevWires;

/* netdev_new: opens the ports to be forwarded.  NULL with VMM_ERROR_USAGE naming the one that cannot be had.  Main thread, lock not held. */
Netdev *netdev_new(const NetdevConfig *config, const NetdevWires *wires, GError **error);
void netdev_free(Netdev *netdev); /* main thread, lock not held */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Netdev, netdev_free)

/* Ports that lead to the guest, and what is open.  Main thread, lock not held.  Remove: false when there is no such port. */
gboolean netdev_forward_add(Netdev *netdev, const NetdevForward *forward, GError **error);
bool netdev_forward_remove(Netdev *netdev, const NetdevForward *forward);
char *netdev_connections(Netdev *netdev); /* lines (transfer full) */

void netdev_send(Netdev *netdev, const uint8_t *frame, size_t size); /* from the guest; any thread, lock held */
void netdev_can_receive(Netdev *netdev);                             /* any thread, lock held */
