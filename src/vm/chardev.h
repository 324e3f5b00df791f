/*
 * Chardev: a host-side byte stream that a guest's serial port, a monitor or both (multiplexed with Ctrl-A) talk through.
 *
 * Input belongs to the thread of the main context: bytes are read only while the queue has room and are offered to the front end until it
 * takes them, so none is lost.  Output may come from any thread; it is buffered and written by the main thread, and by the
 * caller itself when the buffer is full, so a slow reader slows the guest but loses nothing.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

typedef struct Chardev Chardev;

/* Who talks: a chip of the guest, or a monitor.  Ctrl-A c moves the keyboard between them. */
typedef enum CharSlot { CHAR_SLOT_GUEST, CHAR_SLOT_MONITOR, CHAR_NSLOTS } CharSlot;

typedef struct CharFront {
    /* Takes up to @count bytes.  Returns: how many were taken; the rest is offered again after chardev_ready().  Main thread, no lock held. */
    size_t (*receive)(void *opaque, const uint8_t *bytes, size_t count);
    void (*opened)(void *opaque);    /* someone connected, or the keyboard came to this slot; may be NULL */
    void (*send_break)(void *opaque); /* Ctrl-A b; may be NULL */
    void *opaque;
} CharFront;

typedef struct CharWires {
    void (*quit)(void *opaque); /* Ctrl-A x.  Main thread */
    void *opaque;
} CharWires;

/* chardev_new: opens or starts to listen at once.  FALSE with VMM_ERROR_USAGE; the message names the path or address. */
Chardev *chardev_new(const CharConfig *config, const CharWires *wires, GError **error);
void chardev_free(Chardev *chardev); /* writes out what is buffered (at most two seconds), closes, removes its socket */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Chardev, chardev_free)

/* chardev_start: begins to read; the terminal goes raw. */
void chardev_start(Chardev *chardev);
void chardev_set_front(Chardev *chardev, CharSlot slot, const CharFront *front);
void chardev_focus(Chardev *chardev, CharSlot slot); /* where the keyboard goes; the guest at first, if it has a front */

/* chardev_write: any thread; see above.  Bytes to a socket without a peer vanish. */
void chardev_write(Chardev *chardev, const void *bytes, size_t count);
/* chardev_ready: the front end has room again.  Any thread. */
void chardev_ready(Chardev *chardev);
void chardev_flush(Chardev *chardev); /* main thread; waits for a slow reader at most two seconds */
/* chardev_cancel: from now on no writer waits any more (the machine ends).  Any thread. */
void chardev_cancel(Chardev *chardev);
/* chardev_wait: for server sockets with wait=on: blocks until someone has connected.  FALSE when a signal arrived. */
gboolean chardev_wait(Chardev *chardev, GError **error);
