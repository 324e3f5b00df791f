#include "devices/i8254.h"

#include <string.h>

#define NS_PER_S          1000000000
#define MIN_PERIOD_NS     100000
#define REFRESH_TOGGLE_NS 15085
#define MAX_AGE_NS        INT64_C(4000000000000000000) /* 126 years */

enum { ACCESS_LOW = 1, ACCESS_HIGH = 2, ACCESS_BOTH = 3 };

typedef struct PitChannel {
    uint8_t mode;   /* 0–5 */
    uint8_t access; /* ACCESS_* */
    bool is_bcd;
    bool gate;
    uint32_t reload;  /* 1–65536; 0 before the first count was written */
    bool is_counting; /* start_ns is valid; otherwise the count stands at held_ticks */
    int64_t start_ns;
    uint64_t held_ticks;
    bool wait_trigger; /* modes 1 and 5: no gate edge since the count was written */
    bool write_high;   /* the next byte written is the high one */
    uint8_t write_low; /* the low byte, waiting for the high one */
    bool read_high;    /* the next byte read is the high one */
    uint8_t latched;   /* bytes of latch still to be read */
    uint16_t latch;
    bool status_latched;
    uint8_t status;
} PitChannel;

typedef struct I8254State {
    PitChannel channel[3];
    bool speaker_data;   /* port 0x61 bit 1 */
    uint8_t port61_high; /* bits 2–3: parity and channel check enables, stored only */
    bool irq_enabled;
    uint64_t edges_sent; /* periods (modes 2, 3) or 1 (others) already delivered since the count was loaded */
} I8254State;

struct I8254 {
    I8254Wires wires;
    I8254State s;
    Timer *timer;
    bool line;
};

static uint64_t ticks_from_ns(int64_t ns) { return (uint64_t)((unsigned __int128)ns * I8254_HZ / NS_PER_S); }

static int64_t ns_from_ticks(uint64_t ticks) /* rounded up: the tick has been reached then */
{
    return (int64_t)(((unsigned __int128)ticks * NS_PER_S + I8254_HZ - 1) / I8254_HZ);
}

static uint64_t channel_ticks(const I8254 *pit, const PitChannel *channel)
{
    if (!channel->is_counting)
        return channel->held_ticks;
    return ticks_from_ns(clock_now_ns(pit->wires.clock) - channel->start_ns);
}

static void channel_start(I8254 *pit, PitChannel *channel)
{
    channel->is_counting = true;
    channel->start_ns = clock_now_ns(pit->wires.clock);
    channel->held_ticks = 0;
    channel->wait_trigger = false;
}

static void channel_pause(I8254 *pit, PitChannel *channel)
{
    channel->held_ticks = channel_ticks(pit, channel);
    channel->is_counting = false;
}

static void channel_resume(I8254 *pit, PitChannel *channel)
{
    channel->start_ns = clock_now_ns(pit->wires.clock) - ns_from_ticks(channel->held_ticks);
    channel->is_counting = true;
}

/* The counting element, in binary or as four BCD digits. */
static uint16_t channel_count(const I8254 *pit, const PitChannel *channel)
{
    uint64_t ticks = channel_ticks(pit, channel);
    uint32_t reload = channel->reload, modulus = channel->is_bcd ? 10000 : 65536, count;
    if (reload == 0)
        return 0;
    if (channel->mode == 2)
        count = (uint32_t)(reload - ticks % reload);
    else if (channel->mode == 3)
        count = reload - (uint32_t)(2 * (ticks % reload) % reload);
    else
        count = (uint32_t)((reload + modulus - ticks % modulus) % modulus);
    if (!channel->is_bcd)
        return (uint16_t)count;
    count %= 10000;
    return (uint16_t)(count / 1000 << 12 | count / 100 % 10 << 8 | count / 10 % 10 << 4 | count % 10);
}

static bool channel_out(const I8254 *pit, const PitChannel *channel)
{
    uint64_t ticks = channel_ticks(pit, channel);
    uint32_t reload = channel->reload;
    switch (channel->mode) {
    case 0:
        return reload && ticks >= reload;
    case 1:
        return !reload || channel->wait_trigger || ticks >= reload;
    case 2:
        return !reload || !channel->is_counting || ticks % reload != reload - 1;
    case 3:
        return !reload || !channel->is_counting || ticks % reload < (reload + 1) / 2;
    default:
        return !reload || channel->wait_trigger || ticks != reload;
    }
}

/* next_edge: ticks since the load at which channel 0's next rising edge comes; UINT64_MAX: none. */
static uint64_t next_edge(const I8254 *pit, const PitChannel *channel)
{
    if (!channel->is_counting || channel->reload == 0)
        return UINT64_MAX;
    if (channel->mode == 2 || channel->mode == 3)
        return (pit->s.edges_sent + 1) * channel->reload;
    return pit->s.edges_sent ? UINT64_MAX : channel->reload;
}

static void set_line(I8254 *pit, bool level)
{
    if (level != pit->line) {
        pit->line = level;
        irq_set(pit->wires.irq, level);
    }
}

static void schedule(I8254 *pit)
{
    const PitChannel *channel = &pit->s.channel[0];
    uint64_t edge = next_edge(pit, channel);
    if (edge == UINT64_MAX || !pit->s.irq_enabled) {
        timer_arm(pit->timer, TIMER_NEVER);
        return;
    }
    timer_arm(pit->timer, channel->start_ns + ns_from_ticks(edge));
}

static void timer_fired(void *opaque)
{
    I8254 *pit = opaque;
    PitChannel *channel = &pit->s.channel[0];
    uint64_t ticks = channel_ticks(pit, channel);
    if (ticks < next_edge(pit, channel)) {
        schedule(pit);
        return;
    }
    if (channel->mode == 2 || channel->mode == 3) {
        pit->s.edges_sent = ticks / channel->reload; /* missed periods are coalesced into this one */
        uint64_t floor_ticks = ticks_from_ns(MIN_PERIOD_NS);
        if (channel->reload < floor_ticks)
            pit->s.edges_sent += floor_ticks / channel->reload;
        /* The low phase is not shown on the line: only the rising edge means anything. */
        set_line(pit, false);
        set_line(pit, true);
        set_line(pit, false);
    } else {
        pit->s.edges_sent = 1;
        set_line(pit, true);
    }
    schedule(pit);
}

static void channel_load(I8254 *pit, unsigned index, uint16_t value)
{
    PitChannel *channel = &pit->s.channel[index];
    uint32_t reload = value;
    if (channel->is_bcd)
        reload = (value >> 12 & 15) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u + (value & 15);
    if (reload == 0)
        reload = channel->is_bcd ? 10000 : 65536;
    /* A count of 1 is not allowed in modes 2 and 3; the part then behaves as with 2. */
    if ((channel->mode == 2 || channel->mode == 3) && reload == 1)
        reload = 2;
    channel->reload = reload;
    channel_start(pit, channel);
    if (channel->mode == 1 || channel->mode == 5) {
        channel->wait_trigger = true;
        channel->is_counting = false;
    } else if (!channel->gate) {
        channel->is_counting = false;
    }
    if (index == 0) {
        pit->s.edges_sent = 0;
        set_line(pit, false);
        schedule(pit);
    }
}

static void channel_write(I8254 *pit, unsigned index, uint8_t value)
{
    PitChannel *channel = &pit->s.channel[index];
    switch (channel->access) {
    case ACCESS_LOW:
        channel_load(pit, index, value);
        break;
    case ACCESS_HIGH:
        channel_load(pit, index, (uint16_t)(value << 8));
        break;
    case ACCESS_BOTH:
        if (!channel->write_high)
            channel->write_low = value;
        else
            channel_load(pit, index, (uint16_t)(value << 8 | channel->write_low));
        channel->write_high = !channel->write_high;
        break;
    }
}

static uint8_t channel_read(I8254 *pit, unsigned index)
{
    PitChannel *channel = &pit->s.channel[index];
    if (channel->status_latched) {
        channel->status_latched = false;
        return channel->status;
    }
    uint16_t count;
    if (channel->latched) {
        count = channel->latch;
        channel->latched--;
    } else {
        count = channel_count(pit, channel);
    }
    if (channel->access == ACCESS_LOW)
        return (uint8_t)count;
    if (channel->access == ACCESS_HIGH)
        return (uint8_t)(count >> 8);
    bool high = channel->read_high;
    channel->read_high = !high;
    return (uint8_t)(high ? count >> 8 : count);
}

static void channel_latch(I8254 *pit, PitChannel *channel)
{
    if (channel->latched)
        return;
    channel->latch = channel_count(pit, channel);
    channel->latched = channel->access == ACCESS_BOTH ? 2 : 1;
}

static void channel_latch_status(I8254 *pit, PitChannel *channel)
{
    if (channel->status_latched)
        return;
    channel->status = (uint8_t)((channel_out(pit, channel) ? 0x80 : 0) | (channel->reload ? 0 : 0x40) |
                                channel->access << 4 | channel->mode << 1 | (channel->is_bcd ? 1 : 0));
    channel->status_latched = true;
}

static void control_write(I8254 *pit, uint8_t value)
{
    unsigned index = value >> 6;
    if (index == 3) {
        for (unsigned i = 0; i < 3; i++) {
            if (!(value & (2u << i)))
                continue;
            if (!(value & 0x20))
                channel_latch(pit, &pit->s.channel[i]);
            if (!(value & 0x10))
                channel_latch_status(pit, &pit->s.channel[i]);
        }
        return;
    }
    PitChannel *channel = &pit->s.channel[index];
    unsigned access = value >> 4 & 3;
    if (access == 0) {
        channel_latch(pit, channel);
        return;
    }
    unsigned mode = value >> 1 & 7;
    bool gate = channel->gate;
    *channel = (PitChannel){
        .mode = (uint8_t)(mode > 5 ? mode - 4 : mode), /* 6 and 7 are 2 and 3 */
        .access = (uint8_t)access,
        .is_bcd = value & 1,
        .gate = gate,
    };
    if (index == 0) {
        set_line(pit, false);
        schedule(pit);
    }
}

static void set_gate(I8254 *pit, PitChannel *channel, bool gate)
{
    if (gate == channel->gate)
        return;
    channel->gate = gate;
    if (channel->reload == 0)
        return;
    switch (channel->mode) {
    case 0:
    case 4:
        if (gate)
            channel_resume(pit, channel);
        else
            channel_pause(pit, channel);
        break;
    case 1:
    case 5:
        if (gate)
            channel_start(pit, channel);
        break;
    default:
        if (gate)
            channel_start(pit, channel);
        else
            channel_pause(pit, channel);
        break;
    }
}

static uint64_t i8254_read(void *device, uint64_t offset, unsigned size)
{
    return offset == 3 ? 0xff : channel_read(device, (unsigned)offset);
}

static void i8254_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 3)
        control_write(device, (uint8_t)value);
    else
        channel_write(device, (unsigned)offset, (uint8_t)value);
}

static uint64_t speaker_read(void *device, uint64_t offset, unsigned size)
{
    I8254 *pit = device;
    bool refresh = clock_now_ns(pit->wires.clock) / REFRESH_TOGGLE_NS & 1;
    return (pit->s.channel[2].gate ? 1u : 0) | (pit->s.speaker_data ? 2u : 0) | pit->s.port61_high |
           (refresh ? 0x10u : 0) | (channel_out(pit, &pit->s.channel[2]) ? 0x20u : 0);
}

static void speaker_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    I8254 *pit = device;
    pit->s.speaker_data = value & 2;
    pit->s.port61_high = value & 0x0c;
    set_gate(pit, &pit->s.channel[2], value & 1);
}

const BusOps i8254_ops = {.name = "i8254", .read = i8254_read, .write = i8254_write, .max_size = 1};
const BusOps i8254_speaker_ops = {.name = "port61", .read = speaker_read, .write = speaker_write, .max_size = 1};

void i8254_set_irq_enabled(I8254 *pit, bool enabled)
{
    if (enabled == pit->s.irq_enabled)
        return;
    pit->s.irq_enabled = enabled;
    const PitChannel *channel = &pit->s.channel[0];
    if (!enabled)
        set_line(pit, false);
    else if (channel->reload && (channel->mode == 2 || channel->mode == 3))
        pit->s.edges_sent = channel_ticks(pit, channel) / channel->reload; /* what passed meanwhile is not made up */
    schedule(pit);
}

void i8254_reset(I8254 *pit)
{
    memset(&pit->s, 0, sizeof pit->s);
    for (unsigned i = 0; i < 3; i++) {
        pit->s.channel[i].mode = 3;
        pit->s.channel[i].access = ACCESS_BOTH;
        pit->s.channel[i].gate = i != 2;
    }
    pit->s.irq_enabled = true;
    set_line(pit, false);
    timer_arm(pit->timer, TIMER_NEVER);
}

I8254 *i8254_new(const I8254Wires *wires)
{
    I8254 *pit = g_new0(I8254, 1);
    pit->wires = *wires;
    pit->timer = timer_new(wires->clock, timer_fired, pit);
    i8254_reset(pit);
    return pit;
}

void i8254_free(I8254 *pit)
{
    if (!pit)
        return;
    timer_free(pit->timer);
    g_free(pit);
}

/* --- saved state --- */

static void channel_visit(const I8254 *pit, PitChannel *channel, Stream *stream)
{
    stream_u8(stream, &channel->mode);
    stream_u8(stream, &channel->access);
    stream_bool(stream, &channel->is_bcd);
    stream_bool(stream, &channel->gate);
    stream_u32(stream, &channel->reload);
    stream_bool(stream, &channel->is_counting);
    stream_i64(stream, &channel->start_ns);
    stream_u64(stream, &channel->held_ticks);
    stream_bool(stream, &channel->wait_trigger);
    stream_bool(stream, &channel->write_high);
    stream_u8(stream, &channel->write_low);
    stream_bool(stream, &channel->read_high);
    stream_u8(stream, &channel->latched);
    stream_u16(stream, &channel->latch);
    stream_bool(stream, &channel->status_latched);
    stream_u8(stream, &channel->status);
    stream_check(stream, channel->mode <= 5, "mode of a counter");
    stream_check(stream, channel->access >= ACCESS_LOW && channel->access <= ACCESS_BOTH, "access of a counter");
    stream_check(stream, channel->reload <= 65536 && channel->latched <= 2, "count of a counter");
    stream_check(stream, channel->reload != 1 || (channel->mode != 2 && channel->mode != 3), "count of 1");
    /* Resuming a channel puts its start as far back as its ticks are long; never further than that from the present. */
    stream_check(stream, channel->start_ns >= -MAX_AGE_NS && channel->start_ns <= clock_now_ns(pit->wires.clock), "start of a counter");
    stream_check(stream, channel->held_ticks <= ticks_from_ns(MAX_AGE_NS), "ticks of a counter");
}

static void state_visit(void *device, Stream *stream)
{
    I8254 *pit = device;
    for (unsigned i = 0; i < 3; i++)
        channel_visit(pit, &pit->s.channel[i], stream);
    stream_bool(stream, &pit->s.speaker_data);
    stream_u8(stream, &pit->s.port61_high);
    stream_bool(stream, &pit->s.irq_enabled);
    stream_u64(stream, &pit->s.edges_sent);
    stream_bool(stream, &pit->line);
    stream_check(stream, !(pit->s.port61_high & ~0x0c), "port 0x61");
    stream_check(stream, pit->s.edges_sent <= 2 * ticks_from_ns(MAX_AGE_NS), "edges of counter 0");
    if (stream_is_loading(stream) && stream_is_ok(stream))
        schedule(pit);
}

const StateOps i8254_state = {.name = "i8254", .version = 1, .visit = state_visit};
