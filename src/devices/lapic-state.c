/* Saved state of the local APIC. */
#include "devices/lapic-int.h"

static void state_visit(void *device, Stream *stream)
{
    Lapic *lapic = device;
    LapicState *s = &lapic->s;
    uint32_t *const words[] = {&s->tpr, &s->ldr, &s->dfr, &s->svr, &s->esr, &s->esr_pending, &s->divide, &s->initial_count, &s->narbitrations};
    stream_u64(stream, &s->apic_base);
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
        stream_u32(stream, words[i]);
    for (unsigned i = 0; i < 8; i++) {
        stream_u32(stream, &s->isr[i]);
        stream_u32(stream, &s->tmr[i]);
        stream_u32(stream, &s->irr[i]);
    }
    stream_u64(stream, &s->icr);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        stream_u32(stream, &s->lvt[i]);
    stream_bool(stream, &s->timer_running);
    stream_i64(stream, &s->timer_start_ns);
    stream_u64(stream, &s->tsc_deadline);
    stream_bool(stream, &s->lint[0]);
    stream_bool(stream, &s->lint[1]);
    stream_check(stream, !(s->tpr & ~0xffu) && !(s->divide & ~0xbu), "local APIC register");
    stream_check(stream, s->timer_start_ns >= 0 && s->timer_start_ns <= clock_now_ns(lapic->wires.clock), "start of the local APIC's timer");
    stream_check(stream, !s->timer_running || s->initial_count, "count of the local APIC's timer");
    if (!stream_is_loading(stream) || !stream_is_ok(stream))
        return;
    if (LVT_TIMER_MODE(s->lvt[LVT_TIMER]) == TIMER_TSC_DEADLINE)
        stream_check(stream, lapic->wires.tsc_hz && !s->timer_running, "mode of the local APIC's timer");
    if (!stream_is_ok(stream))
        return;
    lapic_timer_rearm(lapic);
    /* The CPU's INTR is no state of its own: it is driven anew. */
    lapic->irq_level = lapic_irq_waits(lapic);
    irq_set(lapic->wires.cpu_irq, lapic->irq_level);
}

const StateOps lapic_state = {.name = "lapic", .version = 1, .visit = state_visit};
