/*
 * Vector instructions that touch memory only where a mask says: gathers, VMASKMOV, MASKMOVQ and MASKMOVDQU.
 *
 * They work on the parked XSAVE image, element by element.  A gather is restartable: what was loaded before a fault is in the
 * destination, and its mask element is clear.  Compiled like all exec-*.c: no vector instruction, no libc.
 * Source: SDM 2D VGATHERDPS and the others named; SDM 1 13.4 (XSAVE layout).
 */
#include "bt/insn-table.h"
#include "bt/mem.h"

#define XSAVE_ST     32
#define XSAVE_XMM    160
#define XSAVE_HEADER 512
#define XSAVE_YMM    576
#define XSTATE_X87   1u
#define XSTATE_SSE   2u
#define XSTATE_AVX   4u
#define XSTATE_ZMM   0x40u

/* Where ZMM_Hi256 is; it differs between vendors. */
static unsigned zmm_offset(void)
{
    static unsigned offset;
    if (!offset) {
        uint32_t a = 0xd, b, c = 6, d;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        offset = b;
    }
    return offset;
}

static uint64_t *xstate_bv(BtCpu *cpu) { return (uint64_t *)(cpu->xsave + XSAVE_HEADER); }

/* One vector register, 32 bytes, out of the image and back. */
static void vector_read(BtCpu *cpu, unsigned reg, uint8_t *out)
{
    mem_clear(out, 32);
    if (*xstate_bv(cpu) & XSTATE_SSE)
        mem_copy(out, cpu->xsave + XSAVE_XMM + 16 * reg, 16);
    if (*xstate_bv(cpu) & XSTATE_AVX)
        mem_copy(out + 16, cpu->xsave + XSAVE_YMM + 16 * reg, 16);
}

/* A VEX write: everything above @in's 32 bytes becomes zero. */
static void vector_write(BtCpu *cpu, unsigned reg, const uint8_t *in)
{
    uint64_t *bv = xstate_bv(cpu);
    if (!(*bv & XSTATE_SSE))
        mem_clear(cpu->xsave + XSAVE_XMM, 256);
    if (!(*bv & XSTATE_AVX))
        mem_clear(cpu->xsave + XSAVE_YMM, 256);
    *bv |= XSTATE_SSE | XSTATE_AVX;
    mem_copy(cpu->xsave + XSAVE_XMM + 16 * reg, in, 16);
    mem_copy(cpu->xsave + XSAVE_YMM + 16 * reg, in + 16, 16);
    if (*bv & XSTATE_ZMM)
        mem_clear(cpu->xsave + zmm_offset() + 32 * reg, 32);
}

static bool element_selected(const uint8_t *mask, unsigned i, unsigned size) { return mask[i * size + size - 1] & 0x80; }

static uint64_t address_cut(const Insn *insn, uint64_t offset)
{
    return insn->addrsize == 8 ? offset : insn->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

void ex_gather(BtCpu *cpu, const Insn *insn)
{
    unsigned data_size = insn->w ? 8 : 4, index_size = insn->opcode & 1 ? 8 : 4, length = 16u << insn->vex_l;
    unsigned count = length / (data_size > index_size ? data_size : index_size);
    unsigned mask_reg = insn->vvvv, index_reg = (unsigned)insn->index;
    if (insn->addrsize == 2 || (insn->modrm & 7) != 4 || insn->reg == mask_reg || insn->reg == index_reg ||
        mask_reg == index_reg)
        bt_raise(cpu, X86_EXC_UD);

    bt_fpu_park(cpu);
    uint8_t data[32], mask[32], index[32];
    vector_read(cpu, insn->reg, data);
    vector_read(cpu, mask_reg, mask);
    vector_read(cpu, index_reg, index);
    mem_clear(data + count * data_size, 32 - count * data_size);
    mem_clear(mask + count * data_size, 32 - count * data_size);
    uint64_t base = bt_effective_address(cpu, insn);
    for (unsigned i = 0; i < count; i++) {
        if (!element_selected(mask, i, data_size)) {
            host_store(mask + i * data_size, data_size, 0);
            continue;
        }
        int64_t scaled = index_size == 8 ? *(const int64_t *)(index + 8 * i) : *(const int32_t *)(index + 4 * i);
        uint64_t offset = address_cut(insn, base + (uint64_t)scaled * insn->scale);
        uint64_t value = bt_load(cpu, bt_linear(cpu, insn->segment, offset, data_size, MMU_READ), data_size);
        host_store(data + i * data_size, data_size, value);
        host_store(mask + i * data_size, data_size, 0);
        /* Kept up to date, because the next element may fault. */
        vector_write(cpu, insn->reg, data);
        vector_write(cpu, mask_reg, mask);
    }
    vector_write(cpu, insn->reg, data);
    vector_write(cpu, mask_reg, mask);
    bt_fpu_unpark(cpu);
}

/* VMASKMOVPS/PD, VPMASKMOVD/Q: the element size. */
static unsigned maskmov_size(const Insn *insn)
{
    if (insn->opcode >= 0x80)
        return insn->w ? 8 : 4;
    return insn->opcode & 1 ? 8 : 4;
}

void ex_maskmov_load(BtCpu *cpu, const Insn *insn)
{
    unsigned size = maskmov_size(insn), count = (16u << insn->vex_l) / size;
    bt_fpu_park(cpu);
    uint8_t data[32], mask[32];
    vector_read(cpu, insn->vvvv, mask);
    mem_clear(data, sizeof data);
    uint64_t base = bt_effective_address(cpu, insn);
    for (unsigned i = 0; i < count; i++) {
        if (!element_selected(mask, i, size))
            continue;
        Gva gva = bt_linear(cpu, insn->segment, address_cut(insn, base + i * size), size, MMU_READ);
        host_store(data + i * size, size, bt_load(cpu, gva, size));
    }
    vector_write(cpu, insn->reg, data);
    bt_fpu_unpark(cpu);
}

/* Stores the selected elements of @data; every one is probed before the first is written. */
static void store_selected(BtCpu *cpu, const Insn *insn, uint64_t base, const uint8_t *data, const uint8_t *mask, unsigned size,
                           unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!element_selected(mask, i, size))
            continue;
        Gva gva = bt_linear(cpu, insn->segment, address_cut(insn, base + i * size), size, MMU_WRITE);
        bt_probe(cpu, gva, size, MMU_WRITE, bt_mmu_index(cpu));
    }
    for (unsigned i = 0; i < count; i++) {
        if (!element_selected(mask, i, size))
            continue;
        Gva gva = bt_linear(cpu, insn->segment, address_cut(insn, base + i * size), size, MMU_WRITE);
        bt_store(cpu, gva, size, host_load(data + i * size, size));
    }
}

void ex_maskmov_store(BtCpu *cpu, const Insn *insn)
{
    unsigned size = maskmov_size(insn);
    bt_fpu_park(cpu);
    uint8_t data[32], mask[32];
    vector_read(cpu, insn->vvvv, mask);
    vector_read(cpu, insn->reg, data);
    store_selected(cpu, insn, bt_effective_address(cpu, insn), data, mask, size, (16u << insn->vex_l) / size);
    bt_fpu_unpark(cpu);
}

void ex_maskmovdqu(BtCpu *cpu, const Insn *insn)
{
    bt_fpu_park(cpu);
    uint8_t data[32], mask[32];
    vector_read(cpu, insn->reg, data);
    vector_read(cpu, insn->rm, mask);
    store_selected(cpu, insn, address_cut(insn, cpu->gpr[X86_RDI]), data, mask, 1, 16);
    bt_fpu_unpark(cpu);
}

void ex_maskmovq(BtCpu *cpu, const Insn *insn)
{
    bt_fpu_park(cpu);
    uint64_t *bv = xstate_bv(cpu);
    uint16_t *fcw = (uint16_t *)cpu->xsave, *fsw = fcw + 1;
    if (!(*bv & XSTATE_X87)) {
        mem_clear(cpu->xsave, 24);
        mem_clear(cpu->xsave + XSAVE_ST, 128);
        *fcw = 0x37f;
        *bv |= XSTATE_X87;
    }
    /* The image is in stack order: MMn is physical register n, ST((n - TOP) mod 8). */
    unsigned top = (*fsw >> 11) & 7;
    uint8_t physical[128];
    for (unsigned n = 0; n < 8; n++)
        mem_copy(physical + 16 * n, cpu->xsave + XSAVE_ST + 16 * ((n - top) & 7), 16);
    store_selected(cpu, insn, address_cut(insn, cpu->gpr[X86_RDI]), physical + 16 * (insn->reg & 7), physical + 16 * (insn->rm & 7),
                   1, 8);
    /* Like every MMX instruction: TOP = 0, all tags valid (SDM 1 9.5.1). */
    mem_copy(cpu->xsave + XSAVE_ST, physical, sizeof physical);
    *fsw = (uint16_t)(*fsw & ~0x3800u);
    cpu->xsave[4] = 0xff;
    bt_fpu_unpark(cpu);
}
