/* Which instructions and operands the verifier lets pass. */
#include "bt/verify-priv.h"

static const struct {
    uint32_t at, size;
} writable[] = {
#define FIELD(name) { offsetof(BtCpu, name), sizeof ((BtCpu *)0)->name }
    FIELD(gpr), FIELD(status_of), FIELD(status_ah), FIELD(eflags), FIELD(mode), FIELD(rip), FIELD(poll_window), FIELD(step), FIELD(scratch),
    FIELD(seg[X86_GS].base), FIELD(kernel_gs_base),
#undef FIELD
};

static bool field_is_writable(int64_t at, unsigned size)
{
    if (at == (int64_t)offsetof(BtCpu, status_of) && size == 2) /* both halves of the status flags */
        return true;
    for (size_t i = 0; i < G_N_ELEMENTS(writable); i++)
        if (at >= writable[i].at && at + size <= (int64_t)writable[i].at + writable[i].size)
            return true;
    return false;
}

static bool class_is_allowed(uint32_t mode, unsigned class)
{
    return mode & MODE_USER ? class == MMU_USER : class == MMU_KERNEL || class == MMU_KERNEL_AC;
}

/* gs:[T1 + disp]: a field of the TLB's or the jump cache's entry. */
static bool check_entry(Verify *v, const Insn *in, const State *s, bool is_write)
{
    const Value *index = &s->value[T1];
    int64_t tlb = in->disp - (int64_t)(offsetof(BtCpu, mmu) + offsetof(Mmu, tlb));
    int64_t jump = in->disp - (int64_t)offsetof(BtCpu, jump_cache);
    const int64_t class_size = sizeof(TlbEntry) * TLB_SIZE, cache_size = sizeof(JumpCacheEntry) * JUMP_CACHE_SIZE;
    if (is_write || in->mem_size != 8)
        return verify_fail(v, "an entry is written, or not read whole");
    if (index->kind == KIND_TLB && tlb >= 0 && tlb < class_size * MMU_NINDEXES) {
        int64_t field = tlb % class_size;
        if (!class_is_allowed(v->code->mode, (unsigned)(tlb / class_size)))
            return verify_fail(v, "the TLB of another privilege class");
        return field == offsetof(TlbEntry, tag_read) || field == offsetof(TlbEntry, tag_write) || field == offsetof(TlbEntry, host) ||
               field == offsetof(TlbEntry, addend) ? true : verify_fail(v, "no field of a TLB entry");
    }
    if (index->kind == KIND_JUMP && jump >= 0 && jump < 2 * cache_size) {
        if ((jump >= cache_size) != !!(v->code->mode & MODE_USER))
            return verify_fail(v, "the jump cache of another privilege class");
        return jump % cache_size == offsetof(JumpCacheEntry, key) || jump % cache_size == offsetof(JumpCacheEntry, host)
                   ? true : verify_fail(v, "no field of a jump cache entry");
    }
    return verify_fail(v, "an index that was not masked");
}

/* Bit string instructions reach beyond their operand by a register's value. */
static bool check_bits(Verify *v, const Insn *in, const State *s)
{
    int n = verify_scratch(in->reg);
    bool is_register = in->row->operand[1] >> 8 == M_G;
    if (!(in->row->attr & A_BITS) || !is_register)
        return true;
    const Value *offset = n >= 0 ? &s->value[n] : NULL;
    return offset && offset->kind == KIND_BITS && offset->number <= 8u * in->mem_size ? true : verify_fail(v, "a bit offset that was not masked");
}

static bool check_extent(Verify *v, const Insn *in, const Value *value, unsigned size, bool is_write)
{
    int64_t at = (int64_t)in->disp - value->disp;
    if (at < 0 || at + size > value->room)
        return verify_fail(v, "beyond the bytes that were checked");
    return !is_write || value->is_write ? true : verify_fail(v, "a store where only a load was checked");
}

/* [base + T0 + disp] or [T0 + index * scale + disp], with registers of the guest. */
static bool check_guest_operand(Verify *v, const Insn *in, const State *s, unsigned size, bool is_write)
{
    int base = in->base >= 0 ? verify_scratch((unsigned)in->base) : -1, index = verify_scratch((unsigned)in->index);
    const Value *value = index >= 0 ? &s->value[index] : base >= 0 ? &s->value[base] : NULL;
    bool is_addend = index >= 0 && value->kind == KIND_ADDEND && in->base >= 0 && in->scale <= 1 && value->base == in->base + 1 && !value->index;
    bool is_base = index < 0 && value && value->kind == KIND_BASE && value->index == in->index + 1 && value->scale == in->scale;
    if (in->has_segment_prefix || !(is_addend || is_base))
        return verify_fail(v, "a guest address that was not checked");
    return check_extent(v, in, value, size, is_write);
}

bool verify_memory(Verify *v, const Insn *in, const State *s)
{
    bool is_write = in->row->access & ACC_W && !(in->row->attr & A_NOW);
    if (!in->has_mem || is_emit(in, TR_LEA) || in->row->how == HOW_NOP)
        return true;
    unsigned size = is_emit(in, TR_PREFETCH) ? 1 : in->mem_size;
    if (in->vsib || size == 0)
        return verify_fail(v, "a memory operand whose extent is not known");
    if (in->index != INSN_REG_NONE)
        return check_guest_operand(v, in, s, size, is_write);
    if (!check_bits(v, in, s))
        return false;
    if (in->segment == X86_GS) {
        if (in->base == (int8_t)H_T1)
            return check_entry(v, in, s, is_write);
        if (in->base != INSN_REG_NONE || in->disp < 0 || (uint64_t)in->disp + in->mem_size > sizeof(BtCpu))
            return verify_fail(v, "outside the vCPU block");
        return !is_write || field_is_writable(in->disp, in->mem_size) ? true : verify_fail(v, "a field of the vCPU block that is not its to write");
    }
    if (in->base == INSN_REG_RIP) {
        int64_t cell = (int64_t)(in->ip + in->length + (uint64_t)(int64_t)in->disp - (uint64_t)(uintptr_t)v->bt->rx) - CACHE_CODE_SIZE;
        return is_emit(in, TR_JMP_RM) && cell >= 0 && cell % 8 == 0 && cell / 8 < v->bt->ncells ? true : verify_fail(v, "not a cell");
    }
    int n = in->base >= 0 ? verify_scratch((unsigned)in->base) : -1;
    if (n < 0 || s->value[n].kind != KIND_HOST)
        return verify_fail(v, "a guest address that was not checked");
    return check_extent(v, in, &s->value[n], size, is_write);
}

bool verify_allowed(Verify *v, const Insn *in)
{
    const InsnRow *row = in->row;
    bool is_allowed = row->how == HOW_SAME || row->how == HOW_NOP || is_emit(in, TR_LEA) || is_emit(in, TR_CALL) || is_emit(in, TR_JMP) ||
                      is_emit(in, TR_JMP_RM) || is_emit(in, TR_PREFETCH) || is_emit(in, TR_JCC) || is_emit(in, TR_JCXZ) || is_emit(in, TR_XCHG_ACC);
    if (!is_allowed)
        return verify_fail(v, "an instruction that only C may carry out");
    if (in->has_segment_prefix && !(in->segment == X86_GS && in->has_mem))
        return verify_fail(v, "a segment prefix");
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = row->operand[k] >> 8;
        if (method == M_S || method == M_C || method == M_D || method == M_X || method == M_Y || method == M_O || method == M_A)
            return verify_fail(v, "a segment, control or debug register, or implied memory");
        if (verify_operand_gpr(in, k) == H_RSP)
            return verify_fail(v, "the host's stack pointer");
    }
    if (in->has_mem && (in->base == (int8_t)H_RSP || (in->index == (int8_t)H_RSP && !in->vsib)))
        return verify_fail(v, "the host's stack");
    return true;
}
