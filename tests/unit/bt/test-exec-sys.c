/* Control registers, MSRs, fast system calls, CPUID. */
#include "exec-fixture.h"

#include "core/cpuid.h"

static int write_cr(unsigned number, uint64_t value)
{
    fx->gpr[X86_RAX] = value;
    return fx_run(ex_mov_to_cr, fx_insn_reg(0x22, number, X86_RAX));
}

static int write_msr(uint32_t msr, uint64_t value)
{
    fx->gpr[X86_RCX] = msr;
    fx->gpr[X86_RAX] = (uint32_t)value;
    fx->gpr[X86_RDX] = value >> 32;
    return fx_run(ex_wrmsr, fx_insn(0x30));
}

static int read_msr(uint32_t msr, uint64_t *out_value)
{
    fx->gpr[X86_RCX] = msr;
    int vector = fx_run(ex_rdmsr, fx_insn(0x32));
    *out_value = fx->gpr[X86_RDX] << 32 | fx->gpr[X86_RAX];
    return vector;
}

START_TEST(long_mode_entry_and_exit)
{
    fx_long(); /* writes the page tables */
    mmu_set_paging(&fx->mmu, X86_CR0_PE | X86_CR0_ET, 0, 0);
    fx_segment(X86_CS, SEL_CODE0);
    bt_update_mode(fx);
    ck_assert_int_eq(write_msr(X86_MSR_EFER, X86_EFER_LME), FX_DONE);
    ck_assert_int_eq(write_cr(0, X86_CR0_PE | X86_CR0_PG), X86_EXC_GP); /* PAE is missing */
    ck_assert_int_eq(write_cr(4, X86_CR4_PAE), FX_DONE);
    ck_assert_int_eq(write_cr(0, X86_CR0_PE | X86_CR0_PG), FX_DONE);
    ck_assert(fx->mmu.efer & X86_EFER_LMA);
    ck_assert(fx->mode & MODE_CODE32 && !(fx->mode & MODE_CODE64));
    ck_assert_int_eq(write_msr(X86_MSR_EFER, 0), X86_EXC_GP); /* LME under paging */
    ck_assert_int_eq(write_cr(4, 0), X86_EXC_GP);
    Insn jump = fx_insn(0xea);
    jump.imm2 = SEL_CODE64_0;
    jump.imm = 0x7000;
    ck_assert_int_eq(fx_run(ex_far_jmp, jump), FX_DONE);
    ck_assert(fx->mode & MODE_CODE64);
    ck_assert_int_eq(write_cr(0, X86_CR0_PE), X86_EXC_GP); /* not from 64-bit code */
    fx_segment(X86_CS, SEL_CODE0);
    bt_update_mode(fx);
    ck_assert_int_eq(write_cr(0, X86_CR0_PE), FX_DONE);
    ck_assert(!(fx->mmu.efer & X86_EFER_LMA));
}
END_TEST

/* Control register writes in 64-bit mode. */
static const struct {
    const char *name;
    uint8_t number;
    uint64_t value;
    int vector;
} cr_writes[] = {
    {"CR0 PG without PE", 0, X86_CR0_PG, X86_EXC_GP},
    {"CR0 NW without CD", 0, X86_CR0_PE | X86_CR0_PG | X86_CR0_NW, X86_EXC_GP},
    {"CR0 bit 32", 0, X86_CR0_PE | X86_CR0_PG | (uint64_t)1 << 32, X86_EXC_GP},
    {"CR0 TS", 0, X86_CR0_PE | X86_CR0_PG | X86_CR0_TS, FX_DONE},
    {"CR1", 1, 0, X86_EXC_UD},
    {"CR2", 2, 0x1234, FX_DONE},
    {"CR3 reserved", 3, (uint64_t)1 << 52, X86_EXC_GP},
    {"CR3 bit 63 without PCIDE", 3, (uint64_t)1 << 63 | TABLES, X86_EXC_GP},
    {"CR4 LA57", 4, X86_CR4_PAE | X86_CR4_LA57, X86_EXC_GP},
    {"CR4 PKE", 4, X86_CR4_PAE | X86_CR4_PKE, FX_DONE},
    {"CR4 without a name", 4, X86_CR4_PAE | 1u << 23, X86_EXC_GP},
    {"CR4 usual", 4, X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_SMEP | X86_CR4_SMAP, FX_DONE},
    {"CR4 PCIDE", 4, X86_CR4_PAE | X86_CR4_PCIDE, FX_DONE},
    {"CR8", 8, 15, FX_DONE},
    {"CR8 too large", 8, 16, X86_EXC_GP},
    {"CR15", 15, 0, X86_EXC_UD},
};

START_TEST(control_register_writes)
{
    fx_long();
    int vector = write_cr(cr_writes[_i].number, cr_writes[_i].value);
    ck_assert_msg(vector == cr_writes[_i].vector, "%s: vector %d", cr_writes[_i].name, vector);
}
END_TEST

static const struct {
    uint32_t msr;
    uint64_t value;
    int vector;
} msr_writes[] = {
    {X86_MSR_FS_BASE, 0xffff888000000000, FX_DONE},
    {X86_MSR_GS_BASE, 0x8000000000000000, X86_EXC_GP},
    {X86_MSR_KERNEL_GS_BASE, 0x7fffffffffff, FX_DONE},
    {X86_MSR_LSTAR, 0x800000000000, X86_EXC_GP},
    {X86_MSR_STAR, 0x0023001000000000, FX_DONE},
    {X86_MSR_PAT, 0x0407050600070106, FX_DONE},
    {X86_MSR_PAT, 0x0002000000000000, X86_EXC_GP},
    {X86_MSR_TSC_AUX, 5, FX_DONE},
    {X86_MSR_TSC_AUX, (uint64_t)1 << 32, X86_EXC_GP},
    {X86_MSR_EFER, (uint64_t)1 << 63, X86_EXC_GP},
    {X86_MSR_APIC_BASE, 0xfee00900, FX_DONE},
    {X86_MSR_X2APIC_FIRST + 2, 0, X86_EXC_GP}, /* as the fixture's host answers */
    {0xc0000200, 0, X86_EXC_GP},
};

START_TEST(msr_write_and_read)
{
    fx_long();
    uint64_t value;
    int vector = write_msr(msr_writes[_i].msr, msr_writes[_i].value);
    ck_assert_msg(vector == msr_writes[_i].vector, "MSR %#x: vector %d", msr_writes[_i].msr, vector);
    if (vector == FX_DONE) {
        ck_assert_int_eq(read_msr(msr_writes[_i].msr, &value), FX_DONE);
        ck_assert_uint_eq(value, msr_writes[_i].value);
    }
}
END_TEST

START_TEST(tsc_writes_move_the_offset)
{
    uint64_t value;
    fx_long();
    ck_assert_int_eq(write_msr(X86_MSR_TSC, 1000), FX_DONE);
    ck_assert_int_eq(read_msr(X86_MSR_TSC, &value), FX_DONE);
    ck_assert_uint_ge(value, 1000);
    ck_assert_uint_lt(value, (uint64_t)1 << 36);
    uint64_t adjust = fx->tsc_adjust;
    ck_assert_int_eq(write_msr(X86_MSR_TSC_ADJUST, adjust + ((uint64_t)1 << 40)), FX_DONE);
    ck_assert_int_eq(read_msr(X86_MSR_TSC, &value), FX_DONE);
    ck_assert_uint_ge(value, (uint64_t)1 << 40);
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, fx->mmu.cr4 | X86_CR4_TSD, fx->mmu.efer);
    ck_assert_int_eq(fx_run(ex_rdtsc, fx_insn(0x31)), FX_DONE);
    fx->cpl = 3;
    ck_assert_int_eq(fx_run(ex_rdtsc, fx_insn(0x31)), X86_EXC_GP);
}
END_TEST

START_TEST(syscall_and_sysret)
{
    fx_long_user();
    fx->star = (uint64_t)0x23 << 48 | (uint64_t)0x10 << 32;
    fx->lstar = 0xffffffff81000000;
    fx->sfmask = X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_TF;
    bt_set_flags(fx, X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_CF);
    ck_assert_int_eq(fx_run(ex_syscall, fx_insn(0x05)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0xffffffff81000000);
    ck_assert_uint_eq(fx->gpr[X86_RCX], CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_R11], X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_CF | X86_FLAG_FIXED);
    ck_assert_uint_eq(bt_flags(fx), X86_FLAG_CF | X86_FLAG_FIXED);
    ck_assert_uint_eq(fx->cpl, 0);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, 0x10);
    ck_assert_uint_eq(fx->seg[X86_SS].selector, 0x18);
    ck_assert(fx->mode & MODE_CODE64 && fx->mode & MODE_CPL0);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3);
    Insn ret = fx_insn(0x07);
    ret.opsize = 8;
    ck_assert_int_eq(fx_run(ex_sysret, ret), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, 0x33);
    ck_assert_uint_eq(fx->seg[X86_SS].selector, 0x2b);
    ck_assert_uint_eq(bt_flags(fx), X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_CF | X86_FLAG_FIXED);
    ck_assert_uint_eq(fx->mode & (MODE_CODE64 | MODE_USER), MODE_CODE64 | MODE_USER);
    ck_assert_int_eq(fx_run(ex_sysret, ret), X86_EXC_GP); /* CPL 3 */
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, fx->mmu.cr4, fx->mmu.efer & ~(uint64_t)X86_EFER_SCE);
    ck_assert_int_eq(fx_run(ex_syscall, fx_insn(0x05)), X86_EXC_UD);
}
END_TEST

START_TEST(sysret_to_32_bit)
{
    fx_long();
    fx->star = (uint64_t)0x23 << 48 | (uint64_t)0x10 << 32;
    fx->gpr[X86_RCX] = 0xffffffff08048000;
    fx->gpr[X86_R11] = X86_FLAG_IF;
    ck_assert_int_eq(fx_run(ex_sysret, fx_insn(0x07)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0x08048000);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, 0x23);
    ck_assert(fx->mode & MODE_CODE32 && !(fx->mode & MODE_CODE64));
    fx->cstar = 0xffffffff81001000;
    ck_assert_int_eq(fx_run(ex_syscall, fx_insn(0x05)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0xffffffff81001000);
}
END_TEST

START_TEST(sysenter_and_sysexit)
{
    fx_user();
    ck_assert_int_eq(fx_run(ex_sysenter, fx_insn(0x34)), X86_EXC_GP);
    fx->sysenter_cs = SEL_CODE0;
    fx->sysenter_esp = STACK0;
    fx->sysenter_eip = 0x7000;
    bt_set_flags(fx, X86_FLAG_IF);
    ck_assert_int_eq(fx_run(ex_sysenter, fx_insn(0x34)), FX_DONE);
    ck_assert_uint_eq(fx->rip, 0x7000);
    ck_assert_uint_eq(fx->cpl, 0);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0);
    ck_assert(!(fx->eflags & X86_FLAG_IF));
    fx->gpr[X86_RDX] = CODE;
    fx->gpr[X86_RCX] = STACK3;
    ck_assert_int_eq(fx_run(ex_sysexit, fx_insn(0x35)), FX_DONE);
    ck_assert_uint_eq(fx->seg[X86_CS].selector, SEL_CODE3 | 3);
    ck_assert_uint_eq(fx->seg[X86_SS].selector, SEL_DATA3 | 3);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK3);
}
END_TEST

START_TEST(swapgs_and_bases)
{
    fx_long();
    fx->seg[X86_GS].base = 1;
    fx->kernel_gs_base = 2;
    ck_assert_int_eq(fx_run(ex_swapgs, fx_insn(0x01)), FX_DONE);
    ck_assert_uint_eq(fx->seg[X86_GS].base, 2);
    ck_assert_uint_eq(fx->kernel_gs_base, 1);
    Insn wrfs = fx_insn_reg(0xae, 2, X86_RAX);
    wrfs.w = true;
    fx->gpr[X86_RAX] = 0x123456789000;
    ck_assert_int_eq(fx_run(ex_wrbase, wrfs), X86_EXC_UD); /* CR4.FSGSBASE */
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, fx->mmu.cr4 | X86_CR4_FSGSBASE, fx->mmu.efer);
    ck_assert_int_eq(fx_run(ex_wrbase, wrfs), FX_DONE);
    ck_assert_uint_eq(fx->seg[X86_FS].base, 0x123456789000);
}
END_TEST

/* LAR and LSL at CPL 3. */
static const struct {
    uint16_t selector;
    bool lar, lsl;
} described[] = {
    {0, false, false},
    {SEL_DATA3 | 3, true, true},
    {SEL_DATA0, false, false},
    {SEL_CONFORMING, true, true},
    {0x1000, false, false},
};

START_TEST(lar_and_lsl)
{
    fx_user();
    fx->gpr[X86_RAX] = described[_i].selector;
    fx->gpr[X86_RBX] = 0x5555;
    ck_assert_int_eq(fx_run(ex_lar, fx_insn_reg(0x02, X86_RBX, X86_RAX)), FX_DONE);
    ck_assert_int_eq((bt_flags(fx) & X86_FLAG_ZF) != 0, described[_i].lar);
    ck_assert_int_eq(fx->gpr[X86_RBX] != 0x5555, described[_i].lar);
    ck_assert_int_eq(fx_run(ex_lsl, fx_insn_reg(0x03, X86_RBX, X86_RAX)), FX_DONE);
    ck_assert_int_eq((bt_flags(fx) & X86_FLAG_ZF) != 0, described[_i].lsl);
    if (described[_i].lsl)
        ck_assert_uint_eq(fx->gpr[X86_RBX], 0xffffffff);
}
END_TEST

START_TEST(cpuid_reads_the_model)
{
    static CpuidModel model;
    cpuid_model_init(&model);
    fx_long();
    fx->cpuid = &model;
    fx->index = 3;
    fx->gpr[X86_RAX] = 0x40000000;
    ck_assert_int_eq(fx_run(ex_cpuid, fx_insn(0xa2)), FX_DONE);
    ck_assert_mem_eq(&fx->gpr[X86_RBX], "VMwa", 4);
    fx->gpr[X86_RAX] = 1;
    ck_assert_int_eq(fx_run(ex_cpuid, fx_insn(0xa2)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RBX] >> 24, 3);
    ck_assert(!(fx->gpr[X86_RCX] >> 27 & 1));
    if (cpuid_model_has(&model, "xsave")) {
        mmu_set_paging(&fx->mmu, fx->mmu.cr0, fx->mmu.cr4 | X86_CR4_OSXSAVE, fx->mmu.efer);
        fx->gpr[X86_RAX] = 1;
        ck_assert_int_eq(fx_run(ex_cpuid, fx_insn(0xa2)), FX_DONE);
        ck_assert(fx->gpr[X86_RCX] >> 27 & 1);
    }
    fx->gpr[X86_RAX] = 0x12345;
    ck_assert_int_eq(fx_run(ex_cpuid, fx_insn(0xa2)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX] | fx->gpr[X86_RBX] | fx->gpr[X86_RCX] | fx->gpr[X86_RDX], 0);
}
END_TEST

START_TEST(debug_registers)
{
    fx_long();
    fx->gpr[X86_RAX] = 0x12340;
    ck_assert_int_eq(fx_run(ex_mov_to_dr, fx_insn_reg(0x23, 0, X86_RAX)), FX_DONE);
    ck_assert_uint_eq(fx->dr[0], 0x12340);
    fx->gpr[X86_RAX] = 0;
    ck_assert_int_eq(fx_run(ex_mov_to_dr, fx_insn_reg(0x23, 6, X86_RAX)), FX_DONE);
    ck_assert_int_eq(fx_run(ex_mov_from_dr, fx_insn_reg(0x21, 4, X86_RBX)), FX_DONE); /* DR4 is DR6 */
    ck_assert_uint_eq(fx->gpr[X86_RBX], 0xffff0ff0);
    fx->gpr[X86_RAX] = 1 << 13;
    ck_assert_int_eq(fx_run(ex_mov_to_dr, fx_insn_reg(0x23, 7, X86_RAX)), FX_DONE);
    ck_assert_int_eq(fx_run(ex_mov_from_dr, fx_insn_reg(0x21, 0, X86_RBX)), X86_EXC_DB);
    ck_assert(fx->dr[6] & 1 << 13);
}
END_TEST

START_TEST(state_round_trip)
{
    static X86State before, after;
    fx_long_user();
    for (unsigned i = 0; i < X86_NGPRS; i++)
        fx->gpr[i] = 0x1111111111111111u * i;
    fx->lstar = 0x1234;
    fx->xcr0 = 7;
    bt_set_flags(fx, X86_FLAG_IF | X86_FLAG_OF | X86_FLAG_SF);
    bt_save_state(fx, &before);
    bt_reset(fx);
    ck_assert_uint_eq(fx->rip, 0xfff0);
    ck_assert_uint_eq(fx->seg[X86_CS].base, 0xffff0000);
    bt_load_state(fx, &before);
    bt_save_state(fx, &after);
    ck_assert_uint_ge(after.tsc, before.tsc);
    after.tsc = before.tsc;
    after.tsc_offset = before.tsc_offset; /* the time between saving and loading is part of it */
    ck_assert_mem_eq(&before, &after, sizeof before);
    ck_assert_uint_eq(fx->cpl, 3);
    ck_assert(fx->mode & MODE_CODE64 && fx->mode & MODE_USER);
}
END_TEST

START_TEST(speculation_msrs)
{
    static CpuidModel model;
    uint64_t value;
    fx_long();
    ck_assert_int_eq(write_msr(0x48, 5), FX_DONE);
    ck_assert_int_eq(read_msr(0x48, &value), FX_DONE);
    ck_assert_uint_eq(value, 5);
    ck_assert_int_eq(write_msr(0x48, 8), X86_EXC_GP);
    ck_assert_int_eq(write_msr(0x49, 1), FX_DONE);
    ck_assert_int_eq(read_msr(0x49, &value), X86_EXC_GP); /* a command, not a register */
    cpuid_model_init(&model);
    ck_assert(cpuid_model_set(&model, "spec-ctrl", false, NULL));
    fx->cpuid = &model;
    ck_assert_int_eq(read_msr(0x48, &value), X86_EXC_GP);
}
END_TEST

START_TEST(x2apic_needs_its_cpuid_bit)
{
    static CpuidModel model;
    uint64_t base = 0xfee00900;
    cpuid_model_init(&model);
    ck_assert(cpuid_model_set(&model, "x2apic", false, NULL));
    fx_long();
    fx->cpuid = &model;
    ck_assert_int_eq(write_msr(X86_MSR_APIC_BASE, base | 1 << 10), X86_EXC_GP);
    ck_assert_int_eq(write_msr(0x808, 0), X86_EXC_GP);
}
END_TEST

START_TEST(system_segments_need_canonical_bases)
{
    fx_long();
    Insn ltr = fx_insn_reg(0x00, 3, X86_RAX);
    fx->gpr[X86_RAX] = SEL_TSS;
    fx_put(GDT + SEL_TSS + 5, 1, 0x89);
    fx_put(GDT + SEL_TSS + 8, 8, 0xaaaaaaaa);
    ck_assert_int_eq(fx_run(ex_ltr, ltr), X86_EXC_GP);
    ck_assert_uint_eq(fx->exception.code, SEL_TSS);
    ck_assert_uint_eq(fx_get(GDT + SEL_TSS + 5, 1), 0x89); /* not busy */
    fx_put(GDT + SEL_TSS + 8, 8, 0xffffaaaa);
    fx_put(GDT + SEL_TSS + 2, 2, 0);
    ck_assert_int_eq(fx_run(ex_ltr, ltr), FX_DONE);
}
END_TEST

START_TEST(sysret_single_steps_by_the_flags_it_loads)
{
    fx_long();
    fx->mmu.efer |= X86_EFER_SCE;
    fx->gpr[X86_RCX] = CODE;
    fx->gpr[X86_R11] = X86_FLAG_TF | X86_FLAG_FIXED;
    Insn sysret = fx_insn(0x07);
    sysret.opsize = 8;
    ck_assert_int_eq(fx_run(ex_sysret, sysret), FX_DONE);
    ck_assert_uint_eq(fx->step, 1);
    fx->sfmask = X86_FLAG_TF;
    ck_assert_int_eq(fx_run(ex_syscall, fx_insn(0x05)), FX_DONE);
    ck_assert_uint_eq(fx->step, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-sys");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
    tcase_add_test(tcase, long_mode_entry_and_exit);
    tcase_add_loop_test(tcase, control_register_writes, 0, (int)(sizeof cr_writes / sizeof cr_writes[0]));
    tcase_add_loop_test(tcase, msr_write_and_read, 0, (int)(sizeof msr_writes / sizeof msr_writes[0]));
    tcase_add_test(tcase, tsc_writes_move_the_offset);
    tcase_add_test(tcase, syscall_and_sysret);
    tcase_add_test(tcase, sysret_to_32_bit);
    tcase_add_test(tcase, sysenter_and_sysexit);
    tcase_add_test(tcase, swapgs_and_bases);
    tcase_add_loop_test(tcase, lar_and_lsl, 0, (int)(sizeof described / sizeof described[0]));
    tcase_add_test(tcase, cpuid_reads_the_model);
    tcase_add_test(tcase, debug_registers);
    tcase_add_test(tcase, state_round_trip);
    tcase_add_test(tcase, speculation_msrs);
    tcase_add_test(tcase, x2apic_needs_its_cpuid_bit);
    tcase_add_test(tcase, system_segments_need_canonical_bases);
    tcase_add_test(tcase, sysret_single_steps_by_the_flags_it_loads);
    suite_add_tcase(suite, tcase);
    return fx_main(suite);
}
