/* Port 0x80: POST codes and Linux's I/O delay.  The last byte is kept for the monitor and read back.  Thread: machine
 * lock held. */
#pragma once

#include "core/bus.h"
#include "core/stream.h"

typedef struct Post80 {
    uint8_t code;
} Post80;

extern const BusOps post80_ops; /* 1 port; device is a Post80 that the board owns */
extern const StateOps post80_state; /* device is the Post80 */
