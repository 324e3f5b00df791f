/* FXSAVE, XSAVE and FNSAVE families.  The guest's state is parked in cpu->xsave, which the tests write and read. */
#include "exec-fixture.h"

#include "core/cpuid.h"

static CpuidModel model;

enum { AT_MXCSR = 24, AT_X87 = 32, AT_XMM = 160, AT_BV = 512, AT_COMP = 520, AT_AVX = 576 };

static void setup_fpu(void (*mode)(void))
{
    mode();
    cpuid_model_init(&model);
    fx->cpuid = &model;
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, fx->mmu.cr4 | X86_CR4_OSFXSR | X86_CR4_OSXSAVE, fx->mmu.efer);
    fx->xcr0 = model.xcr0_mask;
    bt_update_mode(fx);
    fx->gpr[X86_RAX] = 7;
    fx->gpr[X86_RDX] = 0;
}

/* Guest state: FCW 0x27f, MXCSR 0x1fa0, XMMi = i in every byte, upper halves 0x80 + i, one x87 register. */
static void put_state(void)
{
    host_store(fx->xsave, 2, 0x27f);
    host_store(fx->xsave + 2, 2, 0x3800); /* TOP = 7 */
    fx->xsave[4] = 0x80;                  /* abridged tag: register 7 in use */
    host_store(fx->xsave + AT_MXCSR, 4, 0x1fa0);
    host_store(fx->xsave + AT_X87, 8, 0xc000000000000000);
    host_store(fx->xsave + AT_X87 + 8, 2, 0x3fff); /* 1.5 */
    for (unsigned i = 0; i < 16; i++) {
        memset(fx->xsave + AT_XMM + 16 * i, (int)i, 16);
        memset(fx->xsave + AT_AVX + 16 * i, 0x80 + (int)i, 16);
    }
    host_store(fx->xsave + AT_BV, 8, model.xcr0_mask);
}

START_TEST(fxsave_and_fxrstor)
{
    setup_fpu(fx_long);
    put_state();
    memset(fx_ram + DATA, 0xee, 512);
    ck_assert_int_eq(fx_run(ex_fxsave, fx_insn_mem(0xae, 0, DATA)), FX_DONE);
    ck_assert_uint_eq(fx_get(DATA, 2), 0x27f);
    ck_assert_uint_eq(fx_get(DATA + 8, 8), 0); /* no address of ours */
    ck_assert_uint_eq(fx_get(DATA + 24, 4), 0x1fa0);
    ck_assert_uint_eq(fx_get(DATA + AT_XMM + 16 * 15, 4), 0x0f0f0f0f);
    ck_assert_uint_eq(fx_get(DATA + 416, 4), 0xeeeeeeee);
    fx_put(DATA + AT_XMM, 4, 0x12345678);
    fx_put(DATA, 2, 0x37f);
    ck_assert_int_eq(fx_run(ex_fxrstor, fx_insn_mem(0xae, 1, DATA)), FX_DONE);
    ck_assert_uint_eq(host_load(fx->xsave, 2), 0x37f);
    ck_assert_uint_eq(host_load(fx->xsave + AT_XMM, 4), 0x12345678);
    if (model.xcr0_mask & 4)
        ck_assert_uint_eq(fx->xsave[AT_AVX + 16], 0x81); /* upper halves untouched */
    fx_put(DATA + AT_MXCSR, 4, 0xffffffff);
    ck_assert_int_eq(fx_run(ex_fxrstor, fx_insn_mem(0xae, 1, DATA)), X86_EXC_GP);
    ck_assert_int_eq(fx_run(ex_fxsave, fx_insn_mem(0xae, 0, DATA + 8)), X86_EXC_GP);
    mmu_set_paging(&fx->mmu, fx->mmu.cr0 | X86_CR0_TS, fx->mmu.cr4, fx->mmu.efer);
    ck_assert_int_eq(fx_run(ex_fxsave, fx_insn_mem(0xae, 0, DATA)), X86_EXC_NM);
}
END_TEST

START_TEST(fxsave_in_32_bit_code_has_8_registers)
{
    setup_fpu(fx_protected);
    put_state();
    memset(fx_ram + DATA, 0xee, 512);
    ck_assert_int_eq(fx_run(ex_fxsave, fx_insn_mem(0xae, 0, DATA)), FX_DONE);
    ck_assert_uint_eq(fx_get(DATA + AT_XMM + 16 * 7, 1), 7);
    ck_assert_uint_eq(fx_get(DATA + AT_XMM + 16 * 8, 1), 0xee);
    memset(fx_ram + DATA + AT_XMM, 0x55, 256);
    ck_assert_int_eq(fx_run(ex_fxrstor, fx_insn_mem(0xae, 1, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->xsave[AT_XMM + 16 * 7], 0x55);
    ck_assert_uint_eq(fx->xsave[AT_XMM + 16 * 8], 8);
}
END_TEST

START_TEST(xsave_and_xrstor)
{
    setup_fpu(fx_long);
    if (!(model.xcr0_mask & 4))
        return;
    put_state();
    fx_put(DATA + AT_BV, 8, 0xf0);
    ck_assert_int_eq(fx_run(ex_xsave, fx_insn_mem(0xae, 4, DATA)), FX_DONE);
    ck_assert_uint_eq(fx_get(DATA + AT_BV, 8), 0xf7); /* bits not asked for stay */
    ck_assert_uint_eq(fx_get(DATA + AT_AVX + 16, 1), 0x81);
    fx_put(DATA + AT_BV, 8, 1 | 4);
    memset(fx_ram + DATA + AT_AVX, 0x99, 256);
    ck_assert_int_eq(fx_run(ex_xrstor, fx_insn_mem(0xae, 5, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->xsave[AT_AVX + 33], 0x99);
    ck_assert_uint_eq(fx->xsave[AT_XMM + 16], 0); /* SSE went to its initial state */
    ck_assert_uint_eq(host_load(fx->xsave + AT_MXCSR, 4), 0x1fa0); /* MXCSR comes from memory all the same */
    ck_assert_uint_eq(host_load(fx->xsave, 2), 0x27f);
    /* Only what EDX:EAX asks for. */
    fx->gpr[X86_RAX] = 2;
    put_state();
    fx_put(DATA + AT_BV, 8, 7);
    memset(fx_ram + DATA + AT_XMM, 0x44, 256);
    ck_assert_int_eq(fx_run(ex_xrstor, fx_insn_mem(0xae, 5, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->xsave[AT_XMM + 16], 0x44);
    ck_assert_uint_eq(fx->xsave[AT_AVX + 16], 0x81);
}
END_TEST

static const struct {
    const char *name;
    uint64_t bv, comp, reserved;
} bad_headers[] = {
    {"unknown component", 0x100, 0, 0}, {"XCOMP_BV in standard form", 3, 1, 0}, {"reserved bytes", 3, 0, 1},
    {"compact, component not in format", 7, (uint64_t)1 << 63 | 3, 0}, {"compact, unknown", 1, (uint64_t)1 << 63 | 0x101, 0},
};

START_TEST(xrstor_checks_the_header)
{
    setup_fpu(fx_long);
    put_state();
    fx_put(DATA + AT_MXCSR, 4, 0x1f80);
    fx_put(DATA + AT_BV, 8, bad_headers[_i].bv);
    fx_put(DATA + AT_COMP, 8, bad_headers[_i].comp);
    fx_put(DATA + AT_COMP + 8, 8, bad_headers[_i].reserved);
    int vector = fx_run(ex_xrstor, fx_insn_mem(0xae, 5, DATA));
    ck_assert_msg(vector == X86_EXC_GP, "%s: vector %d", bad_headers[_i].name, vector);
    ck_assert_uint_eq(fx->xsave[AT_XMM + 16], 1);
}
END_TEST

START_TEST(xsavec_is_compact)
{
    setup_fpu(fx_long);
    if (!(model.xcr0_mask & 4))
        return;
    put_state();
    host_store(fx->xsave + AT_BV, 8, 3); /* upper halves initial */
    memset(fx_ram + DATA, 0xee, 1024);
    ck_assert_int_eq(fx_run(ex_xsavec, fx_insn_mem(0xc7, 4, DATA)), FX_DONE);
    ck_assert_uint_eq(fx_get(DATA + AT_COMP, 8), (uint64_t)1 << 63 | 7);
    ck_assert_uint_eq(fx_get(DATA + AT_BV, 8) & 3, 3);
    memset(fx_ram + DATA + AT_COMP + 8, 0, 48);
    memset(fx->xsave + AT_XMM, 0x33, 256);
    ck_assert_int_eq(fx_run(ex_xrstor, fx_insn_mem(0xae, 5, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->xsave[AT_XMM + 16 * 5], 5);
}
END_TEST

START_TEST(xsave_faults)
{
    setup_fpu(fx_long);
    ck_assert_int_eq(fx_run(ex_xsave, fx_insn_mem(0xae, 4, DATA + 32)), X86_EXC_GP);
    fx_page(0x41000, 0);
    put_state();
    ck_assert_int_eq(fx_run(ex_xsave, fx_insn_mem(0xae, 4, 0x40e00)), X86_EXC_PF);
    ck_assert_uint_eq(fx_get(0x40e00, 2), 0); /* nothing was written */
    mmu_set_paging(&fx->mmu, fx->mmu.cr0, fx->mmu.cr4 & ~(uint64_t)X86_CR4_OSXSAVE, fx->mmu.efer);
    ck_assert_int_eq(fx_run(ex_xsave, fx_insn_mem(0xae, 4, DATA)), X86_EXC_UD);
}
END_TEST

START_TEST(xsetbv_checks)
{
    setup_fpu(fx_long);
    fx->gpr[X86_RCX] = 0;
    fx->gpr[X86_RAX] = 2;
    ck_assert_int_eq(fx_run(ex_xsetbv, fx_insn(0x01)), X86_EXC_GP); /* x87 must stay */
    fx->gpr[X86_RAX] = 5;
    ck_assert_int_eq(fx_run(ex_xsetbv, fx_insn(0x01)), X86_EXC_GP); /* AVX without SSE */
    fx->gpr[X86_RAX] = 0x67;
    ck_assert_int_eq(fx_run(ex_xsetbv, fx_insn(0x01)), X86_EXC_GP); /* AVX-512's three go together */
    fx->gpr[X86_RAX] = 0xe3;
    ck_assert_int_eq(fx_run(ex_xsetbv, fx_insn(0x01)), X86_EXC_GP); /* and with AVX */
    fx->gpr[X86_RAX] = 0x18;
    ck_assert_int_eq(fx_run(ex_xsetbv, fx_insn(0x01)), X86_EXC_GP); /* MPX */
    fx->gpr[X86_RAX] = 0xe7;
    ck_assert_int_eq(fx_run(ex_xsetbv, fx_insn(0x01)), model.xcr0_mask & 0x80 ? FX_DONE : X86_EXC_GP);
    fx->gpr[X86_RAX] = 3;
    ck_assert_int_eq(fx_run(ex_xsetbv, fx_insn(0x01)), FX_DONE);
    ck_assert(fx->mode & MODE_NO_AVX);
    ck_assert_int_eq(fx_run(ex_xgetbv, fx_insn(0x01)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 3);
}
END_TEST

/* PKRU: an XSAVE component that is not in the host's registers, by instruction and in the state that leaves the engine. */
START_TEST(pkru_is_a_component)
{
    static X86State state;
    setup_fpu(fx_long);
    ck_assert(cpuid_model_set(&model, "pku", true, NULL));
    unsigned at = cpuid_pkru_at(&model);
    ck_assert_uint_ge(at, 832);
    fx->xsave_at[9] = (uint16_t)at;
    fx->features_of = NULL;
    ck_assert_int_eq(fx_run(ex_rdpkru, fx_insn(0x01)), X86_EXC_UD); /* CR4.PKE */
    fx->exception_pending = false;
    bt_write_cr4(fx, fx->mmu.cr4 | X86_CR4_PKE);
    fx->xcr0 = model.xcr0_mask;
    fx->gpr[X86_RAX] = 0xfffffff055555554;
    fx->gpr[X86_RCX] = fx->gpr[X86_RDX] = (uint64_t)1 << 32;
    ck_assert_int_eq(fx_run(ex_wrpkru, fx_insn(0x01)), FX_DONE);
    fx->gpr[X86_RAX] = fx->gpr[X86_RDX] = ~(uint64_t)0;
    ck_assert_int_eq(fx_run(ex_rdpkru, fx_insn(0x01)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0x55555554);
    ck_assert_uint_eq(fx->gpr[X86_RDX], 0);

    put_state();
    host_store(fx->xsave + AT_BV, 8, 3);
    fx->gpr[X86_RAX] = 0x203;
    fx->gpr[X86_RCX] = 0;
    ck_assert_int_eq(fx_run(ex_xsave, fx_insn_mem(0xae, 4, DATA)), FX_DONE);
    ck_assert_uint_eq(fx_get(DATA + AT_BV, 8), 0x203);
    ck_assert_uint_eq(fx_get(DATA + at, 8), 0x55555554);
    ck_assert_uint_eq(bt_xsave_size(fx, 0x203, false), at + 8);
    ck_assert_uint_eq(bt_xsave_size(fx, 0x203, true), 576 + 8);
    bt_save_state(fx, &state);
    ck_assert_uint_eq(host_load(state.xsave + AT_BV, 8) & 0x200, 0x200);
    ck_assert_uint_eq(host_load(state.xsave + at, 4), 0x55555554);

    fx_put(DATA + at, 4, 0xc);
    ck_assert_int_eq(fx_run(ex_xrstor, fx_insn_mem(0xae, 5, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->mmu.pkru, 0xc);
    fx_put(DATA + AT_BV, 8, 3);
    fx->gpr[X86_RAX] = 3; /* not asked for: stays */
    ck_assert_int_eq(fx_run(ex_xrstor, fx_insn_mem(0xae, 5, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->mmu.pkru, 0xc);
    fx->gpr[X86_RAX] = 0x203; /* initial */
    ck_assert_int_eq(fx_run(ex_xrstor, fx_insn_mem(0xae, 5, DATA)), FX_DONE);
    ck_assert_uint_eq(fx->mmu.pkru, 0);
    bt_load_state(fx, &state);
    ck_assert_uint_eq(fx->mmu.pkru, 0x55555554);
    ck_assert_uint_eq(host_load(fx->xsave + AT_BV, 8) & 0x200, 0);

    fx->gpr[X86_RCX] = 1;
    ck_assert_int_eq(fx_run(ex_rdpkru, fx_insn(0x01)), X86_EXC_GP);
    fx->exception_pending = false;
    fx->gpr[X86_RCX] = 0;
    fx->gpr[X86_RDX] = 1;
    ck_assert_int_eq(fx_run(ex_wrpkru, fx_insn(0x01)), X86_EXC_GP);
}
END_TEST

START_TEST(fnsave_in_both_sizes)
{
    setup_fpu(fx_protected);
    for (unsigned opsize = 2; opsize <= 4; opsize += 2) {
        unsigned env = opsize == 2 ? 14 : 28;
        put_state();
        Insn save = fx_insn_mem(0xdd, 6, DATA), restore = fx_insn_mem(0xdd, 4, DATA);
        save.opsize = restore.opsize = (uint8_t)opsize;
        memset(fx_ram + DATA, 0xee, 128);
        ck_assert_int_eq(fx_run(ex_fnsave, save), FX_DONE);
        ck_assert_uint_eq(fx_get(DATA, 2), 0x27f);
        ck_assert_uint_eq(fx_get(DATA + opsize, 2) & 0x3800, 0x3800);
        ck_assert_uint_eq(fx_get(DATA + env, 8), 0xc000000000000000);
        ck_assert_uint_eq(fx_get(DATA + env + 80, 1), 0xee);
        ck_assert_uint_eq(host_load(fx->xsave, 2), 0x37f); /* FNSAVE initialises */
        ck_assert_int_eq(fx_run(ex_frstor, restore), FX_DONE);
        ck_assert_uint_eq(host_load(fx->xsave, 2), 0x27f);
        ck_assert_uint_eq(host_load(fx->xsave + AT_X87, 8), 0xc000000000000000);
        Insn store = fx_insn_mem(0xd9, 6, DATA + 0x100), load = fx_insn_mem(0xd9, 4, DATA + 0x100);
        store.opsize = load.opsize = (uint8_t)opsize;
        ck_assert_int_eq(fx_run(ex_fnstenv, store), FX_DONE);
        ck_assert_uint_eq(fx_get(DATA + 0x100, 2), 0x27f);
        fx_put(DATA + 0x100, 2, 0x47f);
        ck_assert_int_eq(fx_run(ex_fldenv, load), FX_DONE);
        ck_assert_uint_eq(host_load(fx->xsave, 2), 0x47f);
    }
}
END_TEST

START_TEST(pending_exception_is_reported_first)
{
    setup_fpu(fx_protected);
    put_state();
    host_store(fx->xsave, 2, 0x340);      /* everything unmasked */
    host_store(fx->xsave + 2, 2, 0xb881); /* invalid operation waits, ES, B */
    ck_assert_int_eq(fx_run(ex_fldenv, fx_insn_mem(0xd9, 4, DATA)), X86_EXC_MF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-fpu");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
    tcase_add_test(tcase, fxsave_and_fxrstor);
    tcase_add_test(tcase, fxsave_in_32_bit_code_has_8_registers);
    tcase_add_test(tcase, xsave_and_xrstor);
    tcase_add_loop_test(tcase, xrstor_checks_the_header, 0, (int)(sizeof bad_headers / sizeof bad_headers[0]));
    tcase_add_test(tcase, xsavec_is_compact);
    tcase_add_test(tcase, xsave_faults);
    tcase_add_test(tcase, xsetbv_checks);
    tcase_add_test(tcase, pkru_is_a_component);
    tcase_add_test(tcase, fnsave_in_both_sizes);
    tcase_add_test(tcase, pending_exception_is_reported_first);
    suite_add_tcase(suite, tcase);
    return fx_main(suite);
}
