#include "devices/ns16550.h"

#include <string.h>

#define FIFO_SIZE 16

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RX    0x01
#define IER_THRE  0x02
#define IER_LINE  0x04
#define IER_MODEM 0x08
#define IER_MASK  0x0f

#define IIR_NONE    0x01
#define IIR_MODEM   0x00
#define IIR_THRE    0x02
#define IIR_RX      0x04
#define IIR_LINE    0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFOS   0xc0

#define FCR_ENABLE   0x01
#define FCR_RESET_RX 0x02
#define FCR_RESET_TX 0x04

#define LCR_BREAK 0x40
#define LCR_DLAB  0x80

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DR     0x01
#define LSR_OE     0x02
#define LSR_BI     0x10
#define LSR_THRE   0x20
#define LSR_TEMT   0x40
#define LSR_ERRORS 0x1e

#define MSR_DCTS   0x01
#define MSR_TERI   0x04
#define MSR_CTS    0x10
#define MSR_DSR    0x20
#define MSR_RI     0x40
#define MSR_DCD    0x80
#define MSR_DELTAS 0x0f

typedef struct Ns16550State {
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
    uint8_t dll, dlm;
    uint8_t fifo[FIFO_SIZE];
    uint16_t fifo_breaks; /* one bit a FIFO slot: this byte came with a break */
    uint8_t fifo_head, fifo_count;
    bool thre_pending;    /* THRE interrupt latched */
    bool timeout_pending; /* bytes below the trigger level waited for four character times */
} Ns16550State;

struct Ns16550 {
    Ns16550Wires wires;
    Ns16550State s;
    Timer *timeout;
    bool irq_level;
};

static unsigned fifo_size(const Ns16550 *uart) { return uart->s.fcr & FCR_ENABLE ? FIFO_SIZE : 1; }

static unsigned trigger_level(const Ns16550 *uart)
{
    static const uint8_t level[4] = {1, 4, 8, 14};
    return uart->s.fcr & FCR_ENABLE ? level[uart->s.fcr >> 6] : 1;
}

/* The reported interrupt, highest priority first (datasheet table 3). */
static uint8_t interrupt_id(const Ns16550 *uart)
{
    const Ns16550State *s = &uart->s;
    if (s->ier & IER_LINE && s->lsr & LSR_ERRORS)
        return IIR_LINE;
    if (s->ier & IER_RX && s->fifo_count >= trigger_level(uart))
        return IIR_RX;
    if (s->ier & IER_RX && s->timeout_pending)
        return IIR_TIMEOUT;
    if (s->ier & IER_THRE && s->thre_pending)
        return IIR_THRE;
    if (s->ier & IER_MODEM && s->msr & MSR_DELTAS)
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(Ns16550 *uart)
{
    /* OUT2 gates the line on a PC, but drivers differ in whether they set it; the part itself does not gate. */
    bool level = interrupt_id(uart) != IIR_NONE;
    if (level != uart->irq_level) {
        uart->irq_level = level;
        irq_set(uart->wires.irq, level);
    }
}

/* LSR's break bit belongs to the byte at the head of the FIFO. */
static void update_head(Ns16550 *uart)
{
    Ns16550State *s = &uart->s;
    if (s->fifo_count) {
        s->lsr |= LSR_DR;
        if (s->fifo_breaks & (1u << s->fifo_head)) {
            s->lsr |= LSR_BI;
            s->fifo_breaks &= ~(1u << s->fifo_head);
        }
    } else {
        s->lsr &= (uint8_t)~LSR_DR;
    }
}

/* The timeout runs while bytes wait below the trigger level: four characters of time since the last arrival or read. */
static void restart_timeout(Ns16550 *uart)
{
    Ns16550State *s = &uart->s;
    s->timeout_pending = false;
    if (!(s->fcr & FCR_ENABLE) || s->fifo_count == 0) {
        timer_arm(uart->timeout, TIMER_NEVER);
        return;
    }
    unsigned divisor = s->dll | s->dlm << 8;
    if (divisor == 0)
        divisor = 1;
    int64_t bit_ns = 1000000000LL * divisor / 115200;
    timer_arm(uart->timeout, clock_now_ns(uart->wires.clock) + 4 * 10 * bit_ns);
}

static void timeout_fired(void *opaque)
{
    Ns16550 *uart = opaque;
    uart->s.timeout_pending = uart->s.fifo_count > 0;
    update_irq(uart);
}

static void push(Ns16550 *uart, uint8_t byte, bool is_break)
{
    Ns16550State *s = &uart->s;
    if (s->fifo_count == fifo_size(uart)) {
        s->lsr |= LSR_OE;
        return;
    }
    unsigned slot = (s->fifo_head + s->fifo_count) % FIFO_SIZE;
    s->fifo[slot] = byte;
    s->fifo_breaks = (uint16_t)((s->fifo_breaks & ~(1u << slot)) | (is_break ? 1u << slot : 0));
    s->fifo_count++;
    update_head(uart);
    restart_timeout(uart);
}

static void clear_receiver(Ns16550 *uart)
{
    uart->s.fifo_head = uart->s.fifo_count = 0;
    uart->s.fifo_breaks = 0;
    update_head(uart);
    restart_timeout(uart);
}

static void offer_room(Ns16550 *uart)
{
    if (uart->wires.can_receive && ns16550_receive_room(uart) > 0)
        uart->wires.can_receive(uart->wires.opaque);
}

size_t ns16550_receive_room(const Ns16550 *uart)
{
    return uart->s.mcr & MCR_LOOP ? 0 : fifo_size(uart) - uart->s.fifo_count;
}

size_t ns16550_receive(Ns16550 *uart, const uint8_t *bytes, size_t count)
{
    size_t taken = MIN(count, ns16550_receive_room(uart));
    for (size_t i = 0; i < taken; i++)
        push(uart, bytes[i], false);
    update_irq(uart);
    return taken;
}

void ns16550_receive_break(Ns16550 *uart)
{
    if (ns16550_receive_room(uart) == 0)
        return;
    push(uart, 0, true);
    update_irq(uart);
}

/* Modem inputs: the outside always shows CTS, DSR and DCD; in loopback they follow our own outputs. */
static void update_modem(Ns16550 *uart)
{
    Ns16550State *s = &uart->s;
    uint8_t now = MSR_CTS | MSR_DSR | MSR_DCD;
    if (s->mcr & MCR_LOOP)
        now = (uint8_t)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                        (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
    uint8_t changed = (s->msr ^ now) & 0xf0;
    uint8_t deltas = (uint8_t)(changed >> 4);
    /* RI sets its delta at the trailing edge only. */
    if (now & MSR_RI)
        deltas &= (uint8_t)~MSR_TERI;
    s->msr = (uint8_t)(now | (s->msr & MSR_DELTAS) | deltas);
}

static void transmit(Ns16550 *uart, uint8_t byte)
{
    Ns16550State *s = &uart->s;
    if (s->mcr & MCR_LOOP)
        push(uart, byte, false);
    else if (uart->wires.write)
        uart->wires.write(uart->wires.opaque, &byte, 1);
    /* Already sent: the holding register is empty again, which is a new THRE event. */
    s->thre_pending = true;
}

static void set_fcr(Ns16550 *uart, uint8_t value)
{
    Ns16550State *s = &uart->s;
    bool toggled = (value ^ s->fcr) & FCR_ENABLE;
    if (toggled || (value & FCR_ENABLE && value & FCR_RESET_RX))
        clear_receiver(uart);
    if (toggled || (value & FCR_ENABLE && value & FCR_RESET_TX))
        s->thre_pending = true;
    s->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

static uint64_t ns16550_read(void *device, uint64_t offset, unsigned size)
{
    Ns16550 *uart = device;
    Ns16550State *s = &uart->s;
    uint8_t value = 0;
    bool has_room = false;
    switch (offset) {
    case REG_DATA:
        if (s->lcr & LCR_DLAB)
            return s->dll;
        value = s->fifo[s->fifo_head];
        if (s->fifo_count) {
            s->fifo_head = (s->fifo_head + 1) % FIFO_SIZE;
            s->fifo_count--;
            update_head(uart);
            has_room = true;
        } else {
            value = 0;
        }
        restart_timeout(uart);
        break;
    case REG_IER:
        return s->lcr & LCR_DLAB ? s->dlm : s->ier;
    case REG_IIR_FCR:
        value = interrupt_id(uart);
        if (value == IIR_THRE)
            s->thre_pending = false;
        if (s->fcr & FCR_ENABLE)
            value |= IIR_FIFOS;
        break;
    case REG_LCR:
        return s->lcr;
    case REG_MCR:
        return s->mcr;
    case REG_LSR:
        value = s->lsr;
        s->lsr &= (uint8_t)~LSR_ERRORS;
        break;
    case REG_MSR:
        value = s->msr;
        s->msr &= (uint8_t)~MSR_DELTAS;
        break;
    case REG_SCR:
        return s->scr;
    }
    update_irq(uart);
    if (has_room)
        offer_room(uart);
    return value;
}

static void ns16550_write(void *device, uint64_t offset, unsigned size, uint64_t value64)
{
    Ns16550 *uart = device;
    Ns16550State *s = &uart->s;
    uint8_t value = (uint8_t)value64;
    size_t room = ns16550_receive_room(uart);
    switch (offset) {
    case REG_DATA:
        if (s->lcr & LCR_DLAB)
            s->dll = value;
        else
            transmit(uart, value);
        break;
    case REG_IER:
        if (s->lcr & LCR_DLAB) {
            s->dlm = value;
            break;
        }
        /* Enabling ETBEI while the transmitter is empty raises THRE: the 8250 driver's probe for a buggy part counts on
         * it. */
        if (value & ~s->ier & IER_THRE)
            s->thre_pending = true;
        s->ier = value & IER_MASK;
        break;
    case REG_IIR_FCR:
        set_fcr(uart, value);
        break;
    case REG_LCR:
        if (value & ~s->lcr & LCR_BREAK && s->mcr & MCR_LOOP)
            push(uart, 0, true);
        s->lcr = value;
        break;
    case REG_MCR:
        s->mcr = value & MCR_MASK;
        update_modem(uart);
        break;
    case REG_LSR: /* factory test on the part */
        break;
    case REG_MSR: /* read-only */
        break;
    case REG_SCR:
        s->scr = value;
        break;
    }
    update_irq(uart);
    if (ns16550_receive_room(uart) > room)
        offer_room(uart);
}

const BusOps ns16550_ops = {
    .name = "ns16550",
    .read = ns16550_read,
    .write = ns16550_write,
    .max_size = 1,
};

void ns16550_reset(Ns16550 *uart)
{
    memset(&uart->s, 0, sizeof uart->s);
    uart->s.lsr = LSR_THRE | LSR_TEMT;
    uart->s.msr = MSR_CTS | MSR_DSR | MSR_DCD;
    uart->s.dll = 1;
    timer_arm(uart->timeout, TIMER_NEVER);
    update_irq(uart);
    offer_room(uart);
}

Ns16550 *ns16550_new(const Ns16550Wires *wires)
{
    Ns16550 *uart = g_new0(Ns16550, 1);
    uart->wires = *wires;
    uart->timeout = timer_new(wires->clock, timeout_fired, uart);
    /* Not reset(): nobody may be called back before the caller has the pointer. */
    uart->s.lsr = LSR_THRE | LSR_TEMT;
    uart->s.msr = MSR_CTS | MSR_DSR | MSR_DCD;
    uart->s.dll = 1;
    return uart;
}

void ns16550_free(Ns16550 *uart)
{
    if (!uart)
        return;
    timer_free(uart->timeout);
    g_free(uart);
}

/* --- saved state --- */

static void state_visit(void *device, Stream *stream)
{
    Ns16550 *uart = device;
    Ns16550State *s = &uart->s;
    int64_t timeout_ns = timer_deadline_ns(uart->timeout);
    uint8_t *const bytes[] = {&s->ier, &s->fcr, &s->lcr, &s->mcr, &s->lsr, &s->msr, &s->scr, &s->dll, &s->dlm, &s->fifo_head, &s->fifo_count};
    for (unsigned i = 0; i < G_N_ELEMENTS(bytes); i++)
        stream_u8(stream, bytes[i]);
    stream_bytes(stream, s->fifo, sizeof s->fifo);
    stream_u16(stream, &s->fifo_breaks);
    stream_bool(stream, &s->thre_pending);
    stream_bool(stream, &s->timeout_pending);
    stream_i64(stream, &timeout_ns);
    stream_bool(stream, &uart->irq_level);
    stream_check(stream, s->fifo_head < FIFO_SIZE && s->fifo_count <= fifo_size(uart), "receiver FIFO");
    stream_check(stream, timeout_ns >= 0, "receiver timeout");
    if (!stream_is_loading(stream) || !stream_is_ok(stream))
        return;
    timer_arm(uart->timeout, timeout_ns);
    offer_room(uart);
}

const StateOps ns16550_state = {.name = "ns16550", .version = 1, .visit = state_visit};
