/* Delivery of interrupts and exceptions in every mode, and the returns from them. */
#include "exec-fixture.h"

#define HANDLER 0x6000u

static Insn insn_size(uint8_t opcode, unsigned opsize)
{
    Insn insn = fx_insn(opcode);
    insn.opsize = (uint8_t)opsize;
    return insn;
}

static Insn insn_int(unsigned vector)
{
    Insn insn = fx_insn(0xcd);
    insn.imm = (uint64_t)(int64_t)(int8_t)vector;
    return insn;
}

START_TEST(real_mode_int_and_iret)
{
    fx_real();
    fx_put(0x80 * 4, 4, 0x01230456);
    bt_set_flags(fx, X86_FLAG_IF | X86_FLAG_CF);
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x80)), FX_DONE);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, 0x123);
    ck_assert_uint_eq(fx->seg[X86_CS].base, 0x1230);
    ck_assert_uint_eq(fx->rip, 0x456);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 6);
    ck_assert_uint_eq(bt_flags(fx), X86_FLAG_FIXED | X86_FLAG_CF);
    ck_assert_uint_eq(fx_get(STACK0 - 6, 2), CODE + 2);
    ck_assert_int_eq(fx_run(ex_iret, fx_insn(0xcf)), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0);
    ck_assert_uint_eq(bt_flags(fx), X86_FLAG_FIXED | X86_FLAG_CF | X86_FLAG_IF);
}
END_TEST

START_TEST(gate_switches_stack_and_back)
{
    fx_user();
    fx_gate32(0x80, SEL_CODE0, HANDLER, SYS_INT32, 3);
    bt_set_flags(fx, X86_FLAG_IF);
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x80)), FX_DONE);
    ck_assert_uint_eq(fx->rip, HANDLER);
    ck_assert_uint_eq(fx->cpl, 0);
    ck_assert_uint_eq(fx->seg[X86_SS].selector, SEL_DATA0);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 20);
    ck_assert_uint_eq(fx_get(STACK0 - 4, 4), SEL_DATA3 | 3);
    ck_assert_uint_eq(fx_get(STACK0 - 8, 4), STACK3);
    ck_assert_uint_eq(fx_get(STACK0 - 12, 4), X86_FLAG_IF | X86_FLAG_FIXED);
    ck_assert_uint_eq(fx_get(STACK0 - 16, 4), SEL_CODE3 | 3);
    ck_assert_uint_eq(fx_get(STACK0 - 20, 4), CODE + 2);
    ck_assert(!(fx->eflags & X86_FLAG_IF));
    ck_assert_int_eq(fx_run(ex_iret, fx_insn(0xcf)), FX_DONE);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3);
    ck_assert(fx->mode & MODE_USER && fx->mode & MODE_FLAT);
}
END_TEST

START_TEST(software_int_checks_gate_privilege)
{
    fx_user();
    fx_gate32(0x20, SEL_CODE0, HANDLER, SYS_INT32, 0);
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x20)), X86_EXC_GP);
    ck_assert_uint_eq(fx->exception.code, 0x20 * 8 + 2);
    ck_assert_uint_eq(fx->rip, CODE);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3);
    /* The same gate serves an external interrupt. */
    fx->exception_pending = fx->delivering = false;
    ck_assert(bt_interrupt_deliver(fx, 0x20));
    ck_assert_uint_eq(fx->rip, HANDLER);
    ck_assert_uint_eq(fx_get(STACK0 - 20, 4), CODE);
}
END_TEST

START_TEST(sixteen_bit_gate)
{
    fx_user();
    fx_gate32(X86_EXC_BP, SEL_CODE0, HANDLER, SYS_TRAP16, 3);
    bt_set_flags(fx, X86_FLAG_IF);
    Insn insn = fx_insn(0xcc);
    insn.length = 1;
    ck_assert_int_eq(fx_run(ex_int3, insn), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 10);
    ck_assert_uint_eq(fx_get(STACK0 - 10, 2), CODE + 1);
    ck_assert(fx->eflags & X86_FLAG_IF);
    ck_assert_int_eq(fx_run(ex_iret, insn_size(0xcf, 2)), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 1);
    ck_assert_uint_eq(fx->gpr[X86_RSP] & 0xffff, STACK3);
}
END_TEST

START_TEST(long_mode_page_fault_on_ist)
{
    fx_long_user();
    fx_gate64(X86_EXC_PF, SEL_CODE64_0, 0xffff800000001000, SYS_INT32, 0, 1);
    bt_set_flags(fx, X86_FLAG_IF);
    fx->exception_pending = true;
    fx->exception = (BtException){.vector = X86_EXC_PF, .has_code = true, .code = 6, .cr2 = 0x123456};
    fx_deliver_pending();
    ck_assert(!fx->shutdown);
    ck_assert_uint_eq(fx->cr2, 0x123456);
    ck_assert_uint_eq(fx->rip, 0xffff800000001000);
    ck_assert_uint_eq(fx->cpl, 0);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK_IST - 48);
    ck_assert(fx->seg[X86_SS].attr & X86_SEG_UNUSABLE);
    ck_assert_uint_eq(fx_get(STACK_IST - 48, 8), 6);
    ck_assert_uint_eq(fx_get(STACK_IST - 40, 8), CODE);
    ck_assert_uint_eq(fx_get(STACK_IST - 32, 8), SEL_CODE64_3 | 3);
    ck_assert_uint_eq(fx_get(STACK_IST - 24, 8), X86_FLAG_IF | X86_FLAG_FIXED | X86_FLAG_RF);
    ck_assert_uint_eq(fx_get(STACK_IST - 16, 8), STACK3);
    ck_assert_uint_eq(fx_get(STACK_IST - 8, 8), SEL_DATA3 | 3);
    fx->gpr[X86_RSP] += 8;
    ck_assert_int_eq(fx_run(ex_iret, insn_size(0xcf, 8)), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3);
    ck_assert(!(bt_flags(fx) & X86_FLAG_RF));
}
END_TEST

START_TEST(long_mode_same_level_aligns_stack)
{
    fx_long();
    fx_gate64(0x30, SEL_CODE64_0, HANDLER, SYS_INT32, 0, 0);
    fx->gpr[X86_RSP] = STACK0 - 3;
    bt_interrupt_deliver(fx, 0x30);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 16 - 40);
    ck_assert_int_eq(fx_run(ex_iret, insn_size(0xcf, 8)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 3);
    ck_assert_uint_eq(fx->rip, CODE);
}
END_TEST

START_TEST(long_mode_iret_rejects_noncanonical_rip)
{
    fx_long();
    fx->gpr[X86_RSP] = STACK0 - 40;
    fx_put(STACK0 - 40, 8, 0x8000000000000000);
    fx_put(STACK0 - 32, 8, SEL_CODE64_3 | 3);
    fx_put(STACK0 - 24, 8, 2);
    fx_put(STACK0 - 16, 8, STACK3);
    fx_put(STACK0 - 8, 8, SEL_DATA3 | 3);
    ck_assert_int_eq(fx_run(ex_iret, insn_size(0xcf, 8)), X86_EXC_GP);
    ck_assert_uint_eq(fx->exception.code, 0);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 40);
    ck_assert_uint_eq(fx->cpl, 0);
}
END_TEST

/* SDM 3A table 6-5: what a second exception during delivery of a first turns into.  The first one's gate is absent, so that its delivery
 * raises #NP. */
static const struct {
    uint8_t first, expect;
} combinations[] = {
    {X86_EXC_UD, X86_EXC_NP}, {X86_EXC_GP, X86_EXC_DF}, {X86_EXC_PF, X86_EXC_DF}, {X86_EXC_DE, X86_EXC_DF}, {X86_EXC_BP, X86_EXC_NP},
};

START_TEST(double_fault_table)
{
    fx_protected();
    fx_gate32(X86_EXC_NP, SEL_CODE0, HANDLER + X86_EXC_NP, SYS_INT32, 0);
    fx_gate32(X86_EXC_DF, SEL_CODE0, HANDLER + X86_EXC_DF, SYS_INT32, 0);
    unsigned first = combinations[_i].first;
    fx_gate32(first, SEL_CODE0, HANDLER, SYS_INT32, 0);
    fx_put(IDT + first * 8 + 5, 1, SYS_INT32); /* P = 0 */
    fx->exception = (BtException){.vector = (uint8_t)first, .has_code = first == X86_EXC_GP || first == X86_EXC_PF};
    fx->exception_pending = true;
    fx_deliver_pending();
    ck_assert(!fx->shutdown);
    ck_assert_msg(fx->rip == HANDLER + combinations[_i].expect, "vector %u: at %#lx", first, fx->rip);
    ck_assert(!fx->delivering);
    if (combinations[_i].expect == X86_EXC_NP) /* EXT is set: the first exception was no INT n */
        ck_assert_uint_eq(fx_get(fx->gpr[X86_RSP], 4), first * 8 + 2 + 1);
    else
        ck_assert_uint_eq(fx_get(fx->gpr[X86_RSP], 4), 0);
}
END_TEST

START_TEST(triple_fault_shuts_down)
{
    fx_protected();
    fx->exception = (BtException){.vector = X86_EXC_GP, .has_code = true};
    fx->exception_pending = true;
    fx->idtr.limit = 0;
    fx_deliver_pending();
    ck_assert(fx->shutdown);
    ck_assert_ptr_nonnull(fx->shutdown_reason);
    ck_assert_uint_eq(fx->rip, CODE);
}
END_TEST

START_TEST(fault_while_pushing_leaves_state_alone)
{
    fx_long_user();
    fx_gate64(0x80, SEL_CODE64_0, HANDLER, SYS_INT32, 3, 0);
    fx_gate64(X86_EXC_PF, SEL_CODE64_0, HANDLER + 0x100, SYS_INT32, 0, 1);
    fx_put(TSS + 4, 8, 0x40000 + 16);
    fx_page(0x3f000, 0); /* the ring 0 stack's lower page */
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x80)), X86_EXC_PF);
    ck_assert_uint_eq(fx->exception.cr2, 0x40000 - 8);
    ck_assert_uint_eq(fx->exception.code, X86_PF_WRITE);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, SEL_CODE64_3 | 3);
    fx_deliver_pending();
    ck_assert_uint_eq(fx->rip, HANDLER + 0x100);
    ck_assert_uint_eq(fx_get(STACK_IST - 40, 8), CODE); /* INT n starts again */
}
END_TEST

START_TEST(v86_round_trip)
{
    fx_v86();
    ck_assert(fx->mode & MODE_V86 && fx->mode & MODE_USER);
    fx_gate32(0x21, SEL_CODE0, HANDLER, SYS_INT32, 3);
    fx->seg[X86_GS].selector = 0x777;
    uint16_t ip = (uint16_t)fx->rip;
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x21)), FX_DONE);
    ck_assert_uint_eq(fx->cpl, 0);
    ck_assert(!(fx->eflags & X86_FLAG_VM));
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 36);
    ck_assert_uint_eq(fx_get(STACK0 - 4, 4), 0x777);
    ck_assert(fx->seg[X86_DS].attr & X86_SEG_UNUSABLE);
    ck_assert(fx_get(STACK0 - 28, 4) & X86_FLAG_VM);
    ck_assert_int_eq(fx_run(ex_iret, fx_insn(0xcf)), FX_DONE);
    ck_assert(fx->eflags & X86_FLAG_VM);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert_uint_eq(fx->rip, ip + 2u);
    ck_assert_uint_eq(fx->seg[X86_GS].base, 0x7770);
    ck_assert_uint_eq(fx->seg[X86_CS].attr, 0xf3);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3 - 0x1000);
}
END_TEST

START_TEST(v86_iopl_and_vme)
{
    fx_v86();
    bt_set_flags(fx, X86_FLAG_VM | X86_FLAG_VIF);
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x21)), X86_EXC_GP);
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), X86_EXC_GP);
    ck_assert_int_eq(fx_run(ex_pushf, fx_insn(0x9c)), X86_EXC_GP);
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, X86_CR4_VME, 0);
    fx_put(TSS + 102, 2, 0x88); /* redirection bitmap at TSS + 0x68, all zero */
    fx_put(0x21 * 4, 4, 0x01000040);
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x21)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0x40);
    ck_assert(fx->eflags & X86_FLAG_VM);
    ck_assert(!(fx->eflags & X86_FLAG_VIF));
    ck_assert_uint_eq(fx_get(STACK3 - 2, 2) & (X86_FLAG_IF | X86_FLAG_IOPL), X86_FLAG_IF | X86_FLAG_IOPL);
    ck_assert_int_eq(fx_run(ex_iret, fx_insn(0xcf)), FX_DONE);
    ck_assert(fx->eflags & X86_FLAG_VIF);
    ck_assert_uint_eq(bt_iopl(fx), 0);
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), FX_DONE);
    ck_assert(!(fx->eflags & X86_FLAG_VIF));
}
END_TEST

START_TEST(nmi_masks_until_iret)
{
    fx_long();
    fx_gate64(X86_EXC_NMI, SEL_CODE64_0, HANDLER, SYS_INT32, 0, 1);
    fx->halted = true;
    bt_nmi_deliver(fx);
    ck_assert(fx->nmi_masked);
    ck_assert(!fx->halted);
    ck_assert_int_eq(fx_run(ex_iret, insn_size(0xcf, 8)), FX_DONE);
    ck_assert(!fx->nmi_masked);
}
END_TEST

static void step(void *arg) { bt_debug_trap(fx, true); }

START_TEST(single_step_trap)
{
    fx_long();
    fx_gate64(X86_EXC_DB, SEL_CODE64_0, HANDLER, SYS_INT32, 0, 0);
    bt_set_flags(fx, X86_FLAG_TF);
    ck_assert_int_eq(fx_call(step, NULL), X86_EXC_DB);
    fx_deliver_pending();
    ck_assert(fx->dr[6] & 1 << 14);
    ck_assert(!(fx->eflags & X86_FLAG_TF));
    uint64_t image = fx_get(fx->gpr[X86_RSP] + 16, 8);
    ck_assert(image & X86_FLAG_TF && !(image & X86_FLAG_RF));
}
END_TEST

START_TEST(iret_with_nt_in_long_mode_faults)
{
    fx_long();
    bt_set_flags(fx, X86_FLAG_NT);
    ck_assert_int_eq(fx_run(ex_iret, insn_size(0xcf, 8)), X86_EXC_GP);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-deliver");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
    tcase_add_test(tcase, real_mode_int_and_iret);
    tcase_add_test(tcase, gate_switches_stack_and_back);
    tcase_add_test(tcase, software_int_checks_gate_privilege);
    tcase_add_test(tcase, sixteen_bit_gate);
    tcase_add_test(tcase, long_mode_page_fault_on_ist);
    tcase_add_test(tcase, long_mode_same_level_aligns_stack);
    tcase_add_test(tcase, long_mode_iret_rejects_noncanonical_rip);
    tcase_add_loop_test(tcase, double_fault_table, 0, (int)(sizeof combinations / sizeof combinations[0]));
    tcase_add_test(tcase, triple_fault_shuts_down);
    tcase_add_test(tcase, fault_while_pushing_leaves_state_alone);
    tcase_add_test(tcase, v86_round_trip);
    tcase_add_test(tcase, v86_iopl_and_vme);
    tcase_add_test(tcase, nmi_masks_until_iret);
    tcase_add_test(tcase, single_step_trap);
    tcase_add_test(tcase, iret_with_nt_in_long_mode_faults);
    suite_add_tcase(suite, tcase);
    return fx_main(suite);
}
