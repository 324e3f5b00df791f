#include "devices/lapic-int.h"

#define NS_PER_S      1000000000u
#define MIN_PERIOD_NS 100000 /* periodic: guests that ask for less get this, so that they cannot flood us */
#define MIN_RETRY_NS  1000

static unsigned mode(const Lapic *lapic) { return LVT_TIMER_MODE(lapic->s.lvt[LVT_TIMER]); }

/* SDM 3A figure 11-10: bits 3, 1, 0; 7 divides by one. */
static unsigned divider(const Lapic *lapic)
{
    unsigned code = (lapic->s.divide & 3) | (lapic->s.divide >> 1 & 4);
    return code == 7 ? 1 : 2u << code;
}

static int64_t period_ns(const Lapic *lapic) { return (int64_t)lapic->s.initial_count * divider(lapic); }

static void arm_deadline(Lapic *lapic)
{
    uint64_t tsc = lapic->wires.guest_tsc(lapic->wires.opaque);
    int64_t now = clock_now_ns(lapic->wires.clock);
    int64_t delta_ns = 0;
    if (lapic->s.tsc_deadline > tsc) {
        unsigned __int128 ns = (unsigned __int128)(lapic->s.tsc_deadline - tsc) * NS_PER_S / lapic->wires.tsc_hz + 1;
        delta_ns = ns > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)ns;
    }
    timer_arm(lapic->timer, now + delta_ns);
}

static void arm(Lapic *lapic)
{
    if (lapic_bus_is_remote(lapic->wires.bus))
        timer_arm(lapic->timer, TIMER_NEVER);
    else if (mode(lapic) == TIMER_TSC_DEADLINE && lapic->s.tsc_deadline)
        arm_deadline(lapic);
    else if (lapic->s.timer_running)
        timer_arm(lapic->timer, lapic->s.timer_start_ns + period_ns(lapic));
    else
        timer_arm(lapic->timer, TIMER_NEVER);
}

static void poll_deadline(Lapic *lapic)
{
    if (lapic->s.tsc_deadline == 0)
        return;
    if (lapic->wires.guest_tsc(lapic->wires.opaque) < lapic->s.tsc_deadline) {
        /* The clock and the guest's TSC differ a little; never early. */
        arm_deadline(lapic);
        int64_t soonest = clock_now_ns(lapic->wires.clock) + MIN_RETRY_NS;
        if (timer_deadline_ns(lapic->timer) < soonest)
            timer_arm(lapic->timer, soonest);
        return;
    }
    lapic->s.tsc_deadline = 0;
    timer_arm(lapic->timer, TIMER_NEVER);
    lapic_lvt_fire(lapic, LVT_TIMER);
}

void lapic_timer_poll(Lapic *lapic)
{
    if (lapic_bus_is_remote(lapic->wires.bus))
        return;
    if (mode(lapic) == TIMER_TSC_DEADLINE) {
        poll_deadline(lapic);
        return;
    }
    if (!lapic->s.timer_running)
        return;
    int64_t now = clock_now_ns(lapic->wires.clock);
    int64_t period = period_ns(lapic), elapsed = now - lapic->s.timer_start_ns;
    if (elapsed < period) {
        arm(lapic);
        return;
    }
    if (mode(lapic) == TIMER_PERIODIC) {
        /* Missed periods are coalesced into this one. */
        lapic->s.timer_start_ns += elapsed / period * period;
        int64_t next = lapic->s.timer_start_ns + period;
        timer_arm(lapic->timer, MAX(next, now + MIN_PERIOD_NS));
        if (period >= MIN_PERIOD_NS)
            timer_arm(lapic->timer, next);
    } else {
        lapic->s.timer_running = false;
        timer_arm(lapic->timer, TIMER_NEVER);
    }
    lapic_lvt_fire(lapic, LVT_TIMER);
}

void lapic_timer_fired(void *opaque) { lapic_timer_poll(opaque); }

void lapic_timer_reset(Lapic *lapic)
{
    lapic->s.timer_running = false;
    lapic->s.initial_count = 0;
    lapic->s.divide = 0;
    lapic->s.tsc_deadline = 0;
    timer_arm(lapic->timer, TIMER_NEVER);
}

uint32_t lapic_timer_count(Lapic *lapic)
{
    if (mode(lapic) == TIMER_TSC_DEADLINE || !lapic->s.timer_running)
        return 0;
    int64_t period = period_ns(lapic);
    int64_t elapsed = clock_now_ns(lapic->wires.clock) - lapic->s.timer_start_ns;
    if (elapsed >= period) {
        if (mode(lapic) != TIMER_PERIODIC)
            return 0;
        elapsed %= period;
    }
    int64_t count = (period - elapsed + divider(lapic) - 1) / divider(lapic);
    return (uint32_t)MIN(count, lapic->s.initial_count);
}

void lapic_timer_set_initial(Lapic *lapic, uint32_t count)
{
    if (mode(lapic) == TIMER_TSC_DEADLINE)
        return;
    lapic->s.initial_count = count;
    lapic->s.timer_running = count != 0;
    lapic->s.timer_start_ns = clock_now_ns(lapic->wires.clock);
    arm(lapic);
}

void lapic_timer_restore(Lapic *lapic, uint32_t current_count)
{
    lapic->s.timer_running = lapic->s.initial_count && current_count && mode(lapic) != TIMER_TSC_DEADLINE;
    if (lapic->s.timer_running) {
        int64_t remaining = (int64_t)MIN(current_count, lapic->s.initial_count) * divider(lapic);
        lapic->s.timer_start_ns = clock_now_ns(lapic->wires.clock) - (period_ns(lapic) - remaining);
    }
    arm(lapic);
}

void lapic_timer_set_divide(Lapic *lapic, uint32_t value)
{
    lapic_timer_poll(lapic);
    uint32_t count = lapic_timer_count(lapic);
    lapic->s.divide = value & 0xb;
    if (lapic->s.timer_running)
        lapic_timer_restore(lapic, count);
}

void lapic_timer_set_lvt(Lapic *lapic, uint32_t value)
{
    lapic_timer_poll(lapic);
    unsigned old = mode(lapic);
    /* A mode that is not offered, or reserved, counts as one-shot. */
    unsigned wanted = LVT_TIMER_MODE(value);
    if (wanted == TIMER_RESERVED || (wanted == TIMER_TSC_DEADLINE && lapic->wires.tsc_hz == 0))
        value &= ~(3u << 17);
    lapic->s.lvt[LVT_TIMER] = value;
    /* To or from TSC-deadline disarms; between one-shot and periodic the count goes on. */
    if ((old == TIMER_TSC_DEADLINE) != (mode(lapic) == TIMER_TSC_DEADLINE)) {
        lapic->s.timer_running = false;
        lapic->s.initial_count = 0;
        lapic->s.tsc_deadline = 0;
    }
    arm(lapic);
}

void lapic_timer_set_deadline(Lapic *lapic, uint64_t tsc)
{
    if (mode(lapic) != TIMER_TSC_DEADLINE)
        return;
    lapic->s.tsc_deadline = tsc;
    if (tsc && !lapic_bus_is_remote(lapic->wires.bus) && lapic->wires.guest_tsc(lapic->wires.opaque) >= tsc)
        poll_deadline(lapic);
    else
        arm(lapic);
}

void lapic_tsc_changed(Lapic *lapic)
{
    if (mode(lapic) == TIMER_TSC_DEADLINE && lapic->s.tsc_deadline)
        arm(lapic);
}

void lapic_timer_rearm(Lapic *lapic) { arm(lapic); }
