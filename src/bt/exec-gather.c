/*
 * Vector instructions that touch memory only where a mask says: gathers, VMASKMOV, MASKMOVQ and MASKMOVDQU.
 *
 * They read and write the guest's registers where they are, in the host's, so that a fault in mid-way leaves nothing parked.  A
 * gather is restartable: what was loaded before a fault is in the destination, and its mask element is clear.
 * Source: SDM 2D VGATHERDPS and the others named; SDM 1 9.5.1 (MMX and the x87 tags).
 */
#include "bt/exec-mask.h"
#include "bt/insn-table.h"
#include "bt/mem.h"

#define SIXTEEN(ROW) ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7) ROW(8) ROW(9) ROW(10) ROW(11) ROW(12) ROW(13) ROW(14) ROW(15)

typedef struct Vector { uint8_t byte[32]; } Vector;

/* YMM register @reg, as it is in the host's registers. */
static void vector_read(unsigned reg, Vector *out)
{
    switch (reg) {
#define ROW(n) case n: __asm__ volatile("vmovdqu %%ymm" #n ", %0" : "=m"(*out)); break;
    SIXTEEN(ROW)
#undef ROW
    }
}

/* A VEX write: everything above @in's 32 bytes becomes zero. */
static void vector_write(unsigned reg, const Vector *in)
{
    switch (reg) {
#define ROW(n) case n: __asm__ volatile("vmovdqu %0, %%ymm" #n : : "m"(*in)); break;
    SIXTEEN(ROW)
#undef ROW
    }
}

/* XMM register: the legacy MASKMOVDQU must run without AVX too. */
static void vector_read_low(unsigned reg, Vector *out)
{
    switch (reg) {
#define ROW(n) case n: __asm__ volatile("movdqu %%xmm" #n ", %0" : "=m"(*out)); break;
    SIXTEEN(ROW)
#undef ROW
    }
}

/* A register of a gather that may yet fault: what is above goes only when it is through. */
static void register_progress(const BtCpu *cpu, unsigned reg, const Vector *in)
{
    if (bt_fpu_mask(cpu) & 0x40)
        bt_zmm_merge(reg, in->byte);
    else
        vector_write(reg, in);
}

static bool element_selected(const Vector *mask, unsigned i, unsigned size) { return mask->byte[i * size + size - 1] & 0x80; }

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

    Vector data, mask, index;
    vector_read(insn->reg, &data);
    vector_read(mask_reg, &mask);
    vector_read(index_reg, &index);
    uint64_t base = bt_effective_address(cpu, insn);
    for (unsigned i = 0; i < count; i++) {
        if (element_selected(&mask, i, data_size)) {
            int64_t scaled = index_size == 8 ? (int64_t)host_load(index.byte + 8 * i, 8) : (int32_t)host_load(index.byte + 4 * i, 4);
            uint64_t offset = address_cut(insn, base + (uint64_t)scaled * insn->scale);
            uint64_t value = bt_load_element(cpu, bt_linear(cpu, insn->segment, offset, data_size, MMU_READ), data_size);
            host_store(data.byte + i * data_size, data_size, value);
            register_progress(cpu, insn->reg, &data);
            cpu->is_partial = true;
        }
        /* Kept up to date, because the next element may fault. */
        host_store(mask.byte + i * data_size, data_size, 0);
        register_progress(cpu, mask_reg, &mask);
    }
    cpu->is_partial = false;
    mem_clear(data.byte + count * data_size, 32 - count * data_size);
    mem_clear(&mask, sizeof mask);
    vector_write(insn->reg, &data);
    vector_write(mask_reg, &mask);
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
    Vector data = {{0}}, mask;
    vector_read(insn->vvvv, &mask);
    uint64_t base = bt_effective_address(cpu, insn);
    for (unsigned i = 0; i < count; i++) {
        if (!element_selected(&mask, i, size))
            continue;
        Gva gva = bt_linear(cpu, insn->segment, address_cut(insn, base + i * size), size, MMU_READ);
        host_store(data.byte + i * size, size, bt_load_element(cpu, gva, size));
    }
    vector_write(insn->reg, &data);
}

/* Stores the selected elements of @data; every one is probed before the first is written. */
static void store_selected(BtCpu *cpu, const Insn *insn, uint64_t base, const Vector *data, const Vector *mask, unsigned size,
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
        bt_store_element(cpu, gva, size, host_load(data->byte + i * size, size));
    }
}

void ex_maskmov_store(BtCpu *cpu, const Insn *insn)
{
    unsigned size = maskmov_size(insn);
    Vector data, mask;
    vector_read(insn->vvvv, &mask);
    vector_read(insn->reg, &data);
    store_selected(cpu, insn, bt_effective_address(cpu, insn), &data, &mask, size, (16u << insn->vex_l) / size);
}

/* MASKMOVDQU and MASKMOVQ are subject to #AC as a whole, at eight bytes, whatever the mask (Zen 5). */
static uint64_t maskmov_address(BtCpu *cpu, const Insn *insn)
{
    uint64_t base = address_cut(insn, cpu->gpr[X86_RDI]);
    bt_check_alignment(cpu, bt_code64(cpu) && insn->segment != X86_FS && insn->segment != X86_GS ? base : base + cpu->seg[insn->segment].base, 8);
    return base;
}

void ex_maskmovdqu(BtCpu *cpu, const Insn *insn)
{
    Vector data, mask;
    vector_read_low(insn->reg, &data);
    vector_read_low(insn->rm, &mask);
    store_selected(cpu, insn, maskmov_address(cpu, insn), &data, &mask, 1, 16);
}

static void mmx_read(unsigned reg, Vector *out)
{
    switch (reg & 7) {
#define ROW(n) case n: __asm__ volatile("movq %%mm" #n ", %0" : "=m"(*out)); break;
    ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7)
#undef ROW
    }
}

void ex_maskmovq(BtCpu *cpu, const Insn *insn)
{
    uint16_t fsw;
    __asm__ volatile("fnstsw %0" : "=m"(fsw));
    if (fsw & 0x80) /* a pending x87 exception would hit the reads below */
        bt_raise(cpu, X86_EXC_MF);
    Vector data, mask;
    mmx_read(insn->reg, &data); /* also sets TOP = 0 and all tags valid, as MASKMOVQ does */
    mmx_read(insn->rm, &mask);
    store_selected(cpu, insn, maskmov_address(cpu, insn), &data, &mask, 1, 8);
}
