/* A guest that aims at every boundary gets the fault of the manual, or memory that is its own; what is beside its RAM stays as it was
 * (bm_teardown() looks). */
#include "../../lib/bt-check.h"

#define ENDED(name, text) GUEST(name, text "\nhlt")

ENDED(load1, "mov al, [rbx]");
ENDED(load8, "mov rax, [rbx]");
ENDED(store8, "mov [rbx], rax");
ENDED(store_far, "mov [rbx + 0x7fffffff], rax");
ENDED(store_back, "mov [rbx - 0x80000000], rax");
ENDED(add8, "lock add [rbx], rax");
ENDED(pair, "mov rax, [rbx]\nmov [rbx + 8], rax\nmov [rbx + 16], rax");
ENDED(vector32, "vmovdqu ymm0, [rbx]\nvmovdqu [rbx], ymm0");
ENDED(aligned, "movaps xmm0, [rbx]");
ENDED(wide, "cmpxchg16b [rbx]");
ENDED(bits, "mov rax, 0x7fffffffffffffff\nbts [rbx], rax");
ENDED(bits_back, "mov rax, -0x8000000000000000\nbts [rbx], rax");
ENDED(x87, "fnstenv [rbx]");
ENDED(fxsave, "fxsave [rbx]");
ENDED(xsave, "mov eax, 7\nxor edx, edx\nxsave [rbx]");
ENDED(xrstor, "mov eax, 7\nxor edx, edx\nxrstor [rbx]");
ENDED(gather, "vpcmpeqd ymm1, ymm1, ymm1\nvpxor ymm2, ymm2, ymm2\nvpgatherqq ymm0, [rbx + ymm2 * 8], ymm1");
ENDED(gather_far, "vpcmpeqd ymm1, ymm1, ymm1\nvpsrlq ymm2, ymm1, 1\nvpgatherqq ymm0, [rbx + ymm2 * 1], ymm1");
ENDED(masked, "vpcmpeqd ymm1, ymm1, ymm1\nvpmaskmovd [rbx], ymm1, ymm1");
ENDED(scatter_bytes, "mov rdi, rbx\npcmpeqd xmm0, xmm0\nmaskmovdqu xmm0, xmm0");
ENDED(movs, "mov rsi, rbx\nmov rdi, 0x200000\nmov ecx, 0x3000\nrep movsb");
ENDED(movs_to, "mov rdi, rbx\nmov rsi, 0x200000\nmov ecx, 0x3000\nrep movsq");
ENDED(movs_down, "std\nmov rdi, rbx\nmov rsi, 0x210000\nmov ecx, 0x3000\nrep movsb");
ENDED(movs_both, "mov rsi, rbx\nmov rdi, 0x8000000000000000\nmovsb");
ENDED(stos, "mov rdi, rbx\nmov rcx, -1\nrep stosd");
ENDED(push, "mov rsp, rbx\npush rax");
ENDED(pop, "mov rsp, rbx\npop rax");
ENDED(enter, "mov rsp, rbx\nenter 0x100, 3");
ENDED(call, "mov rsp, rbx\ncall 1f\n1:");
ENDED(jump, "jmp rbx");
ENDED(ret, "push rbx\nret");
ENDED(load_table, "lgdt [rbx]");

#define LOW_END 0x800000u           /* the first page that is not mapped; below it is the device's */
#define HOLE_LOW 0x800000000000u    /* first address that is not canonical */
#define HOLE_HIGH 0xffff800000000000u
#define NOWHERE 0x600000u           /* mapped to where there is no RAM */
#define READ_ONLY 0x601000u
#define TOP 0x602000u               /* the last page of RAM, then one of ROM that does not exist */
#define NONE (-1)

static const struct {
    const char *name;
    const uint8_t *code, *end;
    uint64_t rbx;
    int vector;
    uint64_t cr2;
} rows[] = {
#define ROW(name, at, ...) { #name " at " #at, name, name##_end, at, __VA_ARGS__ }
    ROW(load8, HOLE_LOW - 8, 14, HOLE_LOW - 8), ROW(load8, HOLE_LOW - 7, 13), ROW(load8, HOLE_LOW, 13), ROW(load1, HOLE_HIGH - 1, 13),
    ROW(load8, HOLE_HIGH - 1, 13), ROW(load8, HOLE_HIGH, 14, HOLE_HIGH), ROW(store8, HOLE_LOW - 1, 13), ROW(load1, UINT64_MAX, 14, UINT64_MAX),
    ROW(load8, UINT64_MAX - 3, 14, UINT64_MAX - 3), ROW(store8, UINT64_MAX - 7, 14, UINT64_MAX - 7), ROW(store_far, LOW_END, 14, 0x807fffffull),
    ROW(store_far, HOLE_LOW - 0x7fffffff, 13), ROW(store_back, BM_DATA, 14, BM_DATA - 0x80000000ull), ROW(store_back, HOLE_HIGH, 13),
    ROW(load8, LOW_END - 8, NONE), ROW(load8, LOW_END - 4, 14, LOW_END), ROW(store8, LOW_END - 4, 14, LOW_END), ROW(load1, LOW_END, 14, LOW_END),
    ROW(store8, BM_DEVICE - 4, NONE), ROW(load8, BM_DEVICE - 4, NONE), ROW(vector32, BM_DEVICE - 16, NONE), ROW(vector32, LOW_END - 31, 14, LOW_END),
    ROW(vector32, HOLE_LOW - 31, 13), ROW(pair, LOW_END - 16, 14, LOW_END), ROW(pair, HOLE_LOW - 24, 14, HOLE_LOW - 24), ROW(pair, BM_DEVICE - 8, NONE),
    ROW(add8, BM_DEVICE - 4, NONE), ROW(add8, LOW_END - 4, 14, LOW_END), ROW(aligned, BM_DATA + 8, 13), ROW(aligned, LOW_END, 14, LOW_END),
    ROW(wide, BM_DATA + 8, 13), ROW(wide, LOW_END, 14, LOW_END), ROW(bits, BM_DATA, 13), ROW(bits_back, BM_DATA, 13),
    ROW(x87, LOW_END - 27, 14, LOW_END), ROW(fxsave, LOW_END - 16, 14, LOW_END), ROW(fxsave, BM_DATA + 8, 13), ROW(xsave, LOW_END - 64, 14, LOW_END),
    ROW(xsave, BM_DATA + 32, 13), ROW(xsave, HOLE_LOW - 64, 13), ROW(xrstor, LOW_END - 64, 14, LOW_END), ROW(xrstor, HOLE_HIGH - 64, 13),
    ROW(gather, LOW_END - 4, 14, LOW_END), ROW(gather, HOLE_LOW, 13), ROW(gather_far, BM_DATA, 13), ROW(masked, LOW_END - 28, 14, LOW_END),
    ROW(scatter_bytes, LOW_END - 8, 14, LOW_END), ROW(movs, LOW_END - 0x100, 14, LOW_END), ROW(movs, HOLE_LOW - 0x100, 14, HOLE_LOW - 0x100),
    ROW(movs_to, LOW_END - 0x804, 14, LOW_END), ROW(movs_to, HOLE_LOW, 13), ROW(movs_down, 5, 14, UINT64_MAX), ROW(movs_both, LOW_END, 14, LOW_END),
    ROW(stos, 0x700000, 14, LOW_END), ROW(stos, UINT64_MAX - 1, 14, UINT64_MAX - 1), ROW(push, 0, 14, UINT64_MAX - 7), ROW(push, HOLE_LOW + 8, 12),
    ROW(push, HOLE_LOW, 14, HOLE_LOW - 8), ROW(push, LOW_END + 4, 14, LOW_END), ROW(pop, HOLE_LOW - 4, 12), ROW(pop, LOW_END - 4, 14, LOW_END),
    ROW(enter, HOLE_LOW + 8, 12), ROW(call, HOLE_LOW + 8, 12), ROW(call, LOW_END + 4, 14, LOW_END), ROW(jump, HOLE_LOW, 13), ROW(jump, LOW_END, 14, LOW_END),
    ROW(jump, HOLE_LOW - 1, 14, HOLE_LOW - 1), ROW(ret, HOLE_HIGH - 1, 13), ROW(jump, UINT64_MAX, 14, UINT64_MAX), ROW(load_table, LOW_END - 9, 14, LOW_END),
    ROW(load_table, HOLE_LOW - 9, 13), ROW(load8, NOWHERE, NONE), ROW(store8, NOWHERE, NONE), ROW(store8, NOWHERE - 4, NONE), ROW(store8, NOWHERE + 0xffc, 14, READ_ONLY),
    ROW(load8, READ_ONLY, NONE), ROW(store8, READ_ONLY, 14, READ_ONLY), ROW(xsave, READ_ONLY, 14, READ_ONLY), ROW(store8, TOP + 0xff8, NONE),
    ROW(vector32, TOP + 0xff0, NONE), ROW(movs_to, TOP, 14, 0x604000), ROW(stos, TOP + 0xffc, 14, 0x604000),
#undef ROW
};

static void setup(void)
{
    bm_setup();
    bm_long();
    *bm_pte(NOWHERE) = 0x40000000 | 3; /* no RAM, no device of the test's */
    *bm_pte(READ_ONLY) = 0x500000 | 1;
    *bm_pte(TOP) = (BM_RAM_SIZE - 0x1000) | 3;
    *bm_pte(TOP + 0x1000) = BM_RAM_SIZE | 3; /* behind RAM */
    *bm_pte(TOP + 0x2000) = 0;
}

/* Once as it comes, and once more with TLB and translations warm. */
START_TEST(boundary_is_kept)
{
    bm_code(BM_CODE, rows[_i].code, (size_t)(rows[_i].end - rows[_i].code));
    for (unsigned round = 0; round < 3; round++) {
        bm_long();
        bm_state.gpr[X86_RBX] = rows[_i].rbx;
        bm_state.gpr[X86_RAX] = 0x5a5a5a5a5a5a5a5a;
        BmStop stop = bm_run();
        ck_assert_msg(stop.exit == CPU_EXIT_HALT && stop.vector == rows[_i].vector, "%s, round %u: exit %d, vector %d at %llx, CR2 %llx", rows[_i].name,
                      round, stop.exit, stop.vector, (unsigned long long)stop.rip, (unsigned long long)bm_state.cr2);
        if (stop.vector == 14)
            ck_assert_msg(bm_state.cr2 == rows[_i].cr2, "%s: CR2 %llx", rows[_i].name, (unsigned long long)bm_state.cr2);
    }
}
END_TEST

/* A gather that faults after its first element: that one is loaded.  VEX: the rest of the register stays, whatever its length; EVEX: what is above
 * the vector goes with the first element (measured on Zen 5; SDM 2C VPGATHERDD leaves it open). */
#define PART "vpternlogd zmm0, zmm0, zmm0, 0xff\nvpcmpeqd ymm1, ymm1, ymm1\nkxnorw k1, k1, k1\nmov eax, 0x1000\nvpxor xmm3, xmm3, xmm3\n"
GUEST(part_vex, PART "vpbroadcastd ymm2, eax\nvpblendd ymm2, ymm2, ymm3, 1\nvpgatherdd xmm0, [rbx + xmm2], xmm1");
GUEST(part_evex, PART "vpbroadcastq ymm2, rax\nvpblendd ymm2, ymm2, ymm3, 3\nvpgatherqd xmm0{k1}, [rbx + xmm2]");

static void part_run(const uint8_t *code, const uint8_t *end, uint8_t out[64])
{
    bm_code(BM_CODE, code, (size_t)(end - code));
    bm_long();
    bm_state.xcr0 = 0xe7;
    bm_state.gpr[X86_RBX] = BM_DATA;
    BmStop stop = bm_run();
    ck_assert_int_eq(stop.vector, 14);
    ck_assert_uint_eq(bm_state.cr2, BM_DATA + 0x1000);
    memcpy(out, bm_state.xsave + 160, 16);
    memcpy(out + 16, bm_state.xsave + 576, 16);
    memcpy(out + 32, bm_state.xsave + bm->xsave_at[6], 32);
}

START_TEST(gather_in_part)
{
    if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw"))
        return;
    uint8_t wanted[64], got[64];
    CpuidModel *model = (CpuidModel *)bm->cpuid;
    bm_teardown();
    model->xcr0_mask = 0xe7; /* a vCPU of another model: what it saves and restores is fixed when it is made */
    setup();
    *bm_pte(BM_DATA + 0x1000) = 0;
    memset(bm_ram + BM_DATA, 0x22, 4);
    memset(wanted, 0xff, 64);
    memset(wanted, 0x22, 4);
    if (_i == 0) {
        part_run(part_vex, part_vex_end, got);
    } else {
        memset(wanted + 16, 0, 48);
        part_run(part_evex, part_evex_end, got);
    }
    ck_assert_mem_eq(got, wanted, 64);
    model->xcr0_mask = 7;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("boundary");
    TCase *tc = tcase_create("boundary");
    tcase_add_checked_fixture(tc, setup, bm_teardown);
    tcase_add_loop_test(tc, boundary_is_kept, 0, (int)(sizeof rows / sizeof rows[0]));
    tcase_add_loop_test(tc, gather_in_part, 0, 2);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
