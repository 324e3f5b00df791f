/*
 * Guest memory operands.
 *
 * The check before an access, with the linear address in T0 (no page is ever crossed on the fast path):
 *
 *     rorx T1, T0, 7                    index of the page's TLB entry, times its size …
 *     and  T1d, (TLB_SIZE - 1) * 32
 *     sub  T0, gs:[T1 + tag]            offset in the page, if the tag matches
 *     cmp  T0, 4096 - size
 *     ja   slow
 *     add  T0, gs:[T1 + host]           host address
 *     …the instruction on [T0]…         "body"
 *
 * An access with the same base register as an earlier one of the block, which left the entry's offset in T1, takes that entry without
 * looking for it (*guessed*): of the check, only SUB and ADD then delay the address.  When the guess is wrong, the whole check follows.
 *
 * In 64-bit code, where addresses wrap like host addresses do, the operand need not wait for the check (TrForm): the entry's addend makes a
 * guest address a host address, so the body names the guest's own registers, [base + T0 + disp] with T0 = addend, or, guessed,
 * [T0 + index * scale + disp] with T0 = addend + base.  The entry is looked for by the base alone when the displacement is small.  An operand
 * whose address is known has a known entry: its tag is compared with the page, and T0 is its host page.
 *
 * The slow path stands after the block: it asks bt_mem_slow() for a host pointer — RAM after a TLB fill, or the bounce buffer for
 * devices, ROM and operands that cross a page — runs a copy of the body on it, and lets bt_commit() finish a store.
 * The body is position-independent by construction.
 */
#include "bt/translate-priv.h"

static unsigned operand_register(Tr *t, int guest, unsigned scratch)
{
    if (reg_is_spilled((unsigned)guest)) {
        e_load_gs(&t->e, scratch, GPR_OFF(guest));
        return scratch;
    }
    return reg_host((unsigned)guest);
}

void tr_address_to(Tr *t, const Insn *in, unsigned to)
{
    Emit *e = &t->e;
    bool wide = in->addrsize == 8;
    if (in->base == INSN_REG_RIP) {
        uint64_t address = in->ip + in->length + (uint64_t)(int64_t)in->disp;
        e_mov_imm(e, to, wide ? address : (uint32_t)address);
        return;
    }
    if (in->base < 0 && in->index < 0) {
        uint64_t address = (uint64_t)(int64_t)in->disp;
        e_mov_imm(e, to, wide ? address : in->addrsize == 4 ? (uint32_t)address : (uint16_t)address);
        return;
    }
    int base = in->base < 0 ? -1 : (int)operand_register(t, in->base, to);
    int index = in->index < 0 ? -1 : (int)operand_register(t, in->index, H_T1);
    if (index < 0 && in->disp == 0 && in->addrsize != 2) {
        if (base != (int)to || !wide)
            e_mov_rr(e, wide, to, (unsigned)base);
    } else {
        e_mem(e, wide, XO_LEA, to, base, index, in->scale, in->disp);
    }
    if (in->addrsize == 2) { /* movzx to, to16 */
        e_rex(e, false, to, 0, to, false);
        e8(e, 0x0f);
        e8(e, 0xb7);
        e8(e, 0xc0 | (to & 7) << 3 | (to & 7));
    }
}

void tr_tlb_index(Tr *t, unsigned address)
{
    Emit *e = &t->e;
    if (t->bt->has_bmi2) {
        e_rorx(e, true, H_T1, address, PAGE_SHIFT - 5);
    } else {
        e_mov_rr(e, true, H_T1, address);
        e_shift(e, true, 5, H_T1, PAGE_SHIFT - 5);
    }
    e_ri(e, false, XG_AND, H_T1, (int32_t)((TLB_SIZE - 1) << 5));
}

/* Offset in T0 → linear address in T0.  Flags are free to clobber. */
static void tr_segment(Tr *t, SlowPath *slow, unsigned segment, unsigned size, uint32_t access)
{
    Emit *e = &t->e;
    if (tr_is64(t)) {
        if (segment == X86_FS || segment == X86_GS)
            e_gs(e, true, XO_ADD_RM, H_T0, (int32_t)(offsetof(BtCpu, seg) + segment * sizeof(X86Segment) + offsetof(X86Segment, base)));
        return;
    }
    if (t->mode & MODE_FLAT && segment != X86_FS && segment != X86_GS)
        return;
    size_t limits = access & ACCESS_WRITE ? offsetof(BtCpu, seg_write_limit) : offsetof(BtCpu, seg_read_limit);
    e_mem(e, true, XO_LEA, H_T1, H_T0, -1, 1, (int32_t)size);
    e_gs(e, true, XO_CMP_RM, H_T1, (int32_t)(limits + 8 * segment));
    slow->jump[1] = e_jcc_later(e, CC_A);
    slow->resume_check = e->p;
    e_gs(e, false, XO_ADD_RM, H_T0, (int32_t)(offsetof(BtCpu, seg) + segment * sizeof(X86Segment) + offsetof(X86Segment, base)));
}

/* With the entry's offset in T1. */
static void tlb_check(Tr *t, SlowPath *slow, unsigned size)
{
    Emit *e = &t->e;
    e_gs_base(e, true, XO_SUB_RM, H_T0, H_T1, slow->tag_offset);
    e_ri(e, true, XG_CMP, H_T0, (int32_t)(PAGE_SIZE - size));
    slow->jump[0] = e_jcc_later(e, CC_A);
    e_gs_base(e, true, XO_ADD_RM, H_T0, H_T1, slow->host_offset);
}

void tr_access_begin(Tr *t, unsigned segment, unsigned size, uint32_t access, bool is_stack)
{
    Emit *e = &t->e;
    SlowPath *slow = &t->slow[t->nslow++];
    *slow = (SlowPath){0};
    slow->desc = size | access | (is_stack ? ACCESS_STACK : 0) | (uint32_t)segment << ACCESS_SEG_SHIFT;
    tr_flags_clobber(t);
    slow->again = t->flags == FLAGS_AGAIN;
    slow->insn = (uint8_t)t->i;
    slow->recipe = t->again;
    tr_segment(t, slow, segment, size, access);
    if ((t->mode & MODE_ALIGN && size > 1) || t->mode & MODE_DEBUG) {
        slow->always = true;
        slow->jump[0] = e_jmp_later(e);
    } else {
        slow->tag_offset = access & ACCESS_WRITE ? TLB_OFF(t, tag_write) : TLB_OFF(t, tag_read);
        slow->host_offset = TLB_OFF(t, host);
        const TrMember *m = t->current;
        slow->guessed = m && m->base != TR_NO_SYMBOL && m->base == t->t1_symbol && !e->t1_lost;
        if (!slow->guessed)
            tr_tlb_index(t, H_T0);
        tlb_check(t, slow, size);
        if (!slow->guessed)
            t->t1_symbol = m && !m->is_indexed ? m->base : TR_NO_SYMBOL;
        e->t1_lost = false;
    }
    t->current = NULL;
    slow->body = e->p;
    slow->map_template = t->bt->nmap - 1;
    t->open = slow;
}

/* The page and the entry of an operand whose address is known. */
static int32_t const_entry(const SlowPath *slow)
{
    return (int32_t)((slow->address >> PAGE_SHIFT & (TLB_SIZE - 1)) * sizeof(TlbEntry));
}

/* What the operand of @in, not in a group, can be made of.  Fills the operand's part of @slow. */
static TrForm form_find(const Tr *t, const Insn *in, unsigned size, bool is_guessed, SlowPath *slow)
{
    bool fs_gs = in->segment == X86_FS || in->segment == X86_GS;
    if (!tr_is64(t) || in->addrsize != 8 || fs_gs || t->mode & MODE_DEBUG || (t->mode & MODE_ALIGN && size > 1) || in->disp == INT32_MIN)
        return FORM_HOST;
    bool is_rip = in->base == INSN_REG_RIP;
    *slow = (SlowPath){.base = -1, .index = -1, .scale = 1, .disp = in->disp};
    if (is_rip || (in->base < 0 && in->index < 0)) {
        slow->address = (is_rip ? in->ip + in->length : 0) + (uint64_t)(int64_t)in->disp;
        return page_offset(slow->address) + size <= PAGE_SIZE ? FORM_CONST : FORM_HOST;
    }
    if (in->base < 0 || reg_is_spilled((unsigned)in->base))
        return FORM_HOST;
    slow->base = (int8_t)reg_host((unsigned)in->base);
    if (in->index < 0)
        return FORM_BASE;
    if (!is_guessed || reg_is_spilled((unsigned)in->index))
        return FORM_HOST;
    slow->index = (int8_t)reg_host((unsigned)in->index);
    slow->scale = in->scale;
    return FORM_INDEX;
}

/* The check with the entry in T1 and the address in T0, and what the body wants in T0. */
static void form_check(Tr *t, SlowPath *slow)
{
    Emit *e = &t->e;
    e_gs_base(e, true, XO_SUB_RM, H_T0, H_T1, slow->tag_offset);
    e_ri(e, true, XG_CMP, H_T0, (int32_t)(PAGE_SIZE - ACCESS_SIZE(slow->desc)));
    slow->jump[0] = e_jcc_later(e, CC_A);
    e_gs_base(e, true, XO_MOV_RM, H_T0, H_T1, slow->host_offset);
    if (slow->form == FORM_INDEX)
        e_mem(e, true, XO_LEA, H_T0, H_T0, slow->base, 1, 0);
}

static void form_begin(Tr *t, SlowPath *slow, bool is_guessed)
{
    Emit *e = &t->e;
    if (slow->form == FORM_CONST) {
        int32_t entry = const_entry(slow);
        e_mov_imm(e, H_T0, page_of(slow->address));
        e_gs(e, true, XO_CMP_RM, H_T0, slow->tag_offset + entry);
        slow->jump[0] = e_jcc_later(e, CC_NE);
        e_load_gs(e, H_T0, TLB_OFF(t, host) + entry);
        t->mem_disp = (int32_t)page_offset(slow->address);
        return;
    }
    bool is_near = slow->disp < TR_NEAR_BASE && slow->disp > -TR_NEAR_BASE;
    slow->guessed = is_guessed || (slow->form == FORM_BASE && is_near && slow->disp != 0);
    if (!is_guessed && is_near)
        tr_tlb_index(t, (unsigned)slow->base);
    if (slow->index < 0 && slow->disp == 0)
        e_mov_rr(e, true, H_T0, (unsigned)slow->base);
    else
        e_mem(e, true, XO_LEA, H_T0, slow->base, slow->index, slow->scale, slow->disp);
    if (!is_guessed && !is_near)
        tr_tlb_index(t, H_T0);
    form_check(t, slow);
    bool is_base = slow->form == FORM_BASE;
    t->mem_base = is_base ? (uint8_t)slow->base : H_T0;
    t->mem_index = is_base ? (int8_t)H_T0 : slow->index;
    t->mem_scale = is_base ? 1 : slow->scale;
    t->mem_disp = slow->disp;
}

/* On the slow path T0 is the operand's host address: what makes it what the body wants. */
static void form_from_host(Tr *t, const SlowPath *slow)
{
    Emit *e = &t->e;
    if (slow->form == FORM_CONST) {
        e_mem(e, true, XO_LEA, H_T0, H_T0, -1, 1, -(int32_t)page_offset(slow->address));
    } else if (slow->form == FORM_BASE) {
        e_rr(e, true, XO_SUB_RM, H_T0, (unsigned)slow->base);
        if (slow->disp)
            e_mem(e, true, XO_LEA, H_T0, H_T0, -1, 1, -slow->disp);
    } else if (slow->form == FORM_INDEX) {
        e_neg(e, H_T0);
        e_mem(e, true, XO_LEA, H_T0, H_T0, slow->index, slow->scale, slow->disp);
        e_neg(e, H_T0);
    }
}

void tr_mem_begin(Tr *t, const Insn *in, unsigned size, uint32_t access, bool guests_stay)
{
    if (tr_group_begin(t, in, TR_MEMBER_MEM))
        return;
    tr_flags_clobber(t);
    const TrMember *m = t->current;
    bool is_guessed = m && m->base != TR_NO_SYMBOL && m->base == t->t1_symbol && !t->e.t1_lost;
    SlowPath operand;
    TrForm form = guests_stay && !tr_flags_before_emits(t, in) ? form_find(t, in, size, is_guessed, &operand) : FORM_HOST;
    if (form == FORM_HOST) {
        tr_address(t, in);
        tr_access_begin(t, in->segment, size, access, in->segment == X86_SS);
        return;
    }
    SlowPath *slow = &t->slow[t->nslow++];
    *slow = operand;
    slow->form = (uint8_t)form;
    slow->desc = size | access | (in->segment == X86_SS ? ACCESS_STACK : 0) | (uint32_t)in->segment << ACCESS_SEG_SHIFT;
    slow->again = t->flags == FLAGS_AGAIN;
    slow->insn = (uint8_t)t->i;
    slow->recipe = t->again;
    slow->tag_offset = access & ACCESS_WRITE ? TLB_OFF(t, tag_write) : TLB_OFF(t, tag_read);
    slow->host_offset = TLB_OFF(t, addend);
    form_begin(t, slow, is_guessed);
    if (form != FORM_CONST && !is_guessed)
        t->t1_symbol = m && !m->is_indexed ? m->base : TR_NO_SYMBOL;
    if (form != FORM_CONST)
        t->e.t1_lost = false;
    t->current = NULL;
    slow->body = t->e.p;
    slow->map_template = t->bt->nmap - 1;
    t->open = slow;
}

void tr_access_map(Tr *t, const Insn *in)
{
    tr_map(t, in, t->flags == FLAGS_HOST || t->flags == FLAGS_BOTH);
    if (!t->open)
        return;
    t->open->map_template = t->bt->nmap - 1;
}

void tr_access_end(Tr *t)
{
    if (!t->open)
        return;
    t->open->body_end = t->e.p;
    t->open = NULL;
}

static void map_repeat(Tr *t, uint32_t template)
{
    BtMap m = t->bt->map[template];
    m.host_at = (uint32_t)(t->e.p - t->bt->cold_p) & 0x7fff;
    m.is_cold = 1;
    t->bt->map[t->bt->nmap++] = m;
}

void tr_slow_paths(Tr *t)
{
    Emit *e = &t->e;
    _Static_assert(sizeof(TlbEntry) == 32, "the check scales by 32");
    for (unsigned i = 0; i < t->nslow; i++) {
        SlowPath *slow = &t->slow[i];
        map_repeat(t, slow->map_template);
        if (slow->jump[1]) {
            e_patch32(slow->jump[1], e->p);
            e_mov_imm(e, H_T1, slow->desc);
            e_call(e, t->bt->stub_seg_slow_rw);
            e_jmp(e, slow->resume_check);
        }
        e_patch32(slow->jump[0], e->p);
        if (slow->guessed) { /* the whole check */
            e_gs_base(e, true, XO_ADD_RM, H_T0, H_T1, slow->tag_offset);
            tr_tlb_index(t, H_T0);
            if (slow->form == FORM_HOST)
                tlb_check(t, slow, ACCESS_SIZE(slow->desc));
            else
                form_check(t, slow);
            e_jmp(e, slow->body);
            e_patch32(slow->jump[0], e->p);
        }
        if (slow->form == FORM_CONST)
            e_mov_imm(e, H_T0, slow->address);
        else if (!slow->always)
            e_gs_base(e, true, XO_ADD_RM, H_T0, H_T1, slow->tag_offset);
        if (slow->again) {
            tr_flags_again(t, &slow->recipe, slow->insn);
            e_flags_save(e);
        }
        e_mov_imm(e, H_T1, slow->desc);
        e_call(e, t->bt->stub_mem_slow_rw);
        form_from_host(t, slow);
        memcpy(e->p, slow->body, (size_t)(slow->body_end - slow->body));
        e->p += slow->body_end - slow->body;
        if (slow->desc & ACCESS_WRITE)
            e_call(e, t->bt->stub_commit_rw);
        e_jmp(e, slow->body_end);
    }
}
