/* Control and debug registers, descriptor tables, HLT, TLB control.  Source: SDM 2A/2B, 3A chapters 2 and 4. */
#include "bt/exec-seg.h"
#include "bt/insn-table.h"

bool bt_cpuid_has(const BtCpu *cpu, uint32_t leaf, unsigned reg, unsigned bit)
{
    const CpuidModel *model = cpu->cpuid;
    if (!model)
        return true;
    for (unsigned i = 0; i < model->nleaves; i++) {
        const CpuidLeaf *l = &model->leaf[i];
        if (l->leaf != leaf || (l->subleaf_significant && l->subleaf != 0))
            continue;
        uint32_t value = reg == 0 ? l->eax : reg == 1 ? l->ebx : reg == 2 ? l->ecx : l->edx;
        return value >> bit & 1;
    }
    return false;
}

/* PAE paging outside long mode with these registers? */
static bool uses_pdptrs(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & X86_EFER_LMA);
}

static void set_paging(BtCpu *cpu, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    mmu_set_paging(&cpu->mmu, cr0, cr4, efer);
    cpu->mode_dirty = true;
}

void bt_write_cr0(BtCpu *cpu, uint64_t value)
{
    uint64_t old = cpu->mmu.cr0, cr4 = cpu->mmu.cr4, efer = cpu->mmu.efer;
    const uint64_t known = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |
                           X86_CR0_NW | X86_CR0_CD | X86_CR0_PG;
    bool is_entry = false, is_wrong = value >> 32 || (value & X86_CR0_PG && !(value & X86_CR0_PE)) || (value & X86_CR0_NW && !(value & X86_CR0_CD));
    if (is_wrong)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    value = (value & known) | X86_CR0_ET;
    if (value & X86_CR0_PG && !(old & X86_CR0_PG) && efer & X86_EFER_LME) {
        if (!(cr4 & X86_CR4_PAE) || cpu->seg[X86_CS].attr & X86_SEG_L)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        efer |= X86_EFER_LMA;
        is_entry = true;
    } else if (!(value & X86_CR0_PG) && old & X86_CR0_PG) {
        if (bt_code64(cpu) || cr4 & X86_CR4_PCIDE)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        efer &= ~(uint64_t)X86_EFER_LMA;
    }
    if (uses_pdptrs(value, cr4, efer) && (value ^ old) & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW) &&
        !mmu_load_pdptrs(&cpu->mmu, cpu->mmu.cr3))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    set_paging(cpu, value, cr4, efer);
    if (is_entry && cpu->stops_at_long_mode) { /* an exit of its own, that costs the dispatcher nothing */
        cpu->long_mode_entered = true;
        __atomic_fetch_or(&cpu->kicked, BT_KICK, __ATOMIC_SEQ_CST);
    }
}

void bt_write_cr3(BtCpu *cpu, uint64_t value)
{
    uint64_t efer = cpu->mmu.efer;
    if (efer & X86_EFER_LMA) {
        uint64_t allowed = cpu->mmu.physical_mask | (cpu->mmu.cr4 & X86_CR4_PCIDE ? (uint64_t)1 << 63 : 0);
        if (value & ~allowed)
            bt_raise_code(cpu, X86_EXC_GP, 0);
    } else {
        value = (uint32_t)value;
        if (uses_pdptrs(cpu->mmu.cr0, cpu->mmu.cr4, efer) && !mmu_load_pdptrs(&cpu->mmu, value))
            bt_raise_code(cpu, X86_EXC_GP, 0);
    }
    mmu_set_cr3(&cpu->mmu, value);
}

/* CR4 bits and where CPUID says that they exist. */
static const struct {
    uint32_t bit;
    uint32_t leaf;
    uint8_t reg, shift;
} cr4_feature[] = {
    {X86_CR4_VME | X86_CR4_PVI, 1, 3, 1}, {X86_CR4_DE, 1, 3, 2},        {X86_CR4_PSE, 1, 3, 3},     {X86_CR4_TSD, 1, 3, 4},
    {X86_CR4_PAE, 1, 3, 6},               {X86_CR4_MCE, 1, 3, 7},       {X86_CR4_PGE, 1, 3, 13},    {X86_CR4_OSFXSR, 1, 3, 24},
    {X86_CR4_OSXMMEXCPT, 1, 3, 25},       {X86_CR4_PCIDE, 1, 2, 17},    {X86_CR4_OSXSAVE, 1, 2, 26}, {X86_CR4_FSGSBASE, 7, 1, 0},
    {X86_CR4_SMEP, 7, 1, 7},              {X86_CR4_SMAP, 7, 1, 20},     {X86_CR4_UMIP, 7, 2, 2},
    {X86_CR4_PKE, 7, 2, 3},               {X86_CR4_PKS, 7, 2, 31},
};

void bt_update_features(BtCpu *cpu)
{
    cpu->features_of = cpu->cpuid;
    cpu->features = FEATURE_KNOWN | (bt_cpuid_has(cpu, 0x80000001, 3, 27) ? FEATURE_RDTSCP : 0) |
                    (bt_cpuid_has(cpu, 7, 2, 22) ? FEATURE_RDPID : 0) | (bt_cpuid_has(cpu, 7, 1, 20) ? FEATURE_SMAP : 0) |
                    (bt_cpuid_has(cpu, 7, 1, 10) ? FEATURE_INVPCID : 0);
    cpu->cr4_allowed = X86_CR4_PCE;
    for (unsigned i = 0; i < sizeof cr4_feature / sizeof cr4_feature[0]; i++)
        if (bt_cpuid_has(cpu, cr4_feature[i].leaf, cr4_feature[i].reg, cr4_feature[i].shift))
            cpu->cr4_allowed |= cr4_feature[i].bit;
}

void bt_write_cr4(BtCpu *cpu, uint64_t value)
{
    uint64_t old = cpu->mmu.cr4, cr0 = cpu->mmu.cr0, efer = cpu->mmu.efer;
    bt_has(cpu, FEATURE_KNOWN);
    if (value & ~cpu->cr4_allowed || (efer & X86_EFER_LMA && !(value & X86_CR4_PAE)))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    if (value & X86_CR4_PCIDE && !(old & X86_CR4_PCIDE) && (!(efer & X86_EFER_LMA) || cpu->mmu.cr3 & 0xfff))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    if (uses_pdptrs(cr0, value, efer) && (value ^ old) & (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP) &&
        !mmu_load_pdptrs(&cpu->mmu, cpu->mmu.cr3))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    set_paging(cpu, cr0, value, efer);
}

void ex_mov_from_cr(BtCpu *cpu, const Insn *insn)
{
    uint64_t value = 0;
    switch (insn->reg) {
    case 0: value = cpu->mmu.cr0; break;
    case 2: value = cpu->cr2; break;
    case 3: value = cpu->mmu.cr3; break;
    case 4: value = cpu->mmu.cr4; break;
    case 8:
        value = bt_host_call(cpu, host_cr8_read, true, 0, 0);
        break;
    default: bt_raise(cpu, X86_EXC_UD);
    }
    bt_set_reg(cpu, insn->rm, insn->code_size == 8 ? 8 : 4, value);
}

void ex_mov_to_cr(BtCpu *cpu, const Insn *insn)
{
    uint64_t value = bt_get_reg(cpu, insn->rm, insn->code_size == 8 ? 8 : 4);
    switch (insn->reg) {
    case 0: bt_write_cr0(cpu, value); break;
    case 2: cpu->cr2 = value; break;
    case 3: bt_write_cr3(cpu, value); break;
    case 4: bt_write_cr4(cpu, value); break;
    case 8:
        if (value >> 4)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        bt_host_call(cpu, host_cr8_write, value, true, 0);
        break;
    default: bt_raise(cpu, X86_EXC_UD);
    }
}

static void check_umip(BtCpu *cpu)
{
    if (cpu->mmu.cr4 & X86_CR4_UMIP && cpu->cpl != 0)
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

void ex_smsw(BtCpu *cpu, const Insn *insn)
{
    check_umip(cpu);
    bt_rm_write(cpu, insn, insn->has_mem ? 2 : insn->opsize, cpu->mmu.cr0);
}

void ex_lmsw(BtCpu *cpu, const Insn *insn)
{
    uint64_t value = bt_rm_read(cpu, insn, 2);
    uint64_t low = (value & 15) | (cpu->mmu.cr0 & X86_CR0_PE); /* cannot leave protected mode */
    bt_write_cr0(cpu, (cpu->mmu.cr0 & ~(uint64_t)15) | low);
}

void ex_clts(BtCpu *cpu, const Insn *insn) { set_paging(cpu, cpu->mmu.cr0 & ~(uint64_t)X86_CR0_TS, cpu->mmu.cr4, cpu->mmu.efer); }

/* INVD, WBINVD: guest memory is always coherent. */
void ex_wbinvd(BtCpu *cpu, const Insn *insn) {}

void ex_hlt(BtCpu *cpu, const Insn *insn) { cpu->halted = true; }

/* Who waits for another vCPU now and then lets its thread run: there may be more vCPUs than processors of the host. */
#define PAUSES_PER_YIELD 64u

void ex_pause(BtCpu *cpu, const Insn *insn)
{
    __builtin_ia32_pause();
    if (++cpu->npauses % PAUSES_PER_YIELD == 0)
        bt_host_call(cpu, host_yield, 0, 0, 0);
}

void ex_invlpg(BtCpu *cpu, const Insn *insn)
{
    uint64_t offset = bt_effective_address(cpu, insn);
    Gva gva = offset;
    if (!bt_code64(cpu))
        gva = (uint32_t)(cpu->seg[insn->segment].base + offset);
    else if (insn->segment == X86_FS || insn->segment == X86_GS)
        gva = cpu->seg[insn->segment].base + offset;
    if (gva_is_canonical(gva))
        mmu_invlpg(&cpu->mmu, gva);
}

void ex_invpcid(BtCpu *cpu, const Insn *insn)
{
    uint64_t type = bt_get_reg(cpu, insn->reg, insn->code_size == 8 ? 8 : 4);
    if (!bt_has(cpu, FEATURE_INVPCID))
        bt_raise(cpu, X86_EXC_UD);
    Gva gva = bt_operand(cpu, insn, 16, MMU_READ);
    uint64_t low = bt_load(cpu, gva, 8), address = bt_load(cpu, gva + 8, 8);
    bool is_wrong = type > 3 || (type < 2 && low >> 12) || (type == 0 && !gva_is_canonical(address)) ||
                    (type < 2 && low && !(cpu->mmu.cr4 & X86_CR4_PCIDE));
    if (is_wrong)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    mmu_invpcid(&cpu->mmu, (unsigned)type, low & 0xfff, address);
}

/* 0F 01 /0–/3.  In 64-bit mode the base is always 8 bytes. */
static void store_table(BtCpu *cpu, const Insn *insn, const X86Table *table)
{
    unsigned base_size = insn->code_size == 8 ? 8 : 4;
    check_umip(cpu);
    Gva gva = bt_operand(cpu, insn, 2 + base_size, MMU_WRITE);
    uint8_t image[10];
    host_store(image, 2, table->limit);
    host_store(image + 2, base_size, table->base);
    bt_write_block(cpu, gva, image, 2 + base_size);
}

static void load_table(BtCpu *cpu, const Insn *insn, X86Table *table)
{
    unsigned base_size = insn->code_size == 8 ? 8 : 4;
    Gva gva = bt_operand(cpu, insn, 2 + base_size, MMU_READ);
    uint16_t limit = (uint16_t)bt_load_as(cpu, gva, 2, bt_mmu_index(cpu));
    uint64_t base = bt_load_as(cpu, gva + 2, base_size, bt_mmu_index(cpu));
    if (base_size == 4 && insn->opsize == 2)
        base &= 0xffffff;
    if (!gva_is_canonical(base) && base_size == 8)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    table->base = base;
    table->limit = limit;
}

void ex_sgdt(BtCpu *cpu, const Insn *insn) { store_table(cpu, insn, &cpu->gdtr); }
void ex_sidt(BtCpu *cpu, const Insn *insn) { store_table(cpu, insn, &cpu->idtr); }
void ex_lgdt(BtCpu *cpu, const Insn *insn) { load_table(cpu, insn, &cpu->gdtr); }
void ex_lidt(BtCpu *cpu, const Insn *insn) { load_table(cpu, insn, &cpu->idtr); }

static void store_selector(BtCpu *cpu, const Insn *insn, unsigned seg)
{
    bt_rm_write(cpu, insn, insn->has_mem ? 2 : insn->opsize, cpu->seg[seg].selector);
}

void ex_sldt(BtCpu *cpu, const Insn *insn)
{
    check_umip(cpu);
    store_selector(cpu, insn, X86_LDTR);
}

void ex_str(BtCpu *cpu, const Insn *insn)
{
    check_umip(cpu);
    store_selector(cpu, insn, X86_TR);
}

void ex_lldt(BtCpu *cpu, const Insn *insn)
{
    unsigned selector = (unsigned)bt_rm_read(cpu, insn, 2);
    Descriptor d;
    if (selector_is_null(selector)) {
        segment_null(cpu, X86_LDTR, selector);
        return;
    }
    if (selector & 4 || !descriptor_find(cpu, selector, &d) || (d.attr & 0x1f) != SYS_LDT)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!(d.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    uint64_t high = bt_long_mode(cpu) ? descriptor_base_high(cpu, selector, &d) : 0;
    if (bt_long_mode(cpu) && !gva_is_canonical(high | descriptor_segment(selector, &d).base))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    cpu->seg[X86_LDTR] = descriptor_segment(selector, &d);
    cpu->seg[X86_LDTR].base |= high;
}

void ex_ltr(BtCpu *cpu, const Insn *insn)
{
    unsigned selector = (unsigned)bt_rm_read(cpu, insn, 2);
    Descriptor d;
    if (selector & 4 || selector_is_null(selector) || !descriptor_find(cpu, selector, &d))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    unsigned type = d.attr & 0x1f;
    if (type != SYS_TSS32 && (type != SYS_TSS16 || bt_long_mode(cpu)))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!(d.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    uint64_t high = bt_long_mode(cpu) ? descriptor_base_high(cpu, selector, &d) : 0;
    if (bt_long_mode(cpu) && !gva_is_canonical(high | descriptor_segment(selector, &d).base))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    d.attr |= 2; /* busy */
    bt_store_sys(cpu, d.gva + 5, 1, (d.raw >> 40 & 0xff) | 2);
    cpu->seg[X86_TR] = descriptor_segment(selector, &d);
    cpu->seg[X86_TR].base |= high;
}

static void set_zf(BtCpu *cpu, bool value) { cpu->status_ah = (uint8_t)((cpu->status_ah & ~0x40) | (value ? 0x40 : 0)); }

/* Is the descriptor visible at CPL and RPL?  (SDM 2A LAR, LSL; 2B VERR.) */
static bool is_visible(const BtCpu *cpu, unsigned selector, uint32_t attr)
{
    bool is_conforming = (attr & (X86_SEG_S | X86_SEG_CODE | X86_SEG_CONFORMING)) == (X86_SEG_S | X86_SEG_CODE | X86_SEG_CONFORMING);
    return is_conforming || (X86_SEG_DPL(attr) >= cpu->cpl && X86_SEG_DPL(attr) >= (selector & 3));
}

void ex_verr(BtCpu *cpu, const Insn *insn)
{
    unsigned selector = (unsigned)bt_rm_read(cpu, insn, 2);
    Descriptor d;
    bool is_fine = !selector_is_null(selector) && descriptor_find(cpu, selector, &d) && d.attr & X86_SEG_S &&
                   is_visible(cpu, selector, d.attr);
    set_zf(cpu, is_fine && (!(d.attr & X86_SEG_CODE) || d.attr & X86_SEG_READABLE));
}

void ex_verw(BtCpu *cpu, const Insn *insn)
{
    unsigned selector = (unsigned)bt_rm_read(cpu, insn, 2);
    Descriptor d;
    bool is_fine = !selector_is_null(selector) && descriptor_find(cpu, selector, &d) && d.attr & X86_SEG_S &&
                   is_visible(cpu, selector, d.attr);
    set_zf(cpu, is_fine && !(d.attr & X86_SEG_CODE) && d.attr & X86_SEG_WRITABLE);
}

/* System types that LAR and LSL know (bit = type): in long mode only LDT, TSS and 64-bit call gate. */
static bool describe_find(BtCpu *cpu, unsigned selector, uint32_t types_legacy, uint32_t types_long, Descriptor *out)
{
    if (selector_is_null(selector) || !descriptor_find(cpu, selector, out) || !is_visible(cpu, selector, out->attr))
        return false;
    return out->attr & X86_SEG_S || (bt_long_mode(cpu) ? types_long : types_legacy) >> (out->attr & 15) & 1;
}

void ex_lar(BtCpu *cpu, const Insn *insn)
{
    unsigned selector = (unsigned)bt_rm_read(cpu, insn, 2);
    Descriptor d;
    bool is_fine = describe_find(cpu, selector, 0x1a3e, 0x1a04, &d);
    if (is_fine)
        bt_set_reg(cpu, insn->reg, insn->opsize, d.raw >> 32 & (insn->opsize == 2 ? 0xff00u : 0xf0ff00u));
    set_zf(cpu, is_fine);
}

void ex_lsl(BtCpu *cpu, const Insn *insn)
{
    unsigned selector = (unsigned)bt_rm_read(cpu, insn, 2);
    Descriptor d;
    bool is_fine = describe_find(cpu, selector, 0x0a0e, 0x0a04, &d);
    if (is_fine)
        bt_set_reg(cpu, insn->reg, insn->opsize, descriptor_limit(d.raw));
    set_zf(cpu, is_fine);
}
