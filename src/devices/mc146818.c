#include "devices/mc146818.h"

#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000LL
#define LAST_SECOND INT64_C(9000000000) /* in the year 2255: its nanoseconds still fit */
#define UIP_NS   244141 /* UIP is up this long before an update */

enum {
    RTC_SECONDS,
    RTC_SECONDS_ALARM,
    RTC_MINUTES,
    RTC_MINUTES_ALARM,
    RTC_HOURS,
    RTC_HOURS_ALARM,
    RTC_DAY_OF_WEEK,
    RTC_DAY_OF_MONTH,
    RTC_MONTH,
    RTC_YEAR,
    RTC_A,
    RTC_B,
    RTC_C,
    RTC_D,
    RTC_CENTURY = 0x32,
    RTC_SIZE = 128
};

#define A_UIP      0x80
#define A_DIVIDER  0x70
#define A_RATE     0x0f
#define B_SET      0x80
#define B_PERIODIC 0x40
#define B_ALARM    0x20
#define B_UPDATE   0x10
#define B_BINARY   0x04
#define B_24H      0x02
#define C_IRQ      0x80
#define D_VALID    0x80

typedef struct Mc146818State {
    uint8_t index;
    uint8_t cmos[RTC_SIZE]; /* time bytes hold what was last computed or written; A–D their settable bits */
    /* The time shown is (guest time + offset_ns) since the UNIX epoch, standing at frozen_ns while B.SET or a stopped
     * divider holds it. */
    int64_t offset_ns;
    bool is_frozen;
    int64_t frozen_ns;
    int64_t update_checked_ns;                /* shown time up to which update and alarm events were raised */
    int64_t periodic_start_ns, periodic_sent; /* guest time; periods raised since then */
    bool irq_enabled;
} Mc146818State;

struct Mc146818 {
    Mc146818Wires wires;
    Mc146818State s;
    Timer *second, *periodic;
    bool line;
};

static int64_t shown_ns(const Mc146818 *rtc)
{
    return rtc->s.is_frozen ? rtc->s.frozen_ns : clock_now_ns(rtc->wires.clock) + rtc->s.offset_ns;
}

static uint8_t encode(const Mc146818 *rtc, unsigned value)
{
    return (uint8_t)(rtc->s.cmos[RTC_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static unsigned decode(const Mc146818 *rtc, uint8_t value)
{
    return rtc->s.cmos[RTC_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode_hour(const Mc146818 *rtc, unsigned hour)
{
    if (rtc->s.cmos[RTC_B] & B_24H)
        return encode(rtc, hour);
    return (uint8_t)(encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0));
}

static unsigned decode_hour(const Mc146818 *rtc, uint8_t value)
{
    if (rtc->s.cmos[RTC_B] & B_24H)
        return decode(rtc, value);
    return decode(rtc, value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

/* Fills the ten time bytes from the time shown. */
static void time_to_cmos(Mc146818 *rtc)
{
    time_t seconds = (time_t)(shown_ns(rtc) / NS_PER_S);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm))
        return;
    uint8_t *cmos = rtc->s.cmos;
    unsigned year = (unsigned)tm.tm_year + 1900;
    cmos[RTC_SECONDS] = encode(rtc, (unsigned)tm.tm_sec);
    cmos[RTC_MINUTES] = encode(rtc, (unsigned)tm.tm_min);
    cmos[RTC_HOURS] = encode_hour(rtc, (unsigned)tm.tm_hour);
    cmos[RTC_DAY_OF_WEEK] = encode(rtc, (unsigned)tm.tm_wday + 1);
    cmos[RTC_DAY_OF_MONTH] = encode(rtc, (unsigned)tm.tm_mday);
    cmos[RTC_MONTH] = encode(rtc, (unsigned)tm.tm_mon + 1);
    cmos[RTC_YEAR] = encode(rtc, year % 100);
    cmos[RTC_CENTURY] = encode(rtc, year / 100);
}

/* The time in the bytes becomes the time shown.  Odd values are normalised as timegm does; they cannot overflow. */
static void time_from_cmos(Mc146818 *rtc)
{
    const uint8_t *cmos = rtc->s.cmos;
    struct tm tm = {
        .tm_sec = (int)decode(rtc, cmos[RTC_SECONDS]),
        .tm_min = (int)decode(rtc, cmos[RTC_MINUTES]),
        .tm_hour = (int)decode_hour(rtc, cmos[RTC_HOURS]),
        .tm_mday = (int)decode(rtc, cmos[RTC_DAY_OF_MONTH]),
        .tm_mon = (int)decode(rtc, cmos[RTC_MONTH]) - 1,
        .tm_year = (int)(decode(rtc, cmos[RTC_CENTURY]) * 100 + decode(rtc, cmos[RTC_YEAR])) - 1900,
    };
    int64_t seconds = CLAMP((int64_t)timegm(&tm), 0, LAST_SECOND);
    int64_t fraction = shown_ns(rtc) % NS_PER_S;
    int64_t shown = seconds * NS_PER_S + (rtc->s.is_frozen ? fraction : 0);
    if (rtc->s.is_frozen)
        rtc->s.frozen_ns = shown;
    else
        rtc->s.offset_ns = shown - clock_now_ns(rtc->wires.clock);
    rtc->s.update_checked_ns = shown;
}

static void update_irq(Mc146818 *rtc)
{
    uint8_t flags = rtc->s.cmos[RTC_C] & rtc->s.cmos[RTC_B] & (B_PERIODIC | B_ALARM | B_UPDATE);
    if (flags)
        rtc->s.cmos[RTC_C] |= C_IRQ;
    bool level = flags && rtc->s.irq_enabled;
    if (level != rtc->line) {
        rtc->line = level;
        irq_set(rtc->wires.irq, level);
    }
}

/* Seconds of the day at which the alarm strikes; a byte of 0xc0–0xff matches anything. */
static bool alarm_matches(const Mc146818 *rtc, int64_t second)
{
    const uint8_t *cmos = rtc->s.cmos;
    unsigned s = (unsigned)(second % 60), m = (unsigned)(second / 60 % 60), h = (unsigned)(second / 3600 % 24);
    return (cmos[RTC_SECONDS_ALARM] >= 0xc0 || decode(rtc, cmos[RTC_SECONDS_ALARM]) == s) &&
           (cmos[RTC_MINUTES_ALARM] >= 0xc0 || decode(rtc, cmos[RTC_MINUTES_ALARM]) == m) &&
           (cmos[RTC_HOURS_ALARM] >= 0xc0 || decode_hour(rtc, cmos[RTC_HOURS_ALARM]) == h);
}

/* Raises the update and alarm flags of every second that has begun since the last look (at most a day of them). */
static void check_seconds(Mc146818 *rtc)
{
    if (rtc->s.is_frozen)
        return;
    int64_t last = rtc->s.update_checked_ns / NS_PER_S, now = shown_ns(rtc) / NS_PER_S;
    if (now <= last)
        return;
    rtc->s.cmos[RTC_C] |= B_UPDATE;
    if (!(rtc->s.cmos[RTC_C] & B_ALARM))
        for (int64_t second = MAX(last + 1, now - 86400); second <= now; second++)
            if (alarm_matches(rtc, second)) {
                rtc->s.cmos[RTC_C] |= B_ALARM;
                break;
            }
    rtc->s.update_checked_ns = shown_ns(rtc);
}

/* The once-a-second timer runs only while someone would be interrupted. */
static void schedule_second(Mc146818 *rtc)
{
    if (rtc->s.is_frozen || !(rtc->s.cmos[RTC_B] & (B_ALARM | B_UPDATE))) {
        timer_arm(rtc->second, TIMER_NEVER);
        return;
    }
    int64_t shown = shown_ns(rtc);
    timer_arm(rtc->second, clock_now_ns(rtc->wires.clock) + NS_PER_S - shown % NS_PER_S);
}

static void second_fired(void *opaque)
{
    Mc146818 *rtc = opaque;
    check_seconds(rtc);
    update_irq(rtc);
    schedule_second(rtc);
}

/* Period of the square wave and periodic interrupt in 32768ths of a second; 0: off. */
static unsigned periodic_ticks(const Mc146818 *rtc)
{
    unsigned rate = rtc->s.cmos[RTC_A] & A_RATE;
    if (rate == 0 || (rtc->s.cmos[RTC_A] & A_DIVIDER) != 0x20)
        return 0;
    if (rate <= 2)
        rate += 7;
    return 1u << (rate - 1);
}

static int64_t periodic_due_ns(const Mc146818 *rtc, int64_t period_number)
{
    __int128 ticks = (__int128)period_number * periodic_ticks(rtc);
    return rtc->s.periodic_start_ns + (int64_t)((ticks * NS_PER_S + 32767) / 32768);
}

static void schedule_periodic(Mc146818 *rtc)
{
    bool wanted = periodic_ticks(rtc) && rtc->s.cmos[RTC_B] & B_PERIODIC;
    timer_arm(rtc->periodic, wanted ? periodic_due_ns(rtc, rtc->s.periodic_sent + 1) : TIMER_NEVER);
}

/* Sets PF when a period has ended; missed ones are coalesced. */
static void check_periodic(Mc146818 *rtc)
{
    unsigned ticks = periodic_ticks(rtc);
    if (ticks == 0)
        return;
    int64_t elapsed = clock_now_ns(rtc->wires.clock) - rtc->s.periodic_start_ns;
    int64_t ended = (int64_t)((__int128)elapsed * 32768 / NS_PER_S / ticks);
    if (ended <= rtc->s.periodic_sent)
        return;
    rtc->s.periodic_sent = ended;
    rtc->s.cmos[RTC_C] |= B_PERIODIC;
}

static void periodic_fired(void *opaque)
{
    Mc146818 *rtc = opaque;
    check_periodic(rtc);
    update_irq(rtc);
    schedule_periodic(rtc);
}

static void restart_periodic(Mc146818 *rtc)
{
    rtc->s.periodic_start_ns = clock_now_ns(rtc->wires.clock);
    rtc->s.periodic_sent = 0;
    schedule_periodic(rtc);
}

/* Holds the time while B.SET is on or the divider chain is not running. */
static void update_frozen(Mc146818 *rtc)
{
    bool frozen = rtc->s.cmos[RTC_B] & B_SET || (rtc->s.cmos[RTC_A] & A_DIVIDER) >= 0x60;
    if (frozen == rtc->s.is_frozen)
        return;
    if (frozen) {
        check_seconds(rtc);
        time_to_cmos(rtc);
        rtc->s.frozen_ns = shown_ns(rtc);
        rtc->s.is_frozen = true;
    } else {
        rtc->s.is_frozen = false;
        rtc->s.offset_ns = rtc->s.frozen_ns - clock_now_ns(rtc->wires.clock);
        rtc->s.update_checked_ns = rtc->s.frozen_ns;
    }
    schedule_second(rtc);
}

static bool is_time_byte(unsigned index)
{
    return index == RTC_SECONDS || index == RTC_MINUTES || index == RTC_HOURS ||
           (index >= RTC_DAY_OF_WEEK && index <= RTC_YEAR) || index == RTC_CENTURY;
}

static uint8_t data_read(Mc146818 *rtc)
{
    unsigned index = rtc->s.index & 0x7f;
    uint8_t value;
    switch (index) {
    case RTC_A: {
        bool updating = !rtc->s.is_frozen && shown_ns(rtc) % NS_PER_S >= NS_PER_S - UIP_NS;
        return rtc->s.cmos[RTC_A] | (updating ? A_UIP : 0);
    }
    case RTC_C:
        check_seconds(rtc);
        check_periodic(rtc);
        update_irq(rtc);
        value = rtc->s.cmos[RTC_C];
        rtc->s.cmos[RTC_C] = 0;
        update_irq(rtc);
        return value;
    case RTC_D:
        return D_VALID;
    default:
        if (is_time_byte(index) && !rtc->s.is_frozen)
            time_to_cmos(rtc);
        return rtc->s.cmos[index];
    }
}

static void data_write(Mc146818 *rtc, uint8_t value)
{
    unsigned index = rtc->s.index & 0x7f;
    uint8_t *cmos = rtc->s.cmos;
    switch (index) {
    case RTC_A:
        cmos[RTC_A] = value & 0x7f;
        update_frozen(rtc);
        restart_periodic(rtc);
        break;
    case RTC_B: {
        check_seconds(rtc);
        uint8_t old = cmos[RTC_B];
        /* Setting SET aborts an update and its interrupt. */
        if (value & B_SET)
            value &= (uint8_t)~B_UPDATE;
        if (!rtc->s.is_frozen)
            time_to_cmos(rtc);
        cmos[RTC_B] = value;
        if ((old ^ value) & (B_BINARY | B_24H) && !(value & B_SET))
            time_to_cmos(rtc);
        update_frozen(rtc);
        if (value & ~old & B_PERIODIC)
            schedule_periodic(rtc);
        schedule_second(rtc);
        update_irq(rtc);
        break;
    }
    case RTC_C:
    case RTC_D:
        break;
    default:
        if (is_time_byte(index)) {
            if (!rtc->s.is_frozen)
                time_to_cmos(rtc);
            cmos[index] = value;
            if (index != RTC_DAY_OF_WEEK)
                time_from_cmos(rtc);
            schedule_second(rtc);
        } else {
            cmos[index] = value;
        }
        break;
    }
}

static uint64_t mc146818_read(void *device, uint64_t offset, unsigned size)
{
    /* Port 0x70 is write-only. */
    return offset == 0 ? 0xff : data_read(device);
}

static void mc146818_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    Mc146818 *rtc = device;
    if (offset == 0)
        rtc->s.index = (uint8_t)value;
    else
        data_write(rtc, (uint8_t)value);
}

const BusOps mc146818_ops = {.name = "mc146818", .read = mc146818_read, .write = mc146818_write, .max_size = 1};

void mc146818_set_cmos(Mc146818 *rtc, uint8_t index, uint8_t value)
{
    g_return_if_fail(index > RTC_D && index < RTC_SIZE);
    rtc->s.cmos[index] = value;
}

uint8_t mc146818_cmos(const Mc146818 *rtc, uint8_t index) { return rtc->s.cmos[index & 0x7f]; }

void mc146818_set_irq_enabled(Mc146818 *rtc, bool enabled)
{
    rtc->s.irq_enabled = enabled;
    update_irq(rtc);
}

void mc146818_reset(Mc146818 *rtc)
{
    rtc->s.cmos[RTC_B] &= (uint8_t) ~(B_PERIODIC | B_ALARM | B_UPDATE | 0x08);
    rtc->s.cmos[RTC_C] = 0;
    rtc->s.irq_enabled = true;
    schedule_second(rtc);
    schedule_periodic(rtc);
    update_irq(rtc);
}

static void set_size(Mc146818 *rtc, unsigned index, unsigned nbytes, uint64_t value)
{
    for (unsigned i = 0; i < nbytes; i++)
        rtc->s.cmos[index + i] = (uint8_t)(value >> (8 * i));
}

static void set_memory_sizes(Mc146818 *rtc)
{
    uint64_t low = rtc->wires.ram_below_4g;
    uint64_t above_1m = low > 0x100000 ? (low - 0x100000) / 1024 : 0;
    uint64_t above_16m = low > 0x1000000 ? (low - 0x1000000) / 65536 : 0;
    set_size(rtc, 0x15, 2, 640);
    set_size(rtc, 0x17, 2, MIN(above_1m, 0xffff));
    set_size(rtc, 0x30, 2, MIN(above_1m, 0xffff));
    set_size(rtc, 0x34, 2, MIN(above_16m, 0xffff));
    set_size(rtc, 0x5b, 3, MIN(rtc->wires.ram_above_4g / 65536, 0xffffff));
    rtc->s.cmos[0x14] = 0x06; /* equipment: coprocessor, mouse port */
    rtc->s.cmos[0x5f] = (uint8_t)(MAX(rtc->wires.ncpus, 1) - 1);
}

Mc146818 *mc146818_new(const Mc146818Wires *wires)
{
    Mc146818 *rtc = g_new0(Mc146818, 1);
    rtc->wires = *wires;
    rtc->second = timer_new(wires->clock, second_fired, rtc);
    rtc->periodic = timer_new(wires->clock, periodic_fired, rtc);
    rtc->s.cmos[RTC_A] = 0x26;
    rtc->s.cmos[RTC_B] = B_24H;
    rtc->s.irq_enabled = true;
    rtc->s.offset_ns = CLAMP(wires->start_time_s, 0, LAST_SECOND) * NS_PER_S;
    rtc->s.periodic_start_ns = clock_now_ns(wires->clock);
    rtc->s.update_checked_ns = shown_ns(rtc);
    set_memory_sizes(rtc);
    time_to_cmos(rtc);
    return rtc;
}

void mc146818_free(Mc146818 *rtc)
{
    if (!rtc)
        return;
    timer_free(rtc->second);
    timer_free(rtc->periodic);
    g_free(rtc);
}

/* --- saved state --- */

static void state_visit(void *device, Stream *stream)
{
    Mc146818 *rtc = device;
    Mc146818State *s = &rtc->s;
    int64_t latest = (LAST_SECOND + 1) * NS_PER_S, now = clock_now_ns(rtc->wires.clock);
    stream_u8(stream, &s->index);
    stream_bytes(stream, s->cmos, sizeof s->cmos);
    stream_i64(stream, &s->offset_ns);
    stream_bool(stream, &s->is_frozen);
    stream_i64(stream, &s->frozen_ns);
    stream_i64(stream, &s->update_checked_ns);
    stream_i64(stream, &s->periodic_start_ns);
    stream_i64(stream, &s->periodic_sent);
    stream_bool(stream, &s->irq_enabled);
    stream_bool(stream, &rtc->line);
    /* All of them are times that the part can show, so that no sum of two overflows; see LAST_SECOND. */
    stream_check(stream, s->offset_ns >= -now && s->offset_ns <= latest - now, "time of day");
    stream_check(stream, s->frozen_ns >= 0 && s->frozen_ns <= latest, "time of day while stopped");
    stream_check(stream, s->update_checked_ns >= 0 && s->update_checked_ns <= latest, "time of the last update");
    stream_check(stream, s->periodic_start_ns >= 0 && s->periodic_start_ns <= now, "start of the periodic interrupt");
    stream_check(stream, s->periodic_sent >= 0 && s->periodic_sent <= latest / NS_PER_S * 32768, "count of periodic interrupts");
    stream_check(stream, !(s->cmos[RTC_A] & A_UIP), "register A");
    if (stream_is_loading(stream) && stream_is_ok(stream)) {
        schedule_second(rtc);
        schedule_periodic(rtc);
    }
}

const StateOps mc146818_state = {.name = "mc146818", .version = 1, .visit = state_visit};
