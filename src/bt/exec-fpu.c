/*
 * Saving and restoring x87, SSE, AVX and AVX-512 state for the guest.
 *
 * The state is in the host's own registers; the host's FXSAVE/XSAVE/FNSAVE writes it to an aligned buffer, which is then laid out in guest
 * memory as the guest's mode asks.  Instruction and data pointers would be addresses of translated code: they read as
 * zero.  All guest memory is checked before the host's registers change.  Source: SDM 1 8.1.10 (x87), 10.5 (FXSAVE), 13 (XSAVE).
 */
#include "bt/exec.h"
#include "bt/insn-table.h"

/* Offsets in the FXSAVE and standard XSAVE image. */
enum { AT_OPCODE = 6, AT_POINTERS = 8, AT_MXCSR = 24, AT_MXCSR_MASK = 28, AT_X87 = 32, AT_XMM = 160, AT_HEADER = 512, AT_AVX = 576 };
enum { HEADER_BV = AT_HEADER, HEADER_COMP = AT_HEADER + 8 };
enum { COMP_X87 = 1, COMP_SSE = 2, COMP_AVX = 4, COMP_MASKS = 0x20, COMP_ALL = 0xe7, COMP_PKRU = 0x200 };

/* Components beyond the legacy area: AVX, opmask, upper halves of ZMM0–15, ZMM16–31. */
#define COMP_FIRST 2u
#define COMP_LAST  7u
#define PKRU_SIZE  8u
static const uint16_t comp_size[] = {0, 0, 256, 0, 0, 64, 512, 1024};

typedef struct Image {
    uint8_t bytes[X86_XSAVE_SIZE] __attribute__((aligned(64)));
} Image;

/* Where component @i is.  @format: the components of a compacted image, 0: standard format. */
static unsigned comp_at(const BtCpu *cpu, unsigned i, uint64_t format)
{
    unsigned at = AT_AVX;
    if (!format)
        return i == COMP_FIRST ? AT_AVX : cpu->xsave_at[i];
    for (unsigned k = COMP_FIRST; k < i; k++)
        at += format >> k & 1 ? comp_size[k] : 0; /* every size is a multiple of 64, so alignment adds nothing */
    return at;
}

/* Bytes of component @i that exist in the guest's mode: outside 64-bit code there are 8 registers. */
static unsigned comp_used(const BtCpu *cpu, unsigned i)
{
    bool is_64 = bt_code64(cpu);
    return is_64 || i == 5 ? comp_size[i] : i == 7 ? 0 : comp_size[i] / 2;
}

static unsigned pkru_at(const BtCpu *cpu, uint64_t format) { return format ? comp_at(cpu, COMP_LAST + 1, format) : cpu->xsave_at[9]; }

uint32_t bt_xsave_size(const BtCpu *cpu, uint64_t which, bool is_compact)
{
    unsigned end = AT_AVX;
    for (unsigned i = COMP_FIRST; i <= COMP_LAST; i++) {
        unsigned here = comp_at(cpu, i, is_compact ? which | 3 : 0) + comp_size[i];
        if (which >> i & 1 && here > end)
            end = here;
    }
    unsigned pkru_end = pkru_at(cpu, is_compact ? which : 0) + PKRU_SIZE;
    return which & COMP_PKRU && pkru_end > end ? pkru_end : end;
}

/* PKRU as a component: not in the host's registers, so beside the image. */
static void pkru_save(BtCpu *cpu, Gva gva, uint64_t which, uint64_t format)
{
    if (which & COMP_PKRU)
        bt_store(cpu, gva + pkru_at(cpu, format), PKRU_SIZE, cpu->mmu.pkru);
}

static uint64_t pkru_in_use(const BtCpu *cpu) { return cpu->mmu.pkru ? COMP_PKRU : 0; }

/* fpu_borrow: when the guest's state is parked (tests, the dispatcher), brings it into the registers.  Returns whether to park
 * it again.  Nothing between the two may raise. */
static bool fpu_borrow(BtCpu *cpu)
{
    if (cpu->fpu_live)
        return false;
    bt_fpu_unpark(cpu);
    return true;
}

static void fpu_return(BtCpu *cpu, bool was_parked)
{
    if (was_parked)
        bt_fpu_park(cpu);
}

/* image_take: the whole live state as a standard-format image. */
static void image_take(BtCpu *cpu, Image *out)
{
    uint64_t mask = bt_fpu_mask(cpu);
    bool was_parked = fpu_borrow(cpu);
    mem_clear(out->bytes + AT_HEADER, 64);
    __asm__ volatile("xsave64 %0" : "+m"(*out) : "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
    fpu_return(cpu, was_parked);
    host_store(out->bytes + AT_OPCODE, 2, 0);
    mem_clear(out->bytes + AT_POINTERS, 16);
}

/* image_put: loads the components @which from @image. */
static void image_put(BtCpu *cpu, const Image *image, uint64_t which)
{
    bool was_parked = fpu_borrow(cpu);
    which &= bt_fpu_mask(cpu);
    __asm__ volatile("xrstor64 %0" : : "m"(*image), "a"((uint32_t)which), "d"(0) : "memory");
    fpu_return(cpu, was_parked);
}

static uint32_t mxcsr_allowed(const Image *image)
{
    uint32_t mask = (uint32_t)host_load(image->bytes + AT_MXCSR_MASK, 4);
    return mask ? mask : 0xffbf;
}

static void check_task_switched(BtCpu *cpu, uint32_t bits)
{
    if (cpu->mmu.cr0 & bits)
        bt_raise(cpu, X86_EXC_NM);
}

void ex_fpu_check(BtCpu *cpu, const Insn *insn)
{
    uint32_t attr = insn->row ? insn->row->attr : A_X87;
    uint64_t cr0 = cpu->mmu.cr0;
    bool is_vex = insn->encoding != ENC_LEGACY;
    bool is_sse = attr & (A_SSE | A_AVX);
    uint64_t vex_xcr0 = attr & A_AVX512 ? 0xe6 : 6;
    if (is_sse && is_vex) {
        if (!(cpu->mmu.cr4 & X86_CR4_OSXSAVE) || (cpu->xcr0 & vex_xcr0) != vex_xcr0 || !bt_is_protected(cpu))
            bt_raise(cpu, X86_EXC_UD);
        check_task_switched(cpu, X86_CR0_TS);
    } else if (is_sse) {
        if (cr0 & X86_CR0_EM || !(cpu->mmu.cr4 & X86_CR4_OSFXSR))
            bt_raise(cpu, X86_EXC_UD);
        check_task_switched(cpu, X86_CR0_TS);
    } else if (attr & A_MMX) {
        if (cr0 & X86_CR0_EM)
            bt_raise(cpu, X86_EXC_UD);
        check_task_switched(cpu, X86_CR0_TS);
    } else if (attr & A_X87) {
        check_task_switched(cpu, X86_CR0_EM | X86_CR0_TS);
    }
}

/* XMM registers that exist in the guest's mode: 8 outside 64-bit code. */
static unsigned xmm_count(const BtCpu *cpu) { return bt_code64(cpu) ? 16 : 8; }

/* #AC at four bytes, else #GP (SDM 2A FXSAVE leaves the choice to the CPU; this is Zen 5's). */
static void check_fx_alignment(BtCpu *cpu, Gva gva)
{
    bt_check_alignment(cpu, gva, 4);
    if (gva & 15)
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

void ex_fxsave(BtCpu *cpu, const Insn *insn)
{
    Image image;
    check_task_switched(cpu, X86_CR0_EM | X86_CR0_TS);
    Gva gva = bt_operand(cpu, insn, 512, MMU_WRITE);
    check_fx_alignment(cpu, gva);
    bt_probe(cpu, gva, AT_XMM + 16 * 16, MMU_WRITE, bt_mmu_index(cpu));
    bool was_parked = fpu_borrow(cpu);
    __asm__ volatile("fxsave64 %0" : "=m"(image) : : "memory");
    fpu_return(cpu, was_parked);
    host_store(image.bytes + AT_OPCODE, 2, 0);
    mem_clear(image.bytes + AT_POINTERS, 16);
    bt_write_block(cpu, gva, image.bytes, AT_XMM + 16 * xmm_count(cpu));
}

void ex_fxrstor(BtCpu *cpu, const Insn *insn)
{
    Image image;
    check_task_switched(cpu, X86_CR0_EM | X86_CR0_TS);
    Gva gva = bt_operand(cpu, insn, 512, MMU_READ);
    check_fx_alignment(cpu, gva);
    image_take(cpu, &image);
    uint32_t allowed = mxcsr_allowed(&image);
    bt_read_block(cpu, gva, image.bytes, AT_XMM + 16 * xmm_count(cpu));
    if (host_load(image.bytes + AT_MXCSR, 4) & ~(uint64_t)allowed)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    mem_clear(image.bytes + AT_POINTERS, 16);
    bool was_parked = fpu_borrow(cpu);
    __asm__ volatile("fxrstor64 %0" : : "m"(image) : "memory");
    fpu_return(cpu, was_parked);
}

/* What XSAVE and XRSTOR check first; returns the requested components and the operand. */
static uint64_t xsave_begin(BtCpu *cpu, const Insn *insn, MmuAccess access, Gva *out_gva)
{
    if (!(cpu->mmu.cr4 & X86_CR4_OSXSAVE))
        bt_raise(cpu, X86_EXC_UD);
    check_task_switched(cpu, X86_CR0_TS);
    Gva gva = bt_operand(cpu, insn, AT_HEADER + 64, access);
    if (gva & 63)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    *out_gva = gva;
    uint64_t requested = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
    return requested & cpu->xcr0 & (COMP_ALL | COMP_PKRU);
}

/* Writes the components @which of @image; @mxcsr with its mask where asked. */
static void write_components(BtCpu *cpu, Gva gva, const Image *image, uint64_t which, bool with_mxcsr, uint64_t format)
{
    unsigned nxmm = xmm_count(cpu);
    if (which & COMP_X87) {
        bt_write_block(cpu, gva, image->bytes, AT_MXCSR);
        bt_write_block(cpu, gva + AT_X87, image->bytes + AT_X87, 128);
    }
    if (with_mxcsr)
        bt_write_block(cpu, gva + AT_MXCSR, image->bytes + AT_MXCSR, 8);
    if (which & COMP_SSE)
        bt_write_block(cpu, gva + AT_XMM, image->bytes + AT_XMM, 16 * nxmm);
    for (unsigned i = COMP_FIRST; i <= COMP_LAST; i++)
        if (which >> i & 1)
            bt_write_block(cpu, gva + comp_at(cpu, i, format), image->bytes + comp_at(cpu, i, 0), comp_used(cpu, i));
}

/* XSAVE writes every requested component, XSAVEOPT those not in their initial state. */
static void xsave_standard(BtCpu *cpu, const Insn *insn, bool only_in_use)
{
    Image image;
    Gva gva;
    uint64_t requested = xsave_begin(cpu, insn, MMU_WRITE, &gva);
    bt_probe(cpu, gva, bt_xsave_size(cpu, requested, false), MMU_WRITE, bt_mmu_index(cpu));
    uint64_t old_bv = bt_load(cpu, gva + HEADER_BV, 8);
    image_take(cpu, &image);
    uint64_t in_use = (host_load(image.bytes + HEADER_BV, 8) | pkru_in_use(cpu)) & requested;
    if (!only_in_use && requested & ~in_use) {
        /* The host may leave out what is initial; the guest is promised the bytes. */
        if (requested & ~in_use & COMP_X87) {
            mem_clear(image.bytes, AT_MXCSR);
            host_store(image.bytes, 2, 0x37f);
            mem_clear(image.bytes + AT_X87, 128);
        }
        if (requested & ~in_use & COMP_SSE)
            mem_clear(image.bytes + AT_XMM, 256);
        for (unsigned i = COMP_FIRST; i <= COMP_LAST; i++)
            if ((requested & ~in_use) >> i & 1)
                mem_clear(image.bytes + comp_at(cpu, i, 0), comp_size[i]);
    }
    write_components(cpu, gva, &image, only_in_use ? in_use : requested, requested & (COMP_SSE | COMP_AVX), 0);
    pkru_save(cpu, gva, only_in_use ? in_use : requested, 0);
    bt_store(cpu, gva + HEADER_BV, 8, (old_bv & ~requested) | in_use);
}

void ex_xsave(BtCpu *cpu, const Insn *insn) { xsave_standard(cpu, insn, false); }

/* Bit @bit of CPUID 0xd/1 EAX: 0 XSAVEOPT, 1 XSAVEC. */
static void check_xsave_feature(BtCpu *cpu, unsigned bit)
{
    const CpuidModel *model = cpu->cpuid;
    for (unsigned i = 0; model && i < model->nleaves; i++)
        if (model->leaf[i].leaf == 0xd && model->leaf[i].subleaf == 1 && !(model->leaf[i].eax >> bit & 1))
            bt_raise(cpu, X86_EXC_UD);
}

void ex_xsaveopt(BtCpu *cpu, const Insn *insn)
{
    check_xsave_feature(cpu, 0);
    xsave_standard(cpu, insn, true);
}

/* Compacted: the requested components stand one behind the other. */
void ex_xsavec(BtCpu *cpu, const Insn *insn)
{
    Image image;
    Gva gva;
    check_xsave_feature(cpu, 1);
    uint64_t requested = xsave_begin(cpu, insn, MMU_WRITE, &gva);
    bt_probe(cpu, gva, bt_xsave_size(cpu, requested, true), MMU_WRITE, bt_mmu_index(cpu));
    image_take(cpu, &image);
    uint64_t in_use = (host_load(image.bytes + HEADER_BV, 8) | pkru_in_use(cpu)) & requested;
    if (requested & COMP_SSE && host_load(image.bytes + AT_MXCSR, 4) != 0x1f80)
        in_use |= COMP_SSE;
    write_components(cpu, gva, &image, in_use, in_use & COMP_SSE, requested | (uint64_t)1 << 63);
    pkru_save(cpu, gva, in_use, requested | (uint64_t)1 << 63);
    bt_store(cpu, gva + HEADER_BV, 8, in_use);
    bt_store(cpu, gva + HEADER_COMP, 8, requested | (uint64_t)1 << 63);
}

void ex_xrstor(BtCpu *cpu, const Insn *insn)
{
    Image image, memory;
    Gva gva;
    uint64_t requested = xsave_begin(cpu, insn, MMU_READ, &gva);
    bt_read_block(cpu, gva, memory.bytes, AT_HEADER + 64);
    uint64_t bv = host_load(memory.bytes + HEADER_BV, 8), comp = host_load(memory.bytes + HEADER_COMP, 8);
    bool is_compact = comp >> 63;
    uint64_t format = is_compact ? comp & ~((uint64_t)1 << 63) : cpu->xcr0;
    uint64_t reserved = is_compact ? 0 : comp | host_load(memory.bytes + HEADER_BV + 16, 8);
    if (is_compact)
        for (unsigned i = 16; i < 64; i += 8)
            reserved |= host_load(memory.bytes + AT_HEADER + i, 8);
    if (reserved || format & ~cpu->xcr0 || bv & ~format)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    for (unsigned i = COMP_FIRST; i <= COMP_LAST; i++)
        if ((requested & bv) >> i & 1)
            bt_read_block(cpu, gva + comp_at(cpu, i, is_compact ? comp : 0), memory.bytes + comp_at(cpu, i, 0), comp_used(cpu, i));
    uint32_t pkru = requested & bv & COMP_PKRU ? (uint32_t)bt_load(cpu, gva + pkru_at(cpu, is_compact ? comp : 0), 4) : 0;
    bool takes_pkru = requested & COMP_PKRU;
    requested &= COMP_ALL;

    unsigned xmm_bytes = 16 * xmm_count(cpu);
    uint64_t initial = requested & ~bv, loaded = requested & bv;
    image_take(cpu, &image);
    uint64_t image_bv = host_load(image.bytes + HEADER_BV, 8);
    bool from_memory = is_compact ? loaded & COMP_SSE : requested & (COMP_SSE | COMP_AVX);
    if (from_memory) {
        uint64_t mxcsr = host_load(memory.bytes + AT_MXCSR, 4);
        if (mxcsr & ~(uint64_t)mxcsr_allowed(&image))
            bt_raise_code(cpu, X86_EXC_GP, 0);
        host_store(image.bytes + AT_MXCSR, 4, mxcsr);
    } else if (initial & COMP_SSE) {
        host_store(image.bytes + AT_MXCSR, 4, 0x1f80);
    }
    if (loaded & COMP_X87) {
        mem_copy(image.bytes, memory.bytes, AT_POINTERS);
        mem_copy(image.bytes + AT_X87, memory.bytes + AT_X87, 128);
    }
    if (requested & COMP_SSE && !(image_bv & COMP_SSE))
        mem_clear(image.bytes + AT_XMM, 256);
    if (loaded & COMP_SSE)
        mem_copy(image.bytes + AT_XMM, memory.bytes + AT_XMM, xmm_bytes);
    else if (initial & COMP_SSE)
        mem_clear(image.bytes + AT_XMM, xmm_bytes);
    for (unsigned i = COMP_FIRST; i <= COMP_LAST; i++) {
        uint8_t *at = image.bytes + comp_at(cpu, i, 0);
        if (!(requested >> i & 1))
            continue;
        if (!(image_bv >> i & 1))
            mem_clear(at, comp_size[i]);
        if (loaded >> i & 1)
            mem_copy(at, memory.bytes + comp_at(cpu, i, 0), comp_used(cpu, i));
        else
            mem_clear(at, comp_used(cpu, i));
    }
    /* Registers 8–31 survive outside 64-bit code, so those components are always loaded as data there. */
    uint64_t whole = bt_code64(cpu) ? COMP_ALL : COMP_X87 | COMP_MASKS;
    image_bv |= loaded | (initial & ~whole);
    image_bv &= ~(initial & whole);
    host_store(image.bytes + HEADER_BV, 8, image_bv);
    image_put(cpu, &image, requested);
    if (takes_pkru)
        mmu_set_keys(&cpu->mmu, pkru, cpu->mmu.pkrs);
}

/* An unmasked x87 exception waits: FLDENV and FRSTOR report it first. */
static void check_x87_pending(BtCpu *cpu)
{
    uint16_t status;
    bool was_parked = fpu_borrow(cpu);
    __asm__ volatile("fnstsw %0" : "=m"(status));
    fpu_return(cpu, was_parked);
    if (status & 0x80)
        bt_raise(cpu, X86_EXC_MF);
}

/* The environment: seven items; the host writes the 32-bit protected-mode form (SDM 1 figure 8-9). */
enum { ENV_SIZE = 28, ENV_SIZE_16 = 14, REGS_SIZE = 80 };

static unsigned env_size(const Insn *insn) { return insn->opsize == 2 ? ENV_SIZE_16 : ENV_SIZE; }

/* 32-bit form → the guest's, in place, with the pointers cleared. */
static void env_narrow(uint8_t *env, unsigned size)
{
    mem_clear(env + 12, 16);
    if (size == ENV_SIZE_16) {
        uint64_t control = host_load(env, 2), status = host_load(env + 4, 2), tag = host_load(env + 8, 2);
        mem_clear(env, ENV_SIZE);
        host_store(env, 2, control);
        host_store(env + 2, 2, status);
        host_store(env + 4, 2, tag);
    } else {
        host_store(env + 26, 2, 0xffff); /* reserved: reads as ones (SDM 1 figure 8-9) */
    }
}

static void env_widen(uint8_t *env, unsigned size)
{
    if (size == ENV_SIZE_16) {
        uint64_t control = host_load(env, 2), status = host_load(env + 2, 2), tag = host_load(env + 4, 2);
        mem_clear(env, ENV_SIZE);
        host_store(env, 2, control);
        host_store(env + 4, 2, status);
        host_store(env + 8, 2, tag);
    }
    mem_clear(env + 12, 16);
}

/* The operand of FNSTENV and the like; its fields are aligned at two or four bytes (SDM 3A table 6-7). */
static Gva env_operand(BtCpu *cpu, const Insn *insn, unsigned size, MmuAccess access)
{
    Gva gva = bt_operand(cpu, insn, size, access);
    bt_check_alignment(cpu, gva, env_size(insn) == ENV_SIZE ? 4 : 2);
    return gva;
}

void ex_fnstenv(BtCpu *cpu, const Insn *insn)
{
    uint8_t env[ENV_SIZE];
    unsigned size = env_size(insn);
    check_task_switched(cpu, X86_CR0_EM | X86_CR0_TS);
    Gva gva = env_operand(cpu, insn, size, MMU_WRITE);
    bt_probe(cpu, gva, size, MMU_WRITE, bt_mmu_index(cpu));
    bool was_parked = fpu_borrow(cpu);
    __asm__ volatile("fnstenv %0" : "=m"(env) : : "memory");
    fpu_return(cpu, was_parked);
    env_narrow(env, size);
    bt_write_block(cpu, gva, env, size);
}

void ex_fldenv(BtCpu *cpu, const Insn *insn)
{
    uint8_t env[ENV_SIZE];
    unsigned size = env_size(insn);
    check_task_switched(cpu, X86_CR0_EM | X86_CR0_TS);
    check_x87_pending(cpu);
    bt_read_block(cpu, env_operand(cpu, insn, size, MMU_READ), env, size);
    env_widen(env, size);
    bool was_parked = fpu_borrow(cpu);
    __asm__ volatile("fldenv %0" : : "m"(env) : "memory");
    fpu_return(cpu, was_parked);
}

void ex_fnsave(BtCpu *cpu, const Insn *insn)
{
    uint8_t area[ENV_SIZE + REGS_SIZE];
    unsigned size = env_size(insn);
    check_task_switched(cpu, X86_CR0_EM | X86_CR0_TS);
    Gva gva = env_operand(cpu, insn, size + REGS_SIZE, MMU_WRITE);
    bt_probe(cpu, gva, size + REGS_SIZE, MMU_WRITE, bt_mmu_index(cpu));
    bool was_parked = fpu_borrow(cpu);
    __asm__ volatile("fnsave %0" : "=m"(area) : : "memory");
    fpu_return(cpu, was_parked);
    env_narrow(area, size);
    bt_write_block(cpu, gva + size, area + ENV_SIZE, REGS_SIZE);
    bt_write_block(cpu, gva, area, size);
}

void ex_frstor(BtCpu *cpu, const Insn *insn)
{
    uint8_t area[ENV_SIZE + REGS_SIZE];
    unsigned size = env_size(insn);
    check_task_switched(cpu, X86_CR0_EM | X86_CR0_TS);
    check_x87_pending(cpu);
    Gva gva = env_operand(cpu, insn, size + REGS_SIZE, MMU_READ);
    bt_read_block(cpu, gva, area, size);
    bt_read_block(cpu, gva + size, area + ENV_SIZE, REGS_SIZE);
    env_widen(area, size);
    bool was_parked = fpu_borrow(cpu);
    __asm__ volatile("frstor %0" : : "m"(area) : "memory");
    fpu_return(cpu, was_parked);
}
