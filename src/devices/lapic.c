#include "devices/lapic-int.h"

static bool test_vector(const uint32_t bits[8], uint8_t vector) { return bits[vector >> 5] >> (vector & 31) & 1; }
static void set_vector(uint32_t bits[8], uint8_t vector) { bits[vector >> 5] |= 1u << (vector & 31); }
static void clear_vector(uint32_t bits[8], uint8_t vector) { bits[vector >> 5] &= ~(1u << (vector & 31)); }

/* highest_vector: -1 when no bit is set. */
static int highest_vector(const uint32_t bits[8])
{
    for (int i = 7; i >= 0; i--)
        if (bits[i])
            return i * 32 + 31 - __builtin_clz(bits[i]);
    return -1;
}

uint8_t lapic_ppr(const Lapic *lapic)
{
    int serving = highest_vector(lapic->s.isr);
    unsigned class = serving < 0 ? 0 : (unsigned)serving & 0xf0;
    return (uint8_t)((lapic->s.tpr & 0xf0) >= class ? lapic->s.tpr : class);
}

/* The vector that may be delivered now, -1 for none. */
static int deliverable(const Lapic *lapic)
{
    if (!lapic_is_enabled(lapic))
        return -1;
    int vector = highest_vector(lapic->s.irr);
    return vector >= 0 && (vector & 0xf0) > (lapic_ppr(lapic) & 0xf0) ? vector : -1;
}

/* Whether the 8259's INTR reaches the CPU: always without an APIC, else through LINT0 as ExtINT. */
static bool passes_pic(const Lapic *lapic)
{
    uint32_t lint0 = lapic->s.lvt[LVT_LINT0];
    return !lapic_is_enabled(lapic) || (!(lint0 & LVT_MASKED) && LVT_DELIVERY(lint0) == APIC_EXTINT);
}

static bool is_remote(const Lapic *lapic) { return lapic_bus_is_remote(lapic->wires.bus); }

/* Whether a remote APIC lets it through is known there. */
static bool pic_waits(const Lapic *lapic) { return lapic->s.lint[0] && (is_remote(lapic) || passes_pic(lapic)); }

bool lapic_holds(const Lapic *lapic, uint8_t vector)
{
    return (lapic->s.isr[vector / 32] | lapic->s.irr[vector / 32]) >> vector % 32 & 1;
}

bool lapic_irq_waits(const Lapic *lapic) { return pic_waits(lapic) || (!is_remote(lapic) && deliverable(lapic) >= 0); }

void lapic_update(Lapic *lapic)
{
    bool level = lapic_irq_waits(lapic);
    if (level != lapic->irq_level) {
        lapic->irq_level = level;
        irq_set(lapic->wires.cpu_irq, level);
    }
}

int lapic_acknowledge(Lapic *lapic)
{
    int vector;
    if (pic_waits(lapic) && lapic->wires.pic_acknowledge) {
        vector = lapic->wires.pic_acknowledge(lapic->wires.opaque);
    } else if (is_remote(lapic)) {
        vector = -1;
    } else {
        vector = deliverable(lapic);
        if (vector >= 0) {
            clear_vector(lapic->s.irr, (uint8_t)vector);
            set_vector(lapic->s.isr, (uint8_t)vector);
        }
    }
    lapic_update(lapic);
    return vector;
}

static bool accept_vector(Lapic *lapic, uint8_t vector, bool is_level);

void lapic_report_error(Lapic *lapic, uint32_t bit)
{
    lapic->s.esr_pending |= bit;
    uint32_t entry = lapic->s.lvt[LVT_ERROR];
    /* An illegal vector in this very entry must not report itself for ever. */
    if (!(entry & LVT_MASKED) && (entry & 0xff) >= 16)
        accept_vector(lapic, (uint8_t)entry, false);
}

static bool accept_vector(Lapic *lapic, uint8_t vector, bool is_level)
{
    if (!lapic_is_software_enabled(lapic))
        return false;
    if (vector < 16) {
        lapic_report_error(lapic, ESR_RECEIVE_VECTOR);
        return false;
    }
    set_vector(lapic->s.irr, vector);
    if (is_level)
        set_vector(lapic->s.tmr, vector);
    else
        clear_vector(lapic->s.tmr, vector);
    return true;
}

bool lapic_deliver(Lapic *lapic, const ApicMessage *message)
{
    bool accepted = true;
    switch (message->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST_PRIORITY:
        accepted = accept_vector(lapic, message->vector, message->is_level);
        lapic_update(lapic);
        return accepted;
    case APIC_NMI:
        if (lapic->wires.nmi)
            lapic->wires.nmi(lapic->wires.opaque);
        return true;
    case APIC_INIT:
        if (message->is_deassert)
            return true;
        lapic_init(lapic);
        if (lapic->wires.init)
            lapic->wires.init(lapic->wires.opaque);
        return true;
    case APIC_STARTUP:
        if (lapic->wires.startup)
            lapic->wires.startup(lapic->wires.opaque, message->vector);
        return true;
    default: /* SMI: there is no SMM.  ExtINT: comes by wire only.  3: reserved */
        return false;
    }
}

void lapic_lvt_fire(Lapic *lapic, unsigned entry)
{
    uint32_t value = lapic->s.lvt[entry];
    if (is_remote(lapic)) {
        if (entry == LVT_LINT1 && lapic->wires.nmi)
            lapic->wires.nmi(lapic->wires.opaque);
        return;
    }
    if (value & LVT_MASKED || !lapic_is_enabled(lapic))
        return;
    ApicMessage message = {.delivery = LVT_DELIVERY(value), .vector = value & 0xff};
    if (entry == LVT_TIMER || entry == LVT_ERROR)
        message.delivery = APIC_FIXED;
    if (entry == LVT_LINT0 || entry == LVT_LINT1)
        message.is_level = value & LVT_LEVEL && message.delivery == APIC_FIXED;
    if (message.delivery == APIC_FIXED || message.delivery == APIC_NMI)
        lapic_deliver(lapic, &message);
}

void lapic_set_lint(Lapic *lapic, unsigned lint, bool level)
{
    g_return_if_fail(lint < 2);
    if (lapic->s.lint[lint] == level)
        return;
    lapic->s.lint[lint] = level;
    if (level && lapic_is_enabled(lapic))
        lapic_lvt_fire(lapic, LVT_LINT0 + lint);
    else if (level && lint == 1 && lapic->wires.nmi)
        lapic->wires.nmi(lapic->wires.opaque);
    lapic_update(lapic);
}

static void lint_set(void *opaque, unsigned number, bool level) { lapic_set_lint(opaque, number, level); }

IrqLine lapic_lint(Lapic *lapic, unsigned lint) { return (IrqLine){.set = lint_set, .opaque = lapic, .number = lint}; }

void lapic_end_of_interrupt(Lapic *lapic)
{
    int vector = highest_vector(lapic->s.isr);
    if (vector < 0)
        return;
    clear_vector(lapic->s.isr, (uint8_t)vector);
    if (test_vector(lapic->s.tmr, (uint8_t)vector)) {
        lapic_bus_eoi(lapic->wires.bus, (uint8_t)vector);
        /* A local pin that is still high interrupts again. */
        for (unsigned i = 0; i < 2; i++) {
            uint32_t entry = lapic->s.lvt[LVT_LINT0 + i];
            if (lapic->s.lint[i] && entry & LVT_LEVEL && (entry & 0xff) == (uint32_t)vector)
                lapic_lvt_fire(lapic, LVT_LINT0 + i);
        }
    }
    lapic_update(lapic);
}

/* ICR (SDM 3A 11.6.1). */
void lapic_send_ipi(Lapic *lapic, uint64_t icr)
{
    ApicMessage message = {
        .destination = lapic_is_x2(lapic) ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56),
        .is_x2 = lapic_is_x2(lapic),
        .is_logical = icr >> 11 & 1,
        .is_deassert = (icr & 0xc000) == 0x8000,
        .delivery = icr >> 8 & 7,
        .vector = icr & 0xff,
    };
    bool has_vector = message.delivery == APIC_FIXED || message.delivery == APIC_LOWEST_PRIORITY;
    if (has_vector && message.vector < 16) {
        lapic_report_error(lapic, ESR_SEND_VECTOR);
        lapic_update(lapic);
        return;
    }
    switch (icr >> 18 & 3) {
    case 0:
        lapic_bus_deliver(lapic->wires.bus, &message);
        break;
    case 1:
        /* Self is for fixed interrupts (SDM 3A table 11-3); others are invalid. */
        if (has_vector)
            lapic_deliver(lapic, &message);
        break;
    case 2:
        lapic_bus_deliver_group(lapic->wires.bus, lapic, LAPIC_GROUP_ALL, &message);
        break;
    case 3:
        lapic_bus_deliver_group(lapic->wires.bus, lapic, LAPIC_GROUP_OTHERS, &message);
        break;
    }
}

bool lapic_covers(const Lapic *lapic, Gpa gpa)
{
    return lapic_is_enabled(lapic) && !lapic_is_x2(lapic) && page_of(gpa) == page_of(lapic->s.apic_base);
}

uint64_t lapic_base(const Lapic *lapic) { return lapic->s.apic_base; }

void lapic_set_x2_ldr(Lapic *lapic)
{
    uint32_t id = lapic->wires.index;
    lapic->s.ldr = (id >> 4) << 16 | 1u << (id & 15);
}

uint64_t lapic_tpr_count(const Lapic *lapic) { return lapic->ntpr; }

uint64_t lapic_cr8_read(const Lapic *lapic) { return lapic->s.tpr >> 4 & 15; }

void lapic_cr8_write(Lapic *lapic, uint64_t value)
{
    lapic->s.tpr = (uint32_t)(value & 15) << 4;
    lapic_update(lapic);
}

void lapic_init(Lapic *lapic)
{
    LapicState *s = &lapic->s;
    lapic_timer_reset(lapic);
    LapicState fresh = {
        .apic_base = s->apic_base,
        .dfr = UINT32_MAX,
        .svr = 0xff,
        .lint = {s->lint[0], s->lint[1]},
        .narbitrations = s->narbitrations,
    };
    for (unsigned i = 0; i < LVT_COUNT; i++)
        fresh.lvt[i] = LVT_MASKED;
    if (lapic->wires.index == 0)
        fresh.lvt[LVT_LINT0] = APIC_EXTINT << 8; /* virtual wire, as firmware would set up */
    *s = fresh;
    if (lapic_is_x2(lapic))
        lapic_set_x2_ldr(lapic);
    lapic_update(lapic);
}

void lapic_reset(Lapic *lapic)
{
    lapic->s.apic_base = LAPIC_DEFAULT_BASE | APIC_BASE_ENABLE | (lapic->wires.index == 0 ? APIC_BASE_BSP : 0);
    lapic_init(lapic);
}

Lapic *lapic_new(const LapicWires *wires)
{
    Lapic *lapic = g_new0(Lapic, 1);
    lapic->wires = *wires;
    if (!wires->guest_tsc)
        lapic->wires.tsc_hz = 0;
    lapic->timer = timer_new(wires->clock, lapic_timer_fired, lapic);
    lapic_bus_add(wires->bus, lapic);
    lapic_reset(lapic);
    return lapic;
}

void lapic_free(Lapic *lapic)
{
    if (!lapic)
        return;
    lapic_bus_remove(lapic->wires.bus, lapic);
    timer_free(lapic->timer);
    g_free(lapic);
}
