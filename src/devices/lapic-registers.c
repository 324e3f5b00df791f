#include "devices/lapic-int.h"

#include <string.h>

#include "x86/bits.h"

#define VERSION_VALUE 0x00050014u /* integrated APIC, six LVT entries, no directed EOI */

/* Bits of each LVT entry that software may set. */
static const uint32_t lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ffu, [LVT_THERMAL] = 0x107ffu, [LVT_PERF] = 0x107ffu,
    [LVT_LINT0] = 0x1a7ffu, [LVT_LINT1] = 0x1a7ffu,   [LVT_ERROR] = 0x100ffu,
};

static void set_svr(Lapic *lapic, uint32_t value)
{
    lapic->s.svr = value & 0x3ff;
    if (!(value & SVR_ENABLE))
        for (unsigned i = 0; i < LVT_COUNT; i++)
            lapic->s.lvt[i] |= LVT_MASKED;
}

static void set_lvt(Lapic *lapic, unsigned entry, uint32_t value)
{
    value &= lvt_writable[entry];
    if (!(lapic->s.svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (entry == LVT_TIMER)
        lapic_timer_set_lvt(lapic, value);
    else
        lapic->s.lvt[entry] = value;
    bool is_pin = entry == LVT_LINT0 || entry == LVT_LINT1;
    if (is_pin && value & LVT_LEVEL && lapic->s.lint[entry - LVT_LINT0])
        lapic_lvt_fire(lapic, entry);
}

/* register_read, register_write: the registers that both modes have.  False: there is no such register. */
static bool register_read(Lapic *lapic, unsigned offset, uint32_t *out_value)
{
    LapicState *s = &lapic->s;
    uint32_t value;
    switch (offset) {
    case LAPIC_ID:
        value = lapic_is_x2(lapic) ? lapic->wires.index : lapic->wires.index << 24;
        break;
    case LAPIC_VERSION:
        value = VERSION_VALUE;
        break;
    case LAPIC_TPR:
        lapic->ntpr++;
        value = s->tpr;
        break;
    case LAPIC_PPR:
        value = lapic_ppr(lapic);
        break;
    case LAPIC_LDR:
        value = s->ldr;
        break;
    case LAPIC_SVR:
        value = s->svr;
        break;
    case LAPIC_ESR:
        value = s->esr;
        break;
    case LAPIC_ICR:
        value = (uint32_t)s->icr;
        break;
    case LAPIC_TMICT:
        value = s->initial_count;
        break;
    case LAPIC_TMCCT:
        value = lapic_timer_count(lapic);
        break;
    case LAPIC_TDCR:
        value = s->divide;
        break;
    default:
        if (offset >= LAPIC_ISR && offset < LAPIC_TMR)
            value = s->isr[(offset - LAPIC_ISR) >> 4];
        else if (offset >= LAPIC_TMR && offset < LAPIC_IRR)
            value = s->tmr[(offset - LAPIC_TMR) >> 4];
        else if (offset >= LAPIC_IRR && offset < LAPIC_ESR)
            value = s->irr[(offset - LAPIC_IRR) >> 4];
        else if (offset >= LAPIC_LVT && offset < LAPIC_LVT_END)
            value = s->lvt[(offset - LAPIC_LVT) >> 4];
        else
            return false;
        break;
    }
    *out_value = value;
    return true;
}

static bool register_write(Lapic *lapic, unsigned offset, uint32_t value)
{
    LapicState *s = &lapic->s;
    switch (offset) {
    case LAPIC_TPR:
        lapic->ntpr++;
        s->tpr = value & 0xff;
        break;
    case LAPIC_EOI:
        lapic_end_of_interrupt(lapic);
        break;
    case LAPIC_SVR:
        set_svr(lapic, value);
        break;
    case LAPIC_ESR:
        s->esr = s->esr_pending;
        s->esr_pending = 0;
        break;
    case LAPIC_TMICT:
        lapic_timer_set_initial(lapic, value);
        break;
    case LAPIC_TDCR:
        lapic_timer_set_divide(lapic, value);
        break;
    default:
        if (offset < LAPIC_LVT || offset >= LAPIC_LVT_END)
            return false;
        set_lvt(lapic, (offset - LAPIC_LVT) >> 4, value);
        break;
    }
    lapic_update(lapic);
    return true;
}

static uint32_t page_read(Lapic *lapic, unsigned offset)
{
    uint32_t value;
    switch (offset) {
    case LAPIC_DFR:
        return lapic->s.dfr;
    case LAPIC_ICR2:
        return (uint32_t)(lapic->s.icr >> 32);
    case LAPIC_APR:
    case LAPIC_RRD:
    case LAPIC_EOI:
        return 0;
    }
    if (register_read(lapic, offset, &value))
        return value;
    lapic_report_error(lapic, ESR_REGISTER);
    lapic_update(lapic);
    return 0;
}

static void page_write(Lapic *lapic, unsigned offset, uint32_t value)
{
    switch (offset) {
    case LAPIC_ID: /* read-only, as on current processors */
    case LAPIC_VERSION:
    case LAPIC_PPR:
    case LAPIC_TMCCT:
        return;
    case LAPIC_LDR:
        lapic->s.ldr = value & 0xff000000u;
        return;
    case LAPIC_DFR:
        lapic->s.dfr = value | 0x0fffffffu;
        return;
    case LAPIC_ICR:
        lapic->s.icr = (lapic->s.icr & ~UINT64_C(0xffffffff)) | (value & 0xcdfffu & ~0x1000u);
        lapic_send_ipi(lapic, lapic->s.icr);
        return;
    case LAPIC_ICR2:
        lapic->s.icr = (uint32_t)lapic->s.icr | (uint64_t)(value & 0xff000000u) << 32;
        return;
    }
    if (!register_write(lapic, offset, value)) {
        lapic_report_error(lapic, ESR_REGISTER);
        lapic_update(lapic);
    }
}

static uint64_t lapic_read(void *device, uint64_t offset, unsigned size)
{
    /* Registers are 4 bytes at 16-byte steps; what lies between reads as zero. */
    unsigned skip = offset & 15;
    if (skip >= 4)
        return 0;
    return page_read(device, (unsigned)(offset & ~UINT64_C(15)) & (LAPIC_SIZE - 1)) >> (8 * skip);
}

static void lapic_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    /* Narrow or misaligned writes are undefined (SDM 3A 11.4.1); they do nothing. */
    if (offset & 15 || size < 4)
        return;
    page_write(device, (unsigned)offset & (LAPIC_SIZE - 1), (uint32_t)value);
}

const BusOps lapic_ops = {.name = "lapic", .read = lapic_read, .write = lapic_write};

/* SDM 3A 11.12.5: which changes of APIC_BASE are allowed. */
static bool set_apic_base(Lapic *lapic, uint64_t value)
{
    unsigned bits = lapic->wires.physical_bits ? lapic->wires.physical_bits : 52;
    uint64_t reserved = ~((UINT64_C(1) << bits) - 1) | 0x2ff;
    uint64_t old = lapic->s.apic_base, mode_bits = APIC_BASE_ENABLE | APIC_BASE_X2;
    if (value & reserved || (value & mode_bits) == APIC_BASE_X2)
        return false;
    bool was_x2 = (old & mode_bits) == mode_bits, is_x2 = (value & mode_bits) == mode_bits;
    bool was_on = old & APIC_BASE_ENABLE, is_on = value & APIC_BASE_ENABLE;
    if ((was_x2 && is_on && !is_x2) || (!was_on && is_x2))
        return false;
    lapic->s.apic_base = value;
    if (was_on && !is_on)
        lapic_init(lapic);
    if (!was_x2 && is_x2) {
        lapic_set_x2_ldr(lapic);
        lapic->s.icr = (uint32_t)lapic->s.icr;
    }
    lapic_update(lapic);
    return true;
}

bool lapic_msr_read(Lapic *lapic, uint32_t msr, uint64_t *out_value)
{
    if (msr == X86_MSR_APIC_BASE) {
        *out_value = lapic->s.apic_base;
        return true;
    }
    if (msr == X86_MSR_TSC_DEADLINE && lapic->wires.tsc_hz) {
        lapic_timer_poll(lapic);
        *out_value = lapic->s.tsc_deadline;
        return true;
    }
    if (msr < X86_MSR_X2APIC_FIRST || msr > X86_MSR_X2APIC_LAST || !lapic_is_x2(lapic))
        return false;
    unsigned offset = (msr - X86_MSR_X2APIC_FIRST) << 4;
    if (offset == LAPIC_ICR) {
        *out_value = lapic->s.icr;
        return true;
    }
    uint32_t value;
    if (!register_read(lapic, offset, &value))
        return false;
    *out_value = value;
    return true;
}

bool lapic_msr_write(Lapic *lapic, uint32_t msr, uint64_t value)
{
    if (msr == X86_MSR_APIC_BASE)
        return set_apic_base(lapic, value);
    if (msr == X86_MSR_TSC_DEADLINE && lapic->wires.tsc_hz) {
        lapic_timer_set_deadline(lapic, value);
        return true;
    }
    if (msr < X86_MSR_X2APIC_FIRST || msr > X86_MSR_X2APIC_LAST || !lapic_is_x2(lapic))
        return false;
    unsigned offset = (msr - X86_MSR_X2APIC_FIRST) << 4;
    if (offset == LAPIC_ICR) {
        if (value & 0xfff32000u) /* reserved bits; delivery status is ignored */
            return false;
        lapic->s.icr = value & ~UINT64_C(0x1000);
        lapic_send_ipi(lapic, lapic->s.icr);
        return true;
    }
    if (offset == LAPIC_SELF_IPI) {
        if (value > 0xff)
            return false;
        lapic_send_ipi(lapic, 1u << 18 | value);
        return true;
    }
    if (value >> 32 || ((offset == LAPIC_EOI || offset == LAPIC_ESR) && value))
        return false;
    return register_write(lapic, offset, (uint32_t)value);
}

void lapic_save_page(const Lapic *lapic, uint8_t out_page[LAPIC_SIZE])
{
    memset(out_page, 0, LAPIC_SIZE);
    for (unsigned offset = 0; offset < 0x400; offset += 16) {
        uint32_t value = 0;
        if (offset == LAPIC_DFR)
            value = lapic->s.dfr;
        else if (offset == LAPIC_ICR2)
            value = (uint32_t)(lapic->s.icr >> 32);
        else if (!register_read((Lapic *)lapic, offset, &value)) /* reads change nothing */
            continue;
        memcpy(out_page + offset, &value, sizeof value);
    }
}

static uint32_t page_word(const uint8_t page[LAPIC_SIZE], unsigned offset)
{
    uint32_t value;
    memcpy(&value, page + offset, sizeof value);
    return value;
}

void lapic_load_page(Lapic *lapic, const uint8_t page[LAPIC_SIZE])
{
    LapicState *s = &lapic->s;
    lapic_timer_reset(lapic);
    s->tpr = page_word(page, LAPIC_TPR) & 0xff;
    s->ldr = page_word(page, LAPIC_LDR);
    s->dfr = page_word(page, LAPIC_DFR) | 0x0fffffffu;
    s->svr = page_word(page, LAPIC_SVR) & 0x3ff;
    s->esr = page_word(page, LAPIC_ESR);
    s->icr = (uint64_t)page_word(page, LAPIC_ICR2) << 32 | page_word(page, LAPIC_ICR);
    for (unsigned i = 0; i < 8; i++) {
        s->isr[i] = page_word(page, LAPIC_ISR + 16 * i);
        s->tmr[i] = page_word(page, LAPIC_TMR + 16 * i);
        s->irr[i] = page_word(page, LAPIC_IRR + 16 * i);
    }
    for (unsigned i = 0; i < LVT_COUNT; i++)
        s->lvt[i] = page_word(page, LAPIC_LVT + 16 * i) & lvt_writable[i];
    if (lapic_is_x2(lapic))
        lapic_set_x2_ldr(lapic);
    lapic_timer_set_lvt(lapic, s->lvt[LVT_TIMER]);
    s->divide = page_word(page, LAPIC_TDCR) & 0xb;
    s->initial_count = page_word(page, LAPIC_TMICT);
    lapic_timer_restore(lapic, page_word(page, LAPIC_TMCCT));
    lapic_update(lapic);
}

void lapic_give(const Lapic *lapic, CpuApic *out_apic)
{
    out_apic->base = lapic->s.apic_base;
    out_apic->tsc_deadline = lapic->s.tsc_deadline;
    lapic_save_page(lapic, out_apic->page);
}

void lapic_take(Lapic *lapic, const CpuApic *apic)
{
    lapic->s.apic_base = apic->base;
    lapic_load_page(lapic, apic->page);
    lapic_timer_set_deadline(lapic, apic->tsc_deadline);
}
