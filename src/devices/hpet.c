#include "devices/hpet.h"

#include <string.h>

#define NS_PER_TICK   10
#define MIN_PERIOD_NS 100000
#define FAR_NS        (INT64_MAX / 4)

enum { REG_ID = 0x00, REG_CONFIG = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xf0, REG_TIMERS = 0x100, TIMER_STEP = 0x20 };
enum { TIMER_CONFIG = 0x00, TIMER_COMPARATOR = 0x08 };

#define CONFIG_ENABLE 1u
#define CONFIG_LEGACY 2u

#define TIMER_LEVEL        (1u << 1)
#define TIMER_ENABLE       (1u << 2)
#define TIMER_IS_PERIODIC  (1u << 3)
#define TIMER_PERIODIC_CAP (1u << 4)
#define TIMER_64BIT_CAP    (1u << 5)
#define TIMER_SET_VALUE    (1u << 6)
#define TIMER_32BIT        (1u << 8)
#define TIMER_ROUTE(c)     ((unsigned)((c) >> 9 & 31))
#define TIMER_WRITABLE     0x3f4eu     /* type, enable, periodic, value set, 32-bit, route */
#define ROUTES             0x00ff0104u /* I/O APIC pins that a timer may use */

/* General capabilities: revision 1, three timers, 64-bit counter, legacy replacement, vendor 8086. */
#define ID_VALUE ((uint64_t)HPET_PERIOD_FS << 32 | 0x80860000u | 1u << 15 | 1u << 13 | (HPET_NTIMERS - 1) << 8 | 1u)

typedef struct HpetTimerState {
    uint64_t config;     /* capabilities included */
    uint64_t comparator; /* as read */
    uint64_t period;     /* periodic mode: what is added at each match */
    bool is_armed;
    uint64_t match; /* armed: the counter value, not wrapped to 32 bits, at which it matches next */
} HpetTimerState;

typedef struct HpetState {
    uint64_t config, status;
    uint64_t counter; /* while stopped; while running, its value at start_ns */
    int64_t start_ns;
    HpetTimerState timer[HPET_NTIMERS];
} HpetState;

typedef struct HpetTimer {
    Hpet *hpet;
    unsigned index;
    Timer *timer;
    bool line; /* level of the line below */
    IrqLine raised_line;
} HpetTimer;

struct Hpet {
    HpetWires wires;
    HpetState s;
    HpetTimer timer[HPET_NTIMERS];
};

static bool is_running(const Hpet *hpet) { return hpet->s.config & CONFIG_ENABLE; }

static uint64_t counter_now(const Hpet *hpet)
{
    if (!is_running(hpet))
        return hpet->s.counter;
    return hpet->s.counter + (uint64_t)(clock_now_ns(hpet->wires.clock) - hpet->s.start_ns) / NS_PER_TICK;
}

static int64_t ns_of_counter(const Hpet *hpet, uint64_t counter)
{
    uint64_t ticks = counter - hpet->s.counter;
    if (ticks > (uint64_t)FAR_NS / NS_PER_TICK)
        return FAR_NS;
    return hpet->s.start_ns + (int64_t)ticks * NS_PER_TICK;
}

static IrqLine line_of(const Hpet *hpet, unsigned index)
{
    IrqLine line;
    if (hpet->s.config & CONFIG_LEGACY && index < 2) {
        line = hpet->wires.isa_irq;
        line.number = index == 0 ? 0 : 8;
    } else {
        line = hpet->wires.gsi;
        line.number = TIMER_ROUTE(hpet->s.timer[index].config);
        if (!(ROUTES >> line.number & 1))
            line.set = NULL; /* not routed anywhere */
    }
    return line;
}

/* Brings a level line in step with status, enable and route. */
static void update_level(Hpet *hpet, unsigned index)
{
    HpetTimer *timer = &hpet->timer[index];
    uint64_t config = hpet->s.timer[index].config;
    bool level = config & TIMER_LEVEL && config & TIMER_ENABLE && hpet->s.status >> index & 1 && is_running(hpet);
    IrqLine line = line_of(hpet, index);
    if (timer->line && (!level || line.number != timer->raised_line.number || line.set != timer->raised_line.set)) {
        irq_set(timer->raised_line, false);
        timer->line = false;
    }
    if (level && !timer->line) {
        timer->line = true;
        timer->raised_line = line;
        irq_set(line, true);
    }
}

static void schedule(Hpet *hpet, unsigned index)
{
    HpetTimerState *state = &hpet->s.timer[index];
    bool wanted = is_running(hpet) && state->is_armed;
    timer_arm(hpet->timer[index].timer, wanted ? ns_of_counter(hpet, state->match) : TIMER_NEVER);
}

/* Computes the next match from the comparator: strictly in the future, after a wrap if need be. */
static void arm(Hpet *hpet, unsigned index)
{
    HpetTimerState *state = &hpet->s.timer[index];
    uint64_t now = counter_now(hpet);
    if (state->config & TIMER_32BIT) {
        uint32_t ahead = (uint32_t)state->comparator - (uint32_t)now;
        state->match = now + (ahead ? ahead : UINT64_C(1) << 32);
        state->is_armed = true;
    } else {
        state->match = state->comparator;
        state->is_armed = state->comparator > now;
    }
    schedule(hpet, index);
}

static void raise_irq(Hpet *hpet, unsigned index)
{
    uint64_t config = hpet->s.timer[index].config;
    if (config & TIMER_LEVEL) {
        hpet->s.status |= 1u << index;
        update_level(hpet, index);
    } else if (config & TIMER_ENABLE) {
        irq_pulse(line_of(hpet, index));
    }
}

static void timer_fired(void *opaque)
{
    HpetTimer *timer = opaque;
    Hpet *hpet = timer->hpet;
    HpetTimerState *state = &hpet->s.timer[timer->index];
    uint64_t now = counter_now(hpet);
    if (!is_running(hpet) || !state->is_armed)
        return;
    if (now < state->match) {
        schedule(hpet, timer->index);
        return;
    }
    if (state->config & TIMER_IS_PERIODIC && state->period) {
        /* Missed periods are coalesced into this one, short ones stretched. */
        uint64_t target = now;
        if (state->period < MIN_PERIOD_NS / NS_PER_TICK)
            target += MIN_PERIOD_NS / NS_PER_TICK;
        uint64_t periods = (target - state->match) / state->period + 1;
        state->match += periods * state->period;
        state->comparator += periods * state->period;
        if (state->config & TIMER_32BIT)
            state->comparator = (uint32_t)state->comparator;
    } else if (state->config & TIMER_32BIT) {
        state->match += UINT64_C(1) << 32;
    } else {
        state->is_armed = false;
    }
    schedule(hpet, timer->index);
    raise_irq(hpet, timer->index);
}

static void set_config(Hpet *hpet, uint64_t value)
{
    uint64_t old = hpet->s.config;
    value &= CONFIG_ENABLE | CONFIG_LEGACY;
    if (old & CONFIG_ENABLE && !(value & CONFIG_ENABLE))
        hpet->s.counter = counter_now(hpet);
    hpet->s.config = value;
    if (value & ~old & CONFIG_ENABLE) {
        hpet->s.start_ns = clock_now_ns(hpet->wires.clock);
        for (unsigned i = 0; i < HPET_NTIMERS; i++)
            arm(hpet, i);
    }
    for (unsigned i = 0; i < HPET_NTIMERS; i++) {
        schedule(hpet, i);
        update_level(hpet, i);
    }
    if ((value ^ old) & CONFIG_LEGACY && hpet->wires.legacy_changed)
        hpet->wires.legacy_changed(hpet->wires.opaque, value & CONFIG_LEGACY);
}

static void set_timer_config(Hpet *hpet, unsigned index, uint64_t value)
{
    HpetTimerState *state = &hpet->s.timer[index];
    uint64_t writable = TIMER_WRITABLE;
    if (!(state->config & TIMER_PERIODIC_CAP))
        writable &= ~(uint64_t)(TIMER_IS_PERIODIC | TIMER_SET_VALUE);
    state->config = (state->config & ~writable) | (value & writable);
    if (state->config & TIMER_32BIT) {
        state->comparator = (uint32_t)state->comparator;
        state->period = (uint32_t)state->period;
    }
    if (is_running(hpet))
        arm(hpet, index);
    update_level(hpet, index);
}

/* merge: @value in the bytes of @mask, @old elsewhere. */
static uint64_t merge(uint64_t old, uint64_t value, uint64_t mask) { return (old & ~mask) | (value & mask); }

static void set_comparator(Hpet *hpet, unsigned index, uint64_t value, uint64_t mask)
{
    HpetTimerState *state = &hpet->s.timer[index];
    if (state->config & TIMER_32BIT) {
        if (!(uint32_t)mask)
            return;
        mask = UINT64_MAX;
        value = (uint32_t)value;
    }
    bool is_periodic = state->config & TIMER_IS_PERIODIC;
    if (!is_periodic || state->config & TIMER_SET_VALUE)
        state->comparator = merge(state->comparator, value, mask);
    if (is_periodic)
        state->period = merge(state->period, value, mask);
    state->config &= ~(uint64_t)TIMER_SET_VALUE;
    if (is_running(hpet))
        arm(hpet, index);
}

static uint64_t register_read(const Hpet *hpet, unsigned offset)
{
    switch (offset) {
    case REG_ID:
        return ID_VALUE;
    case REG_CONFIG:
        return hpet->s.config;
    case REG_STATUS:
        return hpet->s.status;
    case REG_COUNTER:
        return counter_now(hpet);
    }
    unsigned index = (offset - REG_TIMERS) / TIMER_STEP;
    if (offset < REG_TIMERS || index >= HPET_NTIMERS)
        return 0;
    switch (offset % TIMER_STEP) {
    case TIMER_CONFIG:
        return hpet->s.timer[index].config;
    case TIMER_COMPARATOR:
        return hpet->s.timer[index].comparator;
    default:
        return 0;
    }
}

/* @mask: the bytes written; the others of the register keep their value. */
static void register_write(Hpet *hpet, unsigned offset, uint64_t value, uint64_t mask)
{
    switch (offset) {
    case REG_CONFIG:
        set_config(hpet, merge(hpet->s.config, value, mask));
        return;
    case REG_STATUS:
        hpet->s.status &= ~(value & mask);
        for (unsigned i = 0; i < HPET_NTIMERS; i++)
            update_level(hpet, i);
        return;
    case REG_COUNTER:
        hpet->s.counter = merge(counter_now(hpet), value, mask);
        hpet->s.start_ns = clock_now_ns(hpet->wires.clock);
        for (unsigned i = 0; is_running(hpet) && i < HPET_NTIMERS; i++)
            arm(hpet, i);
        return;
    }
    unsigned index = (offset - REG_TIMERS) / TIMER_STEP;
    if (offset < REG_TIMERS || index >= HPET_NTIMERS)
        return;
    if (offset % TIMER_STEP == TIMER_CONFIG)
        set_timer_config(hpet, index, merge(hpet->s.timer[index].config, value, mask));
    else if (offset % TIMER_STEP == TIMER_COMPARATOR)
        set_comparator(hpet, index, value, mask);
}

static uint64_t hpet_read(void *device, uint64_t offset, unsigned size)
{
    uint64_t value = register_read(device, (unsigned)offset & ~7u);
    return size == 4 ? (uint32_t)(value >> (offset & 4 ? 32 : 0)) : value;
}

static void hpet_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned shift = size == 4 && offset & 4 ? 32 : 0;
    register_write(device, (unsigned)offset & ~7u, value << shift,
                   size == 8 ? UINT64_MAX : UINT64_C(0xffffffff) << shift);
}

const BusOps hpet_ops = {.name = "hpet", .read = hpet_read, .write = hpet_write, .min_size = 4, .max_size = 8};

/* What timer @index says it can do. */
static uint64_t capabilities(unsigned index)
{
    return (uint64_t)ROUTES << 32 | TIMER_64BIT_CAP | (index == 0 ? TIMER_PERIODIC_CAP : 0);
}

void hpet_reset(Hpet *hpet)
{
    bool was_legacy = hpet->s.config & CONFIG_LEGACY;
    hpet->s.config = 0;
    for (unsigned i = 0; i < HPET_NTIMERS; i++)
        update_level(hpet, i);
    memset(&hpet->s, 0, sizeof hpet->s);
    for (unsigned i = 0; i < HPET_NTIMERS; i++) {
        hpet->s.timer[i].config = capabilities(i);
        hpet->s.timer[i].comparator = UINT64_MAX;
        timer_arm(hpet->timer[i].timer, TIMER_NEVER);
    }
    if (was_legacy && hpet->wires.legacy_changed)
        hpet->wires.legacy_changed(hpet->wires.opaque, false);
}

Hpet *hpet_new(const HpetWires *wires)
{
    Hpet *hpet = g_new0(Hpet, 1);
    hpet->wires = *wires;
    for (unsigned i = 0; i < HPET_NTIMERS; i++) {
        hpet->timer[i] = (HpetTimer){.hpet = hpet, .index = i};
        hpet->timer[i].timer = timer_new(wires->clock, timer_fired, &hpet->timer[i]);
    }
    hpet_reset(hpet);
    return hpet;
}

void hpet_free(Hpet *hpet)
{
    if (!hpet)
        return;
    for (unsigned i = 0; i < HPET_NTIMERS; i++)
        timer_free(hpet->timer[i].timer);
    g_free(hpet);
}

/* --- saved state --- */

static void timer_visit(Hpet *hpet, unsigned index, Stream *stream)
{
    HpetTimerState *state = &hpet->s.timer[index];
    HpetTimer *timer = &hpet->timer[index];
    stream_u64(stream, &state->config);
    stream_u64(stream, &state->comparator);
    stream_u64(stream, &state->period);
    stream_bool(stream, &state->is_armed);
    stream_u64(stream, &state->match);
    stream_bool(stream, &timer->line);
    stream_check(stream, (state->config & ~(uint64_t)TIMER_WRITABLE) == capabilities(index), "what an HPET timer can do");
    /* Where a level line is up, it is the one that the configuration leads to: update_level() sees to that after every change. */
    if (stream_is_loading(stream) && timer->line)
        timer->raised_line = line_of(hpet, index);
}

static void state_visit(void *device, Stream *stream)
{
    Hpet *hpet = device;
    HpetState *s = &hpet->s;
    stream_u64(stream, &s->config);
    stream_u64(stream, &s->status);
    stream_u64(stream, &s->counter);
    stream_i64(stream, &s->start_ns);
    stream_check(stream, !(s->config & ~(uint64_t)(CONFIG_ENABLE | CONFIG_LEGACY)), "HPET configuration");
    stream_check(stream, s->start_ns >= 0 && s->start_ns <= clock_now_ns(hpet->wires.clock), "start of the HPET counter");
    for (unsigned i = 0; i < HPET_NTIMERS; i++)
        timer_visit(hpet, i, stream);
    for (unsigned i = 0; i < HPET_NTIMERS && stream_is_loading(stream) && stream_is_ok(stream); i++)
        schedule(hpet, i);
}

const StateOps hpet_state = {.name = "hpet", .version = 1, .visit = state_visit};
