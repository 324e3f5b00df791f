#include "devices/ioapic.h"

#include <string.h>

enum { WINDOW_SELECT = 0x00, WINDOW_DATA = 0x10, WINDOW_EOI = 0x40 };
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_TABLE = 0x10 };

#define VERSION_VALUE (0x20u | (IOAPIC_NPINS - 1) << 16)

#define RTE_REMOTE_IRR (UINT64_C(1) << 14)
#define RTE_LEVEL      (UINT64_C(1) << 15)
#define RTE_MASKED     (UINT64_C(1) << 16)
/* Software may set all but delivery status and remote IRR; what is between 17 and 55 is reserved. */
#define RTE_WRITABLE (UINT64_C(0xff0000000001ffff) & ~((UINT64_C(1) << 12) | RTE_REMOTE_IRR))

typedef struct IoapicState {
    uint8_t id;
    uint8_t select;
    uint64_t rte[IOAPIC_NPINS];
    uint32_t lines; /* pin levels */
} IoapicState;

struct Ioapic {
    IoapicWires wires;
    IoapicState s;
};

static ApicMessage rte_message(uint64_t rte)
{
    return (ApicMessage){
        .destination = (uint32_t)(rte >> 56),
        .is_logical = rte >> 11 & 1,
        .is_level = (rte & RTE_LEVEL) != 0,
        .delivery = rte >> 8 & 7,
        .vector = rte & 0xff,
    };
}

static bool send(Ioapic *ioapic, unsigned pin)
{
    ApicMessage message = rte_message(ioapic->s.rte[pin]);
    return apic_send(ioapic->wires.sink, &message);
}

bool ioapic_level_message(const Ioapic *ioapic, unsigned pin, ApicMessage *out_message)
{
    *out_message = rte_message(ioapic->s.rte[pin]);
    return out_message->is_level;
}

/* A level pin sends when it is high, unmasked, and the last one has been ended. */
static void service_level(Ioapic *ioapic, unsigned pin)
{
    uint64_t *rte = &ioapic->s.rte[pin];
    if (!(*rte & RTE_LEVEL) || *rte & (RTE_MASKED | RTE_REMOTE_IRR) || !(ioapic->s.lines & (1u << pin)))
        return;
    unsigned delivery = *rte >> 8 & 7;
    bool ends_with_eoi = delivery == APIC_FIXED || delivery == APIC_LOWEST_PRIORITY;
    /* Set first: the EOI may come back before send() returns. */
    if (ends_with_eoi)
        *rte |= RTE_REMOTE_IRR;
    if (!send(ioapic, pin))
        *rte &= ~RTE_REMOTE_IRR;
}

void ioapic_set_irq(Ioapic *ioapic, unsigned pin, bool level)
{
    g_return_if_fail(pin < IOAPIC_NPINS);
    uint32_t bit = 1u << pin;
    bool rises = level && !(ioapic->s.lines & bit);
    if (level)
        ioapic->s.lines |= bit;
    else
        ioapic->s.lines &= ~bit;
    if (!rises)
        return;
    uint64_t rte = ioapic->s.rte[pin];
    if (rte & RTE_LEVEL)
        service_level(ioapic, pin);
    else if (!(rte & RTE_MASKED))
        send(ioapic, pin);
}

static void pin_set(void *opaque, unsigned number, bool level) { ioapic_set_irq(opaque, number, level); }

IrqLine ioapic_pin(Ioapic *ioapic, unsigned pin) { return (IrqLine){.set = pin_set, .opaque = ioapic, .number = pin}; }

void ioapic_eoi(void *opaque, uint8_t vector)
{
    Ioapic *ioapic = opaque;
    for (unsigned pin = 0; pin < IOAPIC_NPINS; pin++) {
        uint64_t *rte = &ioapic->s.rte[pin];
        if ((*rte & 0xff) != vector || !(*rte & RTE_REMOTE_IRR))
            continue;
        *rte &= ~RTE_REMOTE_IRR;
        service_level(ioapic, pin);
    }
}

bool ioapic_waits(const Ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_NPINS; pin++)
        if ((ioapic->s.rte[pin] & 0xff) == vector && ioapic->s.rte[pin] & RTE_REMOTE_IRR)
            return true;
    return false;
}

bool ioapic_handles(const Ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_NPINS; pin++)
        if (ioapic->s.rte[pin] & RTE_LEVEL && (ioapic->s.rte[pin] & 0xff) == vector)
            return true;
    return false;
}

static void set_rte(Ioapic *ioapic, unsigned pin, uint64_t value)
{
    uint64_t old = ioapic->s.rte[pin];
    uint64_t rte = (value & RTE_WRITABLE) | (old & RTE_REMOTE_IRR);
    /* Switching to edge clears remote IRR: Linux ends level interrupts on old I/O APICs that way. */
    if (!(rte & RTE_LEVEL))
        rte &= ~RTE_REMOTE_IRR;
    ioapic->s.rte[pin] = rte;
    bool is_route = (old | rte) & RTE_LEVEL && (old ^ rte) & ~(RTE_MASKED | RTE_REMOTE_IRR);
    if (is_route && ioapic->wires.route_changed)
        ioapic->wires.route_changed(ioapic->wires.opaque, pin);
    service_level(ioapic, pin);
}

static uint32_t register_read(const Ioapic *ioapic)
{
    unsigned index = ioapic->s.select;
    switch (index) {
    case REG_ID:
    case REG_ARBITRATION:
        return (uint32_t)ioapic->s.id << 24;
    case REG_VERSION:
        return VERSION_VALUE;
    }
    if (index < REG_TABLE || index >= REG_TABLE + 2 * IOAPIC_NPINS)
        return 0;
    uint64_t rte = ioapic->s.rte[(index - REG_TABLE) / 2];
    return (uint32_t)(index & 1 ? rte >> 32 : rte);
}

static void register_write(Ioapic *ioapic, uint32_t value)
{
    unsigned index = ioapic->s.select;
    if (index == REG_ID)
        ioapic->s.id = value >> 24 & 15;
    if (index < REG_TABLE || index >= REG_TABLE + 2 * IOAPIC_NPINS)
        return;
    unsigned pin = (index - REG_TABLE) / 2;
    uint64_t rte = ioapic->s.rte[pin];
    if (index & 1)
        rte = (rte & 0xffffffffu) | (uint64_t)value << 32;
    else
        rte = (rte & ~UINT64_C(0xffffffff)) | value;
    set_rte(ioapic, pin, rte);
}

static uint64_t ioapic_read(void *device, uint64_t offset, unsigned size)
{
    Ioapic *ioapic = device;
    switch (offset & 0xff) {
    case WINDOW_SELECT:
        return ioapic->s.select;
    case WINDOW_DATA:
        return register_read(ioapic);
    default:
        return 0;
    }
}

static void ioapic_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    Ioapic *ioapic = device;
    switch (offset & 0xff) {
    case WINDOW_SELECT:
        ioapic->s.select = (uint8_t)value;
        break;
    case WINDOW_DATA:
        register_write(ioapic, (uint32_t)value);
        break;
    case WINDOW_EOI:
        ioapic_eoi(ioapic, (uint8_t)value);
        break;
    }
}

/* Accepts bytes too: Linux and others write the select register as one. */
const BusOps ioapic_ops = {.name = "ioapic", .read = ioapic_read, .write = ioapic_write, .max_size = 4};

void ioapic_reset(Ioapic *ioapic)
{
    uint32_t lines = ioapic->s.lines;
    memset(&ioapic->s, 0, sizeof ioapic->s);
    ioapic->s.lines = lines;
    ioapic->s.id = ioapic->wires.id & 15;
    for (unsigned pin = 0; pin < IOAPIC_NPINS; pin++) {
        ioapic->s.rte[pin] = RTE_MASKED;
        if (ioapic->wires.route_changed)
            ioapic->wires.route_changed(ioapic->wires.opaque, pin);
    }
}

Ioapic *ioapic_new(const IoapicWires *wires)
{
    Ioapic *ioapic = g_new0(Ioapic, 1);
    ioapic->wires = *wires;
    ioapic_reset(ioapic);
    return ioapic;
}

void ioapic_free(Ioapic *ioapic) { g_free(ioapic); }

/* --- saved state --- */

static void state_visit(void *device, Stream *stream)
{
    Ioapic *ioapic = device;
    IoapicState *s = &ioapic->s;
    stream_u8(stream, &s->id);
    stream_u8(stream, &s->select);
    for (unsigned pin = 0; pin < IOAPIC_NPINS; pin++) {
        stream_u64(stream, &s->rte[pin]);
        stream_check(stream, !(s->rte[pin] & ~(RTE_WRITABLE | RTE_REMOTE_IRR)), "reserved bits of a redirection entry");
    }
    stream_u32(stream, &s->lines);
}

const StateOps ioapic_state = {.name = "ioapic", .version = 1, .visit = state_visit};
