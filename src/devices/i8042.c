#include "devices/i8042.h"

#include <string.h>

#include "devices/ps2.h"

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SYSTEM      0x04
#define STATUS_COMMAND     0x08
#define STATUS_UNLOCKED    0x10
#define STATUS_MOUSE       0x20

#define CONFIG_KEYBOARD_IRQ 0x01
#define CONFIG_MOUSE_IRQ    0x02
#define CONFIG_SYSTEM       0x04
#define CONFIG_KEYBOARD_OFF 0x10
#define CONFIG_MOUSE_OFF    0x20
#define CONFIG_TRANSLATE    0x40

#define OUTPUT_NOT_RESET 0x01
#define OUTPUT_A20       0x02

typedef struct I8042State {
    uint8_t config;         /* command byte */
    uint8_t output;         /* output port */
    uint8_t status;         /* STATUS_SYSTEM and STATUS_COMMAND; the rest is computed */
    uint8_t command;        /* waiting for its data byte at port 0x60; 0: none */
    uint8_t ram[31];        /* bytes 1–31 of the controller's memory */
    Ps2Queue replies;       /* from the controller itself: go before those of the devices */
    Ps2Queue mouse_replies; /* likewise, marked as from the mouse (command 0xd3) */
    bool full;              /* output buffer */
    uint8_t data;
    bool data_is_mouse;
    bool release_seen; /* a set 2 release prefix waits for its key, for translation */
    Ps2State keyboard, mouse;
} I8042State;

struct I8042 {
    I8042Wires wires;
    I8042State s;
    bool keyboard_line, mouse_line;
};

/* Set 2 → set 1, what the controller's translation does.  Unlisted codes pass through. */
static const uint8_t set1_of_set2[0x85] = {
    [0x00] = 0xff, [0x01] = 0x43, [0x02] = 0x41, [0x03] = 0x3f, [0x04] = 0x3d, [0x05] = 0x3b, [0x06] = 0x3c,
    [0x07] = 0x58, [0x08] = 0x64, [0x09] = 0x44, [0x0a] = 0x42, [0x0b] = 0x40, [0x0c] = 0x3e, [0x0d] = 0x0f,
    [0x0e] = 0x29, [0x0f] = 0x59, [0x10] = 0x65, [0x11] = 0x38, [0x12] = 0x2a, [0x13] = 0x70, [0x14] = 0x1d,
    [0x15] = 0x10, [0x16] = 0x02, [0x17] = 0x5a, [0x18] = 0x66, [0x19] = 0x71, [0x1a] = 0x2c, [0x1b] = 0x1f,
    [0x1c] = 0x1e, [0x1d] = 0x11, [0x1e] = 0x03, [0x1f] = 0x5b, [0x20] = 0x67, [0x21] = 0x2e, [0x22] = 0x2d,
    [0x23] = 0x20, [0x24] = 0x12, [0x25] = 0x05, [0x26] = 0x04, [0x27] = 0x5c, [0x28] = 0x68, [0x29] = 0x39,
    [0x2a] = 0x2f, [0x2b] = 0x21, [0x2c] = 0x14, [0x2d] = 0x13, [0x2e] = 0x06, [0x2f] = 0x5d, [0x30] = 0x69,
    [0x31] = 0x31, [0x32] = 0x30, [0x33] = 0x23, [0x34] = 0x22, [0x35] = 0x15, [0x36] = 0x07, [0x37] = 0x5e,
    [0x38] = 0x6a, [0x39] = 0x72, [0x3a] = 0x32, [0x3b] = 0x24, [0x3c] = 0x16, [0x3d] = 0x08, [0x3e] = 0x09,
    [0x3f] = 0x5f, [0x40] = 0x6b, [0x41] = 0x33, [0x42] = 0x25, [0x43] = 0x17, [0x44] = 0x18, [0x45] = 0x0b,
    [0x46] = 0x0a, [0x47] = 0x60, [0x48] = 0x6c, [0x49] = 0x34, [0x4a] = 0x35, [0x4b] = 0x26, [0x4c] = 0x27,
    [0x4d] = 0x19, [0x4e] = 0x0c, [0x4f] = 0x61, [0x50] = 0x6d, [0x51] = 0x73, [0x52] = 0x28, [0x53] = 0x74,
    [0x54] = 0x1a, [0x55] = 0x0d, [0x56] = 0x62, [0x57] = 0x6e, [0x58] = 0x3a, [0x59] = 0x36, [0x5a] = 0x1c,
    [0x5b] = 0x1b, [0x5c] = 0x75, [0x5d] = 0x2b, [0x5e] = 0x63, [0x5f] = 0x76, [0x60] = 0x55, [0x61] = 0x56,
    [0x62] = 0x77, [0x63] = 0x78, [0x64] = 0x79, [0x65] = 0x7a, [0x66] = 0x0e, [0x67] = 0x7b, [0x68] = 0x7c,
    [0x69] = 0x4f, [0x6a] = 0x7d, [0x6b] = 0x4b, [0x6c] = 0x47, [0x6d] = 0x7e, [0x6e] = 0x7f, [0x6f] = 0x6f,
    [0x70] = 0x52, [0x71] = 0x53, [0x72] = 0x50, [0x73] = 0x4c, [0x74] = 0x4d, [0x75] = 0x48, [0x76] = 0x01,
    [0x77] = 0x45, [0x78] = 0x57, [0x79] = 0x4e, [0x7a] = 0x51, [0x7b] = 0x4a, [0x7c] = 0x37, [0x7d] = 0x49,
    [0x7e] = 0x46, [0x7f] = 0x54, [0x83] = 0x41, [0x84] = 0x54,
};

static void set_line(IrqLine line, bool *current, bool level)
{
    if (*current != level) {
        *current = level;
        irq_set(line, level);
    }
}

static void update_irq(I8042 *kbc)
{
    const I8042State *s = &kbc->s;
    set_line(kbc->wires.keyboard_irq, &kbc->keyboard_line,
             s->full && !s->data_is_mouse && s->config & CONFIG_KEYBOARD_IRQ);
    set_line(kbc->wires.mouse_irq, &kbc->mouse_line, s->full && s->data_is_mouse && s->config & CONFIG_MOUSE_IRQ);
}

/* translate_byte: false when @byte is a release prefix that becomes part of the next code. */
static bool translate_byte(I8042 *kbc, uint8_t *byte)
{
    if (!(kbc->s.config & CONFIG_TRANSLATE))
        return true;
    if (*byte == 0xf0) {
        kbc->s.release_seen = true;
        return false;
    }
    /* 0xe0, 0xe1 and replies (0xaa, 0xfa, 0xfe, …) are above the table and pass. */
    if (*byte < sizeof set1_of_set2 && set1_of_set2[*byte])
        *byte = set1_of_set2[*byte];
    if (kbc->s.release_seen && *byte < 0x80)
        *byte |= 0x80;
    if (*byte != 0xe0)
        kbc->s.release_seen = false;
    return true;
}

/* Moves the next waiting byte into the output buffer when that is empty. */
static void fill_output(I8042 *kbc)
{
    I8042State *s = &kbc->s;
    uint8_t byte;
    while (!s->full) {
        if (ps2_take(&s->replies, &byte)) {
            s->full = true;
            s->data_is_mouse = false;
        } else if (ps2_take(&s->mouse_replies, &byte)) {
            s->full = s->data_is_mouse = true;
        } else if (!(s->config & CONFIG_KEYBOARD_OFF) && ps2_take(&s->keyboard.queue, &byte)) {
            if (!translate_byte(kbc, &byte))
                continue;
            s->full = true;
            s->data_is_mouse = false;
        } else if (!(s->config & CONFIG_MOUSE_OFF) && ps2_take(&s->mouse.queue, &byte)) {
            s->full = s->data_is_mouse = true;
        } else {
            break;
        }
        s->data = byte;
    }
    update_irq(kbc);
}

static void set_output_port(I8042 *kbc, uint8_t value)
{
    bool a20_changed = (value ^ kbc->s.output) & OUTPUT_A20;
    kbc->s.output = value | OUTPUT_NOT_RESET;
    if (a20_changed && kbc->wires.a20)
        kbc->wires.a20(kbc->wires.opaque, value & OUTPUT_A20);
    if (!(value & OUTPUT_NOT_RESET) && kbc->wires.reset)
        kbc->wires.reset(kbc->wires.opaque);
}

static uint64_t data_read(void *device, uint64_t offset, unsigned size)
{
    I8042 *kbc = device;
    uint8_t value = kbc->s.data;
    kbc->s.full = false;
    update_irq(kbc); /* so that the next byte makes a new edge */
    fill_output(kbc);
    return value;
}

static void command_argument(I8042 *kbc, uint8_t command, uint8_t value)
{
    I8042State *s = &kbc->s;
    switch (command) {
    case 0x60:
        s->config = value;
        s->status = (uint8_t)((s->status & ~STATUS_SYSTEM) | (value & CONFIG_SYSTEM));
        break;
    case 0xd1:
        set_output_port(kbc, value);
        break;
    case 0xd2: /* as if it came from the keyboard, not translated */
        ps2_put(&s->replies, value);
        break;
    case 0xd3:
        ps2_put(&s->mouse_replies, value);
        break;
    case 0xd4:
        s->config &= (uint8_t)~CONFIG_MOUSE_OFF;
        ps2_mouse_write(&s->mouse, value);
        break;
    default:
        if (command > 0x60 && command < 0x80)
            s->ram[command - 0x61] = value;
        break;
    }
}

static void data_write(void *device, uint64_t offset, unsigned size, uint64_t value64)
{
    I8042 *kbc = device;
    uint8_t value = (uint8_t)value64, command = kbc->s.command;
    kbc->s.command = 0;
    kbc->s.status &= (uint8_t)~STATUS_COMMAND;
    if (command) {
        command_argument(kbc, command, value);
    } else {
        kbc->s.config &= (uint8_t)~CONFIG_KEYBOARD_OFF; /* a byte to the keyboard opens its interface */
        ps2_keyboard_write(&kbc->s.keyboard, value);
    }
    fill_output(kbc);
}

static uint64_t command_read(void *device, uint64_t offset, unsigned size)
{
    const I8042 *kbc = device;
    return kbc->s.status | STATUS_UNLOCKED | (kbc->s.full ? STATUS_OUTPUT_FULL : 0) |
           (kbc->s.full && kbc->s.data_is_mouse ? STATUS_MOUSE : 0);
}

static void command_write(void *device, uint64_t offset, unsigned size, uint64_t value64)
{
    I8042 *kbc = device;
    I8042State *s = &kbc->s;
    uint8_t value = (uint8_t)value64;
    s->status |= STATUS_COMMAND;
    s->command = 0;
    switch (value) {
    case 0x20:
        ps2_put(&s->replies, s->config);
        break;
    case 0x60:
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xd4:
        s->command = value;
        break;
    case 0xa7:
        s->config |= CONFIG_MOUSE_OFF;
        break;
    case 0xa8:
        s->config &= (uint8_t)~CONFIG_MOUSE_OFF;
        break;
    case 0xa9: /* interface tests: no error */
    case 0xab:
        ps2_put(&s->replies, 0x00);
        break;
    case 0xaa: /* self-test */
        s->status |= STATUS_SYSTEM;
        ps2_put(&s->replies, 0x55);
        break;
    case 0xad:
        s->config |= CONFIG_KEYBOARD_OFF;
        break;
    case 0xae:
        s->config &= (uint8_t)~CONFIG_KEYBOARD_OFF;
        break;
    case 0xc0: /* input port: not locked, no manufacturing jumper */
        ps2_put(&s->replies, 0xa0);
        break;
    case 0xd0:
        ps2_put(&s->replies, (uint8_t)(s->output | (kbc->keyboard_line ? 0x10 : 0) | (kbc->mouse_line ? 0x20 : 0)));
        break;
    case 0xdd: /* A20 off and on, as some chipsets have it */
        set_output_port(kbc, s->output & (uint8_t)~OUTPUT_A20);
        break;
    case 0xdf:
        set_output_port(kbc, s->output | OUTPUT_A20);
        break;
    default:
        if (value > 0x20 && value < 0x40)
            ps2_put(&s->replies, s->ram[value - 0x21]);
        else if (value > 0x60 && value < 0x80)
            s->command = value;
        else if (value >= 0xf0 && !(value & 1) &&
                 kbc->wires.reset) /* pulse output bits that are zero; bit 0 is reset */
            kbc->wires.reset(kbc->wires.opaque);
        break;
    }
    fill_output(kbc);
}

static uint64_t port92_read(void *device, uint64_t offset, unsigned size)
{
    const I8042 *kbc = device;
    return kbc->s.output & OUTPUT_A20;
}

static void port92_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    I8042 *kbc = device;
    set_output_port(kbc, (uint8_t)((kbc->s.output & ~OUTPUT_A20) | (value & 2) | OUTPUT_NOT_RESET));
    if (value & 1 && kbc->wires.reset)
        kbc->wires.reset(kbc->wires.opaque);
}

const BusOps i8042_data_ops = {.name = "i8042-data", .read = data_read, .write = data_write, .max_size = 1};
const BusOps i8042_command_ops = {.name = "i8042-command", .read = command_read, .write = command_write, .max_size = 1};
const BusOps i8042_port92_ops = {.name = "port92", .read = port92_read, .write = port92_write, .max_size = 1};

bool i8042_key(I8042 *kbc, const uint8_t *bytes, unsigned count)
{
    Ps2State *keyboard = &kbc->s.keyboard;
    if (!keyboard->is_enabled || count > PS2_QUEUE_SIZE - 8u - MIN(keyboard->queue.count, PS2_QUEUE_SIZE - 8u))
        return false; /* eight places stay free for replies */
    for (unsigned i = 0; i < count; i++)
        ps2_put(&keyboard->queue, bytes[i]);
    fill_output(kbc);
    return true;
}

static void set_initial_state(I8042 *kbc)
{
    memset(&kbc->s, 0, sizeof kbc->s);
    kbc->s.config = CONFIG_KEYBOARD_IRQ | CONFIG_SYSTEM | CONFIG_TRANSLATE;
    kbc->s.status = STATUS_SYSTEM;
    kbc->s.output = OUTPUT_NOT_RESET | OUTPUT_A20;
    ps2_keyboard_reset(&kbc->s.keyboard);
    ps2_mouse_reset(&kbc->s.mouse);
}

void i8042_reset(I8042 *kbc)
{
    bool a20_was_off = !(kbc->s.output & OUTPUT_A20);
    set_initial_state(kbc);
    update_irq(kbc);
    if (a20_was_off && kbc->wires.a20)
        kbc->wires.a20(kbc->wires.opaque, true);
}

I8042 *i8042_new(const I8042Wires *wires)
{
    I8042 *kbc = g_new0(I8042, 1);
    kbc->wires = *wires;
    set_initial_state(kbc);
    return kbc;
}

void i8042_free(I8042 *kbc) { g_free(kbc); }

/* --- saved state --- */

static void state_visit(void *device, Stream *stream)
{
    I8042 *kbc = device;
    I8042State *s = &kbc->s;
    stream_u8(stream, &s->config);
    stream_u8(stream, &s->output);
    stream_u8(stream, &s->status);
    stream_u8(stream, &s->command);
    stream_bytes(stream, s->ram, sizeof s->ram);
    ps2_queue_visit(&s->replies, stream);
    ps2_queue_visit(&s->mouse_replies, stream);
    stream_bool(stream, &s->full);
    stream_u8(stream, &s->data);
    stream_bool(stream, &s->data_is_mouse);
    stream_bool(stream, &s->release_seen);
    ps2_visit(&s->keyboard, stream);
    ps2_visit(&s->mouse, stream);
    stream_bool(stream, &kbc->keyboard_line);
    stream_bool(stream, &kbc->mouse_line);
    if (stream_is_loading(stream) && kbc->wires.a20)
        kbc->wires.a20(kbc->wires.opaque, s->output & OUTPUT_A20);
}

const StateOps i8042_state = {.name = "i8042", .version = 1, .visit = state_visit};
