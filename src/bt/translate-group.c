/*
 * One check for several accesses.
 *
 * Most memory operands of a block share their base: a frame, a structure, an array element that is read and written back.  A pass over the
 * block follows every GPR symbolically — an unknown value plus a constant — and puts accesses whose addresses differ by
 * constants into a *group*.  The first of them, the leader, checks the whole span of the group at once and leaves the host
 * address of its lowest byte in T2; the others are plain [T2 + disp] and touch no flag:
 *
 *     lea  T2, [lowest address]
 *     rorx T1, T2, 7 ; and T1d, …       as in translate-mem.c; of the base alone when that is near
 *     mov  T0, T2
 *     sub  T0, gs:[T1 + tag]            the tag for writes if the group has one
 *     cmp  T0, 4096 - span
 *     ja   fail
 *     add  T2, gs:[T1 + addend]         waits for no check
 *
 * When the span crosses a page, or is not plain RAM with the rights that all members need, the leader leaves for a block that
 * begins at its own instruction and has no groups (MODE_PLAIN).  So a group never faults, and nothing has happened when it is given up.
 *
 * What was checked stays true to the end of the block: translations that other code in the block could change are architecturally allowed to
 * be used until the guest invalidates them, which no instruction inside a block does except through C (tr_exec ends T2).
 */
#include "bt/translate-priv.h"

#define SPAN_MAX  256       /* bytes: the wider, the more groups cross a page */
#define DELTA_MAX (1 << 20) /* of a register from its symbol */
#define SYM_ZERO  0         /* the symbol of absolute addresses */

typedef struct Pass {
    Tr *t;
    TrValue gpr[X86_NGPRS];
    uint16_t next_symbol;
    uint16_t epoch; /* changes where nothing may be grouped across */
} Pass;

static void value_forget(Pass *p, unsigned reg) { p->gpr[reg] = (TrValue){.symbol = p->next_symbol++}; }

static void value_set(Pass *p, unsigned reg, TrValue from, int64_t add)
{
    int64_t delta = from.delta + add;
    if (delta > DELTA_MAX || delta < -DELTA_MAX)
        value_forget(p, reg);
    else
        p->gpr[reg] = (TrValue){.symbol = from.symbol, .delta = (int32_t)delta};
}

static void forget_all(Pass *p)
{
    for (unsigned i = 0; i < X86_NGPRS; i++)
        value_forget(p, i);
    p->epoch++;
}

/* What an instruction that is re-encoded does to the GPRs. */
static void pass_same(Pass *p, const Insn *in)
{
    const InsnRow *row = in->row;
    bool full = in->opsize == p->t->word && !in->lock;
    bool is_group1 = in->map == MAP_1B && (in->opcode == 0x81 || in->opcode == 0x83) && !in->has_mem;
    if (is_group1 && full && (row->digit == 0 || row->digit == 5)) {
        value_set(p, in->rm, p->gpr[in->rm], row->digit == 0 ? (int64_t)in->imm : -(int64_t)in->imm);
        return;
    }
    if (in->map == MAP_1B && in->opcode == 0xff && !in->has_mem && full && row->digit <= 1) {
        value_set(p, in->rm, p->gpr[in->rm], row->digit == 0 ? 1 : -1);
        return;
    }
    if (in->map == MAP_1B && (in->opcode == 0x89 || in->opcode == 0x8b) && !in->has_mem && full) {
        unsigned to = in->opcode == 0x89 ? in->rm : in->reg, from = in->opcode == 0x89 ? in->reg : in->rm;
        p->gpr[to] = p->gpr[from];
        return;
    }
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = row->operand[k] >> 8;
        bool is_byte = insn_size_bytes(in, row->operand[k] & 0xff) == 1;
        int reg = method == M_G ? in->reg : method == M_B ? in->vvvv : method == M_Z ? in->rm : method == M_ACC ? X86_RAX :
                  (method == M_E || method == M_R) && !in->has_mem ? in->rm : -1;
        if (reg < 0)
            continue;
        value_forget(p, (unsigned)reg);
        if (is_byte && reg >= 4 && reg < 8) /* AH, CH, DH or BH without REX */
            value_forget(p, (unsigned)reg - 4);
    }
}

/* Whether the operands above are only read, and nothing else is written. */
static bool same_writes_nothing(const Insn *in)
{
    bool mul_or_div = in->map == MAP_1B && (in->opcode == 0xf6 || in->opcode == 0xf7) && in->row->digit >= 4;
    return in->row->attr & A_NOW && !mul_or_div && !(in->row->attr & A_W2);
}

/* A store `mov [mem], reg`: reads its register. */
static bool same_is_store(const Insn *in)
{
    return in->has_mem && in->row->access == ACC_W && !(in->row->attr & A_W2) && in->encoding == ENC_LEGACY && in->map == MAP_1B;
}

static void pass_implicit(Pass *p, const Insn *in)
{
    bool accumulator = in->map == MAP_1B && (in->opcode == 0xf6 || in->opcode == 0xf7 || (in->opcode >= 0x98 && in->opcode <= 0x9f));
    bool cmpxchg = in->map == MAP_0F && (in->opcode == 0xb0 || in->opcode == 0xb1 || in->opcode == 0xc7);
    bool is_string_compare = in->map == MAP_3A && in->opcode >= 0x60 && in->opcode <= 0x63;
    bool is_x87 = in->map == MAP_1B && in->opcode >= 0xd8 && in->opcode <= 0xdf; /* FNSTSW AX */
    if (accumulator || cmpxchg || is_x87) {
        value_forget(p, X86_RAX);
        value_forget(p, X86_RDX);
    }
    if (is_string_compare)
        value_forget(p, X86_RCX);
}

static void pass_emit(Pass *p, const Insn *in)
{
    int word = (int)p->t->word;
    TrValue rsp = p->gpr[X86_RSP];
    switch ((InsnTr)in->row->tr) {
    case TR_PUSH:
    case TR_PUSH_IMM:
    case TR_PUSH_RM:
    case TR_CALL:
    case TR_CALL_RM:
        value_set(p, X86_RSP, rsp, -word);
        break;
    case TR_POP:
        value_set(p, X86_RSP, rsp, word);
        value_forget(p, in->rm);
        break;
    case TR_LEAVE:
        value_set(p, X86_RSP, p->gpr[X86_RBP], word);
        value_forget(p, X86_RBP);
        break;
    case TR_LEA:
        if (in->opsize == p->t->word && in->addrsize == p->t->word && in->base >= 0 && in->index < 0)
            value_set(p, in->reg, p->gpr[in->base], in->disp);
        else
            value_forget(p, in->reg);
        break;
    case TR_XCHG_ACC:
        value_forget(p, X86_RAX);
        value_forget(p, in->rm);
        break;
    case TR_MOFFS:
        value_forget(p, X86_RAX);
        break;
    case TR_JMP:
    case TR_JMP_RM:
    case TR_JCC:
    case TR_LOOP:
    case TR_JCXZ:
    case TR_RET:
    case TR_CLD:
    case TR_STD:
    case TR_PREFETCH:
        break;
    default:
        forget_all(p);
        break;
    }
}

static void pass_insn(Pass *p, const Insn *in)
{
    if (!in->row || in->row->how == HOW_CALL) {
        forget_all(p);
    } else if (in->row->how == HOW_EMIT) {
        pass_emit(p, in);
    } else if (in->row->how == HOW_SAME) {
        if (!same_writes_nothing(in) && !same_is_store(in))
            pass_same(p, in);
        pass_implicit(p, in);
    }
}

/* Puts an access at value + @at into the group it belongs to. */
static void member_add(Pass *p, unsigned i, unsigned which, const TrGroup *key, int64_t at, unsigned size, bool is_write)
{
    Tr *t = p->t;
    unsigned g = 0;
    t->member[i][which] = (TrMember){.group = -1, .base = key->base == SYM_ZERO ? TR_NO_SYMBOL : key->base,
                                     .is_indexed = key->index != SYM_ZERO};
    for (; g < t->ngroups; g++) {
        TrGroup *o = &t->group[g];
        int64_t low = at < o->low ? at : o->low, end = at + size > o->end ? at + (int64_t)size : o->end;
        if (o->base != key->base || o->index != key->index || o->scale != key->scale || o->segment != key->segment ||
            o->epoch != key->epoch || end - low > SPAN_MAX)
            continue;
        if (o->base == SYM_ZERO && o->index == SYM_ZERO && o->segment == TR_NO_SEGMENT && (low ^ (end - 1)) >> PAGE_SHIFT)
            continue; /* absolute and known to cross a page */
        o->low = low;
        o->end = end;
        break;
    }
    if (g == t->ngroups) {
        if (g == TR_GROUPS_MAX)
            return;
        t->group[t->ngroups++] = *key;
        t->group[g].low = at;
        t->group[g].end = at + size;
        t->group[g].left = 0;
    }
    t->group[g].left++;
    TrMember *m = &t->member[i][which];
    m->group = (int8_t)g;
    m->at = at;
    m->size = (uint8_t)size;
    m->is_write = is_write;
}

static void member_add_mem(Pass *p, unsigned i, const Insn *in, unsigned size, bool is_write)
{
    Tr *t = p->t;
    bool wide = tr_is64(t), fs_gs = in->segment == X86_FS || in->segment == X86_GS;
    if (in->addrsize != t->word || size == 0 || in->vsib || in->row->attr & A_BITS || insn_is_masked(in) || (fs_gs && !wide))
        return;
    TrGroup key = {.base = SYM_ZERO, .index = SYM_ZERO, .scale = 1, .segment = fs_gs ? in->segment : TR_NO_SEGMENT, .epoch = p->epoch};
    int64_t at = in->disp;
    if (in->base == INSN_REG_RIP)
        at = (int64_t)(in->ip + in->length + (uint64_t)at);
    else if (in->base >= 0) {
        key.base = p->gpr[in->base].symbol;
        at += p->gpr[in->base].delta;
    }
    if (in->index >= 0) {
        key.index = p->gpr[in->index].symbol;
        key.scale = in->scale;
        at += (int64_t)p->gpr[in->index].delta * in->scale;
    }
    if (!wide && key.base == SYM_ZERO && key.index == SYM_ZERO)
        at = (uint32_t)at;
    member_add(p, i, TR_MEMBER_MEM, &key, at, size, is_write);
}

static void member_add_stack(Pass *p, unsigned i, int from, bool is_write, unsigned reg)
{
    TrGroup key = {.base = p->gpr[reg].symbol, .index = SYM_ZERO, .scale = 1, .segment = TR_NO_SEGMENT, .epoch = p->epoch};
    member_add(p, i, TR_MEMBER_STACK, &key, p->gpr[reg].delta + (int64_t)from, p->t->word, is_write);
}

static void pass_members(Pass *p, unsigned i, const Insn *in)
{
    Tr *t = p->t;
    int word = (int)t->word;
    if (!in->row)
        return;
    if (in->row->how == HOW_SAME) {
        if (in->has_mem)
            member_add_mem(p, i, in, in->mem_size, in->row->access & ACC_W);
        return;
    }
    if (in->row->how != HOW_EMIT)
        return;
    switch ((InsnTr)in->row->tr) {
    case TR_PUSH_RM:
    case TR_CALL_RM:
        if (in->has_mem)
            member_add_mem(p, i, in, t->word, false);
        member_add_stack(p, i, -word, true, X86_RSP);
        break;
    case TR_JMP_RM:
        if (in->has_mem)
            member_add_mem(p, i, in, t->word, false);
        break;
    case TR_PUSH:
    case TR_PUSH_IMM:
    case TR_CALL:
        member_add_stack(p, i, -word, true, X86_RSP);
        break;
    case TR_POP:
    case TR_RET:
        member_add_stack(p, i, 0, false, X86_RSP);
        break;
    case TR_LEAVE:
        member_add_stack(p, i, 0, false, X86_RBP);
        break;
    default:
        break;
    }
}

void tr_groups_find(Tr *t)
{
    Pass p = {.t = t, .next_symbol = SYM_ZERO + 1};
    t->ngroups = 0;
    t->t2_group = -1;
    t->nleads = 0;
    t->t1_symbol = TR_NO_SYMBOL;
    for (unsigned i = 0; i < t->ninsns; i++)
        for (unsigned k = 0; k < 2; k++)
            t->member[i][k] = (TrMember){.group = -1, .base = TR_NO_SYMBOL};
    bool flat32 = t->mode & MODE_FLAT && t->mode & MODE_CODE32 && t->mode & MODE_STACK32;
    t->has_values = !(t->mode & (MODE_ONE | MODE_TF | MODE_DEBUG | MODE_ALIGN)) && (tr_is64(t) || flat32) && t->ninsns > 1;
    if (!t->has_values)
        return;
    forget_all(&p);
    for (unsigned i = 0; i < t->ninsns; i++) {
        memcpy(t->value[i], p.gpr, sizeof p.gpr);
        if (!(t->mode & MODE_PLAIN))
            pass_members(&p, i, &t->insns[i]);
        pass_insn(&p, &t->insns[i]);
    }
    memcpy(t->value[t->ninsns], p.gpr, sizeof p.gpr);
}

/* The span of the members that are still to come, all in one check; but a store that may not be reached must not ask for more rights. */
static void lead_span(Tr *t, unsigned which, TrLead *lead)
{
    const TrMember *own = &t->member[t->i][which];
    int64_t low = own->at, end = own->at + own->size;
    bool is_write = own->is_write, is_certain = true;
    for (unsigned i = t->i; i < t->ninsns; i++) {
        for (unsigned k = 0; k < 2; k++) {
            const TrMember *m = &t->member[i][k];
            if (m->group != own->group || (i == t->i && k < which) || (m->is_write && !is_write && !is_certain))
                continue;
            low = m->at < low ? m->at : low;
            end = m->at + m->size > end ? m->at + m->size : end;
            is_write = is_write || m->is_write;
        }
        if (insn_is_jcc(&t->insns[i]))
            is_certain = false;
    }
    t->t2_low = low;
    t->t2_end = end;
    t->t2_writable = is_write;
    lead->span = (uint16_t)(end - low);
    lead->is_write = own->is_write;
    lead->needs_write = is_write;
}

static bool is_near(int64_t disp) { return disp < TR_NEAR_BASE && disp > -TR_NEAR_BASE; }

/* T2 = the lowest address.  Returns the register whose page it is likely to be on, and which is known sooner. */
static unsigned lead_address(Tr *t, const Insn *in, unsigned which, int64_t add)
{
    Emit *e = &t->e;
    bool wide = t->word == 8;
    if (which == TR_MEMBER_STACK) {
        bool is_leave = in->row->tr == TR_LEAVE;
        bool is_pop = is_leave || in->row->tr == TR_POP || in->row->tr == TR_RET;
        int64_t disp = add - (is_pop ? 0 : (int)t->word);
        unsigned base = is_leave ? H_RBP : H_GUEST_RSP;
        e_mem(e, wide, XO_LEA, H_T2, (int)base, -1, 1, (int32_t)disp);
        return wide && is_near(disp) ? base : H_T2;
    }
    Insn low = *in;
    low.disp = (int32_t)(in->disp + add);
    tr_address_to(t, &low, H_T2);
    bool fs_gs = in->segment == X86_FS || in->segment == X86_GS;
    if (wide && !fs_gs && in->addrsize == 8 && in->base >= 0 && in->base != INSN_REG_RIP && !reg_is_spilled((unsigned)in->base) && in->index < 0 &&
        is_near(low.disp))
        return reg_host((unsigned)in->base);
    if (wide && fs_gs)
        e_gs(e, true, XO_ADD_RM, H_T2, (int32_t)(offsetof(BtCpu, seg) + in->segment * sizeof(X86Segment) + offsetof(X86Segment, base)));
    return H_T2;
}

/* The check with the entry in T1; T2 becomes a host address. */
static void lead_check(Tr *t, TrLead *lead)
{
    Emit *e = &t->e;
    e_mov_rr(e, true, H_T0, H_T2);
    e_gs_base(e, true, XO_SUB_RM, H_T0, H_T1, lead->tag_offset);
    e_ri(e, true, XG_CMP, H_T0, (int32_t)(PAGE_SIZE - lead->span));
    lead->fail = e_jcc_later(e, CC_A);
    e_gs_base(e, true, XO_ADD_RM, H_T2, H_T1, lead->addend_offset);
}

static void lead_emit(Tr *t, const Insn *in, unsigned which)
{
    Emit *e = &t->e;
    const TrMember *m = &t->member[t->i][which];
    TrLead *lead = &t->lead[t->nleads++];
    *lead = (TrLead){.ip = in->ip, .mode = t->mode};
    lead_span(t, which, lead);
    tr_flags_clobber(t);
    lead->again = t->flags == FLAGS_AGAIN;
    lead->insn = (uint8_t)t->i;
    lead->recipe = t->again;
    unsigned page = lead_address(t, in, which, t->t2_low - m->at);
    lead->tag_offset = lead->needs_write ? TLB_OFF(t, tag_write) : TLB_OFF(t, tag_read);
    lead->addend_offset = TLB_OFF(t, addend);
    lead->guessed = page != H_T2;
    tr_tlb_index(t, page);
    lead_check(t, lead);
    lead->resume = e->p;
    t->t2_group = m->group;
    t->t1_symbol = m->is_indexed ? TR_NO_SYMBOL : m->base;
    e->t1_lost = false;
}

bool tr_group_begin(Tr *t, const Insn *in, unsigned which)
{
    const TrMember *m = &t->member[t->i][which];
    t->mem_base = H_T0;
    t->mem_index = -1;
    t->mem_scale = 1;
    t->mem_disp = 0;
    t->current = m;
    if (m->group < 0)
        return false;
    TrGroup *g = &t->group[m->group];
    g->left--;
    bool is_covered = t->t2_group == m->group && m->at >= t->t2_low && m->at + m->size <= t->t2_end &&
                      (!m->is_write || t->t2_writable);
    if (!is_covered) {
        const InsnRow *before = t->i > 0 ? t->insns[t->i - 1].row : NULL;
        bool in_shadow = before && before->how == HOW_EMIT && before->tr == TR_STI; /* leaving polls, the shadow must not */
        bool is_second = which == TR_MEMBER_STACK && in->has_mem; /* the first may have read a device */
        if (g->left == 0 || in_shadow || is_second || t->nleads == TR_LEADS_MAX || in->disp > INT32_MAX / 2 || in->disp < INT32_MIN / 2)
            return false;
        if (t->t2_group >= 0 && t->t2_group != m->group && t->group[t->t2_group].left >= g->left)
            return false;
        lead_emit(t, in, which);
    }
    t->current = NULL;
    t->mem_base = H_T2;
    t->mem_disp = (int32_t)(m->at - t->t2_low);
    return true;
}

/* Where leaders go whose check fails: fill the TLB and go on, or leave for the same instruction in a block without groups. */
void tr_leads_finish(Tr *t)
{
    Emit *e = &t->e;
    for (unsigned i = 0; i < t->nleads; i++) {
        TrLead *lead = &t->lead[i];
        e_patch32(lead->fail, e->p);
        if (lead->guessed) {
            tr_tlb_index(t, H_T2);
            lead_check(t, lead);
            e_jmp(e, lead->resume);
            e_patch32(lead->fail, e->p);
        }
        e_mov_rr(e, false, H_T1, H_T2);
        e_ri(e, false, XG_AND, H_T1, (int32_t)PAGE_SIZE - 1);
        e_ri(e, false, XG_CMP, H_T1, (int32_t)(PAGE_SIZE - lead->span));
        uint8_t *crosses = e_jcc_later(e, CC_A);
        e_mov_imm(e, H_T1, lead->span | (lead->is_write ? GROUP_LEADER_WRITES : 0) | (lead->needs_write ? GROUP_WRITES : 0));
        e_call(e, t->bt->stub_group_slow_rw);
        e_rr(e, true, 0x85, H_T2, H_T2);
        e_jcc(e, CC_NE, lead->resume);
        e_patch32(crosses, e->p);
        if (lead->again) {
            tr_flags_again(t, &lead->recipe, lead->insn);
            e_flags_save(e);
        }
        lead->jump = e_jmp_later(e);
    }
}
