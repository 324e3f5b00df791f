/*
 * The fixed code at the start of the cache: into translated code, out of it, and the calls to C.
 *
 * Stack: bt_run() calls enter(), which leaves host RSP at cpu->host_rsp, a multiple of 16.  Translated code runs at that RSP; a stub reached by
 * CALL is 8 below.  The dispatcher may be entered from any depth, since it starts by restoring RSP.
 */
#include "bt/translate.h"

static const uint8_t identity[] = {H_RAX, H_RCX, H_RDX, H_RBX, H_RBP, H_RSI, H_RDI, H_R12, H_R13, H_R14, H_R15};
static const uint8_t caller_saved[] = {H_RAX, H_RCX, H_RDX, H_RSI, H_RDI};
static const uint8_t callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static void save_guest(Emit *e)
{
    for (unsigned i = 0; i < sizeof identity; i++)
        e_store_gs(e, identity[i], GPR_OFF(identity[i]));
    e_store_gs(e, H_GUEST_RSP, GPR_OFF(X86_RSP));
    e_store_gs(e, H_T1, CPU_OFF(t1));
    e_store_gs(e, H_T2, CPU_OFF(t2));
}

static void load_guest(Emit *e)
{
    for (unsigned i = 0; i < sizeof identity; i++)
        e_load_gs(e, identity[i], GPR_OFF(identity[i]));
    e_load_gs(e, H_GUEST_RSP, GPR_OFF(X86_RSP));
}

static void load_caller_saved(Emit *e)
{
    for (unsigned i = 0; i < sizeof caller_saved; i++)
        e_load_gs(e, caller_saved[i], GPR_OFF(caller_saved[i]));
    e_load_gs(e, H_GUEST_RSP, GPR_OFF(X86_RSP));
    e_load_gs(e, H_T1, CPU_OFF(t1));
    e_load_gs(e, H_T2, CPU_OFF(t2));
}

static void load_self(Emit *e) { e_load_gs(e, H_RDI, CPU_OFF(self)); }
static void add_rsp(Emit *e, int32_t n) { e_ri(e, true, XG_ADD, H_RSP, n); }
static void load_stack(Emit *e, unsigned reg, int32_t at) { e_mem(e, true, XO_MOV_RM, reg, H_RSP, -1, 1, at); }

static void test_rax(Emit *e) { e_rr(e, true, 0x85, H_RAX, H_RAX); }

static void e_ret(Emit *e) { e8(e, 0xc3); }

/* XSAVE64 (4), XRSTOR64 (5) or XSAVEOPT64 (6) of gs:[xsave] under @mask */
static void e_xsave(Emit *e, unsigned digit, uint64_t mask)
{
    e_mov_imm(e, H_RAX, (uint32_t)mask);
    e_mov_imm(e, H_RDX, mask >> 32);
    e_cpu_prefix(e);
    e8(e, 0x48);
    e8(e, 0x0f);
    e8(e, 0xae);
    e8(e, 0x04 | digit << 3);
    e8(e, 0x25);
    e_cpu_disp(e, CPU_OFF(xsave));
}

static void emit_enter(Bt *bt, Emit *e)
{
    bt->enter = (void (*)(BtCpu *))(void *)(e->p + e->to_exec);
    for (unsigned i = 0; i < sizeof callee_saved; i++) {
        e_rex(e, false, 0, 0, callee_saved[i], false);
        e8(e, 0x50 | (callee_saved[i] & 7));
    }
    add_rsp(e, -8);
    e_store_gs(e, H_RSP, CPU_OFF(host_rsp));
    e_xsave(e, 5, bt->xsave_mask);
}

static void emit_dispatch(Bt *bt, Emit *e)
{
    bt->stub_dispatch_rw = e->p;
    e_load_gs(e, H_RSP, CPU_OFF(host_rsp));
    load_self(e);
    e_call_c(e, (const void *)bt_dispatch);
    test_rax(e);
    uint8_t *leave = e_jcc_later(e, CC_E);
    e_mov_rr(e, true, H_T0, H_RAX);
    load_guest(e);
    e_jmp_reg(e, H_T0);

    e_patch32(leave, e->p);
    e_xsave(e, bt->has_xsaveopt ? 6 : 4, bt->xsave_mask);
    e8(e, 0xdb); /* fninit */
    e8(e, 0xe3);
    if (bt->xsave_mask & 4) { /* vzeroupper */
        e8(e, 0xc5);
        e8(e, 0xf8);
        e8(e, 0x77);
    }
    e8(e, 0x68); /* push 0x1f80; ldmxcsr [rsp] */
    e32(e, 0x1f80);
    e8(e, 0x0f);
    e8(e, 0xae);
    e_modrm_mem(e, 2, H_RSP, -1, 1, 0);
    add_rsp(e, 16);
    for (unsigned i = sizeof callee_saved; i-- > 0;) {
        e_rex(e, false, 0, 0, callee_saved[i], false);
        e8(e, 0x58 | (callee_saved[i] & 7));
    }
    e_ret(e);
}

static void emit_save_dispatch(Bt *bt, Emit *e)
{
    bt->stub_save_dispatch_rw = e->p;
    save_guest(e);
    e_jmp(e, bt->stub_dispatch_rw);
}

static void emit_mem_slow(Bt *bt, Emit *e)
{
    bt->stub_mem_slow_rw = e->p;
    save_guest(e);
    load_stack(e, H_RCX, 0);
    add_rsp(e, -8);
    load_self(e);
    e_mov_rr(e, true, H_RSI, H_T0);
    e_mov_rr(e, false, H_RDX, H_T1);
    e_call_c(e, (const void *)bt_mem_slow);
    add_rsp(e, 8);
    e_mov_rr(e, true, H_T0, H_RAX);
    load_caller_saved(e);
    e_ret(e);

    bt->stub_seg_slow_rw = e->p;
    save_guest(e);
    load_stack(e, H_RCX, 0);
    add_rsp(e, -8);
    load_self(e);
    e_mov_rr(e, true, H_RSI, H_T0);
    e_mov_rr(e, false, H_RDX, H_T1);
    e_store_gs(e, H_T0, CPU_OFF(scratch[3]));
    e_call_c(e, (const void *)bt_seg_slow);
    add_rsp(e, 8);
    e_load_gs(e, H_T0, CPU_OFF(scratch[3]));
    load_caller_saved(e);
    e_ret(e);
}

static void emit_group_slow(Bt *bt, Emit *e)
{
    bt->stub_group_slow_rw = e->p;
    save_guest(e);
    add_rsp(e, -8);
    load_self(e);
    e_mov_rr(e, true, H_RSI, H_T2);
    e_mov_rr(e, false, H_RDX, H_T1);
    e_call_c(e, (const void *)bt_group_slow);
    add_rsp(e, 8);
    e_store_gs(e, H_RAX, CPU_OFF(t2));
    load_caller_saved(e);
    e_ret(e);
}

static void emit_commit(Bt *bt, Emit *e)
{
    bt->stub_commit_rw = e->p;
    e8(e, 0x9c); /* pushfq */
    e_cpu_prefix(e); /* cmp byte gs:[commit_kind], 0 */
    e8(e, 0x80);
    e8(e, 0x3c);
    e8(e, 0x25);
    e_cpu_disp(e, CPU_OFF(commit_kind));
    e8(e, 0);
    uint8_t *more = e_jcc_later(e, CC_NE);
    e8(e, 0x9d); /* popfq */
    e_ret(e);
    e_patch32(more, e->p);
    save_guest(e);
    load_self(e);
    load_stack(e, H_RSI, 8);
    load_stack(e, H_RDX, 0);
    e_call_c(e, (const void *)bt_commit);
    e_rr(e, false, 0x85, H_RAX, H_RAX);
    e_jcc(e, CC_NE, bt->stub_dispatch_rw);
    load_caller_saved(e);
    e8(e, 0x9d);
    e_ret(e);
}

static void emit_exec(Bt *bt, Emit *e)
{
    bt->stub_exec_rw = e->p;
    save_guest(e);
    load_self(e);
    e_mov_rr(e, false, H_RSI, H_T0);
    add_rsp(e, -8);
    e_call_c(e, (const void *)bt_exec);
    add_rsp(e, 8);
    e_rr(e, false, 0x85, H_RAX, H_RAX);
    e_jcc(e, CC_NE, bt->stub_dispatch_rw);
    load_guest(e);
    e_ret(e);

    bt->stub_exec_end_rw = e->p;
    save_guest(e);
    load_self(e);
    e_mov_rr(e, false, H_RSI, H_T0);
    e_call_c(e, (const void *)bt_exec_end);
    e_jmp(e, bt->stub_dispatch_rw);
}

static void emit_edges(Bt *bt, Emit *e)
{
    bt->stub_link_host_rw = e->p;
    e_flags_save(e);
    bt->stub_link_slot_rw = e->p;
    save_guest(e);
    load_self(e);
    e_mov_rr(e, false, H_RSI, H_T0);
    e_call_c(e, (const void *)bt_follow);
    e_jmp(e, bt->stub_dispatch_rw);

    bt->stub_indirect_rw = e->p;
    save_guest(e);
    load_self(e);
    e_mov_rr(e, true, H_RSI, H_T0);
    e_mov_rr(e, true, H_RDX, H_T1);
    e_call_c(e, (const void *)bt_indirect);
    test_rax(e);
    e_jcc(e, CC_E, bt->stub_dispatch_rw);
    e_mov_rr(e, true, H_T0, H_RAX);
    load_caller_saved(e);
    e_jmp_reg(e, H_T0);
}

void stubs_emit(Bt *bt)
{
    Emit e = {.p = bt->code_p, .to_exec = bt->rx - bt->rw, .cpu_at = bt->cpu_at};
    emit_enter(bt, &e);
    emit_dispatch(bt, &e); /* enter falls through into it */
    emit_save_dispatch(bt, &e);
    emit_mem_slow(bt, &e);
    emit_group_slow(bt, &e);
    emit_commit(bt, &e);
    emit_exec(bt, &e);
    emit_edges(bt, &e);
    bt->code_p = bt->code_start = e.p + (-(uintptr_t)e.p & 63);
}
