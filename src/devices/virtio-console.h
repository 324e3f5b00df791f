/*
 * virtio-console: one port (hvc0), without multiport.
 *
 * Source: VIRTIO 1.2, 5.3.  Output goes to a callback at once.  Input waits outside until the driver has given buffers,
 * as with the UART. Thread: machine lock held.
 */
#pragma once

#include "devices/virtio.h"

typedef struct VirtioConsole VirtioConsole;

typedef struct VirtioConsoleWires {
    const Ram *ram;
    void (*write)(void *opaque, const uint8_t *bytes, size_t count);
    void (*can_receive)(void *opaque); /* the driver gave buffers; may call virtio_console_receive(); may be NULL */
    void *opaque;
} VirtioConsoleWires;

VirtioConsole *virtio_console_new(const VirtioConsoleWires *wires);
void virtio_console_free(VirtioConsole *console);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtioConsole, virtio_console_free)
VirtioDevice *virtio_console_device(VirtioConsole *console);

/* virtio_console_receive: Returns: how many of @count bytes the driver had room for; the rest waits for can_receive. */
size_t virtio_console_receive(VirtioConsole *console, const uint8_t *bytes, size_t count);
