/*
 * The two devices behind the 8042: a keyboard and a mouse that never moves, as far as probes and drivers ask them.
 * Source: IBM PS/2 Hardware Interface Technical Reference, keyboard and mouse commands.  Thread: machine lock held.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/stream.h"

#define PS2_QUEUE_SIZE 32

typedef struct Ps2Queue {
    uint8_t bytes[PS2_QUEUE_SIZE];
    uint8_t head, count;
} Ps2Queue;

/* One PS/2 device: keyboard or mouse. */
typedef struct Ps2State {
    Ps2Queue queue;
    uint8_t command; /* waiting for its argument; 0: none */
    bool is_enabled; /* keyboard scans, mouse reports */
    uint8_t rate, resolution, scaling, leds, scancode_set;
    uint8_t wrap;
} Ps2State;

/* ps2_put: false when the queue is full.  ps2_take: false when it is empty. */
bool ps2_put(Ps2Queue *queue, uint8_t byte);
bool ps2_take(Ps2Queue *queue, uint8_t *out_byte);

/* Power-on settings; the queue stays. */
void ps2_keyboard_reset(Ps2State *keyboard);
void ps2_mouse_reset(Ps2State *mouse);

/* A byte from the host; replies go to the device's queue. */
void ps2_keyboard_write(Ps2State *keyboard, uint8_t value);
void ps2_mouse_write(Ps2State *mouse, uint8_t value);

/* Saved state. */
void ps2_queue_visit(Ps2Queue *queue, Stream *stream);
void ps2_visit(Ps2State *device, Stream *stream);
