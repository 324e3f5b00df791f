/* State in and out of BtCpu, power-on values, and the mode word.  Source: SDM 3A table 9-1 (reset). */
#include "bt/exec-seg.h"

/* CS, DS, ES and SS as flat 32-bit code wants them (MODE_FLAT). */
static bool is_flat(const BtCpu *cpu)
{
    static const uint8_t data[] = {X86_ES, X86_SS, X86_DS};
    const X86Segment *cs = &cpu->seg[X86_CS];
    const uint32_t data_bits = X86_SEG_UNUSABLE | X86_SEG_CODE | X86_SEG_EXPAND_DOWN | X86_SEG_WRITABLE;
    if (cs->base != 0 || cs->limit != 0xffffffff || (cs->attr & (X86_SEG_CODE | X86_SEG_READABLE)) != (X86_SEG_CODE | X86_SEG_READABLE))
        return false;
    for (unsigned i = 0; i < sizeof data; i++) {
        const X86Segment *s = &cpu->seg[data[i]];
        if (s->base != 0 || s->limit != 0xffffffff || (s->attr & data_bits) != X86_SEG_WRITABLE)
            return false;
    }
    return true;
}

void bt_update_mode(BtCpu *cpu)
{
    uint64_t cr0 = cpu->mmu.cr0, cr4 = cpu->mmu.cr4;
    uint32_t mode = 0;
    if (!(cr0 & X86_CR0_PE))
        cpu->cpl = 0;
    else if (cpu->eflags & X86_FLAG_VM)
        cpu->cpl = 3;
    if (bt_code64(cpu)) {
        mode |= MODE_CODE64 | MODE_FLAT;
    } else {
        if (cpu->seg[X86_CS].attr & X86_SEG_DB)
            mode |= MODE_CODE32;
        if (cpu->seg[X86_SS].attr & X86_SEG_DB)
            mode |= MODE_STACK32;
        if (is_flat(cpu))
            mode |= MODE_FLAT;
    }
    if (cpu->cpl == 3)
        mode |= MODE_USER;
    else if (cpu->eflags & X86_FLAG_AC)
        mode |= MODE_AC;
    if (cpu->cpl == 0)
        mode |= MODE_CPL0;
    if (cpu->cpl == 3 && cr0 & X86_CR0_AM && cpu->eflags & X86_FLAG_AC)
        mode |= MODE_ALIGN;
    if (cpu->eflags & X86_FLAG_TF)
        mode |= MODE_TF;
    if (bt_debug_wanted(cpu))
        mode |= MODE_DEBUG;
    if (cr0 & (X86_CR0_EM | X86_CR0_TS))
        mode |= MODE_NO_FPU;
    if (!(cr4 & X86_CR4_OSFXSR))
        mode |= MODE_NO_SSE;
    if (!(cr4 & X86_CR4_OSXSAVE) || (cpu->xcr0 & 6) != 6)
        mode |= MODE_NO_AVX;
    if (!(cr4 & X86_CR4_OSXSAVE) || (cpu->xcr0 & 0xe0) != 0xe0)
        mode |= MODE_NO_AVX512;
    if (cr0 & X86_CR0_PE)
        mode |= cpu->eflags & X86_FLAG_VM ? MODE_V86 : MODE_PM;
    cpu->mode = mode;
    cpu->mode_dirty = false;
}

static uint64_t apic_base_read(BtCpu *cpu)
{
    uint64_t value = 0;
    if (cpu->host && cpu->host->apic_msr_read)
        bt_host_call(cpu, host_apic_msr_read, X86_MSR_APIC_BASE, (uint64_t)(uintptr_t)&value, 0);
    return value;
}

/* PKRU travels as a component of the XSAVE image; ours, which the host's instructions load, is without it. */
#define XSAVE_BV 512
static void take_keys(BtCpu *cpu, const X86State *state)
{
    uint64_t bv = host_load(state->xsave + XSAVE_BV, 8);
    host_store(cpu->xsave + XSAVE_BV, 8, bv & ~(uint64_t)XCR0_PKRU);
    mmu_set_keys(&cpu->mmu, bv & XCR0_PKRU && cpu->xsave_at[9] ? (uint32_t)host_load(state->xsave + cpu->xsave_at[9], 4) : 0, (uint32_t)state->pkrs);
}

static void give_keys(const BtCpu *cpu, X86State *state)
{
    state->pkrs = cpu->mmu.pkrs;
    if (!cpu->xsave_at[9] || !cpu->mmu.pkru)
        return;
    host_store(state->xsave + cpu->xsave_at[9], 8, cpu->mmu.pkru);
    host_store(state->xsave + XSAVE_BV, 8, host_load(state->xsave + XSAVE_BV, 8) | XCR0_PKRU);
}

void bt_load_state(BtCpu *cpu, const X86State *state)
{
    mem_copy(cpu->gpr, state->gpr, sizeof cpu->gpr);
    mem_copy(cpu->seg, state->seg, sizeof cpu->seg);
    mem_copy(cpu->dr, state->dr, sizeof cpu->dr);
    mem_copy(cpu->xsave, state->xsave, sizeof cpu->xsave);
    cpu->fpu_live = false;
    cpu->rip = cpu->next_rip = state->rip;
    cpu->gdtr = state->gdtr;
    cpu->idtr = state->idtr;
    cpu->cr2 = state->cr2;
    cpu->xcr0 = state->xcr0 | 1;
    cpu->spec_ctrl = state->spec_ctrl;
#define LOAD_MSR(name, number) cpu->name = state->name;
    X86_MSR_ROWS(LOAD_MSR)
#undef LOAD_MSR
    if (state->tsc)
        cpu->tsc_offset += (int64_t)(state->tsc - bt_guest_tsc(cpu));
    else if (state->tsc_offset)
        cpu->tsc_offset = state->tsc_offset;

    bt_set_flags(cpu, (uint32_t)state->rflags);
    if (!(state->cr0 & X86_CR0_PE))
        cpu->cpl = 0;
    else if (state->rflags & X86_FLAG_VM)
        cpu->cpl = 3;
    else
        cpu->cpl = (uint8_t)X86_SEG_DPL(cpu->seg[X86_SS].attr);
    mmu_set_paging(&cpu->mmu, state->cr0 | X86_CR0_ET, state->cr4, state->efer);
    take_keys(cpu, state);
    mmu_set_cr3(&cpu->mmu, state->cr3);
    mem_copy(cpu->mmu.pdptr, state->pdptr, sizeof cpu->mmu.pdptr);
    mmu_flush(&cpu->mmu, true);
    if (state->apic_base && cpu->host) {
        bt_host_call(cpu, host_apic_msr_write, X86_MSR_APIC_BASE, state->apic_base, 0);
        bt_host_call(cpu, host_cr8_write, state->cr8, 0, 0);
    }

    cpu->exception_pending = state->exception_pending;
    cpu->exception = (BtException){.vector = state->exception_vector, .has_code = state->exception_has_code,
                                   .code = state->exception_code, .cr2 = state->cr2};
    cpu->delivering = false;
    __atomic_store_n(&cpu->nmi_line, state->nmi_pending ? 1u : 0u, __ATOMIC_RELAXED);
    cpu->nmi_masked = state->nmi_masked;
    cpu->interrupt_shadow = state->interrupt_shadow;
    cpu->halted = state->halted;
    cpu->shutdown = false;
    cpu->poll_window = 1;
    bt_update_mode(cpu);
}

void bt_save_state(BtCpu *cpu, X86State *out_state)
{
    X86State *state = out_state;
    mem_clear(state, sizeof *state);
    mem_copy(state->gpr, cpu->gpr, sizeof cpu->gpr);
    mem_copy(state->seg, cpu->seg, sizeof cpu->seg);
    mem_copy(state->dr, cpu->dr, sizeof cpu->dr);
    mem_copy(state->xsave, cpu->xsave, sizeof cpu->xsave);
    state->rip = cpu->rip;
    state->rflags = bt_flags(cpu);
    state->gdtr = cpu->gdtr;
    state->idtr = cpu->idtr;
    state->cr0 = cpu->mmu.cr0;
    state->cr2 = cpu->cr2;
    state->cr3 = cpu->mmu.cr3;
    state->cr4 = cpu->mmu.cr4;
    state->efer = cpu->mmu.efer;
    mem_copy(state->pdptr, cpu->mmu.pdptr, sizeof state->pdptr);
    state->cr8 = cpu->host && cpu->host->cr8_read ? bt_host_call(cpu, host_cr8_read, 0, 0, 0) : 0;
    state->apic_base = apic_base_read(cpu);
#define SAVE_MSR(name, number) state->name = cpu->name;
    X86_MSR_ROWS(SAVE_MSR)
#undef SAVE_MSR
    state->tsc = bt_guest_tsc(cpu);
    state->tsc_offset = cpu->tsc_offset;
    state->xcr0 = cpu->xcr0;
    state->spec_ctrl = cpu->spec_ctrl;
    give_keys(cpu, state);
    state->exception_pending = cpu->exception_pending;
    state->exception_vector = cpu->exception.vector;
    state->exception_has_code = cpu->exception.has_code;
    state->exception_code = cpu->exception.code;
    state->nmi_pending = __atomic_load_n(&cpu->nmi_line, __ATOMIC_RELAXED);
    state->nmi_masked = cpu->nmi_masked;
    state->interrupt_shadow = cpu->interrupt_shadow;
    state->halted = cpu->halted;
}

void bt_reset(BtCpu *cpu)
{
    mem_clear(cpu->gpr, sizeof cpu->gpr);
    mem_clear(cpu->dr, sizeof cpu->dr);
    mem_clear(cpu->xsave, sizeof cpu->xsave);
    cpu->fpu_live = false;
    for (unsigned i = 0; i < X86_NSEGS; i++)
        cpu->seg[i] = (X86Segment){.limit = 0xffff, .attr = 0x93};
    cpu->seg[X86_CS] = (X86Segment){.selector = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = 0x9b};
    cpu->seg[X86_LDTR].attr = 0x82;
    cpu->seg[X86_TR].attr = 0x8b;
    cpu->gdtr = cpu->idtr = (X86Table){.base = 0, .limit = 0xffff};
    cpu->rip = cpu->next_rip = 0xfff0;
    cpu->gpr[X86_RDX] = 0x600;
    for (unsigned i = 0; cpu->cpuid && i < cpu->cpuid->nleaves; i++)
        if (cpu->cpuid->leaf[i].leaf == 1)
            cpu->gpr[X86_RDX] = cpu->cpuid->leaf[i].eax;
    cpu->dr[6] = 0xffff0ff0;
    cpu->dr[7] = 0x400;
    cpu->cr2 = 0;
    cpu->xcr0 = 1;
    cpu->spec_ctrl = 0;
    mmu_set_keys(&cpu->mmu, 0, 0);
#define CLEAR_MSR(name, number) cpu->name = 0;
    X86_MSR_ROWS(CLEAR_MSR)
#undef CLEAR_MSR
    cpu->pat = 0x0007040600070406;
    cpu->misc_enable = 1; /* fast strings */
    cpu->cpl = 0;
    bt_set_flags(cpu, X86_FLAG_FIXED);
    mmu_set_paging(&cpu->mmu, X86_CR0_CD | X86_CR0_NW | X86_CR0_ET, 0, 0);
    mmu_set_cr3(&cpu->mmu, 0);
    mmu_flush(&cpu->mmu, true);
    cpu->xsave[0] = 0x7f; /* FCW 037f, MXCSR 1f80: the components' initial values, XSTATE_BV = 0 */
    cpu->xsave[1] = 0x03;
    host_store(cpu->xsave + 24, 4, 0x1f80);
    cpu->exception_pending = cpu->delivering = false;
    cpu->nmi_masked = cpu->interrupt_shadow = cpu->debug_shadow = cpu->halted = cpu->shutdown = false;
    __atomic_store_n(&cpu->nmi_line, 0, __ATOMIC_RELAXED);
    bt_update_mode(cpu);
}
