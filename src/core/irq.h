/* An interrupt line is a value: a chip raises its own line and never knows what listens behind it. */
#pragma once

#include <stdbool.h>

typedef struct IrqLine {
    void (*set)(void *opaque, unsigned number, bool level); /* NULL: not connected */
    void *opaque;
    unsigned number;
} IrqLine;

static inline void irq_set(IrqLine line, bool level)
{
    if (line.set)
        line.set(line.opaque, line.number, level);
}

static inline void irq_pulse(IrqLine line)
{
    irq_set(line, true);
    irq_set(line, false);
}
