/* Breakpoints by DR0–DR3 and DR7, single steps, what MOV SS holds back. */
#include "exec-fixture.h"

#define ENABLE(i) (1u << (2 * (i)))
#define ON(i, condition, length) ((condition) << (16 + 4 * (i)) | (length) << (18 + 4 * (i)))
enum { FETCH, WRITE, PORT, ACCESS };
enum { BYTES1 = 0, BYTES2 = 1, BYTES8 = 2, BYTES4 = 3 };

static void breakpoint(unsigned i, uint64_t at, uint32_t dr7)
{
    fx_long();
    fx->dr[i] = at;
    fx->dr[7] = 0x400 | dr7;
    bt_update_mode(fx);
}

START_TEST(data_breakpoints_by_kind_and_range)
{
    breakpoint(1, DATA + 4, ENABLE(1) | ON(1, WRITE, BYTES4));
    ck_assert(fx->mode & MODE_DEBUG);
    bt_load(fx, DATA + 4, 4);
    ck_assert_uint_eq(fx->debug_hits, 0);
    bt_store(fx, DATA, 4, 0);
    bt_store(fx, DATA + 8, 4, 0);
    ck_assert_uint_eq(fx->debug_hits, 0);
    bt_store(fx, DATA, 8, 0); /* overlaps */
    ck_assert_uint_eq(fx->debug_hits, 2);
    fx->debug_hits = 0;
    fx->dr[7] = 0x400 | ENABLE(1) | ON(1, ACCESS, BYTES1);
    bt_load(fx, DATA + 4, 1);
    ck_assert_uint_eq(fx->debug_hits, 2);
}
END_TEST

static void fetch(void *arg) { bt_debug_fetch(fx); }

START_TEST(code_breakpoint_is_a_fault_that_rf_suppresses)
{
    breakpoint(2, 0x5678, ENABLE(2) | ON(2, FETCH, BYTES1));
    fx->dr[6] = 0xffff0ff0 | 1 << 14 | 2;
    fx->rip = 0x5677;
    ck_assert_int_eq(fx_call(fetch, NULL), FX_DONE);
    fx->rip = 0x5678;
    ck_assert_int_eq(fx_call(fetch, NULL), X86_EXC_DB);
    ck_assert_uint_eq(fx->dr[6], 0xffff0ff0 | 1 << 14 | 4); /* BS stays, B1 went */
    fx->exception_pending = false;
    fx->eflags |= X86_FLAG_RF;
    ck_assert_int_eq(fx_call(fetch, NULL), FX_DONE);
}
END_TEST

START_TEST(iret_restores_rf_while_there_are_breakpoints)
{
    breakpoint(0, 0x5678, ENABLE(0));
    uint64_t sp = fx->gpr[X86_RSP] - 40;
    uint64_t frame[] = { CODE, SEL_CODE64_0, X86_FLAG_FIXED | X86_FLAG_RF, sp, SEL_DATA0 };
    memcpy(fx_ram + sp, frame, sizeof frame);
    fx->gpr[X86_RSP] = sp;
    Insn iret = fx_insn(0xcf);
    iret.opsize = 8;
    ck_assert_int_eq(fx_run(ex_iret, iret), FX_DONE);
    ck_assert(fx->eflags & X86_FLAG_RF);
}
END_TEST

START_TEST(mov_ss_holds_traps_back)
{
    breakpoint(3, DATA, ENABLE(3) | ON(3, ACCESS, BYTES2));
    fx_put(DATA, 2, SEL_DATA0);
    ck_assert_int_eq(fx_run(ex_mov_to_seg, fx_insn_mem(0x8e, X86_SS, DATA)), FX_DONE);
    ck_assert(fx->debug_shadow && fx->interrupt_shadow);
    ck_assert_uint_eq(fx->debug_hits, 8);
    ck_assert_int_eq(fx_call(fetch, NULL), FX_DONE);
    ck_assert_uint_eq(fx->debug_hits, 8);
}
END_TEST

START_TEST(port_breakpoints_need_de)
{
    breakpoint(0, 0x3f8, ENABLE(0) | ON(0, PORT, BYTES1));
    fx->gpr[X86_RDX] = 0x3f8;
    ck_assert_int_eq(fx_run(ex_in, fx_insn(0xec)), FX_DONE);
    ck_assert_uint_eq(fx->debug_hits, 0);
    fx->mmu.cr4 |= X86_CR4_DE;
    ck_assert_int_eq(fx_run(ex_in, fx_insn(0xec)), FX_DONE);
    ck_assert_uint_eq(fx->debug_hits, 1);
}
END_TEST

START_TEST(repeated_string_stops_after_each_element)
{
    breakpoint(0, DATA + 2, ENABLE(0) | ON(0, WRITE, BYTES1));
    fx->gpr[X86_RCX] = 4;
    fx->gpr[X86_RDI] = DATA;
    Insn stos = fx_insn(0xaa);
    stos.rep = true;
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(fx->debug_hits, 0);
        ck_assert_int_eq(fx_run(ex_stos, stos), FX_DONE);
    }
    ck_assert_uint_eq(fx->gpr[X86_RCX], 1);
    ck_assert_uint_eq(fx->debug_hits, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-debug");
    TCase *test = tcase_create("all");
    tcase_add_checked_fixture(test, fx_setup, fx_teardown);
    tcase_add_test(test, data_breakpoints_by_kind_and_range);
    tcase_add_test(test, code_breakpoint_is_a_fault_that_rf_suppresses);
    tcase_add_test(test, iret_restores_rf_while_there_are_breakpoints);
    tcase_add_test(test, mov_ss_holds_traps_back);
    tcase_add_test(test, port_breakpoints_need_de);
    tcase_add_test(test, repeated_string_stops_after_each_element);
    suite_add_tcase(suite, test);
    return fx_main(suite);
}
