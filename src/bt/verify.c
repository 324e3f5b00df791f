#include "bt/verify.h"

#include <glib.h>

#include "bt/decode.h"
#include "bt/dump.h"
#include "bt/insn-table.h"
#include "bt/translate.h"
#include "core/log.h"

/* What is known of a register. */
typedef enum Kind {
    KIND_ANY,
    KIND_CONST,      /* number */
    KIND_TLB,        /* offset of some TLB entry in its array */
    KIND_JUMP_MASK,  /* number of a jump cache entry */
    KIND_JUMP,       /* offset of one */
    KIND_BITS,       /* less than number */
    KIND_DIFFERENCE, /* address minus a tag of the entry in T1; number: the class, is_write: which tag */
    KIND_OFFSET,     /* so, and in the page with @room bytes behind it */
    KIND_HOST,       /* plus @disp: host address of @room bytes, may be written when is_write */
    KIND_MAYBE_HOST, /* or zero */
    KIND_PAGE,       /* a page whose tag is in the known entry @number; is_write: which tag */
    /* By an address made of registers of the guest, base + index * scale + disp, while these do not change: */
    KIND_ADDRESS,    /* the address */
    KIND_ADDEND,     /* plus the address, as KIND_HOST */
    KIND_BASE,       /* plus index * scale + disp, as KIND_HOST */
    KIND_NEGATIVE,   /* index * scale + disp minus a KIND_BASE */
} Kind;
typedef struct Value {
    uint64_t number;
    uint32_t room;
    int32_t disp;
    uint8_t kind;
    bool is_write;
    uint8_t base, index; /* 1 + host register, 0: none; also of the address that a difference or an offset is of */
    uint8_t scale, unused[3];
} Value;

enum { T0, T1, T2, SLOT, NVALUES }; /* SLOT: cpu->scratch[2] */
typedef struct State {
    Value value[NVALUES];
    int8_t compared; /* the register that the instruction before has compared, -1: none */
    uint32_t limit;  /* with this */
    uint32_t entry;  /* or with a tag of this entry of the TLB: its offset there */
    bool is_reached;
} State;

typedef struct Verify {
    const Bt *bt;
    const VerifyCode *code;
    uint32_t *insn_at;  /* by byte, place_of(): 1 + number of the instruction that begins there */
    Insn *insns;
    State *states;      /* before each instruction */
    unsigned ninsns;
    uint8_t *is_queued;
    unsigned *queue, nqueue;
    const char *error;
    unsigned error_at;
} Verify;

static bool fail(Verify *v, const char *what)
{
    if (!v->error)
        v->error = what;
    return false;
}

static int scratch_number(unsigned reg) { return reg == H_T0 ? T0 : reg == H_T1 ? T1 : reg == H_T2 ? T2 : -1; }

static void value_kill(State *s, int n)
{
    s->value[n] = (Value){ 0 };
    /* What was derived from the entry in T1 is worth nothing with another one. */
    for (int i = 0; n == T1 && i < NVALUES; i++)
        if (s->value[i].kind == KIND_DIFFERENCE || s->value[i].kind == KIND_OFFSET)
            s->value[i] = (Value){ 0 };
}

static void value_set(State *s, int n, Value value)
{
    value_kill(s, n);
    s->value[n] = value;
}

/* --- the vCPU block --- */

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
        return fail(v, "an entry is written, or not read whole");
    if (index->kind == KIND_TLB && tlb >= 0 && tlb < class_size * MMU_NINDEXES) {
        int64_t field = tlb % class_size;
        if (!class_is_allowed(v->code->mode, (unsigned)(tlb / class_size)))
            return fail(v, "the TLB of another privilege class");
        return field == offsetof(TlbEntry, tag_read) || field == offsetof(TlbEntry, tag_write) || field == offsetof(TlbEntry, host) ||
               field == offsetof(TlbEntry, addend) ? true : fail(v, "no field of a TLB entry");
    }
    if (index->kind == KIND_JUMP && jump >= 0 && jump < 2 * cache_size) {
        if ((jump >= cache_size) != !!(v->code->mode & MODE_USER))
            return fail(v, "the jump cache of another privilege class");
        return jump % cache_size == offsetof(JumpCacheEntry, key) || jump % cache_size == offsetof(JumpCacheEntry, host)
                   ? true : fail(v, "no field of a jump cache entry");
    }
    return fail(v, "an index that was not masked");
}

/* --- one instruction --- */

static bool row_is(const Insn *in, const char *name) { return strcmp(in->row->name, name) == 0; }
static bool is_emit(const Insn *in, InsnTr tr) { return in->row->how == HOW_EMIT && in->row->tr == (int)tr; }

/* Bit string instructions reach beyond their operand by a register's value. */
static bool check_bits(Verify *v, const Insn *in, const State *s)
{
    int n = scratch_number(in->reg);
    bool is_register = in->row->operand[1] >> 8 == M_G;
    if (!(in->row->attr & A_BITS) || !is_register)
        return true;
    const Value *offset = n >= 0 ? &s->value[n] : NULL;
    return offset && offset->kind == KIND_BITS && offset->number <= 8u * in->mem_size ? true : fail(v, "a bit offset that was not masked");
}

static bool check_extent(Verify *v, const Insn *in, const Value *value, unsigned size, bool is_write)
{
    int64_t at = (int64_t)in->disp - value->disp;
    if (at < 0 || at + size > value->room)
        return fail(v, "beyond the bytes that were checked");
    return !is_write || value->is_write ? true : fail(v, "a store where only a load was checked");
}

/* [base + T0 + disp] or [T0 + index * scale + disp], with registers of the guest. */
static bool check_guest_operand(Verify *v, const Insn *in, const State *s, unsigned size, bool is_write)
{
    int base = in->base >= 0 ? scratch_number((unsigned)in->base) : -1, index = scratch_number((unsigned)in->index);
    const Value *value = index >= 0 ? &s->value[index] : base >= 0 ? &s->value[base] : NULL;
    bool is_addend = index >= 0 && value->kind == KIND_ADDEND && in->base >= 0 && in->scale <= 1 && value->base == in->base + 1 && !value->index;
    bool is_base = index < 0 && value && value->kind == KIND_BASE && value->index == in->index + 1 && value->scale == in->scale;
    if (in->has_segment_prefix || !(is_addend || is_base))
        return fail(v, "a guest address that was not checked");
    return check_extent(v, in, value, size, is_write);
}

static bool check_memory(Verify *v, const Insn *in, const State *s)
{
    bool is_write = in->row->access & ACC_W && !(in->row->attr & A_NOW);
    if (!in->has_mem || is_emit(in, TR_LEA) || in->row->how == HOW_NOP)
        return true;
    unsigned size = is_emit(in, TR_PREFETCH) ? 1 : in->mem_size;
    if (in->vsib || size == 0)
        return fail(v, "a memory operand whose extent is not known");
    if (in->index != INSN_REG_NONE)
        return check_guest_operand(v, in, s, size, is_write);
    if (!check_bits(v, in, s))
        return false;
    if (in->segment == X86_GS) {
        if (in->base == (int8_t)H_T1)
            return check_entry(v, in, s, is_write);
        if (in->base != INSN_REG_NONE || in->disp < 0 || (uint64_t)in->disp + in->mem_size > sizeof(BtCpu))
            return fail(v, "outside the vCPU block");
        return !is_write || field_is_writable(in->disp, in->mem_size) ? true : fail(v, "a field of the vCPU block that is not its to write");
    }
    if (in->base == INSN_REG_RIP) {
        int64_t cell = (int64_t)(in->ip + in->length + (uint64_t)(int64_t)in->disp - (uint64_t)(uintptr_t)v->bt->rx) - CACHE_CODE_SIZE;
        return is_emit(in, TR_JMP_RM) && cell >= 0 && cell % 8 == 0 && cell / 8 < v->bt->ncells ? true : fail(v, "not a cell");
    }
    int n = in->base >= 0 ? scratch_number((unsigned)in->base) : -1;
    if (n < 0 || s->value[n].kind != KIND_HOST)
        return fail(v, "a guest address that was not checked");
    return check_extent(v, in, &s->value[n], size, is_write);
}

/* The host GPR that operand @k names, or -1. */
static int operand_gpr(const Insn *in, unsigned k)
{
    unsigned method = in->row->operand[k] >> 8;
    bool is_byte = insn_size_bytes(in, in->row->operand[k] & 0xff) == 1 && in->encoding == ENC_LEGACY && !(in->row->attr & (A_SSE | A_MMX));
    int reg = method == M_G ? in->reg : method == M_B ? in->vvvv : method == M_Z ? in->rm :
              (method == M_E || method == M_R) && !in->has_mem ? in->rm : -1;
    return reg >= 4 && reg < 8 && is_byte && !in->rex ? reg - 4 : reg; /* AH, CH, DH, BH */
}

static bool check_allowed(Verify *v, const Insn *in)
{
    const InsnRow *row = in->row;
    bool is_allowed = row->how == HOW_SAME || row->how == HOW_NOP || is_emit(in, TR_LEA) || is_emit(in, TR_CALL) || is_emit(in, TR_JMP) ||
                      is_emit(in, TR_JMP_RM) || is_emit(in, TR_PREFETCH) || is_emit(in, TR_JCC) || is_emit(in, TR_JCXZ) || is_emit(in, TR_XCHG_ACC);
    if (!is_allowed)
        return fail(v, "an instruction that only C may carry out");
    if (in->has_segment_prefix && !(in->segment == X86_GS && in->has_mem))
        return fail(v, "a segment prefix");
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = row->operand[k] >> 8;
        if (method == M_S || method == M_C || method == M_D || method == M_X || method == M_Y || method == M_O || method == M_A)
            return fail(v, "a segment, control or debug register, or implied memory");
        if (operand_gpr(in, k) == H_RSP)
            return fail(v, "the host's stack pointer");
    }
    if (in->has_mem && (in->base == (int8_t)H_RSP || (in->index == (int8_t)H_RSP && !in->vsib)))
        return fail(v, "the host's stack");
    return true;
}

static bool is_of_guests(const Value *value)
{
    return value->kind == KIND_ADDRESS || value->kind == KIND_ADDEND || value->kind == KIND_BASE || value->kind == KIND_NEGATIVE;
}

/* Registers of the guest may have changed: what was made of them is worth nothing. */
static void forget_guests(State *s)
{
    for (int i = 0; i < NVALUES; i++) {
        Value *value = &s->value[i];
        if (is_of_guests(value))
            *value = (Value){ 0 };
        else if (value->kind == KIND_DIFFERENCE || value->kind == KIND_OFFSET)
            value->base = value->index = value->scale = 0, value->disp = 0;
    }
}

static bool keeps_guests(const Insn *in)
{
    static const char *const names[] = { "mov", "lea", "rorx", "and", "sub", "add", "cmp", "test", "neg" };
    bool is_known = false;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        is_known = is_known || row_is(in, names[i]);
    int gpr = operand_gpr(in, 0);
    return is_known && (in->row->attr & A_NOW || gpr < 0 || scratch_number((unsigned)gpr) >= 0);
}

/* What @in, which makes an address of guest registers or moves one on, leaves in @to.  False: it is no such instruction. */
static bool apply_address(const Insn *in, const State *before, State *s, int to)
{
    Value old = before->value[to];
    bool is_lea = is_emit(in, TR_LEA) && in->opsize == 8 && in->addrsize == 8;
    int base = is_lea && in->base >= 0 ? in->base : -1, index = is_lea && in->index >= 0 ? in->index : -1;
    bool own_base = base >= 0 && scratch_number((unsigned)base) == to, guest_base = base >= 0 && scratch_number((unsigned)base) < 0;
    bool guest_index = index >= 0 && scratch_number((unsigned)index) < 0;
    if (is_lea && guest_base && (index < 0 || guest_index)) {
        value_set(s, to, (Value){ .kind = KIND_ADDRESS, .base = (uint8_t)(base + 1), .index = (uint8_t)(index + 1),
                                  .scale = index < 0 ? 0 : in->scale, .disp = in->disp });
        return true;
    }
    if (is_lea && own_base && index < 0 && (old.kind == KIND_HOST || (old.kind == KIND_ADDEND && !old.index)) && in->disp != INT32_MIN &&
        (int64_t)old.disp - in->disp == (int32_t)(old.disp - in->disp)) {
        old.disp -= in->disp;
        value_set(s, to, old);
        return true;
    }
    /* lea T0, [T0 + base]: what is left of the address is index * scale + disp */
    if (is_lea && own_base && guest_index && in->scale <= 1 && in->disp == 0 && old.kind == KIND_ADDEND && old.base == index + 1 && old.index) {
        old.kind = KIND_BASE;
        old.base = 0;
        value_set(s, to, old);
        return true;
    }
    if (is_lea && own_base && guest_index && old.kind == KIND_NEGATIVE && !old.index && !old.disp) {
        old.index = (uint8_t)(index + 1);
        old.scale = in->scale;
        old.disp = in->disp;
        value_set(s, to, old);
        return true;
    }
    if (in->opsize != 8)
        return false;
    if (row_is(in, "mov") && !in->has_mem && in->row->operand[1] >> 8 != M_I) {
        int from = in->opcode == 0x8b ? in->rm : in->reg;
        if (scratch_number((unsigned)from) >= 0)
            return false;
        value_set(s, to, (Value){ .kind = KIND_ADDRESS, .base = (uint8_t)(from + 1) });
        return true;
    }
    if (row_is(in, "sub") && !in->has_mem && in->opcode == 0x2b && old.kind == KIND_HOST && scratch_number((unsigned)in->rm) < 0) {
        old.kind = KIND_ADDEND;
        old.base = (uint8_t)(in->rm + 1);
        value_set(s, to, old);
        return true;
    }
    if (row_is(in, "neg") && !in->has_mem && old.kind == KIND_HOST && !old.disp) {
        old.kind = KIND_NEGATIVE;
        value_set(s, to, old);
        return true;
    }
    if (row_is(in, "neg") && !in->has_mem && old.kind == KIND_NEGATIVE && old.index) {
        old.kind = KIND_BASE;
        value_set(s, to, old);
        return true;
    }
    return false;
}

/* What the instruction leaves in the registers that are followed; branches are elsewhere. */
static void apply(const Insn *in, State *s)
{
    const uint32_t tlb_mask = (TLB_SIZE - 1) * sizeof(TlbEntry);
    const int64_t tlb = in->disp - (int64_t)(offsetof(BtCpu, mmu) + offsetof(Mmu, tlb)), class_size = sizeof(TlbEntry) * TLB_SIZE;
    int to = operand_gpr(in, 0) >= 0 ? scratch_number((unsigned)operand_gpr(in, 0)) : -1;
    bool has_imm = in->row->operand[1] >> 8 == M_I, wide = in->opsize == 8;
    bool is_entry = in->has_mem && in->segment == X86_GS && in->base == (int8_t)H_T1;
    bool is_slot = in->has_mem && in->segment == X86_GS && in->base == INSN_REG_NONE && in->disp == (int32_t)offsetof(BtCpu, scratch[2]);
    bool is_known_entry = in->has_mem && in->segment == X86_GS && in->base == INSN_REG_NONE && in->index == INSN_REG_NONE && tlb >= 0 &&
                          tlb < class_size * MMU_NINDEXES;
    uint32_t field = (uint32_t)tlb % sizeof(TlbEntry);
    if (!keeps_guests(in))
        forget_guests(s);
    State before = *s;
    s->compared = -1;
    s->entry = 0;
    if (to >= 0 && is_known_entry && wide && row_is(in, "cmp")) {
        bool is_write = field == offsetof(TlbEntry, tag_write);
        if ((is_write || field == offsetof(TlbEntry, tag_read)) && before.value[to].kind == KIND_CONST && !page_offset(before.value[to].number)) {
            s->compared = (int8_t)to;
            s->limit = is_write;
            s->entry = (uint32_t)tlb - field;
        }
        return;
    }
    if (to >= 0 && is_known_entry && wide && row_is(in, "mov") && before.value[to].kind == KIND_PAGE) {
        bool is_host = field == offsetof(TlbEntry, host) && before.value[to].number == (uint32_t)tlb - field;
        value_set(s, to, is_host ? (Value){ .kind = KIND_HOST, .room = PAGE_SIZE, .is_write = before.value[to].is_write } : (Value){ 0 });
        return;
    }
    if (to >= 0 && is_entry && wide && row_is(in, "sub")) {
        bool is_write = tlb % class_size == offsetof(TlbEntry, tag_write), is_tag = is_write || tlb % class_size == offsetof(TlbEntry, tag_read);
        Value value = before.value[to].kind == KIND_ADDRESS ? before.value[to] : (Value){ 0 };
        value.kind = KIND_DIFFERENCE;
        value.number = (uint64_t)(tlb / class_size);
        value.is_write = is_write;
        value_set(s, to, is_tag && to != T1 ? value : (Value){ 0 });
        return;
    }
    if (to >= 0 && is_entry && wide && row_is(in, "mov")) {
        const Value *offset = &before.value[to];
        Value value = *offset;
        value.kind = KIND_ADDEND;
        value.number = 0;
        bool is_addend = tlb % class_size == offsetof(TlbEntry, addend) && offset->kind == KIND_OFFSET && offset->base &&
                         offset->number == (uint64_t)(tlb / class_size);
        value_set(s, to, is_addend ? value : (Value){ 0 });
        return;
    }
    if (to >= 0 && is_entry && wide && row_is(in, "add")) {
        const Value *offset = &before.value[to];
        int64_t tag = offset->is_write ? offsetof(TlbEntry, tag_write) : offsetof(TlbEntry, tag_read);
        if (offset->kind == KIND_DIFFERENCE && offset->base && tlb % class_size == tag && offset->number == (uint64_t)(tlb / class_size)) {
            Value value = *offset; /* the address again */
            value.kind = KIND_ADDRESS;
            value.number = 0;
            value.is_write = false;
            value_set(s, to, value);
            return;
        }
        bool is_host = tlb % class_size == offsetof(TlbEntry, host) && offset->kind == KIND_OFFSET && offset->number == (uint64_t)(tlb / class_size);
        value_set(s, to, is_host ? (Value){ .kind = KIND_HOST, .room = offset->room, .is_write = offset->is_write } : (Value){ 0 });
        return;
    }
    if (to >= 0 && wide && has_imm && row_is(in, "cmp") && before.value[to].kind == KIND_DIFFERENCE) {
        s->compared = (int8_t)to;
        s->limit = in->imm <= PAGE_SIZE ? (uint32_t)in->imm : PAGE_SIZE;
        return;
    }
    if (to >= 0 && wide && row_is(in, "test") && in->reg == in->rm && before.value[to].kind == KIND_MAYBE_HOST) {
        s->compared = (int8_t)to;
        s->limit = 0;
        return;
    }
    if (to >= 0 && apply_address(in, &before, s, to))
        return;
    if (is_slot && in->row->access & ACC_W) {
        int from = scratch_number(in->reg);
        value_set(s, SLOT, row_is(in, "mov") && !has_imm && in->mem_size == 8 && from >= 0 ? before.value[from] : (Value){ 0 });
        return;
    }
    if (in->row->attr & A_NOW)
        return;
    for (unsigned k = 0; k < 4; k++) {
        int gpr = operand_gpr(in, k), n = gpr >= 0 ? scratch_number((unsigned)gpr) : -1;
        bool is_source = k > 0 && !(in->row->attr & A_W2) && (row_is(in, "mov") || row_is(in, "rorx") || in->has_mem);
        if (n >= 0 && !is_source)
            value_kill(s, n);
    }
    if (to < 0)
        return;
    if (row_is(in, "mov") && has_imm)
        value_set(s, to, to == T1 && in->imm == 0 ? (Value){ .kind = KIND_TLB } : (Value){ .kind = KIND_CONST, .number = in->imm });
    else if (row_is(in, "mov") && is_slot && wide && before.value[SLOT].kind == KIND_BITS)
        value_set(s, to, before.value[SLOT]);
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm == tlb_mask)
        value_set(s, to, (Value){ .kind = KIND_TLB });
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm == (JUMP_CACHE_SIZE - 1) << 4)
        value_set(s, to, (Value){ .kind = KIND_JUMP });
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm == JUMP_CACHE_SIZE - 1)
        value_set(s, to, (Value){ .kind = KIND_JUMP_MASK });
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm < 64)
        value_set(s, to, (Value){ .kind = KIND_BITS, .number = in->imm + 1 });
    else if (row_is(in, "shl") && has_imm && in->imm == 4 && before.value[to].kind == KIND_JUMP_MASK)
        value_set(s, to, (Value){ .kind = KIND_JUMP });
}

/* --- control flow --- */

static Value join(Value a, Value b)
{
    if (memcmp(&a, &b, sizeof a) == 0)
        return a;
    if (a.kind == KIND_HOST && b.kind == KIND_HOST && !a.disp && !b.disp)
        return (Value){ .kind = KIND_HOST, .room = MIN(a.room, b.room), .is_write = a.is_write && b.is_write };
    return (Value){ 0 };
}

/* The number of the byte at offset @at among the block's, -1: it is not in the block. */
static int64_t place_of(const VerifyCode *code, uint32_t at)
{
    return at - code->start < code->size ? (int64_t)(at - code->start) : at - code->cold_start < code->cold_size
               ? (int64_t)code->size + (at - code->cold_start) : -1;
}

/* Control may come to offset @at with @s. */
static bool flow_to(Verify *v, uint32_t at, const State *s)
{
    int64_t place = place_of(v->code, at);
    if (place < 0 || v->insn_at[place] == 0)
        return fail(v, "leads outside the block, or into the middle of an instruction");
    unsigned n = v->insn_at[place] - 1;
    State *to = &v->states[n], old = *to;
    if (!to->is_reached) {
        *to = *s;
        to->is_reached = true;
    } else {
        for (unsigned i = 0; i < NVALUES; i++)
            to->value[i] = join(to->value[i], s->value[i]);
        if (to->compared != s->compared || to->limit != s->limit || to->entry != s->entry)
            to->compared = -1;
        /* A difference outlives only the T1 that it was made with. */
        for (unsigned i = 0; i < NVALUES && to->value[T1].kind != KIND_TLB; i++)
            if (to->value[i].kind == KIND_DIFFERENCE || to->value[i].kind == KIND_OFFSET)
                to->value[i] = (Value){ 0 };
    }
    if (memcmp(&old, to, sizeof old) != 0 && !v->is_queued[n]) {
        v->is_queued[n] = 1;
        v->queue[v->nqueue++] = n;
    }
    return true;
}

static bool is_const_in(const Value *value, uint32_t first, uint32_t end)
{
    return value->kind == KIND_CONST && value->number >= first && value->number < end;
}

static bool jump_to_stub(Verify *v, const uint8_t *target, const State *s)
{
    const Bt *bt = v->bt;
    if (target == bt->stub_save_dispatch_rw)
        return true;
    if (target == bt->stub_exec_end_rw)
        return is_const_in(&s->value[T0], v->code->exec_first, v->code->exec_end) ? true : fail(v, "no function of the block's to call");
    if (target == bt->stub_link_host_rw || target == bt->stub_link_slot_rw)
        return is_const_in(&s->value[T0], v->code->exit_first, v->code->exit_end) ? true : fail(v, "no edge of the block's to follow");
    if (target == bt->stub_indirect_rw)
        return s->value[T1].kind == KIND_CONST ? true : fail(v, "no site of an indirect branch");
    return false;
}

static bool call_stub(Verify *v, const uint8_t *target, State *s)
{
    const Bt *bt = v->bt;
    Value desc = s->value[T1], index = s->value[T0];
    forget_guests(s);
    uint32_t bits = (uint32_t)desc.number;
    if (target == bt->stub_mem_slow_rw) {
        if (desc.kind != KIND_CONST || ACCESS_SIZE(bits) == 0 || ACCESS_SIZE(bits) > 64)
            return fail(v, "no description of the access");
        value_set(s, T1, (Value){ .kind = KIND_TLB });
        value_set(s, T0, (Value){ .kind = KIND_HOST, .room = ACCESS_SIZE(bits), .is_write = bits & ACCESS_WRITE });
        return true;
    }
    if (target == bt->stub_group_slow_rw) {
        if (desc.kind != KIND_CONST)
            return fail(v, "no description of the group");
        value_set(s, T1, (Value){ .kind = KIND_TLB });
        value_kill(s, T0);
        value_set(s, T2, (Value){ .kind = KIND_MAYBE_HOST, .room = bits & 0xffff, .is_write = bits & GROUP_WRITES });
        return true;
    }
    if (target == bt->stub_seg_slow_rw || target == bt->stub_commit_rw) {
        if (target == bt->stub_seg_slow_rw && desc.kind != KIND_CONST)
            return fail(v, "no description of the access");
        value_kill(s, T0); /* the others come back */
        return true;
    }
    if (target == bt->stub_exec_rw) {
        for (int i = 0; i < NVALUES; i++)
            value_kill(s, i);
        return is_const_in(&index, v->code->exec_first, v->code->exec_end) ? true : fail(v, "no function of the block's to call");
    }
    return fail(v, "a call to what is no stub");
}

/* An edge that promises its target a TLB entry in T1 must have one there.  @at: of the exit's stub, or @cell: its cell; the other is -1. */
static bool check_carry(Verify *v, const State *s, int64_t at, int64_t cell)
{
    for (uint32_t i = v->code->exit_first; i < v->code->exit_end; i++) {
        const BtExit *exit = &v->bt->exits[i];
        bool is_it = exit->uses_cell ? cell == exit->patch_at : at == exit->stub_at;
        if (is_it && exit->carries && s->value[T1].kind != KIND_TLB)
            return fail(v, "an edge that carries no TLB entry");
    }
    return true;
}

static bool step(Verify *v, unsigned n)
{
    const Insn *in = &v->insns[n];
    State s = v->states[n];
    uint32_t next = (uint32_t)(in->ip - (uint64_t)(uintptr_t)v->bt->rx) + in->length;
    v->error_at = n;
    if (!check_allowed(v, in) || !check_memory(v, in, &s))
        return false;
    if (in->row->how == HOW_EMIT && in->row->attr & A_ENDS) {
        uint32_t at = next + (uint32_t)in->imm;
        const uint8_t *target = v->bt->rw + (int64_t)next + (int64_t)in->imm;
        bool is_inside = in->row->operand[0] >> 8 == M_J && place_of(v->code, at) >= 0;
        State taken = s;
        int compared = s.compared;
        taken.compared = s.compared = -1;
        int64_t cell = (int64_t)next + in->disp - CACHE_CODE_SIZE;
        bool is_cell = is_emit(in, TR_JMP_RM) && in->has_mem && in->base == INSN_REG_RIP;
        if (!check_carry(v, &s, is_inside ? (int64_t)at : -1, is_cell ? cell / 8 : -1))
            return false;
        if (is_emit(in, TR_JMP_RM)) /* through a cell or the jump cache; check_memory() has seen which */
            return in->has_mem && (in->base == INSN_REG_RIP || (in->base == (int8_t)H_T1 && s.value[T1].kind == KIND_JUMP))
                       ? true : fail(v, "an indirect jump");
        if (is_emit(in, TR_CALL)) {
            if (is_inside)
                return fail(v, "a call into the block");
            return call_stub(v, target, &s) && flow_to(v, next, &s);
        }
        if (compared >= 0 && is_emit(in, TR_JCC) && (in->opcode & 15) == CC_A && s.value[compared].kind == KIND_DIFFERENCE) {
            s.value[compared].kind = KIND_OFFSET;
            s.value[compared].room = (uint32_t)PAGE_SIZE - v->states[n].limit;
        }
        if (compared >= 0 && is_emit(in, TR_JCC) && (in->opcode & 15) == CC_NE && taken.value[compared].kind == KIND_MAYBE_HOST)
            taken.value[compared].kind = KIND_HOST;
        if (compared >= 0 && is_emit(in, TR_JCC) && (in->opcode & 15) == CC_NE && s.value[compared].kind == KIND_CONST)
            s.value[compared] = (Value){ .kind = KIND_PAGE, .number = s.entry, .is_write = s.limit };
        if (!(is_inside ? flow_to(v, at, &taken) : jump_to_stub(v, target, &taken)))
            return fail(v, "a jump out of the block to what is no stub");
        return is_emit(in, TR_JMP) || flow_to(v, next, &s);
    }
    apply(in, &s);
    return flow_to(v, next, &s);
}

/* Operands in the vCPU block by its address become what they would be through GS. */
static void name_block(const Bt *bt, Insn *in)
{
    bool is_absolute = in->has_mem && !in->has_segment_prefix && in->index == INSN_REG_NONE && !in->vsib &&
                       (in->base == INSN_REG_NONE || in->base == (int8_t)H_T1);
    if (!bt->cpu_at || !is_absolute || is_emit(in, TR_LEA) || (uint64_t)in->disp - bt->cpu_at >= sizeof(BtCpu))
        return;
    in->disp -= bt->cpu_at;
    in->segment = X86_GS;
}

static bool decode_part(Verify *v, uint32_t start, uint32_t size)
{
    for (uint32_t at = start; at < start + size;) {
        Insn *in = &v->insns[v->ninsns];
        v->error_at = v->ninsns;
        if (insn_decode(in, v->bt->rw + at, 15, 8, (uint64_t)(uintptr_t)v->bt->rx + at, 0) != INSN_OK)
            return fail(v, "not an instruction");
        name_block(v->bt, in);
        v->insn_at[place_of(v->code, at)] = ++v->ninsns;
        at += in->length;
    }
    return true;
}

static bool decode_all(Verify *v)
{
    return decode_part(v, v->code->start, v->code->size) && decode_part(v, v->code->cold_start, v->code->cold_size);
}

char *verify_code(const Bt *bt, const VerifyCode *code)
{
    Verify v = { .bt = bt, .code = code };
    size_t size = (size_t)code->size + code->cold_size;
    g_autofree uint32_t *insn_at = v.insn_at = g_new0(uint32_t, size + 1);
    g_autofree Insn *insns = v.insns = g_new(Insn, size + 1);
    bool is_ok = decode_all(&v);
    g_autofree State *states = v.states = g_new0(State, v.ninsns + 1);
    g_autofree uint8_t *is_queued = v.is_queued = g_new0(uint8_t, v.ninsns + 1);
    g_autofree unsigned *queue = v.queue = g_new(unsigned, v.ninsns + 1);
    State unknown = { .compared = -1 };
    for (unsigned i = 0; is_ok && i < G_N_ELEMENTS(code->entry); i++)
        is_ok = flow_to(&v, code->entry[i], &unknown);
    State carried = { .compared = -1, .value[T1].kind = KIND_TLB };
    for (unsigned i = 0; is_ok && i < code->ncarry_entries; i++)
        is_ok = flow_to(&v, code->carry_entry[i], &carried);
    /* When an edge is taken apart, its code asks the dispatcher again. */
    for (uint32_t i = code->exit_first; is_ok && i < code->exit_end; i++)
        if (place_of(code, bt->exits[i].stub_at) >= 0)
            is_ok = flow_to(&v, bt->exits[i].stub_at, &unknown);
    while (is_ok && v.nqueue) {
        unsigned n = v.queue[--v.nqueue];
        v.is_queued[n] = 0;
        is_ok = step(&v, n);
    }
    if (is_ok)
        return NULL;
    uint64_t address = v.error_at < v.ninsns || v.ninsns == 0 ? v.insns[v.error_at].ip : v.insns[v.ninsns - 1].ip;
    uint32_t at = (uint32_t)(address - (uint64_t)(uintptr_t)bt->rx);
    uint32_t part_end = at - code->start < code->size ? code->start + code->size : code->cold_start + code->cold_size;
    g_autofree char *listing = place_of(code, at) >= 0 ? dump_code(bt->rw + at, MIN(part_end - at, 15), address, 8) : NULL;
    char *end = listing ? strchr(listing, '\n') : NULL;
    if (end)
        *end = 0;
    return g_strdup_printf("%s: %s", v.error ? v.error : "?", listing ? listing : "at the entry");
}

void verify_block(Bt *bt, const BtBlock *block, uint32_t exit_first, uint32_t exec_first)
{
    VerifyCode code = { .start = block->code_at, .size = block->code_size, .cold_start = block->cold_at, .cold_size = block->cold_size, 
                        .entry = { block->main_at, block->slot_at, block->host_poll_at },
                        .carry_entry = { block->carry_at, block->carry_poll_at }, .ncarry_entries = block->carry_base >= 0 ? 2 : 0,
                        .mode = block->mode, .exit_first = exit_first, .exit_end = bt->nexits, .exec_first = exec_first, .exec_end = bt->nexecs };
    g_autofree char *wrong = verify_code(bt, &code);
    bt->stat_verified++;
    if (!wrong)
        return;
    g_autofree char *listing = dump_code(bt->rw + block->code_at, block->code_size, (uint64_t)(uintptr_t)bt->rx + block->code_at, 8);
    g_autofree char *cold = dump_code(bt->rw + block->cold_at, block->cold_size, (uint64_t)(uintptr_t)bt->rx + block->cold_at, 8);
    g_error("verifier: block at %012" G_GINT64_MODIFIER "x, mode %x: %s\n%s%s", block->rip, block->mode, wrong, listing, cold);
}

void verify_summary(const Bt *bt)
{
    log_text(LOG_VERIFY, "verifier: %" G_GUINT64_FORMAT " blocks stay inside what they were given", bt->stat_verified);
}
