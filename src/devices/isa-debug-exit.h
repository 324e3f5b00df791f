/* isa-debug-exit, as QEMU has it: a guest write ends the machine with status (value << 1) | 1.  Thread: machine lock
 * held. */
#pragma once

#include "core/bus.h"

typedef struct IsaDebugExit IsaDebugExit;

typedef struct IsaDebugExitWires {
    void (*exit)(void *opaque, unsigned status); /* (value << 1) | 1, not cut to 8 bits; must only note it */
    void *opaque;
} IsaDebugExitWires;

extern const BusOps isa_debug_exit_ops; /* 1–4 ports: the board's iobase and iosize (QEMU's defaults: 0x501, 2) */

IsaDebugExit *isa_debug_exit_new(const IsaDebugExitWires *wires);
void isa_debug_exit_free(IsaDebugExit *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IsaDebugExit, isa_debug_exit_free)
