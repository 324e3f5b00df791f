#include "devices/ps2.h"

#define PS2_ACK    0xfa
#define PS2_RESEND 0xfe
#define PS2_PASSED 0xaa

bool ps2_put(Ps2Queue *queue, uint8_t byte)
{
    if (queue->count == PS2_QUEUE_SIZE)
        return false;
    queue->bytes[(queue->head + queue->count++) % PS2_QUEUE_SIZE] = byte;
    return true;
}

bool ps2_take(Ps2Queue *queue, uint8_t *out_byte)
{
    if (queue->count == 0)
        return false;
    *out_byte = queue->bytes[queue->head];
    queue->head = (queue->head + 1) % PS2_QUEUE_SIZE;
    queue->count--;
    return true;
}

void ps2_keyboard_reset(Ps2State *keyboard)
{
    keyboard->scancode_set = 2;
    keyboard->rate = 0x2b;
    keyboard->leds = 0;
    keyboard->is_enabled = true;
}

static void keyboard_argument(Ps2State *keyboard, uint8_t command, uint8_t value)
{
    ps2_put(&keyboard->queue, PS2_ACK);
    switch (command) {
    case 0xed:
        keyboard->leds = value;
        break;
    case 0xf0:
        if (value == 0)
            ps2_put(&keyboard->queue, keyboard->scancode_set);
        else if (value <= 3)
            keyboard->scancode_set = value;
        break;
    case 0xf3:
        keyboard->rate = value;
        break;
    }
}

/* A byte from the host to the keyboard (IBM PS/2 keyboard commands). */
void ps2_keyboard_write(Ps2State *keyboard, uint8_t value)
{
    Ps2Queue *queue = &keyboard->queue;
    if (keyboard->command && value < 0xed) {
        uint8_t command = keyboard->command;
        keyboard->command = 0;
        keyboard_argument(keyboard, command, value);
        return;
    }
    keyboard->command = 0;
    switch (value) {
    case 0xed: /* LEDs */
    case 0xf0: /* scan code set */
    case 0xf3: /* typematic rate */
        keyboard->command = value;
        ps2_put(queue, PS2_ACK);
        break;
    case 0xee: /* echo */
        ps2_put(queue, 0xee);
        break;
    case 0xf2: /* identify */
        ps2_put(queue, PS2_ACK);
        ps2_put(queue, 0xab);
        ps2_put(queue, 0x83);
        break;
    case 0xf4:
        keyboard->is_enabled = true;
        ps2_put(queue, PS2_ACK);
        break;
    case 0xf5:
    case 0xf6: /* defaults; f5 also stops scanning */
        ps2_keyboard_reset(keyboard);
        keyboard->is_enabled = value == 0xf6;
        ps2_put(queue, PS2_ACK);
        break;
    case 0xff: /* reset and self-test */
        *queue = (Ps2Queue){0};
        ps2_keyboard_reset(keyboard);
        ps2_put(queue, PS2_ACK);
        ps2_put(queue, PS2_PASSED);
        break;
    default:
        ps2_put(queue, PS2_RESEND);
        break;
    }
}

void ps2_mouse_reset(Ps2State *mouse)
{
    mouse->rate = 100;
    mouse->resolution = 2;
    mouse->scaling = 1;
    mouse->is_enabled = false;
    mouse->wrap = 0;
}

/* A byte from the host to the mouse (IBM PS/2 mouse commands).  It never moves. */
void ps2_mouse_write(Ps2State *mouse, uint8_t value)
{
    Ps2Queue *queue = &mouse->queue;
    if (mouse->wrap && value != 0xec && value != 0xff) {
        ps2_put(queue, value);
        return;
    }
    if (mouse->command) {
        if (mouse->command == 0xf3)
            mouse->rate = value;
        else
            mouse->resolution = value & 3;
        mouse->command = 0;
        ps2_put(queue, PS2_ACK);
        return;
    }
    if (value != 0xff)
        ps2_put(queue, PS2_ACK);
    switch (value) {
    case 0xe6:
    case 0xe7:
        mouse->scaling = value - 0xe5;
        break;
    case 0xe8:
    case 0xf3:
        mouse->command = value;
        break;
    case 0xe9: /* status */
        ps2_put(queue, (uint8_t)((mouse->is_enabled ? 0x20 : 0) | (mouse->scaling == 2 ? 0x10 : 0)));
        ps2_put(queue, mouse->resolution);
        ps2_put(queue, mouse->rate);
        break;
    case 0xeb: /* read data: no movement */
        ps2_put(queue, 0x08);
        ps2_put(queue, 0);
        ps2_put(queue, 0);
        break;
    case 0xec:
    case 0xee:
        mouse->wrap = value == 0xee;
        break;
    case 0xea: /* stream mode */
    case 0xf0: /* remote mode */
        break;
    case 0xf2:
        ps2_put(queue, 0);
        break;
    case 0xf4:
    case 0xf5:
        mouse->is_enabled = value == 0xf4;
        break;
    case 0xf6:
        ps2_mouse_reset(mouse);
        break;
    case 0xff:
        *queue = (Ps2Queue){0};
        ps2_mouse_reset(mouse);
        ps2_put(queue, PS2_ACK);
        ps2_put(queue, PS2_PASSED);
        ps2_put(queue, 0);
        break;
    default:
        /* Not a command: take the ACK back. */
        queue->count -= queue->count > 0;
        ps2_put(queue, PS2_RESEND);
        break;
    }
}

void ps2_queue_visit(Ps2Queue *queue, Stream *stream)
{
    stream_bytes(stream, queue->bytes, sizeof queue->bytes);
    stream_u8(stream, &queue->head);
    stream_u8(stream, &queue->count);
    stream_check(stream, queue->head < PS2_QUEUE_SIZE && queue->count <= PS2_QUEUE_SIZE, "queue of a PS/2 device");
}

void ps2_visit(Ps2State *device, Stream *stream)
{
    ps2_queue_visit(&device->queue, stream);
    uint8_t *const bytes[] = {&device->command, &device->rate, &device->resolution, &device->scaling, &device->leds, &device->scancode_set,
                              &device->wrap};
    for (unsigned i = 0; i < G_N_ELEMENTS(bytes); i++)
        stream_u8(stream, bytes[i]);
    stream_bool(stream, &device->is_enabled);
}
