/*
 * AVX-512 and memory: accesses of which a mask register selects the elements, where translated code's fast path does not do, and gathers
 * and scatters.
 *
 * Only the selected elements exist: the others neither fault nor are read or written, also where they lie on another page or in a
 * device.  Gathers and scatters are restartable: what was done before a fault stays, and its mask bit is clear.
 * Source: SDM 2A 2.8 (fault suppression), 2C VPGATHERDD and VPSCATTERDD.
 */
#include "bt/exec-mask.h"

#include "bt/exec.h"
#include "bt/insn-table.h"
#include "bt/mem.h"
#include "bt/translate.h"

#define EIGHT(ROW) ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7)
#define THIRTYTWO(ROW) EIGHT(ROW) ROW(8) ROW(9) ROW(10) ROW(11) ROW(12) ROW(13) ROW(14) ROW(15) ROW(16) ROW(17) ROW(18) ROW(19) ROW(20) \
    ROW(21) ROW(22) ROW(23) ROW(24) ROW(25) ROW(26) ROW(27) ROW(28) ROW(29) ROW(30) ROW(31)

typedef struct Zmm { uint8_t byte[64]; } Zmm;

static void zmm_read(unsigned reg, Zmm *out)
{
    switch (reg) {
#define ROW(n) case n: __asm__ volatile("vmovdqu64 %%zmm" #n ", %0" : "=m"(*out)); break;
    THIRTYTWO(ROW)
#undef ROW
    }
}

static void zmm_write(unsigned reg, const Zmm *in)
{
    switch (reg) {
#define ROW(n) case n: __asm__ volatile("vmovdqu64 %0, %%zmm" #n : : "m"(*in)); break;
    THIRTYTWO(ROW)
#undef ROW
    }
}

/* All 64 bits; cpuid.c offers no AVX-512 without BW. */
static uint64_t mask_read(unsigned reg)
{
    uint64_t mask = 0;
    switch (reg) {
#define ROW(n) case n: __asm__ volatile("kmovq %%k" #n ", %0" : "=r"(mask)); break;
    EIGHT(ROW)
#undef ROW
    }
    return mask;
}

static void mask_write(unsigned reg, uint64_t mask)
{
    switch (reg) {
#define ROW(n) case n: __asm__ volatile("kmovq %0, %%k" #n : : "r"(mask)); break;
    EIGHT(ROW)
#undef ROW
    }
}

void bt_zmm_merge(unsigned reg, const uint8_t low[32])
{
    Zmm whole;
    zmm_read(reg, &whole);
    mem_copy(&whole, low, 32);
    zmm_write(reg, &whole);
}

/* One bit for each element in memory that the mask of the access @desc selects. */
static uint64_t selected_elements(uint32_t desc)
{
    unsigned nbits = ACCESS_MASK_BITS(desc), n = ACCESS_SIZE(desc) / ACCESS_ELEMENT(desc);
    uint64_t mask = mask_read(ACCESS_MASK(desc)), selected = 0;
    if (nbits < 64)
        mask &= ((uint64_t)1 << nbits) - 1;
    if (desc & ACCESS_PACKED) {
        __asm__("pext %1, %2, %0" : "=r"(selected) : "r"(mask), "r"(~(uint64_t)0));
        return selected;
    }
    if (n >= nbits)
        return mask;
    for (unsigned i = 0; i < nbits; i++) /* broadcasts */
        selected |= (mask >> i & 1) << i % n;
    return selected;
}

static Gva element_address(BtCpu *cpu, Gva gva, uint32_t desc, unsigned i)
{
    unsigned size = ACCESS_ELEMENT(desc);
    gva += i * size;
    if (!(cpu->mode & MODE_CODE64))
        return (uint32_t)gva;
    if (!gva_is_canonical(gva) || !gva_is_canonical(gva + size - 1))
        bt_raise_code(cpu, desc & ACCESS_STACK ? X86_EXC_SS : X86_EXC_GP, 0);
    return gva;
}

uint8_t *bt_mask_direct(BtCpu *cpu, Gva gva, uint32_t desc)
{
    uint64_t selected = selected_elements(desc);
    unsigned size = ACCESS_ELEMENT(desc);
    if (!selected || (cpu->mode & (MODE_CODE64 | MODE_ALIGN | MODE_DEBUG)) != MODE_CODE64)
        return NULL;
    Gva first = gva + (unsigned)__builtin_ctzll(selected) * size, last = gva + (64 - (unsigned)__builtin_clzll(selected)) * size - 1;
    MmuFill fill;
    if (page_of(first) != page_of(last) || !gva_is_canonical(first) ||
        mmu_fill(&cpu->mmu, first, desc & ACCESS_WRITE ? MMU_WRITE : MMU_READ, bt_mmu_index(cpu), &fill) != MMU_RAM)
        return NULL;
    return (uint8_t *)((uintptr_t)fill.host - (uintptr_t)(first - gva));
}

uint8_t *bt_mask_begin(BtCpu *cpu, Gva gva, uint32_t desc)
{
    unsigned size = ACCESS_ELEMENT(desc);
    uint8_t *bounce = cpu->bounce + (gva & 63); /* alignment faults stay what they are */
    uint64_t selected = selected_elements(desc);
    for (unsigned i = 0; selected >> i; i++) {
        if (selected >> i & 1) {
            Gva at = element_address(cpu, gva, desc, i);
            if (!(desc & ACCESS_ALIGNED))
                bt_check_alignment(cpu, at, size);
            if (cpu->mode & MODE_DEBUG)
                bt_debug_access(cpu, at, size, desc & ACCESS_WRITE);
            if (desc & ACCESS_WRITE)
                bt_probe(cpu, at, size, MMU_WRITE, bt_mmu_index(cpu));
            else
                host_store(bounce + i * size, size, bt_load_as(cpu, at, size, bt_mmu_index(cpu)));
        }
        if (i == 63)
            break;
    }
    if (desc & ACCESS_WRITE) {
        cpu->commit_kind = COMMIT_MASKED;
        cpu->commit_gva = gva;
        cpu->commit_desc = desc;
    }
    return bounce;
}

void bt_mask_commit(BtCpu *cpu)
{
    uint32_t desc = cpu->commit_desc;
    unsigned size = ACCESS_ELEMENT(desc);
    const uint8_t *bounce = cpu->bounce + (cpu->commit_gva & 63);
    uint64_t selected = selected_elements(desc);
    for (unsigned i = 0; i < 64; i++)
        if (selected >> i & 1)
            bt_store_as(cpu, element_address(cpu, cpu->commit_gva, desc, i), size, host_load(bounce + i * size, size), bt_mmu_index(cpu));
}

typedef struct Vsib {
    unsigned data_size, index_size, count, mask_reg;
    uint64_t base, mask;
    Zmm index;
} Vsib;

static void vsib_begin(BtCpu *cpu, const Insn *insn, Vsib *out)
{
    bool is_load = insn->row->access == ACC_R;
    out->data_size = insn->w ? 8 : 4;
    out->index_size = insn->opcode & 1 ? 8 : 4;
    out->count = (16u << insn->vex_l) / (out->data_size > out->index_size ? out->data_size : out->index_size);
    out->mask_reg = insn->evex[2] & 7;
    bool is_broadcast = insn->evex[2] & 0x10, is_zeroing = insn->evex[2] & 0x80;
    if (insn->addrsize == 2 || (insn->modrm & 7) != 4 || out->mask_reg == 0 || is_broadcast || is_zeroing || (insn->vvvv & 15) != 0 ||
        (is_load && insn->reg == (unsigned)insn->index))
        bt_raise(cpu, X86_EXC_UD);
    zmm_read((unsigned)insn->index, &out->index);
    out->mask = mask_read(out->mask_reg);
    out->base = bt_effective_address(cpu, insn);
}

static Gva vsib_address(BtCpu *cpu, const Insn *insn, const Vsib *v, unsigned i, MmuAccess access)
{
    int64_t scaled = v->index_size == 8 ? (int64_t)host_load(v->index.byte + 8 * i, 8) : (int32_t)host_load(v->index.byte + 4 * i, 4);
    uint64_t offset = v->base + (uint64_t)scaled * insn->scale;
    return bt_linear(cpu, insn->segment, insn->addrsize == 8 ? offset : (uint32_t)offset, v->data_size, access);
}

void ex_gather_masked(BtCpu *cpu, const Insn *insn)
{
    Vsib v;
    Zmm data;
    vsib_begin(cpu, insn, &v);
    zmm_read(insn->reg, &data);
    unsigned length = 16u << insn->vex_l;
    mem_clear(data.byte + length, sizeof data - length); /* with the first element that is loaded */
    for (unsigned i = 0; i < v.count; i++) {
        if (!(v.mask >> i & 1))
            continue;
        uint64_t value = bt_load_element(cpu, vsib_address(cpu, insn, &v, i, MMU_READ), v.data_size);
        host_store(data.byte + i * v.data_size, v.data_size, value);
        v.mask &= ~((uint64_t)1 << i);
        zmm_write(insn->reg, &data); /* kept up to date, because the next element may fault */
        mask_write(v.mask_reg, v.mask);
        cpu->is_partial = true;
    }
    cpu->is_partial = false;
    mem_clear(data.byte + v.count * v.data_size, sizeof data - v.count * v.data_size);
    zmm_write(insn->reg, &data);
    mask_write(v.mask_reg, 0);
}

void ex_scatter(BtCpu *cpu, const Insn *insn)
{
    Vsib v;
    Zmm data;
    vsib_begin(cpu, insn, &v);
    zmm_read(insn->reg, &data);
    for (unsigned i = 0; i < v.count; i++) {
        if (!(v.mask >> i & 1))
            continue;
        bt_store_element(cpu, vsib_address(cpu, insn, &v, i, MMU_WRITE), v.data_size, host_load(data.byte + i * v.data_size, v.data_size));
        v.mask &= ~((uint64_t)1 << i);
        mask_write(v.mask_reg, v.mask);
        cpu->is_partial = true;
    }
    cpu->is_partial = false;
    mask_write(v.mask_reg, 0);
}
