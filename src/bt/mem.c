#include "bt/mem.h"

/* A piece of an access that lies in one page. */
typedef struct Piece {
    MmuOutcome outcome;
    MmuFill fill;
} Piece;

static void piece_resolve(BtCpu *cpu, Gva gva, MmuAccess access, MmuIndex index, Piece *out)
{
    if (!gva_is_canonical(gva))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    out->outcome = mmu_fill(&cpu->mmu, gva, access, index, &out->fill);
    if (out->outcome == MMU_FAULT)
        bt_raise_pf(cpu, gva, out->fill.error_code);
}

/* An MMIO access of 3, 5, 6 or 7 bytes (part of one that crosses pages) goes byte by byte. */
static uint64_t piece_load(BtCpu *cpu, const Piece *piece, unsigned size)
{
    uint64_t value = 0;
    if (piece->outcome == MMU_MMIO) {
        if ((size & (size - 1)) == 0)
            return bt_host_call(cpu, host_mmio_read, piece->fill.gpa, size, 0);
        for (unsigned i = 0; i < size; i++)
            value |= (bt_host_call(cpu, host_mmio_read, piece->fill.gpa + i, 1, 0) & 0xff) << (8 * i);
        return value;
    }
    if ((size & (size - 1)) == 0)
        return host_load(piece->fill.host, size);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)piece->fill.host[i] << (8 * i);
    return value;
}

static void piece_store(BtCpu *cpu, const Piece *piece, unsigned size, uint64_t value)
{
    bool is_whole = (size & (size - 1)) == 0;
    switch (piece->outcome) {
    case MMU_RAM:
    case MMU_CODE:
        if (is_whole)
            host_store(piece->fill.host, size, value);
        else
            for (unsigned i = 0; i < size; i++)
                piece->fill.host[i] = (uint8_t)(value >> (8 * i));
        if (piece->outcome == MMU_CODE) {
            cpu->store_hit_code = true;
            bt_code_written(cpu, piece->fill.gpa, size);
        }
        break;
    case MMU_MMIO:
        if (is_whole)
            bt_host_call(cpu, host_mmio_write, piece->fill.gpa, size, value);
        else
            for (unsigned i = 0; i < size; i++)
                bt_host_call(cpu, host_mmio_write, piece->fill.gpa + i, 1, value >> (8 * i) & 0xff);
        break;
    case MMU_ROM:
    case MMU_FAULT:
        break;
    }
}

/* Address of the next page, wrapped as the mode wraps linear addresses. */
static Gva next_page(const BtCpu *cpu, Gva gva)
{
    Gva next = page_of(gva) + PAGE_SIZE;
    return bt_long_mode(cpu) ? next : (uint32_t)next;
}

uint64_t bt_load_slow(BtCpu *cpu, Gva gva, unsigned size, MmuIndex index)
{
    unsigned first = (unsigned)(PAGE_SIZE - page_offset(gva));
    Piece low, high;
    piece_resolve(cpu, gva, MMU_READ, index, &low);
    if (first >= size)
        return piece_load(cpu, &low, size);
    piece_resolve(cpu, next_page(cpu, gva), MMU_READ, index, &high);
    uint64_t value = piece_load(cpu, &low, first);
    return value | piece_load(cpu, &high, size - first) << (8 * first);
}

void bt_store_slow(BtCpu *cpu, Gva gva, unsigned size, uint64_t value, MmuIndex index)
{
    unsigned first = (unsigned)(PAGE_SIZE - page_offset(gva));
    Piece low, high;
    piece_resolve(cpu, gva, MMU_WRITE, index, &low);
    if (first >= size) {
        piece_store(cpu, &low, size, value);
        return;
    }
    piece_resolve(cpu, next_page(cpu, gva), MMU_WRITE, index, &high);
    piece_store(cpu, &low, first, value);
    piece_store(cpu, &high, size - first, value >> (8 * first));
}

void bt_probe(BtCpu *cpu, Gva gva, uint64_t size, MmuAccess access, MmuIndex index)
{
    Piece piece;
    while (size > 0) {
        uint64_t here = PAGE_SIZE - page_offset(gva);
        piece_resolve(cpu, gva, access, index, &piece);
        if (here >= size)
            return;
        size -= here;
        gva = next_page(cpu, gva);
    }
}

uint8_t *bt_host_page(BtCpu *cpu, Gva gva, MmuAccess access)
{
    MmuIndex index = bt_mmu_index(cpu);
    if (cpu->mode & MODE_DEBUG)
        return NULL;
    const TlbEntry *e = &cpu->mmu.tlb[index][(gva >> PAGE_SHIFT) % TLB_SIZE];
    uint64_t offset = gva - (access == MMU_WRITE ? e->tag_write : e->tag_read);
    if (offset < PAGE_SIZE)
        return e->host + offset;
    Piece piece;
    piece_resolve(cpu, gva, access, index, &piece);
    return piece.outcome == MMU_RAM ? piece.fill.host : NULL;
}

void bt_read_block(BtCpu *cpu, Gva gva, void *out, unsigned size)
{
    uint8_t *to = out;
    if (cpu->mode & MODE_DEBUG)
        bt_debug_access(cpu, gva, size, false);
    while (size > 0) {
        unsigned here = (unsigned)(PAGE_SIZE - page_offset(gva));
        here = here < size ? here : size;
        const uint8_t *from = bt_host_page(cpu, gva, MMU_READ);
        if (from)
            mem_copy(to, from, here);
        else
            for (unsigned i = 0; i < here; i++)
                to[i] = (uint8_t)bt_load_as(cpu, gva + i, 1, bt_mmu_index(cpu));
        to += here;
        size -= here;
        gva += here;
        if (!bt_long_mode(cpu))
            gva = (uint32_t)gva;
    }
}

void bt_write_block(BtCpu *cpu, Gva gva, const void *data, unsigned size)
{
    const uint8_t *from = data;
    bt_probe(cpu, gva, size, MMU_WRITE, bt_mmu_index(cpu));
    if (cpu->mode & MODE_DEBUG)
        bt_debug_access(cpu, gva, size, true);
    while (size > 0) {
        unsigned here = (unsigned)(PAGE_SIZE - page_offset(gva));
        here = here < size ? here : size;
        uint8_t *to = bt_host_page(cpu, gva, MMU_WRITE);
        if (to)
            mem_copy(to, from, here);
        else
            for (unsigned i = 0; i < here; i++)
                bt_store_as(cpu, gva + i, 1, from[i], bt_mmu_index(cpu));
        from += here;
        size -= here;
        gva += here;
        if (!bt_long_mode(cpu))
            gva = (uint32_t)gva;
    }
}

bool bt_segment_allows(const BtCpu *cpu, unsigned seg, uint32_t offset, uint64_t size, MmuAccess access)
{
    const X86Segment *s = &cpu->seg[seg];
    uint64_t last = (uint64_t)offset + size - 1;
    if (bt_is_real(cpu))
        return last <= s->limit;
    if (s->attr & X86_SEG_UNUSABLE)
        return false;
    if (s->attr & X86_SEG_CODE) {
        if (access == MMU_WRITE || (access == MMU_READ && !(s->attr & X86_SEG_READABLE)))
            return false;
        return last <= s->limit;
    }
    if (access == MMU_WRITE && !(s->attr & X86_SEG_WRITABLE))
        return false;
    if (s->attr & X86_SEG_EXPAND_DOWN)
        return offset > s->limit && last <= (s->attr & X86_SEG_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

Gva bt_linear(BtCpu *cpu, unsigned seg, uint64_t offset, unsigned size, MmuAccess access)
{
    const X86Segment *s = &cpu->seg[seg];
    if (bt_code64(cpu)) {
        Gva gva = seg == X86_FS || seg == X86_GS ? s->base + offset : offset;
        if (!gva_is_canonical(gva) || !gva_is_canonical(gva + size - 1))
            bt_raise_code(cpu, seg == X86_SS ? X86_EXC_SS : X86_EXC_GP, 0);
        return gva;
    }
    if (!bt_segment_allows(cpu, seg, (uint32_t)offset, size, access))
        bt_raise_code(cpu, seg == X86_SS ? X86_EXC_SS : X86_EXC_GP, 0);
    return (uint32_t)(s->base + offset);
}

uint64_t bt_effective_address(BtCpu *cpu, const Insn *insn)
{
    uint64_t offset = (uint64_t)(int64_t)insn->disp;
    if (insn->base == INSN_REG_RIP)
        offset += cpu->rip + insn->length;
    else if (insn->base >= 0)
        offset += cpu->gpr[insn->base];
    if (insn->index >= 0 && !insn->vsib)
        offset += cpu->gpr[insn->index] * insn->scale;
    if (insn->addrsize == 8)
        return offset;
    return insn->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

void bt_fpu_settle(BtCpu *cpu)
{
    enum { AT_BV = 512, AT_YMM = 576, YMM_SIZE = 256, YMM = 1 << 2, ZMM_HIGH = 1 << 6 };
    if ((cpu->xsave[AT_BV] & (YMM | ZMM_HIGH)) == ZMM_HIGH)
        mem_clear(cpu->xsave + AT_YMM, YMM_SIZE);
}

void bt_fpu_park(BtCpu *cpu)
{
    static const uint32_t default_mxcsr = 0x1f80;
    uint64_t mask = bt_fpu_mask(cpu);
    if (!cpu->fpu_live)
        return;
    if (cpu->has_xsaveopt) /* guests that do not use AVX-512 need not pay for it */
        __asm__ volatile("xsaveopt64 %0" : "+m"(cpu->xsave) : "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
    else
        __asm__ volatile("xsave64 %0" : "+m"(cpu->xsave) : "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
    __asm__ volatile("fninit; ldmxcsr %0" : : "m"(default_mxcsr));
    if (mask & 4)
        __asm__ volatile("vzeroupper");
    cpu->fpu_live = false;
}

void bt_fpu_unpark(BtCpu *cpu)
{
    uint64_t mask = bt_fpu_mask(cpu);
    if (cpu->fpu_live)
        return;
    bt_fpu_settle(cpu);
    __asm__ volatile("xrstor64 %0" : : "m"(cpu->xsave), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
    cpu->fpu_live = true;
}

uint64_t bt_host_call(BtCpu *cpu, BtHostFn fn, uint64_t a, uint64_t b, uint64_t c)
{
    if (!cpu->fpu_live)
        return fn(cpu, a, b, c);
    bt_fpu_park(cpu);
    uint64_t result = fn(cpu, a, b, c);
    bt_fpu_unpark(cpu);
    return result;
}
