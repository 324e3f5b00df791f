/* MSRs, time stamp, CPUID, fast system calls.  Source: SDM 4 (MSRs), 2B (SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, RDMSR). */
#include "bt/exec-seg.h"
#include "bt/insn-table.h"
#include "core/msr.h"

static bool is_pat_valid(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = value >> (8 * i) & 0xff;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

/* IA32_SPEC_CTRL keeps its three bits, IA32_PRED_CMD is a command; neither has an effect here. */
#define SPEC_CTRL_BITS 7u
#define MSR_PRED_CMD   0x49u
#define PRED_CMD_BITS  1u
static bool has_speculation_msrs(const BtCpu *cpu) { return bt_cpuid_has(cpu, 7, 3, 26); }

static bool has_pks(const BtCpu *cpu) { return bt_cpuid_has(cpu, 7, 2, 31); }

#define APIC_BASE_ENABLE (1u << 11)
#define APIC_BASE_X2     (1u << 10)
static bool is_apic_msr(uint32_t msr)
{
    return msr == X86_MSR_APIC_BASE || msr == X86_MSR_TSC_DEADLINE || (msr >= X86_MSR_X2APIC_FIRST && msr <= X86_MSR_X2APIC_LAST);
}

/* The field that holds a plain MSR, or NULL. */
static uint64_t *msr_field(BtCpu *cpu, uint32_t msr)
{
    switch (msr) {
#define MSR_CASE(name, number) \
    case number: return &cpu->name;
        X86_MSR_ROWS(MSR_CASE)
#undef MSR_CASE
    case X86_MSR_FS_BASE: return &cpu->seg[X86_FS].base;
    case X86_MSR_GS_BASE: return &cpu->seg[X86_GS].base;
    default: return NULL;
    }
}

void ex_rdmsr(BtCpu *cpu, const Insn *insn)
{
    uint32_t msr = (uint32_t)cpu->gpr[X86_RCX];
    uint64_t value = 0;
    const uint64_t *field = msr_field(cpu, msr);
    if (field) {
        value = *field;
    } else if (msr == X86_MSR_EFER) {
        value = cpu->mmu.efer;
    } else if (msr == X86_MSR_TSC) {
        value = bt_guest_tsc(cpu);
    } else if (is_apic_msr(msr)) {
        if (!bt_host_call(cpu, host_apic_msr_read, msr, (uint64_t)(uintptr_t)&value, 0))
            bt_raise_code(cpu, X86_EXC_GP, 0);
    } else if (msr == X86_MSR_ARCH_CAPABILITIES && bt_cpuid_has(cpu, 7, 3, 29)) {
        value = cpu->cpuid->arch_capabilities;
    } else if (msr == X86_MSR_SPEC_CTRL && has_speculation_msrs(cpu)) {
        value = cpu->spec_ctrl;
    } else if (msr == X86_MSR_PKRS && has_pks(cpu)) {
        value = cpu->mmu.pkrs;
    } else if (msr_is_quiet(msr)) {
        value = msr_quiet_value(msr);
    } else {
        bt_raise_code(cpu, X86_EXC_GP, 0);
    }
    cpu->gpr[X86_RAX] = (uint32_t)value;
    cpu->gpr[X86_RDX] = value >> 32;
}

static void write_efer(BtCpu *cpu, uint64_t value)
{
    uint64_t old = cpu->mmu.efer;
    uint64_t allowed = X86_EFER_SCE | X86_EFER_LMA;
    if (bt_cpuid_has(cpu, 0x80000001, 3, 29))
        allowed |= X86_EFER_LME;
    if (bt_cpuid_has(cpu, 0x80000001, 3, 20))
        allowed |= X86_EFER_NXE;
    if (bt_cpuid_has(cpu, 0x80000021, 0, 8))
        allowed |= 1u << 21; /* AutoIBRS */
    if (value & ~allowed || ((value ^ old) & X86_EFER_LME && cpu->mmu.cr0 & X86_CR0_PG))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    value = (value & ~(uint64_t)X86_EFER_LMA) | (old & X86_EFER_LMA);
    mmu_set_paging(&cpu->mmu, cpu->mmu.cr0, cpu->mmu.cr4, value);
    cpu->mode_dirty = true;
}

static void write_tsc(BtCpu *cpu, uint64_t delta)
{
    cpu->tsc_offset += (int64_t)delta;
    cpu->tsc_adjust += delta;
}

void ex_wrmsr(BtCpu *cpu, const Insn *insn)
{
    uint32_t msr = (uint32_t)cpu->gpr[X86_RCX];
    uint64_t value = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
    bool is_fine = true;
    switch (msr) {
    case X86_MSR_FS_BASE:
    case X86_MSR_GS_BASE:
    case X86_MSR_KERNEL_GS_BASE:
    case X86_MSR_LSTAR:
    case X86_MSR_CSTAR:
    case X86_MSR_SYSENTER_ESP:
    case X86_MSR_SYSENTER_EIP: is_fine = gva_is_canonical(value); break;
    case X86_MSR_SFMASK: value = (uint32_t)value; break;
    case X86_MSR_TSC_AUX: is_fine = value >> 32 == 0; break;
    case X86_MSR_PAT: is_fine = is_pat_valid(value); break;
    case X86_MSR_EFER: write_efer(cpu, value); return;
    case X86_MSR_TSC: write_tsc(cpu, value - bt_guest_tsc(cpu)); return;
    case X86_MSR_TSC_ADJUST: write_tsc(cpu, value - cpu->tsc_adjust); return;
    case X86_MSR_SPEC_CTRL:
        if (!has_speculation_msrs(cpu) || value & ~(uint64_t)SPEC_CTRL_BITS)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        cpu->spec_ctrl = value;
        return;
    case X86_MSR_PKRS:
        if (!has_pks(cpu) || value >> 32)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        mmu_set_keys(&cpu->mmu, cpu->mmu.pkru, (uint32_t)value);
        return;
    case MSR_PRED_CMD:
        if (!has_speculation_msrs(cpu) || value & ~(uint64_t)PRED_CMD_BITS)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        return;
    default: break;
    }
    if (is_fine && is_apic_msr(msr)) {
        bool is_x2 = msr >= X86_MSR_X2APIC_FIRST || (msr == X86_MSR_APIC_BASE && value & APIC_BASE_X2);
        is_fine = !(is_x2 && !bt_cpuid_has(cpu, 1, 2, 21)) && bt_host_call(cpu, host_apic_msr_write, msr, value, 0);
    } else if (is_fine) {
        uint64_t *field = msr_field(cpu, msr);
        if (field)
            *field = value;
        else
            is_fine = msr_is_quiet(msr);
    }
    if (!is_fine)
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

static void check_tsd(BtCpu *cpu)
{
    if (cpu->mmu.cr4 & X86_CR4_TSD && cpu->cpl != 0)
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

void ex_rdtsc(BtCpu *cpu, const Insn *insn)
{
    check_tsd(cpu);
    uint64_t tsc = bt_guest_tsc(cpu);
    cpu->gpr[X86_RAX] = (uint32_t)tsc;
    cpu->gpr[X86_RDX] = tsc >> 32;
}

void ex_rdtscp(BtCpu *cpu, const Insn *insn)
{
    if (!bt_has(cpu, FEATURE_RDTSCP))
        bt_raise(cpu, X86_EXC_UD);
    ex_rdtsc(cpu, insn);
    cpu->gpr[X86_RCX] = (uint32_t)cpu->tsc_aux;
}

void ex_rdpid(BtCpu *cpu, const Insn *insn)
{
    if (!bt_has(cpu, FEATURE_RDPID))
        bt_raise(cpu, X86_EXC_UD);
    bt_set_reg(cpu, insn->rm, insn->code_size == 8 ? 8 : 4, (uint32_t)cpu->tsc_aux);
}

/* No performance counters exist: every index is out of range. */
void ex_rdpmc(BtCpu *cpu, const Insn *insn) { bt_raise_code(cpu, X86_EXC_GP, 0); }

/* A local APIC that APIC_BASE has turned off is not there for CPUID either (SDM 3A 11.4.3). */
#define CPUID_1_EDX_APIC (1u << 9)
static bool apic_is_enabled(BtCpu *cpu)
{
    uint64_t base = APIC_BASE_ENABLE;
    if (cpu->host && cpu->host->apic_msr_read)
        bt_host_call(cpu, host_apic_msr_read, X86_MSR_APIC_BASE, (uint64_t)(uintptr_t)&base, 0);
    return base & APIC_BASE_ENABLE;
}

#define CPUID_7_ECX_OSPKE (1u << 4)
void ex_cpuid(BtCpu *cpu, const Insn *insn)
{
    uint32_t leaf = (uint32_t)cpu->gpr[X86_RAX], subleaf = (uint32_t)cpu->gpr[X86_RCX];
    uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    const CpuidModel *model = cpu->cpuid;
    for (unsigned i = 0; model && i < model->nleaves; i++) {
        const CpuidLeaf *l = &model->leaf[i];
        if (l->leaf != leaf || (l->subleaf_significant && l->subleaf != subleaf))
            continue;
        eax = l->eax;
        ebx = l->ebx;
        ecx = l->ecx;
        edx = l->edx;
        break;
    }
    switch (leaf) {
    case 1:
        ebx |= (uint32_t)cpu->index << 24;
        if (edx & CPUID_1_EDX_APIC && !apic_is_enabled(cpu))
            edx &= ~CPUID_1_EDX_APIC;
        ecx = (ecx & ~(1u << 27)) | (cpu->mmu.cr4 & X86_CR4_OSXSAVE ? 1u << 27 : 0);
        break;
    case 7:
        if (subleaf == 0)
            ecx |= cpu->mmu.cr4 & X86_CR4_PKE ? CPUID_7_ECX_OSPKE : 0;
        break;
    case 0xb:
    case 0x1f:
        ecx |= subleaf & 0xff;
        edx = cpu->index;
        break;
    case 0xd:
        /* Size of the area for the components enabled in XCR0, in standard and in compacted format (SDM 1 13.2). */
        if (subleaf <= 1)
            ebx = bt_xsave_size(cpu, cpu->xcr0, subleaf == 1);
        break;
    case 0x8000001e:
        if (model && eax | ebx | ecx)
            eax = cpu->index;
        break;
    default: break;
    }
    cpu->gpr[X86_RAX] = eax;
    cpu->gpr[X86_RBX] = ebx;
    cpu->gpr[X86_RCX] = ecx;
    cpu->gpr[X86_RDX] = edx;
}

/* Flat segments as the fast system calls set them. */
static void set_flat(BtCpu *cpu, unsigned code, unsigned stack, unsigned cpl, bool is_64)
{
    uint32_t dpl = cpl << X86_SEG_DPL_SHIFT;
    cpu->seg[X86_CS] = (X86Segment){.selector = (uint16_t)code, .limit = 0xffffffff,
                                    .attr = 0x809b | dpl | (is_64 ? X86_SEG_L : X86_SEG_DB)};
    cpu->seg[X86_SS] = (X86Segment){.selector = (uint16_t)stack, .limit = 0xffffffff, .attr = 0xc093 | dpl};
    cpu->cpl = (uint8_t)cpl;
    cpu->mode_dirty = true;
}

void ex_syscall(BtCpu *cpu, const Insn *insn)
{
    if (!(cpu->mmu.efer & X86_EFER_SCE) || !bt_is_protected(cpu))
        bt_raise(cpu, X86_EXC_UD);
    unsigned code = cpu->star >> 32 & 0xfffc;
    uint32_t flags = bt_flags(cpu) & ~X86_FLAG_RF;
    bool was_64 = bt_code64(cpu);
    if (!was_64 && cpu->cpuid && cpu->cpuid->is_intel)
        bt_raise(cpu, X86_EXC_UD);
    cpu->gpr[X86_RCX] = cpu->next_rip;
    if (bt_long_mode(cpu)) {
        cpu->gpr[X86_R11] = flags;
        set_flat(cpu, code, code + 8, 0, true);
        bt_set_flags(cpu, flags & ~(uint32_t)cpu->sfmask);
        cpu->next_rip = was_64 ? cpu->lstar : cpu->cstar;
    } else { /* AMD APM 3: legacy mode */
        set_flat(cpu, code, code + 8, 0, false);
        bt_set_flags(cpu, flags & ~(X86_FLAG_IF | X86_FLAG_VM));
        cpu->next_rip = (uint32_t)cpu->star;
    }
    cpu->step = (bt_flags(cpu) & X86_FLAG_TF) != 0; /* SYSCALL and SYSRET trap by the TF they leave behind */
}

void ex_sysret(BtCpu *cpu, const Insn *insn)
{
    if (!(cpu->mmu.efer & X86_EFER_SCE))
        bt_raise(cpu, X86_EXC_UD);
    bt_require_cpl0(cpu);
    unsigned code = cpu->star >> 48 & 0xfffc;
    uint32_t flags = (uint32_t)cpu->gpr[X86_R11];
    bool to_64 = insn->opsize == 8;
    uint64_t target = to_64 ? cpu->gpr[X86_RCX] : (uint32_t)cpu->gpr[X86_RCX];
    if (!gva_is_canonical(target))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    if (!bt_long_mode(cpu))
        flags = bt_flags(cpu) | X86_FLAG_IF;
    set_flat(cpu, (to_64 ? code + 16 : code) | 3, (code + 8) | 3, 3, to_64);
    bt_set_flags(cpu, flags & (X86_FLAGS_STATUS | X86_FLAG_TF | X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_IOPL | X86_FLAG_NT | X86_FLAG_AC |
                               X86_FLAG_VIF | X86_FLAG_VIP | X86_FLAG_ID));
    cpu->step = (flags & X86_FLAG_TF) != 0;
    cpu->next_rip = target;
}

void ex_sysenter(BtCpu *cpu, const Insn *insn)
{
    unsigned code = cpu->sysenter_cs & 0xfffc;
    if (!code)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    bool is_long = bt_long_mode(cpu);
    set_flat(cpu, code, code + 8, 0, is_long);
    bt_set_flags(cpu, bt_flags(cpu) & ~(X86_FLAG_VM | X86_FLAG_IF | X86_FLAG_RF));
    cpu->gpr[X86_RSP] = is_long ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    cpu->next_rip = is_long ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
}

void ex_sysexit(BtCpu *cpu, const Insn *insn)
{
    unsigned code = cpu->sysenter_cs & 0xfffc;
    bool to_64 = insn->opsize == 8;
    if (!code)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    uint64_t rsp = to_64 ? cpu->gpr[X86_RCX] : (uint32_t)cpu->gpr[X86_RCX];
    uint64_t rip = to_64 ? cpu->gpr[X86_RDX] : (uint32_t)cpu->gpr[X86_RDX];
    if (!gva_is_canonical(rsp) || !gva_is_canonical(rip))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    code = to_64 ? code + 32 : code + 16;
    set_flat(cpu, code | 3, (code + 8) | 3, 3, to_64);
    cpu->gpr[X86_RSP] = rsp;
    cpu->next_rip = rip;
}

void ex_swapgs(BtCpu *cpu, const Insn *insn)
{
    bt_require_cpl0(cpu);
    uint64_t base = cpu->seg[X86_GS].base;
    cpu->seg[X86_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
}

static void check_fsgsbase(BtCpu *cpu)
{
    if (!(cpu->mmu.cr4 & X86_CR4_FSGSBASE))
        bt_raise(cpu, X86_EXC_UD);
}

/* F3 0F AE /0 RDFSBASE, /1 RDGSBASE, /2 WRFSBASE, /3 WRGSBASE. */
void ex_rdbase(BtCpu *cpu, const Insn *insn)
{
    check_fsgsbase(cpu);
    bt_set_reg(cpu, insn->rm, insn->w ? 8 : 4, cpu->seg[insn->reg & 1 ? X86_GS : X86_FS].base);
}

void ex_wrbase(BtCpu *cpu, const Insn *insn)
{
    check_fsgsbase(cpu);
    uint64_t base = bt_get_reg(cpu, insn->rm, insn->w ? 8 : 4);
    if (!gva_is_canonical(base))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    cpu->seg[insn->reg & 1 ? X86_GS : X86_FS].base = base;
}

/* CPUID 0xd/1 EAX bit 2. */
static bool has_xgetbv1(const BtCpu *cpu)
{
    for (unsigned i = 0; cpu->cpuid && i < cpu->cpuid->nleaves; i++)
        if (cpu->cpuid->leaf[i].leaf == 0xd && cpu->cpuid->leaf[i].subleaf == 1)
            return cpu->cpuid->leaf[i].eax & 4;
    return false;
}

void ex_xgetbv(BtCpu *cpu, const Insn *insn)
{
    uint32_t index = (uint32_t)cpu->gpr[X86_RCX];
    uint64_t value = cpu->xcr0;
    if (!(cpu->mmu.cr4 & X86_CR4_OSXSAVE))
        bt_raise(cpu, X86_EXC_UD);
    if (index == 1 && has_xgetbv1(cpu)) {
        /* XINUSE: what is not in its initial state.  Saying "all in use" is always allowed (SDM 1 13.6). */
        value = cpu->xcr0;
    } else if (index != 0) {
        bt_raise_code(cpu, X86_EXC_GP, 0);
    }
    cpu->gpr[X86_RAX] = (uint32_t)value;
    cpu->gpr[X86_RDX] = value >> 32;
}

void ex_xsetbv(BtCpu *cpu, const Insn *insn)
{
    uint64_t value = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
    if (!(cpu->mmu.cr4 & X86_CR4_OSXSAVE))
        bt_raise(cpu, X86_EXC_UD);
    bt_require_cpl0(cpu);
    uint64_t supported = cpu->cpuid ? cpu->cpuid->xcr0_mask : 3;
    if ((uint32_t)cpu->gpr[X86_RCX] != 0 || value & ~supported || !(value & 1) || (value & 6) == 4 ||
        (value & 0xe0 && (value & 0xe6) != 0xe6))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    cpu->xcr0 = value;
    cpu->mode_dirty = true;
}

/* RDPKRU, WRPKRU: at any CPL.  Source: SDM 2B. */
static void check_pkru(BtCpu *cpu, bool is_fine)
{
    if (!(cpu->mmu.cr4 & X86_CR4_PKE))
        bt_raise(cpu, X86_EXC_UD);
    if (!is_fine)
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

void ex_rdpkru(BtCpu *cpu, const Insn *insn)
{
    check_pkru(cpu, (uint32_t)cpu->gpr[X86_RCX] == 0);
    cpu->gpr[X86_RAX] = cpu->mmu.pkru;
    cpu->gpr[X86_RDX] = 0;
}

void ex_wrpkru(BtCpu *cpu, const Insn *insn)
{
    check_pkru(cpu, (uint32_t)cpu->gpr[X86_RCX] == 0 && (uint32_t)cpu->gpr[X86_RDX] == 0);
    mmu_set_keys(&cpu->mmu, (uint32_t)cpu->gpr[X86_RAX], cpu->mmu.pkrs);
}
