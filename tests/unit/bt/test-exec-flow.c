/* Stack instructions in every width, near branches, flags, BCD. */
#include "exec-fixture.h"

static Insn insn_size(uint8_t opcode, unsigned opsize)
{
    Insn insn = fx_insn(opcode);
    insn.opsize = (uint8_t)opsize;
    return insn;
}

/* Mode × operand size: by how much rSP moves and which bits of it may change. */
static const struct {
    void (*mode)(void);
    uint8_t opsize;
    uint64_t sp_mask;
} stacks[] = {{fx_real, 2, 0xffff}, {fx_real, 4, 0xffff}, {fx_protected, 2, 0xffffffff}, {fx_protected, 4, 0xffffffff}, {fx_long, 2, ~(uint64_t)0}, {fx_long, 8, ~(uint64_t)0}};

START_TEST(push_and_pop)
{
    unsigned size = stacks[_i].opsize;
    stacks[_i].mode();
    if (stacks[_i].sp_mask == 0xffff)
        fx->gpr[X86_RSP] |= 0xabcd0000;
    uint64_t sp = fx->gpr[X86_RSP];
    fx->gpr[X86_RBX] = 0x1122334455667788;
    ck_assert_int_eq(fx_run(ex_push_reg, insn_size(0x50 + X86_RBX, size)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RSP], sp - size);
    fx->gpr[X86_RCX] = ~(uint64_t)0;
    ck_assert_int_eq(fx_run(ex_pop_reg, insn_size(0x58 + X86_RCX, size)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RSP], sp);
    ck_assert_uint_eq(fx->gpr[X86_RCX], size == 8 ? 0x1122334455667788 : size == 4 ? 0x55667788 : 0xffffffffffff7788);
    /* PUSH rSP stores the old value, POP rSP takes the popped one. */
    ck_assert_int_eq(fx_run(ex_push_reg, insn_size(0x54, size)), FX_DONE);
    ck_assert_int_eq(fx_run(ex_pop_reg, insn_size(0x5c, size)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RSP] & 0xffff, sp & 0xffff);
}
END_TEST

START_TEST(call_and_ret)
{
    unsigned size = stacks[_i].opsize;
    stacks[_i].mode();
    if (size == 2 && stacks[_i].mode == fx_long)
        return; /* near branches are 64-bit there */
    uint64_t sp = fx->gpr[X86_RSP];
    Insn call = insn_size(0xe8, size), ret = insn_size(0xc2, size);
    call.imm = 0x100;
    ret.imm = 4;
    ck_assert_int_eq(fx_run(ex_call_rel, call), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 0x102);
    ck_assert_uint_eq(fx->gpr[X86_RSP], sp - size);
    ck_assert_int_eq(fx_run(ex_ret, ret), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_RSP], sp + 4);
}
END_TEST

START_TEST(pusha_and_popa)
{
    fx_protected();
    uint64_t sp = fx->gpr[X86_RSP];
    for (unsigned i = 0; i < 8; i++)
        if (i != X86_RSP)
            fx->gpr[i] = 0x1000 + i;
    ck_assert_int_eq(fx_run(ex_pusha, fx_insn(0x60)), FX_DONE);
    ck_assert_uint_eq(fx_get(sp - 4, 4), 0x1000 + X86_RAX);
    ck_assert_uint_eq(fx_get(sp - 20, 4), sp);
    for (unsigned i = 0; i < 8; i++)
        if (i != X86_RSP)
            fx->gpr[i] = 0;
    ck_assert_int_eq(fx_run(ex_popa, fx_insn(0x61)), FX_DONE);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_uint_eq(fx->gpr[i], i == X86_RSP ? sp : 0x1000 + i);
}
END_TEST

START_TEST(enter_and_leave)
{
    fx_protected();
    uint64_t sp = fx->gpr[X86_RSP];
    fx->gpr[X86_RBP] = DATA + 0x100;
    fx_put(DATA + 0x100 - 4, 4, 0xaaaa);
    Insn enter = fx_insn(0xc8);
    enter.imm = 0x20;
    enter.imm2 = 2;
    ck_assert_int_eq(fx_run(ex_enter, enter), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RBP], sp - 4);
    ck_assert_uint_eq(fx_get(sp - 4, 4), DATA + 0x100);
    ck_assert_uint_eq(fx_get(sp - 8, 4), 0xaaaa);
    ck_assert_uint_eq(fx_get(sp - 12, 4), sp - 4);
    ck_assert_uint_eq(fx->gpr[X86_RSP], sp - 12 - 0x20);
    ck_assert_int_eq(fx_run(ex_leave, fx_insn(0xc9)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RSP], sp);
    ck_assert_uint_eq(fx->gpr[X86_RBP], DATA + 0x100);
}
END_TEST

START_TEST(enter_on_a_16_bit_stack_keeps_the_upper_half)
{
    fx_protected();
    fx->seg[X86_SS].attr &= ~X86_SEG_DB;
    fx->gpr[X86_RSP] = 0x10000 | STACK0;
    fx->gpr[X86_RBP] = DATA;
    Insn enter = fx_insn(0xc8);
    enter.imm2 = 1;
    ck_assert_int_eq(fx_run(ex_enter, enter), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RBP], 0x10000 | (STACK0 - 4));
    ck_assert_uint_eq(fx->gpr[X86_RSP], 0x10000 | (STACK0 - 8));
    ck_assert_uint_eq(fx_get(STACK0 - 8, 4), 0x10000 | (STACK0 - 4));
}
END_TEST

START_TEST(pop_to_memory_uses_the_new_stack_pointer)
{
    fx_long();
    uint64_t sp = fx->gpr[X86_RSP];
    fx_put(sp, 8, 0x7777);
    Insn pop = fx_insn_mem(0x8f, 0, 0);
    pop.opsize = 8;
    pop.base = X86_RSP;
    pop.segment = X86_SS;
    pop.disp = 0x10;
    ck_assert_int_eq(fx_run(ex_pop_rm, pop), FX_DONE);
    ck_assert_uint_eq(fx_get(sp + 8 + 0x10, 8), 0x7777);
}
END_TEST

/* POPF: CPL, IOPL → which of IF and IOPL change. */
static const struct {
    bool is_user;
    uint8_t iopl;
    uint32_t expect; /* after popping zero, started from IF and IOPL */
} popfs[] = {
    {false, 3, 0},
    {true, 3, X86_FLAG_IOPL},
    {true, 0, X86_FLAG_IF},
};

START_TEST(popf_respects_privilege)
{
    if (popfs[_i].is_user)
        fx_long_user();
    else
        fx_long();
    bt_set_flags(fx, X86_FLAG_IF | (uint32_t)popfs[_i].iopl << 12 | X86_FLAGS_STATUS);
    fx_put(fx->gpr[X86_RSP], 8, 0);
    ck_assert_int_eq(fx_run(ex_popf, insn_size(0x9d, 8)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx), popfs[_i].expect | X86_FLAG_FIXED);
}
END_TEST

START_TEST(sti_shadows_one_instruction)
{
    fx_long();
    fx->irq_line = 1;
    ck_assert_int_eq(fx_run(ex_sti, fx_insn(0xfb)), FX_DONE);
    ck_assert(fx->interrupt_shadow && fx->poll_window);
    fx->interrupt_shadow = false;
    ck_assert_int_eq(fx_run(ex_sti, fx_insn(0xfb)), FX_DONE);
    ck_assert(!fx->interrupt_shadow); /* IF was set already */
    fx->cpl = 3;
    ck_assert_int_eq(fx_run(ex_cli, fx_insn(0xfa)), X86_EXC_GP);
}
END_TEST

START_TEST(conditions_match_the_host)
{
    fx_long();
    for (uint32_t bits = 0; bits < 64; bits++) {
        uint64_t flags = (bits & 1) | (bits & 2) << 1 | (bits & 4) << 2 | (bits & 8) << 3 | (bits & 16) << 3 | (bits & 32) << 6;
        bool expect;
#define HOST_SET(n, cc) case n: __asm__("push %1; popf; set" cc " %0" : "=q"(expect) : "r"(flags) : "cc"); break;
        switch (_i) {
            HOST_SET(0, "o") HOST_SET(1, "no") HOST_SET(2, "b") HOST_SET(3, "ae") HOST_SET(4, "e") HOST_SET(5, "ne") HOST_SET(6, "be")
            HOST_SET(7, "a") HOST_SET(8, "s") HOST_SET(9, "ns") HOST_SET(10, "p") HOST_SET(11, "np") HOST_SET(12, "l")
            HOST_SET(13, "ge") HOST_SET(14, "le") default: __asm__("push %1; popf; setg %0" : "=q"(expect) : "r"(flags) : "cc"); break;
        }
        bt_set_flags(fx, (uint32_t)flags);
        fx->rip = CODE;
        Insn jump = insn_size((uint8_t)(0x70 + _i), 8);
        jump.imm = 0x10;
        ck_assert_int_eq(fx_run(ex_jcc, jump), FX_DONE);
        ck_assert_msg((fx->rip == CODE + 0x12) == expect, "condition %d flags %#lx", _i, flags);
    }
}
END_TEST

START_TEST(branch_beyond_limit_or_canonical_range)
{
    fx_protected();
    fx->seg[X86_CS].limit = 0x5fff;
    Insn jump = fx_insn(0xe9);
    jump.imm = 0x1000;
    ck_assert_int_eq(fx_run(ex_jmp_rel, jump), X86_EXC_GP);
    fx_long();
    fx->gpr[X86_RAX] = (uint64_t)1 << 47;
    Insn indirect = fx_insn_reg(0xff, 4, X86_RAX);
    indirect.opsize = 8;
    ck_assert_int_eq(fx_run(ex_jmp_rm, indirect), X86_EXC_GP);
    uint64_t sp = fx->gpr[X86_RSP];
    ck_assert_int_eq(fx_run(ex_call_rm, indirect), X86_EXC_GP);
    ck_assert_uint_eq(fx->gpr[X86_RSP], sp);
}
END_TEST

START_TEST(loop_counts_by_address_size)
{
    fx_long();
    Insn loop = insn_size(0xe2, 8);
    loop.imm = (uint64_t)-2;
    fx->gpr[X86_RCX] = 2;
    ck_assert_int_eq(fx_run(ex_loop, loop), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE);
    ck_assert_int_eq(fx_run(ex_loop, loop), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_RCX], 0);
    loop.addrsize = 4;
    fx->gpr[X86_RCX] = 0x100000001;
    ck_assert_int_eq(fx_run(ex_loop, loop), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RCX], 0);
}
END_TEST

START_TEST(bound_and_arpl)
{
    fx_user();
    fx_put(DATA, 4, 10);
    fx_put(DATA + 4, 4, 20);
    Insn bound = fx_insn_mem(0x62, X86_RAX, DATA);
    fx->gpr[X86_RAX] = 20;
    ck_assert_int_eq(fx_run(ex_bound, bound), FX_DONE);
    fx->gpr[X86_RAX] = 21;
    ck_assert_int_eq(fx_run(ex_bound, bound), X86_EXC_BR);
    fx->gpr[X86_RAX] = 0x1230;
    fx->gpr[X86_RBX] = 3;
    ck_assert_int_eq(fx_run(ex_arpl, fx_insn_reg(0x63, X86_RBX, X86_RAX)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0x1233);
    ck_assert(bt_flags(fx) & X86_FLAG_ZF);
}
END_TEST

/* Worked examples of the manual and the corners around them: AX, flags → AX, flags (defined ones only). */
static const struct {
    const char *name;
    void (*exec)(BtCpu *, const Insn *);
    uint16_t ax;
    uint8_t imm;
    uint32_t flags;
    uint16_t expect_ax;
    uint32_t mask, expect_flags;
} bcd[] = {
#define CA (X86_FLAG_CF | X86_FLAG_AF)
#define CASZP (CA | X86_FLAG_SF | X86_FLAG_ZF | X86_FLAG_PF)
    {"daa", ex_daa, 0xae, 0, 0, 0x14, CASZP, CA | X86_FLAG_PF},
    {"daa", ex_daa, 0x2e, 0, 0, 0x34, CASZP, X86_FLAG_AF},
    {"daa", ex_daa, 0x9a, 0, 0, 0x00, CASZP, CA | X86_FLAG_ZF | X86_FLAG_PF},
    {"das", ex_das, 0xee, 0, 0, 0x88, CASZP, CA | X86_FLAG_SF | X86_FLAG_PF},
    {"das", ex_das, 0x05, 0, X86_FLAG_AF, 0xff, CASZP, CA | X86_FLAG_SF | X86_FLAG_PF},
    {"aaa", ex_aaa, 0x010b, 0, 0, 0x0201, CA, CA},
    {"aaa", ex_aaa, 0x0105, 0, 0, 0x0105, CA, 0},
    {"aaa", ex_aaa, 0x00ff, 0, 0, 0x0205, CA, CA},
    {"aas", ex_aas, 0x02ff, 0, 0, 0x0109, CA, CA},
    {"aam", ex_aam, 0x0055, 10, 0, 0x0805, X86_FLAG_SF | X86_FLAG_ZF | X86_FLAG_PF, X86_FLAG_PF},
    {"aad", ex_aad, 0x0805, 10, 0, 0x0055, X86_FLAG_SF | X86_FLAG_ZF | X86_FLAG_PF, X86_FLAG_PF},
    {"salc", ex_salc, 0x1200, 0, X86_FLAG_CF, 0x12ff, X86_FLAG_CF, X86_FLAG_CF},
};

START_TEST(bcd_rows)
{
    fx_protected();
    fx->gpr[X86_RAX] = bcd[_i].ax;
    bt_set_flags(fx, bcd[_i].flags);
    Insn insn = fx_insn(0);
    insn.imm = bcd[_i].imm;
    ck_assert_int_eq(fx_run(bcd[_i].exec, insn), FX_DONE);
    ck_assert_msg((fx->gpr[X86_RAX] & 0xffff) == bcd[_i].expect_ax, "%s of %#x: %#lx", bcd[_i].name, bcd[_i].ax, fx->gpr[X86_RAX]);
    ck_assert_msg((bt_flags(fx) & bcd[_i].mask) == bcd[_i].expect_flags, "%s of %#x: flags %#x", bcd[_i].name, bcd[_i].ax, bt_flags(fx));
}
END_TEST

START_TEST(aam_by_zero)
{
    fx_protected();
    ck_assert_int_eq(fx_run(ex_aam, fx_insn(0xd4)), X86_EXC_DE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-flow");
    TCase *tcase = tcase_create("all");
    int nstacks = (int)(sizeof stacks / sizeof stacks[0]);
    tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
    tcase_add_loop_test(tcase, push_and_pop, 0, nstacks);
    tcase_add_loop_test(tcase, call_and_ret, 0, nstacks);
    tcase_add_test(tcase, pusha_and_popa);
    tcase_add_test(tcase, enter_and_leave);
    tcase_add_test(tcase, enter_on_a_16_bit_stack_keeps_the_upper_half);
    tcase_add_test(tcase, pop_to_memory_uses_the_new_stack_pointer);
    tcase_add_loop_test(tcase, popf_respects_privilege, 0, (int)(sizeof popfs / sizeof popfs[0]));
    tcase_add_test(tcase, sti_shadows_one_instruction);
    tcase_add_loop_test(tcase, conditions_match_the_host, 0, 16);
    tcase_add_test(tcase, branch_beyond_limit_or_canonical_range);
    tcase_add_test(tcase, loop_counts_by_address_size);
    tcase_add_test(tcase, bound_and_arpl);
    tcase_add_loop_test(tcase, bcd_rows, 0, (int)(sizeof bcd / sizeof bcd[0]));
    tcase_add_test(tcase, aam_by_zero);
    suite_add_tcase(suite, tcase);
    return fx_main(suite);
}
