/* Far transfers, call gates, task switches, segment register loads. */
#include "exec-fixture.h"

static Insn insn_far(uint8_t opcode, unsigned selector, uint64_t offset)
{
    Insn insn = fx_insn(opcode);
    insn.imm2 = (uint16_t)selector;
    insn.imm = offset;
    return insn;
}

START_TEST(real_mode_call_and_retf)
{
    fx_real();
    ck_assert_int_eq(fx_run(ex_far_call, insn_far(0x9a, 0x1234, 0x10)), FX_DONE);
    ck_assert_uint_eq(fx->seg[X86_CS].base, 0x12340);
    ck_assert_uint_eq(fx->rip, 0x10);
    Insn ret = fx_insn(0xca);
    ret.imm = 6;
    ck_assert_int_eq(fx_run(ex_far_ret, ret), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->seg[X86_CS].base, 0);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 + 6);
}
END_TEST

START_TEST(real_to_protected_to_16_bit)
{
    fx_protected();
    mmu_set_paging(&fx->mmu, X86_CR0_ET, 0, 0);
    fx->seg[X86_CS] = (X86Segment){.limit = 0xffff, .attr = 0x9b};
    bt_update_mode(fx);
    fx->gpr[X86_RAX] = X86_CR0_PE | X86_CR0_ET;
    ck_assert_int_eq(fx_run(ex_mov_to_cr, fx_insn_reg(0x22, 0, X86_RAX)), FX_DONE);
    ck_assert(fx->mode & MODE_PM && !(fx->mode & MODE_CODE32));
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_CODE0, 0x7000)), FX_DONE);
    ck_assert(fx->mode & MODE_CODE32 && fx->mode & MODE_FLAT);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_CODE16, 0x7000)), FX_DONE);
    ck_assert(!(fx->mode & (MODE_CODE32 | MODE_FLAT)));
    Insn beyond = insn_far(0xea, SEL_CODE16, 0x17000);
    beyond.opsize = 4;
    ck_assert_int_eq(fx_run(ex_far_jmp, beyond), X86_EXC_GP);
}
END_TEST

/* Loads of each segment register at CPL 3: selector → vector and error code. */
static const struct {
    const char *name;
    uint8_t seg;
    uint16_t selector;
    int vector;
    uint16_t code;
} loads[] = {
    {"null DS", X86_DS, 0, FX_DONE, 0},
    {"null SS", X86_SS, 0, X86_EXC_GP, 0},
    {"DS of ring 0", X86_DS, SEL_DATA0, X86_EXC_GP, SEL_DATA0},
    {"ES data", X86_ES, SEL_DATA3 | 3, FX_DONE, 0},
    {"ES read-only", X86_ES, SEL_READ_ONLY | 3, FX_DONE, 0},
    {"SS read-only", X86_SS, SEL_READ_ONLY | 3, X86_EXC_GP, SEL_READ_ONLY},
    {"SS wrong RPL", X86_SS, SEL_DATA3, X86_EXC_GP, SEL_DATA3},
    {"FS absent", X86_FS, SEL_ABSENT | 3, X86_EXC_NP, SEL_ABSENT},
    {"GS readable code", X86_GS, SEL_CODE3 | 3, FX_DONE, 0},
    {"GS execute-only", X86_GS, SEL_EXECUTE_ONLY | 3, X86_EXC_GP, SEL_EXECUTE_ONLY},
    {"DS conforming", X86_DS, SEL_CONFORMING | 3, FX_DONE, 0},
    {"DS beyond the GDT", X86_DS, 0x1003, X86_EXC_GP, 0x1000},
    {"DS in absent LDT", X86_DS, 0x000f, X86_EXC_GP, 0x000c},
    {"DS a TSS", X86_DS, SEL_TSS | 3, X86_EXC_GP, SEL_TSS},
    {"CS", X86_CS, SEL_CODE3 | 3, X86_EXC_UD, 0},
};

START_TEST(segment_loads)
{
    fx_user();
    fx->seg[X86_LDTR].attr |= X86_SEG_UNUSABLE;
    fx->gpr[X86_RAX] = loads[_i].selector;
    X86Segment before = fx->seg[loads[_i].seg];
    int vector = fx_run(ex_mov_to_seg, fx_insn_reg(0x8e, loads[_i].seg, X86_RAX));
    ck_assert_msg(vector == loads[_i].vector, "%s: vector %d", loads[_i].name, vector);
    if (vector != FX_DONE) {
        if (vector != X86_EXC_UD)
            ck_assert_msg(fx->exception.code == loads[_i].code, "%s: code %#x", loads[_i].name, fx->exception.code);
        ck_assert_mem_eq(&before, &fx->seg[loads[_i].seg], sizeof before);
    } else {
        ck_assert_uint_eq(fx->seg[loads[_i].seg].selector, loads[_i].selector);
    }
}
END_TEST

START_TEST(accessed_bit_is_set)
{
    fx_protected();
    fx_put(GDT + SEL_DATA0 + 5, 1, 0x92);
    fx->gpr[X86_RAX] = SEL_DATA0;
    ck_assert_int_eq(fx_run(ex_mov_to_seg, fx_insn_reg(0x8e, X86_SS, X86_RAX)), FX_DONE);
    ck_assert_uint_eq(fx_get(GDT + SEL_DATA0 + 5, 1), 0x93);
    ck_assert(fx->interrupt_shadow);
}
END_TEST

START_TEST(limits_and_types)
{
    fx_user();
    fx_segment(X86_ES, SEL_DOWN | 3);
    ck_assert(!bt_segment_allows(fx, X86_ES, 0xfff, 1, MMU_READ));
    ck_assert(bt_segment_allows(fx, X86_ES, 0x1000, 4, MMU_WRITE));
    ck_assert(!bt_segment_allows(fx, X86_ES, 0xfffffffe, 4, MMU_READ));
    fx_segment(X86_ES, SEL_READ_ONLY | 3);
    ck_assert(!bt_segment_allows(fx, X86_ES, 0, 1, MMU_WRITE));
    fx_segment(X86_ES, SEL_EXECUTE_ONLY | 3);
    ck_assert(!bt_segment_allows(fx, X86_ES, 0, 1, MMU_READ));
    fx_segment(X86_ES, SEL_CODE16);
    ck_assert(bt_segment_allows(fx, X86_ES, 0xfffc, 4, MMU_READ));
    ck_assert(!bt_segment_allows(fx, X86_ES, 0xfffd, 4, MMU_READ));
}
END_TEST

static void put_call_gate(unsigned type, unsigned nparams, unsigned selector, uint64_t offset)
{
    fx_put(GDT + SEL_GATE, 8,
           (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)nparams << 32 | (uint64_t)(0xe0 | type) << 40 |
               (offset >> 16 & 0xffff) << 48);
    fx_put(GDT + SEL_GATE + 8, 8, offset >> 32);
}

START_TEST(call_gate_copies_parameters)
{
    fx_user();
    put_call_gate(SYS_CALL32, 2, SEL_CODE0, 0x7000);
    fx_put(STACK3, 4, 0x11111111);
    fx_put(STACK3 + 4, 4, 0x22222222);
    ck_assert_int_eq(fx_run(ex_far_call, insn_far(0x9a, SEL_GATE | 3, 0xdead)), FX_DONE);
    ck_assert_uint_eq(fx->cpl, 0);
    ck_assert_uint_eq(fx->rip, 0x7000);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 24);
    ck_assert_uint_eq(fx_get(STACK0 - 24, 4), CODE + 2);
    ck_assert_uint_eq(fx_get(STACK0 - 20, 4), SEL_CODE3 | 3);
    ck_assert_uint_eq(fx_get(STACK0 - 16, 4), 0x11111111);
    ck_assert_uint_eq(fx_get(STACK0 - 12, 4), 0x22222222);
    ck_assert_uint_eq(fx_get(STACK0 - 8, 4), STACK3);
    ck_assert_uint_eq(fx_get(STACK0 - 4, 4), SEL_DATA3 | 3);
    /* Back, dropping the parameters on both stacks; ring 0 data segments become null. */
    fx_segment(X86_ES, SEL_DATA0);
    Insn ret = fx_insn(0xca);
    ret.imm = 8;
    ck_assert_int_eq(fx_run(ex_far_ret, ret), FX_DONE);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3 + 8);
    ck_assert(fx->seg[X86_ES].attr & X86_SEG_UNUSABLE);
    ck_assert_uint_eq(fx->seg[X86_ES].selector, 0);
    ck_assert(!(fx->seg[X86_DS].attr & X86_SEG_UNUSABLE));
}
END_TEST

START_TEST(call_gate_64)
{
    fx_long_user();
    put_call_gate(SYS_CALL32, 0, SEL_CODE64_0, 0xffff800000007000);
    fx_put(DATA, 4, 0xdead);
    fx_put(DATA + 4, 2, SEL_GATE | 3);
    ck_assert_int_eq(fx_run(ex_far_call, fx_insn_mem(0xff, 3, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0xffff800000007000);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 32);
    ck_assert_uint_eq(fx_get(STACK0 - 32, 8), CODE + 2);
    ck_assert_uint_eq(fx_get(STACK0 - 16, 8), STACK3);
    Insn ret = fx_insn(0xcb);
    ret.opsize = 8;
    ck_assert_int_eq(fx_run(ex_far_ret, ret), FX_DONE);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3);
}
END_TEST

START_TEST(jump_through_gate_keeps_privilege)
{
    fx_user();
    put_call_gate(SYS_CALL32, 0, SEL_CODE0, 0x7000);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_GATE | 3, 0)), X86_EXC_GP);
    ck_assert_uint_eq(fx->exception.code, SEL_CODE0);
    put_call_gate(SYS_CALL32, 0, SEL_CONFORMING, 0x7000);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_GATE | 3, 0)), FX_DONE);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, SEL_CONFORMING | 3);
}
END_TEST

static void put_task_b(uint32_t flags)
{
    memset(fx_ram + TSS_B, 0, 0x68);
    fx_put(TSS_B + 32, 4, 0x7000);
    fx_put(TSS_B + 36, 4, flags);
    fx_put(TSS_B + 40, 4, 0xaaaa0001);
    fx_put(TSS_B + 40 + 4 * X86_RSP, 4, STACK_IST);
    fx_put(TSS_B + 72 + 4 * X86_ES, 2, SEL_DATA0);
    fx_put(TSS_B + 72 + 4 * X86_CS, 2, SEL_CODE0);
    fx_put(TSS_B + 72 + 4 * X86_SS, 2, SEL_DATA0);
    fx_put(TSS_B + 72 + 4 * X86_DS, 2, SEL_DATA0);
}

START_TEST(task_call_and_iret)
{
    fx_protected();
    put_task_b(2);
    fx->gpr[X86_RAX] = 0x12345678;
    fx->gpr[X86_RBX] = 0xb;
    ck_assert_int_eq(fx_run(ex_far_call, insn_far(0x9a, SEL_TASK_GATE, 0)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0x7000);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0xaaaa0001);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK_IST);
    ck_assert_uint_eq(fx->seg[X86_TR].selector, SEL_TSS_B);
    ck_assert(fx->eflags & X86_FLAG_NT);
    ck_assert(fx->mmu.cr0 & X86_CR0_TS);
    ck_assert_uint_eq(fx_get(TSS_B, 2), SEL_TSS);
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS_B + 5, 1) & 15, SYS_TSS32_BUSY);
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS + 5, 1) & 15, SYS_TSS32_BUSY);
    ck_assert_uint_eq(fx_get(TSS + 40, 4), 0x12345678);
    ck_assert(fx->seg[X86_FS].attr & X86_SEG_UNUSABLE);
    fx->gpr[X86_RAX] = 7;
    ck_assert_int_eq(fx_run(ex_iret, fx_insn(0xcf)), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0x12345678);
    ck_assert_uint_eq(fx->gpr[X86_RBX], 0xb);
    ck_assert_uint_eq(fx->seg[X86_TR].selector, SEL_TSS);
    ck_assert(!(fx->eflags & X86_FLAG_NT));
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS_B + 5, 1) & 15, SYS_TSS32);
    ck_assert_uint_eq(fx_get(TSS_B + 32, 4), 0x7002);
}
END_TEST

START_TEST(task_jump)
{
    fx_protected();
    put_task_b(X86_FLAG_IF | 2);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_TSS_B, 0)), FX_DONE);
    ck_assert(!(fx->eflags & X86_FLAG_NT) && fx->eflags & X86_FLAG_IF);
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS + 5, 1) & 15, SYS_TSS32);
    ck_assert_uint_eq(fx_get(TSS + 32, 4), CODE + 2);
    /* A busy TSS is no target. */
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_TSS_B, 0)), X86_EXC_GP);
}
END_TEST

START_TEST(task_gate_in_idt_pushes_code)
{
    fx_protected();
    put_task_b(2);
    fx_put(IDT + X86_EXC_GP * 8, 8, (uint64_t)SEL_TSS_B << 16 | (uint64_t)0x85 << 40);
    fx->exception = (BtException){.vector = X86_EXC_GP, .has_code = true, .code = 0x1234};
    fx->exception_pending = true;
    fx_deliver_pending();
    ck_assert(!fx->shutdown && !fx->delivering);
    ck_assert_uint_eq(fx->rip, 0x7000);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK_IST - 4);
    ck_assert_uint_eq(fx_get(STACK_IST - 4, 4), 0x1234);
    ck_assert_uint_eq(fx_get(TSS + 32, 4), CODE);
}
END_TEST

/* A 16-bit TSS: items of two bytes, no FS, GS, CR3 or T; upper halves of the registers stay. */
START_TEST(task_of_16_bits)
{
    fx_protected();
    memset(fx_ram + TSS_B, 0, 0x68);
    fx_put(GDT + SEL_TSS_B + 5, 1, 0x81);
    fx_put(TSS_B + 14, 2, 0x7000);
    fx_put(TSS_B + 16, 2, 2);
    fx_put(TSS_B + 18, 2, 0xa001);
    fx_put(TSS_B + 18 + 2 * X86_RSP, 2, STACK0);
    fx_put(TSS_B + 34 + 2 * X86_ES, 2, SEL_DATA0);
    fx_put(TSS_B + 34 + 2 * X86_CS, 2, SEL_CODE16);
    fx_put(TSS_B + 34 + 2 * X86_SS, 2, SEL_DATA0);
    fx_put(TSS_B + 34 + 2 * X86_DS, 2, SEL_DATA0);
    fx_put(TSS_B + 100, 2, 1); /* no T bit in this one */
    fx->gpr[X86_RAX] = 0x12345678;
    fx->gpr[X86_RSP] = STACK0;
    ck_assert_int_eq(fx_run(ex_far_call, insn_far(0x9a, SEL_TASK_GATE, 0)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0x7000);
    ck_assert_uint_eq((uint16_t)fx->gpr[X86_RAX], 0xa001);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, SEL_CODE16);
    ck_assert(fx->seg[X86_GS].attr & X86_SEG_UNUSABLE);
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS_B + 5, 1), 0x83);
    Insn iret = fx_insn(0xcf);
    ck_assert_int_eq(fx_run(ex_iret, iret), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0x12345678);
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS_B + 5, 1), 0x81);
    ck_assert_uint_eq(fx_get(TSS_B + 14, 2), 0x7002);
}
END_TEST

/* T in the new TSS: #DB with DR6.BT before its first instruction.  The local breakpoints go with every switch (SDM 3A 7.2.1, 3B 17.2.4). */
START_TEST(task_with_trap_bit)
{
    fx_protected();
    put_task_b(2);
    fx_put(TSS_B + 100, 2, 1);
    fx->dr[6] = 0xffff0ff0;
    fx->dr[7] = 0x400 | 1 | 8; /* L0, G1 */
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_TSS_B, 0)), X86_EXC_DB);
    ck_assert_uint_eq(fx->rip, 0x7000);
    ck_assert_uint_eq(fx->dr[6], 0xffff0ff0 | 1u << 15);
    ck_assert_uint_eq(fx->dr[7], 0x400 | 8);
}
END_TEST

/* The LDT of the new task is there when its segments are loaded; one that is none is #TS of the new task. */
START_TEST(task_with_ldt)
{
    fx_protected();
    put_task_b(2);
    fx_put(LDT + 8, 8, fx_descriptor(0x4000, 0xffff, 0x93 | X86_SEG_DB));
    fx_put(TSS_B + 96, 2, SEL_LDT);
    fx_put(TSS_B + 72 + 4 * X86_GS, 2, 8 | 4);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_TSS_B, 0)), FX_DONE);
    ck_assert_uint_eq(fx->seg[X86_LDTR].selector, SEL_LDT);
    ck_assert_uint_eq(fx->seg[X86_GS].base, 0x4000);
    ck_assert_uint_eq(fx_get(LDT + 8 + 5, 1) & 1, 1);

    fx_protected();
    put_task_b(2);
    fx_put(TSS_B + 96, 2, SEL_DATA0);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_TSS_B, 0)), X86_EXC_TS);
    ck_assert_uint_eq(fx->exception.code, SEL_DATA0);
}
END_TEST

/* IRET with NT: the back link must name a busy TSS in the GDT.  A TSS that is too short is #TS of the old task. */
START_TEST(task_links_are_checked)
{
    fx_protected();
    put_task_b(2);
    bt_set_flags(fx, X86_FLAG_NT);
    fx_put(TSS, 2, SEL_TSS_B); /* not busy */
    ck_assert_int_eq(fx_run(ex_iret, fx_insn(0xcf)), X86_EXC_TS);
    ck_assert_uint_eq(fx->exception.code, SEL_TSS_B);
    fx_put(TSS, 2, SEL_DATA0);
    ck_assert_int_eq(fx_run(ex_iret, fx_insn(0xcf)), X86_EXC_TS);
    bt_set_flags(fx, 0);
    fx_put(GDT + SEL_TSS_B, 2, 0x66);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_TSS_B, 0)), X86_EXC_TS);
    ck_assert_uint_eq(fx->exception.code, SEL_TSS_B);
    ck_assert_uint_eq(fx->seg[X86_TR].selector, SEL_TSS);
    ck_assert_uint_eq(fx->rip, CODE);
}
END_TEST

START_TEST(task_with_bad_stack_faults_in_new_task)
{
    fx_protected();
    put_task_b(2);
    fx_put(TSS_B + 72 + 4 * X86_SS, 2, SEL_CODE0);
    ck_assert_int_eq(fx_run(ex_far_jmp, insn_far(0xea, SEL_TSS_B, 0)), X86_EXC_TS);
    ck_assert_uint_eq(fx->exception.code, SEL_CODE0);
    ck_assert_uint_eq(fx->rip, 0x7000);
    ck_assert_uint_eq(fx->seg[X86_TR].selector, SEL_TSS_B);
}
END_TEST

START_TEST(table_registers)
{
    fx_long();
    fx_put(DATA, 2, 0x7f);
    fx_put(DATA + 2, 8, 0xffffffff80001000);
    ck_assert_int_eq(fx_run(ex_lgdt, fx_insn_mem(0x01, 2, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->gdtr.base, 0xffffffff80001000);
    ck_assert_int_eq(fx_run(ex_sgdt, fx_insn_mem(0x01, 0, DATA + 0x20)), FX_DONE);
    ck_assert_mem_eq(fx_ram + DATA, fx_ram + DATA + 0x20, 10);
    fx_put(DATA + 2, 8, 0x8000000000000000);
    ck_assert_int_eq(fx_run(ex_lgdt, fx_insn_mem(0x01, 2, DATA)), X86_EXC_GP);
    ck_assert_uint_eq(fx->gdtr.limit, 0x7f);
}
END_TEST

START_TEST(load_task_register)
{
    fx_long();
    fx_put(GDT + SEL_TSS + 5, 1, 0x89);
    fx_put(GDT + SEL_TSS + 8, 4, 0xffff8000);
    fx->gpr[X86_RAX] = SEL_TSS;
    ck_assert_int_eq(fx_run(ex_ltr, fx_insn_reg(0x00, 3, X86_RAX)), FX_DONE);
    ck_assert_uint_eq(fx->seg[X86_TR].base, 0xffff800000000000 + TSS);
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS + 5, 1), 0x8b);
    ck_assert_int_eq(fx_run(ex_ltr, fx_insn_reg(0x00, 3, X86_RAX)), X86_EXC_GP); /* busy now */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-far");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
    tcase_add_test(tcase, real_mode_call_and_retf);
    tcase_add_test(tcase, real_to_protected_to_16_bit);
    tcase_add_loop_test(tcase, segment_loads, 0, (int)(sizeof loads / sizeof loads[0]));
    tcase_add_test(tcase, accessed_bit_is_set);
    tcase_add_test(tcase, limits_and_types);
    tcase_add_test(tcase, call_gate_copies_parameters);
    tcase_add_test(tcase, call_gate_64);
    tcase_add_test(tcase, jump_through_gate_keeps_privilege);
    tcase_add_test(tcase, task_call_and_iret);
    tcase_add_test(tcase, task_jump);
    tcase_add_test(tcase, task_gate_in_idt_pushes_code);
    tcase_add_test(tcase, task_of_16_bits);
    tcase_add_test(tcase, task_with_trap_bit);
    tcase_add_test(tcase, task_with_ldt);
    tcase_add_test(tcase, task_links_are_checked);
    tcase_add_test(tcase, task_with_bad_stack_faults_in_new_task);
    tcase_add_test(tcase, table_registers);
    tcase_add_test(tcase, load_task_register);
    suite_add_tcase(suite, tcase);
    return fx_main(suite);
}
