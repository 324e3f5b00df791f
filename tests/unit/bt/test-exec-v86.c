/* Virtual-8086 mode and virtual interrupts: VME, PVI, ports.  Source: SDM 3A 20.2–20.4; 2A CLI table 3-7, INT n; 1 19.5. */
#include "exec-fixture.h"

#define HANDLER 0x6000u
#define BITMAP (TSS + 0x68)

static Insn insn_int(unsigned vector)
{
    Insn insn = fx_insn(0xcd);
    insn.imm = vector;
    return insn;
}

static void v86(uint32_t flags)
{
    fx_v86();
    bt_set_flags(fx, X86_FLAG_VM | flags);
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, X86_CR4_VME, 0);
    fx_put(TSS + 102, 2, 0x88); /* I/O bitmap; the redirection bitmap is the 32 bytes before it */
    memset(fx_ram + BITMAP, 0, 32);
    fx_put(0x21 * 4, 4, 0x01000040);
    fx_gate32(0x21, SEL_CODE0, HANDLER, SYS_INT32, 3);
    bt_update_mode(fx);
}

/* INT n by IOPL and the redirection bitmap (table 20-2): who gets it, and with which flags. */
START_TEST(interrupt_is_redirected)
{
    bool has_iopl = _i & 1, is_masked = _i & 2;
    v86((has_iopl ? X86_FLAG_IOPL | X86_FLAG_IF : X86_FLAG_VIF) | X86_FLAG_CF);
    if (is_masked)
        fx_put(BITMAP + 0x21 / 8, 1, 1u << (0x21 % 8));
    uint64_t ip = fx->rip;
    int vector = fx_run(ex_int, insn_int(0x21));
    if (is_masked && !has_iopl) {
        ck_assert_int_eq(vector, X86_EXC_GP);
        ck_assert_uint_eq(fx->exception.code, 0);
        return;
    }
    ck_assert_int_eq(vector, FX_DONE);
    if (is_masked) {
        ck_assert_uint_eq(fx->cpl, 0);
        ck_assert_uint_eq(fx->rip, HANDLER);
        return;
    }
    ck_assert(bt_is_v86(fx));
    ck_assert_uint_eq(fx->rip, 0x40);
    ck_assert_uint_eq(fx->seg[X86_CS].base, 0x1000);
    ck_assert_uint_eq(fx_get(STACK3 - 6, 2), ip + 2);
    uint32_t image = (uint32_t)fx_get(STACK3 - 2, 2);
    ck_assert_uint_eq(image & (X86_FLAG_IF | X86_FLAG_IOPL | X86_FLAG_CF), X86_FLAG_IF | X86_FLAG_IOPL | X86_FLAG_CF);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_IF | X86_FLAG_VIF), 0);
    ck_assert_uint_eq(bt_iopl(fx), has_iopl ? 3 : 0);
}
END_TEST

/* The bitmap must lie in the TSS; without VME there is none. */
START_TEST(redirection_needs_its_bitmap)
{
    v86(0);
    fx_put(TSS + 102, 2, 0x3f0 + 0x20); /* the byte wanted is behind the limit */
    ck_assert_int_eq(fx_run(ex_int, insn_int(0xff)), X86_EXC_GP);
    v86(0);
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, 0, 0);
    ck_assert_int_eq(fx_run(ex_int, insn_int(0x21)), X86_EXC_GP);
}
END_TEST

/* INT3 and INT1 look neither at IOPL nor at the bitmap. */
START_TEST(breakpoints_are_not_redirected)
{
    v86(0);
    fx_gate32(X86_EXC_BP, SEL_CODE0, HANDLER, SYS_INT32, 3);
    fx_gate32(X86_EXC_DB, SEL_CODE0, HANDLER + 0x10, SYS_INT32, 0);
    ck_assert_int_eq(fx_run(_i ? ex_int1 : ex_int3, fx_insn(_i ? 0xf1 : 0xcc)), FX_DONE);
    ck_assert_uint_eq(fx->rip, _i ? HANDLER + 0x10 : HANDLER);
    ck_assert_uint_eq(fx->cpl, 0);
}
END_TEST

START_TEST(virtual_flag_by_vme)
{
    v86(X86_FLAG_IF);
    ck_assert_int_eq(fx_run(ex_sti, fx_insn(0xfb)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_IF | X86_FLAG_VIF), X86_FLAG_IF | X86_FLAG_VIF);
    ck_assert_int_eq(fx_run(ex_pushf, fx_insn(0x9c)), FX_DONE);
    ck_assert_uint_eq(fx_get(STACK3 - 2, 2) & (X86_FLAG_IF | X86_FLAG_IOPL), X86_FLAG_IF | X86_FLAG_IOPL);
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_IF | X86_FLAG_VIF), X86_FLAG_IF);
    ck_assert_int_eq(fx_run(ex_popf, fx_insn(0x9d)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_VIF | X86_FLAG_IOPL), X86_FLAG_VIF);
    /* Operand size 32 is for IOPL 3 only. */
    Insn wide = fx_insn(0x9c);
    wide.opsize = 4;
    ck_assert_int_eq(fx_run(ex_pushf, wide), X86_EXC_GP);
    wide.opcode = 0x9d;
    ck_assert_int_eq(fx_run(ex_popf, wide), X86_EXC_GP);
    wide.opcode = 0xcf;
    ck_assert_int_eq(fx_run(ex_iret, wide), X86_EXC_GP);
}
END_TEST

/* A pending virtual interrupt: what would set VIF is #GP, so that the monitor can deliver it.  So is TF by POPF. */
START_TEST(pending_virtual_interrupt)
{
    v86(X86_FLAG_VIP);
    ck_assert_int_eq(fx_run(ex_sti, fx_insn(0xfb)), X86_EXC_GP);
    fx_put(STACK3 - 2, 2, X86_FLAG_IF);
    fx->gpr[X86_RSP] -= 2;
    ck_assert_int_eq(fx_run(ex_popf, fx_insn(0x9d)), X86_EXC_GP);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3 - 0x1000 - 2);
    fx_put(STACK3 - 2, 2, X86_FLAG_TF);
    ck_assert_int_eq(fx_run(ex_popf, fx_insn(0x9d)), X86_EXC_GP);
    fx_put(STACK3 - 2, 2, X86_FLAG_CF);
    ck_assert_int_eq(fx_run(ex_popf, fx_insn(0x9d)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_CF | X86_FLAG_VIF | X86_FLAG_VIP), X86_FLAG_CF | X86_FLAG_VIP);
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), FX_DONE);
}
END_TEST

/* PVI: CLI and STI at CPL 3 of protected mode; PUSHF and POPF stay as they are (SDM 3A 20.4). */
START_TEST(virtual_flag_by_pvi)
{
    fx_user();
    bt_set_flags(fx, X86_FLAG_IF);
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), X86_EXC_GP);
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, X86_CR4_PVI, 0);
    ck_assert_int_eq(fx_run(ex_sti, fx_insn(0xfb)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_IF | X86_FLAG_VIF), X86_FLAG_IF | X86_FLAG_VIF);
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_IF | X86_FLAG_VIF), X86_FLAG_IF);
    ck_assert_int_eq(fx_run(ex_pushf, fx_insn(0x9c)), FX_DONE);
    ck_assert_uint_eq(fx_get(STACK3 - 4, 4) & (X86_FLAG_IF | X86_FLAG_IOPL), X86_FLAG_IF);
    fx_put(STACK3 - 4, 4, X86_FLAG_VIF | X86_FLAG_IOPL);
    ck_assert_int_eq(fx_run(ex_popf, fx_insn(0x9d)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & (X86_FLAG_IF | X86_FLAG_VIF | X86_FLAG_IOPL), X86_FLAG_IF);
    bt_set_flags(fx, X86_FLAG_IF | X86_FLAG_VIP);
    ck_assert_int_eq(fx_run(ex_sti, fx_insn(0xfb)), X86_EXC_GP);
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), FX_DONE);
    bt_set_flags(fx, X86_FLAG_IF | X86_FLAG_IOPL); /* privileged enough: the flag itself */
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx) & X86_FLAG_IF, 0);
}
END_TEST

/* Ports in virtual-8086 mode: the bitmap decides, whatever IOPL. */
START_TEST(ports_ask_the_bitmap)
{
    v86(X86_FLAG_IOPL);
    fx->gpr[X86_RDX] = 0x60;
    memset(fx_ram + TSS + 0x88, 0xff, 0x40);
    ck_assert_int_eq(fx_run(ex_in, fx_insn(0xec)), X86_EXC_GP);
    fx_put(TSS + 0x88 + 0x60 / 8, 1, 0xfe);
    ck_assert_int_eq(fx_run(ex_in, fx_insn(0xec)), FX_DONE);
    ck_assert_int_eq(fx_run(ex_in, fx_insn(0xed)), X86_EXC_GP); /* two bytes: port 61 as well */
    /* The last byte of a bitmap is read along with the one before: behind the limit it is #GP. */
    fx->seg[X86_TR].limit = 0x88 + 0x60 / 8;
    ck_assert_int_eq(fx_run(ex_in, fx_insn(0xec)), X86_EXC_GP);
    fx->seg[X86_TR].limit++;
    ck_assert_int_eq(fx_run(ex_in, fx_insn(0xec)), FX_DONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-v86");
    TCase *test = tcase_create("all");
    tcase_add_checked_fixture(test, fx_setup, fx_teardown);
    tcase_add_loop_test(test, interrupt_is_redirected, 0, 4);
    tcase_add_test(test, redirection_needs_its_bitmap);
    tcase_add_loop_test(test, breakpoints_are_not_redirected, 0, 2);
    tcase_add_test(test, virtual_flag_by_vme);
    tcase_add_test(test, pending_virtual_interrupt);
    tcase_add_test(test, virtual_flag_by_pvi);
    tcase_add_test(test, ports_ask_the_bitmap);
    suite_add_tcase(suite, test);
    return fx_main(suite);
}
