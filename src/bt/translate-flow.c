/*
 * Instructions with an emitter of their own: branches, the stack, LEA, prefetches, the interrupt flag.
 */
#include "bt/translate-priv.h"

uint64_t tr_next_rip(const Tr *t, const Insn *in)
{
    uint64_t next = in->ip + in->length;
    return mode_ip(t->mode, next);
}

void tr_exec(Tr *t, const Insn *in, void (*fn)(BtCpu *, const Insn *), bool ends)
{
    Emit *e = &t->e;
    Bt *bt = t->bt;
    tr_flags_to_slot(t);
    t->t2_group = -1;
    e->t1_lost = true;
    tr_map(t, in, false);
    BtExec *x = &bt->execs[bt->nexecs];
    x->fn = fn;
    x->ends_block = ends;
    x->insn = *in;
    e_mov_imm(e, H_T0, bt->nexecs++);
    if (ends) {
        e_jmp(e, bt->stub_exec_end_rw);
        t->ended = true;
    } else {
        e_call(e, bt->stub_exec_rw);
    }
    t->flags = FLAGS_SLOT;
}

static void load_guest(Tr *t, unsigned host, unsigned guest)
{
    if (reg_is_spilled(guest))
        e_load_gs(&t->e, host, GPR_OFF(guest));
    else
        e_mov_rr(&t->e, true, host, reg_host(guest));
}

/* Adds to guest RSP without touching flags. */
static void add_rsp(Tr *t, int32_t delta) { e_mem(&t->e, t->word == 8, XO_LEA, H_GUEST_RSP, H_GUEST_RSP, -1, 1, delta); }

static bool stack_is_plain(const Tr *t, const Insn *in)
{
    return tr_is64(t) ? in->opsize == 8 : (t->mode & MODE_FLAT && t->mode & MODE_STACK32 && t->mode & MODE_CODE32 && in->opsize == 4);
}

/* The check of a store at RSP - word. */
static void push_begin(Tr *t, const Insn *in)
{
    if (tr_group_begin(t, in, TR_MEMBER_STACK)) {
        tr_access_map(t, in);
        return;
    }
    e_mem(&t->e, t->word == 8, XO_LEA, H_T0, H_GUEST_RSP, -1, 1, -(int32_t)t->word);
    tr_access_begin(t, X86_SS, t->word, ACCESS_WRITE, true);
    tr_access_map(t, in);
}

static void push_end(Tr *t)
{
    add_rsp(t, -(int32_t)t->word);
    tr_access_end(t);
}

static void pop_begin(Tr *t, const Insn *in, unsigned from)
{
    if (tr_group_begin(t, in, TR_MEMBER_STACK)) {
        tr_access_map(t, in);
        return;
    }
    e_mov_rr(&t->e, t->word == 8, H_T0, from);
    tr_access_begin(t, X86_SS, t->word, ACCESS_READ, true);
    tr_access_map(t, in);
}

/* The operand of the access that has begun. */
static void e_store_operand(Tr *t, unsigned reg) { e_mem(&t->e, t->word == 8, XO_MOV_MR, reg, t->mem_base, t->mem_index, t->mem_scale, t->mem_disp); }
static void e_load_operand(Tr *t, unsigned reg) { e_mem(&t->e, t->word == 8, XO_MOV_RM, reg, t->mem_base, t->mem_index, t->mem_scale, t->mem_disp); }

static void tr_push(Tr *t, const Insn *in)
{
    push_begin(t, in);
    unsigned reg = reg_host(in->rm);
    if (reg_is_spilled(in->rm)) {
        e_load_gs(&t->e, H_T1, GPR_OFF(in->rm));
        reg = H_T1;
    }
    e_store_operand(t, reg);
    push_end(t);
}

static void tr_pop(Tr *t, const Insn *in)
{
    pop_begin(t, in, H_GUEST_RSP);
    if (reg_is_spilled(in->rm)) {
        e_load_operand(t, H_T1);
        e_store_gs(&t->e, H_T1, GPR_OFF(in->rm));
    } else {
        e_load_operand(t, reg_host(in->rm));
    }
    if (in->rm != X86_RSP)
        add_rsp(t, (int32_t)t->word);
    tr_access_end(t);
}

/* mov qword [operand], imm32 (sign-extended), or through T1 */
static void store_imm(Tr *t, uint64_t value)
{
    if (t->word == 4)
        value = (uint64_t)(int64_t)(int32_t)value;
    if ((int64_t)value == (int32_t)value) {
        e_rex(&t->e, t->word == 8, 0, 0, t->mem_base, false);
        e8(&t->e, 0xc7);
        e_modrm_mem(&t->e, 0, t->mem_base, -1, 1, t->mem_disp);
        e32(&t->e, (uint32_t)value);
    } else {
        e_mov_imm(&t->e, H_T1, value);
        e_store_operand(t, H_T1);
    }
}

static void tr_push_imm(Tr *t, const Insn *in)
{
    push_begin(t, in);
    store_imm(t, in->imm);
    push_end(t);
}

/* Reads the r/m operand of word size into scratch[0]; for memory with its own access. */
static void rm_to_scratch(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    if (!in->has_mem) {
        load_guest(t, H_T1, in->rm);
        e_store_gs(e, H_T1, CPU_OFF(scratch[0]));
        return;
    }
    tr_mem_begin(t, in, t->word, ACCESS_READ, true);
    tr_access_map(t, in);
    e_load_operand(t, H_T1);
    e_store_gs(e, H_T1, CPU_OFF(scratch[0]));
    tr_access_end(t);
}

static void tr_push_rm(Tr *t, const Insn *in)
{
    rm_to_scratch(t, in);
    push_begin(t, in);
    e_load_gs(&t->e, H_T1, CPU_OFF(scratch[0]));
    e_store_operand(t, H_T1);
    push_end(t);
}

static void tr_pop_rm(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    if (!in->has_mem) {
        tr_pop(t, in);
        return;
    }
    pop_begin(t, in, H_GUEST_RSP);
    e_load_operand(t, H_T1);
    e_store_gs(e, H_T1, CPU_OFF(scratch[0]));
    tr_access_end(t);
    Insn after = *in; /* an RSP base is used after the pop */
    if (after.base == X86_RSP)
        after.disp += (int32_t)t->word;
    t->mem_base = H_T0;
    t->mem_index = -1;
    t->mem_disp = 0;
    tr_address(t, &after);
    tr_access_begin(t, in->segment, t->word, ACCESS_WRITE, in->segment == X86_SS);
    tr_access_map(t, in);
    e_load_gs(e, H_T1, CPU_OFF(scratch[0]));
    e_store_operand(t, H_T1);
    add_rsp(t, (int32_t)t->word);
    tr_access_end(t);
}

static void tr_leave(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    bool wide = t->word == 8;
    pop_begin(t, in, H_RBP);
    e_load_operand(t, H_T1);
    e_mem(e, wide, XO_LEA, H_GUEST_RSP, H_RBP, -1, 1, (int32_t)t->word);
    e_mov_rr(e, wide, H_RBP, H_T1);
    tr_access_end(t);
}

static uint64_t branch_target(const Tr *t, const Insn *in)
{
    uint64_t target = tr_next_rip(t, in) + in->imm;
    return tr_is64(t) ? target : (uint32_t)target;
}

/* The return address store of a call.  When the store hits code, execution goes on at the block's edge or at scratch[1]. */
static void call_push(Tr *t, const Insn *in)
{
    push_begin(t, in);
    if (in->row->tr == TR_CALL)
        t->block->next_is_edge = true;
    else
        t->block->next_in_scratch = true;
    store_imm(t, tr_next_rip(t, in));
    push_end(t);
}

static void tr_call(Tr *t, const Insn *in)
{
    call_push(t, in);
    tr_edge(t, branch_target(t, in), -1);
}

/* A call to a target that is not canonical pushes nothing: bits 63:47 must be alike.  tr_indirect_finish() writes what follows when they are not. */
static void call_check(Tr *t, unsigned target)
{
    Emit *e = &t->e;
    if (!tr_is64(t))
        return;
    tr_flags_clobber(t);
    t->refused_again = t->flags == FLAGS_AGAIN;
    if (target != H_T0)
        e_mov_rr(e, true, H_T0, target);
    e_shift(e, true, 7, H_T0, CANONICAL_BITS - 1);
    e_ri(e, true, XG_ADD, H_T0, 1);
    e_ri(e, true, XG_CMP, H_T0, 1);
    t->call_refused = e_jcc_later(e, CC_A);
}

static void tr_call_rm(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    bool by_register = !in->has_mem && in->rm != X86_RSP && !reg_is_spilled(in->rm);
    if (by_register) {
        e_store_gs(e, reg_host(in->rm), CPU_OFF(scratch[1])); /* for bt_commit() */
        call_check(t, reg_host(in->rm));
    } else {
        rm_to_scratch(t, in);
        e_load_gs(e, H_T0, CPU_OFF(scratch[0]));
        e_store_gs(e, H_T0, CPU_OFF(scratch[1]));
        call_check(t, H_T0);
    }
    call_push(t, in);
    if (by_register)
        e_mov_rr(e, t->word == 8, H_T0, reg_host(in->rm));
    else
        e_gs(e, t->word == 8, XO_MOV_RM, H_T0, CPU_OFF(scratch[1]));
    tr_indirect(t);
}

static void tr_jmp_rm(Tr *t, const Insn *in)
{
    if (in->has_mem) {
        tr_mem_begin(t, in, t->word, ACCESS_READ, true);
        tr_access_map(t, in);
        e_load_operand(t, H_T0);
        tr_access_end(t);
    } else {
        load_guest(t, H_T0, in->rm);
    }
    tr_indirect(t);
}

static void tr_ret(Tr *t, const Insn *in)
{
    pop_begin(t, in, H_GUEST_RSP);
    e_load_operand(t, H_T0);
    unsigned extra = in->opcode == 0xc2 ? (uint16_t)in->imm : 0;
    add_rsp(t, (int32_t)(t->word + extra));
    tr_access_end(t);
    tr_indirect(t);
}

static void tr_jcc(Tr *t, const Insn *in)
{
    tr_flags_to_host(t);
    tr_edge(t, branch_target(t, in), in->opcode & 15);
    if (t->i + 1 == t->ninsns)
        tr_edge(t, tr_next_rip(t, in), -1);
}

/* LOOP and JrCXZ test rCX with the host's own JrCXZ, which reads no flags. */
static void tr_loop(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    bool is_loop = in->opcode != 0xe3, wide = in->addrsize == 8;
    uint8_t *short_jump[2] = {NULL, NULL};
    tr_flags_to_host(t);
    if (is_loop)
        e_mem(e, wide, XO_LEA, H_RCX, H_RCX, -1, 1, -1);
    if (!wide)
        e8(e, 0x67);
    e8(e, 0xe3);
    e8(e, 0);
    short_jump[0] = e->p - 1;
    if (is_loop && in->opcode != 0xe2) { /* LOOPNE leaves when ZF, LOOPE when not ZF */
        e8(e, in->opcode == 0xe0 ? 0x74 : 0x75);
        e8(e, 0);
        short_jump[1] = e->p - 1;
    }
    uint64_t taken = branch_target(t, in), next = tr_next_rip(t, in);
    tr_edge(t, is_loop ? taken : next, -1);
    for (unsigned i = 0; i < 2; i++)
        if (short_jump[i])
            *short_jump[i] = (uint8_t)(e->p - (short_jump[i] + 1));
    tr_edge(t, is_loop ? next : taken, -1);
}

static void tr_lea(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    tr_address(t, in);
    bool wide = in->opsize == 8;
    if (in->opsize == 2) {
        if (reg_is_spilled(in->reg)) {
            e_cpu_prefix(e); /* mov word gs:[slot], T0w */
            e8(e, 0x66);
            e_rex(e, false, H_T0, 0, 0, false);
            e8(e, XO_MOV_MR);
            e8(e, 0x04 | (H_T0 & 7) << 3);
            e8(e, 0x25);
            e_cpu_disp(e, GPR_OFF(in->reg));
        } else {
            e8(e, 0x66);
            e_mov_rr(e, false, reg_host(in->reg), H_T0);
        }
        return;
    }
    if (reg_is_spilled(in->reg)) {
        if (!wide)
            e_mov_rr(e, false, H_T0, H_T0);
        e_store_gs(e, H_T0, GPR_OFF(in->reg));
    } else {
        e_mov_rr(e, wide, reg_host(in->reg), H_T0);
    }
}

static void tr_lea_direct(Tr *t, const Insn *in)
{
    /* The common case needs no scratch: lea dst, [base + index * scale + disp] with everything in registers. */
    bool simple = in->addrsize == t->word && in->opsize >= 4 && !reg_is_spilled(in->reg) && in->base != INSN_REG_RIP &&
                  (in->base < 0 || !reg_is_spilled((unsigned)in->base)) && (in->index < 0 || !reg_is_spilled((unsigned)in->index)) &&
                  (in->base >= 0 || in->index >= 0) && (in->opsize == 8 || in->addrsize <= 8);
    if (simple)
        e_mem(&t->e, in->opsize == 8, XO_LEA, reg_host(in->reg), in->base < 0 ? -1 : (int)reg_host((unsigned)in->base),
              in->index < 0 ? -1 : (int)reg_host((unsigned)in->index), in->scale, in->disp);
    else
        tr_lea(t, in);
}

/*
 * PREFETCHh and PREFETCHW of a page that the TLB knows are the host's; any other is nothing, as a CPU may do too.  A prefetch is not worth
 * parking flags.
 */
static void tr_prefetch(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    bool is_hint = in->opcode == 0x0d || in->reg < 4;
    bool wide = tr_is64(t), fs_gs = in->segment == X86_FS || in->segment == X86_GS;
    if (!in->has_mem || !is_hint || !tr_is_flat(t) || fs_gs || in->addrsize != t->word || (t->flags == FLAGS_HOST && t->live_out[t->i]))
        return;
    tr_flags_clobber(t);
    tr_address(t, in);
    if (!wide)
        e_mov_rr(e, false, H_T0, H_T0);
    tr_tlb_index(t, H_T0);
    e_gs_base(e, true, XO_SUB_RM, H_T0, H_T1, TLB_OFF(t, tag_read));
    e_ri(e, true, XG_CMP, H_T0, (int32_t)(PAGE_SIZE - 1));
    uint8_t *unknown = e_jcc_later(e, CC_A);
    e_gs_base(e, true, XO_ADD_RM, H_T0, H_T1, TLB_OFF(t, host));
    e_rex(e, false, in->reg & 7, 0, H_T0, false);
    e8(e, 0x0f);
    e8(e, in->opcode);
    e_modrm_mem(e, in->reg & 7, H_T0, -1, 1, 0);
    e_patch32(unknown, e->p);
    t->t1_symbol = TR_NO_SYMBOL;
}

static void tr_xchg_acc(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    if (in->rm == X86_RAX)
        return; /* 90: NOP */
    bool wide = in->opsize == 8;
    if (reg_is_spilled(in->rm)) {
        e_load_gs(e, H_T1, GPR_OFF(in->rm));
        if (in->opsize == 2)
            e8(e, 0x66);
        e_rr(e, wide, 0x87, H_T1, H_RAX);
        e_store_gs(e, H_T1, GPR_OFF(in->rm));
    } else {
        if (in->opsize == 2)
            e8(e, 0x66);
        e_rr(e, wide, 0x87, reg_host(in->rm), H_RAX);
    }
}

static void tr_moffs(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    bool is_store = in->opcode >= 0xa2, is_byte = !(in->opcode & 1);
    unsigned size = is_byte ? 1 : in->opsize;
    t->mem_base = H_T0;
    t->mem_index = -1;
    t->mem_disp = 0;
    e_mov_imm(e, H_T0, in->imm);
    tr_access_begin(t, in->segment, size, is_store ? ACCESS_WRITE : ACCESS_READ, in->segment == X86_SS);
    tr_access_map(t, in);
    if (size == 2)
        e8(e, 0x66);
    e_mem(e, size == 8, is_store ? (is_byte ? XO_MOV8_MR : XO_MOV_MR) : (is_byte ? XO_MOV8_RM : XO_MOV_RM), H_RAX, H_T0, -1, 1, 0);
    tr_access_end(t);
}

static void eflags_and_or(Tr *t, unsigned digit, uint32_t imm)
{
    tr_flags_clobber(t);
    e_gs_imm32(&t->e, digit, CPU_OFF(eflags), imm);
}

static void tr_sti(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    if (t->i + 1 >= t->ninsns) { /* nothing of the shadow left in this block */
        tr_exec(t, in, ex_sti, true);
        return;
    }
    eflags_and_or(t, XG_OR, X86_FLAG_IF);
    e_gs(e, false, XO_MOV_RM, H_T0, CPU_OFF(irq_line));
    e_cpu_prefix(e); /* mov byte gs:[poll_window], T0b */
    e_rex(e, false, H_T0, 0, 0, true);
    e8(e, XO_MOV8_MR);
    e8(e, 0x04 | (H_T0 & 7) << 3);
    e8(e, 0x25);
    e_cpu_disp(e, CPU_OFF(poll_window));
}

/* PUSHF at CPL 0 outside virtual-8086 mode: eflags | status, without RF and VM. */
static void tr_pushf(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    tr_flags_to_slot(t);
    t->flags = FLAGS_SLOT;
    e_gs_movzx(e, H_T0, CPU_OFF(status_of), false);
    e_shift(e, false, 4, H_T0, 11);
    e_gs_movzx(e, H_T1, CPU_OFF(status_ah), false);
    e_rr(e, false, XO_OR_RM, H_T0, H_T1);
    e_gs(e, false, XO_OR_RM, H_T0, CPU_OFF(eflags));
    e_ri(e, false, XG_AND, H_T0, (int32_t)~(X86_FLAG_RF | X86_FLAG_VM));
    e_store_gs(e, H_T0, CPU_OFF(scratch[0]));
    push_begin(t, in);
    e_load_gs(e, H_T1, CPU_OFF(scratch[0]));
    e_store_operand(t, H_T1);
    push_end(t);
}

/* STAC, CLAC: the block goes on in the other privilege class.  Inside one block the mode is known, so only the state is updated. */
static void tr_set_ac(Tr *t, bool ac)
{
    eflags_and_or(t, ac ? XG_OR : XG_AND, ac ? X86_FLAG_AC : ~X86_FLAG_AC);
    e_gs_imm32(&t->e, ac ? XG_OR : XG_AND, CPU_OFF(mode), ac ? MODE_AC : ~MODE_AC);
    t->mode = ac ? t->mode | MODE_AC : t->mode & ~MODE_AC;
    t->index = ac ? MMU_KERNEL_AC : MMU_KERNEL;
    t->t2_group = -1;
}

static void tr_swapgs(Tr *t)
{
    int32_t base = (int32_t)(offsetof(BtCpu, seg) + X86_GS * sizeof(X86Segment) + offsetof(X86Segment, base));
    e_load_gs(&t->e, H_T0, base);
    e_load_gs(&t->e, H_T1, CPU_OFF(kernel_gs_base));
    e_store_gs(&t->e, H_T0, CPU_OFF(kernel_gs_base));
    e_store_gs(&t->e, H_T1, base);
}

bool tr_emit(Tr *t, const Insn *in)
{
    bool plain_stack = stack_is_plain(t, in);
    bool flat_branch = tr_is64(t) ? in->opsize == 8 : (t->mode & MODE_CODE32 && t->mode & MODE_FLAT && in->opsize == 4);
    bool kernel = t->mode & MODE_CPL0 && !(t->mode & MODE_V86);

#define STACK(emitter, exec, ends) \
    do { \
        if (plain_stack) \
            emitter(t, in); \
        else \
            tr_exec(t, in, exec, ends); \
    } while (0)

    switch ((InsnTr)in->row->tr) {
    case TR_PUSH: STACK(tr_push, ex_push_reg, false); return true;
    case TR_POP: STACK(tr_pop, ex_pop_reg, false); return true;
    case TR_PUSH_IMM: STACK(tr_push_imm, ex_push_imm, false); return true;
    case TR_PUSH_RM: STACK(tr_push_rm, ex_push_rm, false); return true;
    case TR_POP_RM: STACK(tr_pop_rm, ex_pop_rm, false); return true;
    case TR_LEAVE: STACK(tr_leave, ex_leave, false); return true;
    case TR_CALL: STACK(tr_call, ex_call_rel, true); return true;
    case TR_CALL_RM: STACK(tr_call_rm, ex_call_rm, true); return true;
    case TR_RET: STACK(tr_ret, ex_ret, true); return true;
#undef STACK
    case TR_JMP:
        if (flat_branch)
            tr_edge(t, branch_target(t, in), -1);
        else
            tr_exec(t, in, ex_jmp_rel, true);
        return true;
    case TR_JMP_RM:
        if (flat_branch)
            tr_jmp_rm(t, in);
        else
            tr_exec(t, in, ex_jmp_rm, true);
        return true;
    case TR_JCC:
        if (flat_branch)
            tr_jcc(t, in);
        else
            tr_exec(t, in, ex_jcc, true);
        return true;
    case TR_LOOP:
    case TR_JCXZ:
        if (flat_branch && in->addrsize >= 4)
            tr_loop(t, in);
        else
            tr_exec(t, in, in->opcode == 0xe3 ? ex_jcxz : ex_loop, true);
        return true;
    case TR_LEA: tr_lea_direct(t, in); return true;
    case TR_PREFETCH: tr_prefetch(t, in); return true;
    case TR_XCHG_ACC: tr_xchg_acc(t, in); return true;
    case TR_MOFFS: tr_moffs(t, in); return true;
    case TR_CLI:
        if (kernel)
            eflags_and_or(t, XG_AND, ~X86_FLAG_IF);
        else
            tr_exec(t, in, ex_cli, false);
        return true;
    case TR_STI:
        if (kernel)
            tr_sti(t, in);
        else
            tr_exec(t, in, ex_sti, true);
        return true;
    case TR_CLD: eflags_and_or(t, XG_AND, ~X86_FLAG_DF); return true;
    case TR_STD: eflags_and_or(t, XG_OR, X86_FLAG_DF); return true;
    case TR_PUSHF:
        if (kernel && plain_stack)
            tr_pushf(t, in);
        else
            tr_exec(t, in, ex_pushf, false);
        return true;
    case TR_POPF: tr_exec(t, in, ex_popf, true); return true;
    case TR_XLAT: tr_exec(t, in, ex_xlat, false); return true;
    case TR_UD: tr_exec(t, in, ex_ud, true); return true;
    case TR_ACLAC:
    case TR_STAC:
        if (!kernel || t->mode & (MODE_ONE | MODE_TF | MODE_DEBUG)) /* #UD unless CPL = 0 */
            tr_exec(t, in, in->row->tr == TR_STAC ? ex_stac : ex_clac, true);
        else
            tr_set_ac(t, in->row->tr == TR_STAC);
        return true;
    case TR_SWAPGS: tr_swapgs(t); return true;
    case TR_RDTSC: tr_exec(t, in, ex_rdtsc, false); return true;
    case TR_NONE:
        return false;
    }
    return false;
}
