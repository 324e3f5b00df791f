/* Debug console at port 0xe9, as Bochs and QEMU have it: writes are output, reads answer 0xe9.  Thread: machine lock
 * held. */
#pragma once

#include <stddef.h>

#include "core/bus.h"

typedef struct Debugcon Debugcon;

typedef struct DebugconWires {
    void (*write)(void *opaque, const uint8_t *bytes, size_t count);
    void *opaque;
    uint8_t readback; /* what a read answers; 0xe9 by convention */
} DebugconWires;

extern const BusOps debugcon_ops; /* 1 port */

Debugcon *debugcon_new(const DebugconWires *wires);
void debugcon_free(Debugcon *console);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Debugcon, debugcon_free)
