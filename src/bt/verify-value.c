/* What a block's host code leaves in the registers that the verifier follows. */
#include "bt/verify-priv.h"

void verify_kill(State *s, int n)
{
    s->value[n] = (Value){ 0 };
    for (int i = 0; i < NVALUES; i++)
        if (s->value[i].copied == n + 1)
            s->value[i] = (Value){ 0 };
    /* What was derived from the entry in T1 is worth nothing with another one. */
    for (int i = 0; n == T1 && i < NVALUES; i++)
        if (s->value[i].kind == KIND_DIFFERENCE || s->value[i].kind == KIND_OFFSET)
            s->value[i] = (Value){ 0 };
}

void verify_set(State *s, int n, Value value)
{
    verify_kill(s, n);
    s->value[n] = value;
}

/* The host GPR that operand @k names, or -1. */
int verify_operand_gpr(const Insn *in, unsigned k)
{
    unsigned method = in->row->operand[k] >> 8;
    bool is_byte = insn_size_bytes(in, in->row->operand[k] & 0xff) == 1 && in->encoding == ENC_LEGACY && !(in->row->attr & (A_SSE | A_MMX));
    int reg = method == M_G ? in->reg : method == M_B ? in->vvvv : method == M_Z ? in->rm :
              (method == M_E || method == M_R) && !in->has_mem ? in->rm : -1;
    return reg >= 4 && reg < 8 && is_byte && !in->rex ? reg - 4 : reg; /* AH, CH, DH, BH */
}

static bool is_of_guests(const Value *value)
{
    return value->kind == KIND_ADDRESS || value->kind == KIND_ADDEND || value->kind == KIND_BASE || value->kind == KIND_NEGATIVE;
}

/* Registers of the guest may have changed: what was made of them is worth nothing. */
void verify_forget_guests(State *s)
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
    int gpr = verify_operand_gpr(in, 0);
    return is_known && (in->row->attr & A_NOW || gpr < 0 || verify_scratch((unsigned)gpr) >= 0);
}

/* What @in, which makes an address of guest registers or moves one on, leaves in @to.  False: it is no such instruction. */
static bool apply_address(const Insn *in, const State *before, State *s, int to)
{
    Value old = before->value[to];
    bool is_lea = is_emit(in, TR_LEA) && in->opsize == 8 && in->addrsize == 8;
    int base = is_lea && in->base >= 0 ? in->base : -1, index = is_lea && in->index >= 0 ? in->index : -1;
    bool own_base = base >= 0 && verify_scratch((unsigned)base) == to, guest_base = base >= 0 && verify_scratch((unsigned)base) < 0;
    bool guest_index = index >= 0 && verify_scratch((unsigned)index) < 0;
    if (is_lea && guest_base && (index < 0 || guest_index)) {
        verify_set(s, to, (Value){ .kind = KIND_ADDRESS, .base = (uint8_t)(base + 1), .index = (uint8_t)(index + 1),
                                  .scale = index < 0 ? 0 : in->scale, .disp = in->disp });
        return true;
    }
    if (is_lea && own_base && index < 0 && (old.kind == KIND_HOST || (old.kind == KIND_ADDEND && !old.index)) && in->disp != INT32_MIN &&
        (int64_t)old.disp - in->disp == (int32_t)(old.disp - in->disp)) {
        old.disp -= in->disp;
        verify_set(s, to, old);
        return true;
    }
    /* lea T0, [T0 + base]: what is left of the address is index * scale + disp */
    if (is_lea && own_base && guest_index && in->scale <= 1 && in->disp == 0 && old.kind == KIND_ADDEND && old.base == index + 1 && old.index) {
        old.kind = KIND_BASE;
        old.base = 0;
        verify_set(s, to, old);
        return true;
    }
    if (is_lea && own_base && guest_index && old.kind == KIND_NEGATIVE && !old.index && !old.disp) {
        old.index = (uint8_t)(index + 1);
        old.scale = in->scale;
        old.disp = in->disp;
        verify_set(s, to, old);
        return true;
    }
    if (in->opsize != 8)
        return false;
    if (row_is(in, "mov") && !in->has_mem && in->row->operand[1] >> 8 != M_I) {
        int from = in->opcode == 0x8b ? in->rm : in->reg;
        int copied = verify_scratch((unsigned)from);
        if (copied >= 0) {
            verify_set(s, to, copied == T2 && to == T0 ? (Value){ .kind = KIND_COPY, .copied = (uint8_t)(copied + 1) } : (Value){ 0 });
            return true;
        }
        verify_set(s, to, (Value){ .kind = KIND_ADDRESS, .base = (uint8_t)(from + 1) });
        return true;
    }
    if (row_is(in, "sub") && !in->has_mem && in->opcode == 0x2b && old.kind == KIND_HOST && verify_scratch((unsigned)in->rm) < 0) {
        old.kind = KIND_ADDEND;
        old.base = (uint8_t)(in->rm + 1);
        verify_set(s, to, old);
        return true;
    }
    if (row_is(in, "neg") && !in->has_mem && old.kind == KIND_HOST && !old.disp) {
        old.kind = KIND_NEGATIVE;
        verify_set(s, to, old);
        return true;
    }
    if (row_is(in, "neg") && !in->has_mem && old.kind == KIND_NEGATIVE && old.index) {
        old.kind = KIND_BASE;
        verify_set(s, to, old);
        return true;
    }
    return false;
}

/* What the instruction leaves in the registers that are followed; branches are elsewhere. */
void verify_apply(const Insn *in, State *s)
{
    const uint32_t tlb_mask = (TLB_SIZE - 1) * sizeof(TlbEntry);
    const int64_t tlb = in->disp - (int64_t)(offsetof(BtCpu, mmu) + offsetof(Mmu, tlb)), class_size = sizeof(TlbEntry) * TLB_SIZE;
    int to = verify_operand_gpr(in, 0) >= 0 ? verify_scratch((unsigned)verify_operand_gpr(in, 0)) : -1;
    bool has_imm = in->row->operand[1] >> 8 == M_I, wide = in->opsize == 8;
    bool is_entry = in->has_mem && in->segment == X86_GS && in->base == (int8_t)H_T1;
    bool is_slot = in->has_mem && in->segment == X86_GS && in->base == INSN_REG_NONE && in->disp == (int32_t)offsetof(BtCpu, scratch[2]);
    bool is_known_entry = in->has_mem && in->segment == X86_GS && in->base == INSN_REG_NONE && in->index == INSN_REG_NONE && tlb >= 0 &&
                          tlb < class_size * MMU_NINDEXES;
    uint32_t field = (uint32_t)tlb % sizeof(TlbEntry);
    if (!keeps_guests(in))
        verify_forget_guests(s);
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
        verify_set(s, to, is_host ? (Value){ .kind = KIND_HOST, .room = PAGE_SIZE, .is_write = before.value[to].is_write } : (Value){ 0 });
        return;
    }
    if (to >= 0 && is_entry && wide && row_is(in, "sub")) {
        bool is_write = tlb % class_size == offsetof(TlbEntry, tag_write), is_tag = is_write || tlb % class_size == offsetof(TlbEntry, tag_read);
        bool is_kept = before.value[to].kind == KIND_ADDRESS || before.value[to].kind == KIND_COPY;
        Value value = is_kept ? before.value[to] : (Value){ 0 };
        value.kind = KIND_DIFFERENCE;
        value.number = (uint64_t)(tlb / class_size);
        value.is_write = is_write;
        verify_set(s, to, is_tag && to != T1 ? value : (Value){ 0 });
        return;
    }
    if (to >= 0 && is_entry && wide && row_is(in, "mov")) {
        const Value *offset = &before.value[to];
        Value value = *offset;
        value.kind = KIND_ADDEND;
        value.number = 0;
        bool is_addend = tlb % class_size == offsetof(TlbEntry, addend) && offset->kind == KIND_OFFSET && offset->base &&
                         offset->number == (uint64_t)(tlb / class_size);
        verify_set(s, to, is_addend ? value : (Value){ 0 });
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
            verify_set(s, to, value);
            return;
        }
        for (int i = 0; i < NVALUES; i++) { /* the addend to what @i, whose check this was, is a copy of */
            Value of = before.value[i];
            if (i == to || of.kind != KIND_OFFSET || of.copied != to + 1 || tlb % class_size != offsetof(TlbEntry, addend) ||
                of.number != (uint64_t)(tlb / class_size))
                continue;
            verify_set(s, to, (Value){ .kind = KIND_HOST, .room = of.room, .is_write = of.is_write });
            return;
        }
        bool is_host = tlb % class_size == offsetof(TlbEntry, host) && offset->kind == KIND_OFFSET && offset->number == (uint64_t)(tlb / class_size);
        verify_set(s, to, is_host ? (Value){ .kind = KIND_HOST, .room = offset->room, .is_write = offset->is_write } : (Value){ 0 });
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
        int from = verify_scratch(in->reg);
        verify_set(s, SLOT, row_is(in, "mov") && !has_imm && in->mem_size == 8 && from >= 0 ? before.value[from] : (Value){ 0 });
        return;
    }
    if (in->row->attr & A_NOW)
        return;
    for (unsigned k = 0; k < 4; k++) {
        int gpr = verify_operand_gpr(in, k), n = gpr >= 0 ? verify_scratch((unsigned)gpr) : -1;
        bool is_source = k > 0 && !(in->row->attr & A_W2) && (row_is(in, "mov") || row_is(in, "rorx") || in->has_mem);
        if (n >= 0 && !is_source)
            verify_kill(s, n);
    }
    if (to < 0)
        return;
    if (row_is(in, "mov") && has_imm)
        verify_set(s, to, to == T1 && in->imm == 0 ? (Value){ .kind = KIND_TLB } : (Value){ .kind = KIND_CONST, .number = in->imm });
    else if (row_is(in, "mov") && is_slot && wide && before.value[SLOT].kind == KIND_BITS)
        verify_set(s, to, before.value[SLOT]);
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm == tlb_mask)
        verify_set(s, to, (Value){ .kind = KIND_TLB });
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm == (JUMP_CACHE_SIZE - 1) << 4)
        verify_set(s, to, (Value){ .kind = KIND_JUMP });
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm == JUMP_CACHE_SIZE - 1)
        verify_set(s, to, (Value){ .kind = KIND_JUMP_MASK });
    else if (row_is(in, "and") && has_imm && in->opsize == 4 && in->imm < 64)
        verify_set(s, to, (Value){ .kind = KIND_BITS, .number = in->imm + 1 });
    else if (row_is(in, "shl") && has_imm && in->imm == 4 && before.value[to].kind == KIND_JUMP_MASK)
        verify_set(s, to, (Value){ .kind = KIND_JUMP });
}
