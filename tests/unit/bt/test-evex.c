/* AVX-512 programs run on the host itself and in a vCPU, every translation verified, and must leave the same bytes: masks above all. */
#include "../../lib/bt-check.h"

#include <sys/mman.h>

#include "core/log.h"

#define DATA_SIZE 0x4000u /* two pages, one that is not there, one */
#define HOLE 0x2000u

/* RBX: data; vector and mask registers are zero; all else is the program's.  The last byte is HLT, a RET natively. */
#define ZERO                                                                                                                              \
    "vzeroall\n.irp r, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\nvpxord zmm\\r, zmm\\r, zmm\\r\n.endr\n"           \
    ".irp r, 0, 1, 2, 3, 4, 5, 6, 7\nkxorq k\\r, k\\r, k\\r\n.endr\n"
#define PROGRAM(name, text) GUEST(name, ZERO text "\nhlt")

PROGRAM(masked_moves, "mov rsi, 0x5a5a5a5a5a5a5a5a\nmov edi, 9\n1: kmovq k1, rsi\nvmovdqu8 zmm0{k1}{z}, [rbx + 0x40]\nvmovdqu8 [rbx + 0x1000]{k1}, zmm0\n"
        "kshiftrq k2, k1, 16\nvmovdqu16 zmm1, [rbx + 0x80]\nvmovdqu16 zmm1{k2}, [rbx + 0x101]\nvmovdqu32 [rbx + 0x1101]{k2}, zmm1\nvmovdqa64 zmm30{k2}, zmm1\n"
        "vmovdqu64 ymm30{k1}, [rbx + 0x140]\nvmovups [rbx + 0x1200], zmm30\nrol rsi, 7\nadd rbx, 0x28\ndec edi\njnz 1b");
PROGRAM(compress_expand, "mov esi, 0xb1e5\nkmovd k1, esi\nvmovdqu32 zmm3, [rbx]\nvpcompressd zmm4{k1}{z}, zmm3\nvpcompressd [rbx + 0x1003]{k1}, zmm3\n"
        "vpexpandq zmm5{k1}{z}, [rbx + 0x47]\nvpexpandd zmm6{k1}, zmm4\nvcompresspd [rbx + 0xff9]{k1}, zmm5\nvmovdqu32 [rbx + 0x1100], zmm4\n"
        "vmovdqu32 [rbx + 0x1140], zmm5\nvmovdqu32 [rbx + 0x1180], zmm6");
PROGRAM(broadcasts, "vmovups zmm16, [rbx]\nvaddps zmm17, zmm16, [rbx + 4]{1to16}\nvpaddq zmm18, zmm17, [rbx + 0xffc]{1to8}\nvmulps zmm19, zmm17, zmm16, {rz-sae}\n"
        "vdivpd zmm20, zmm18, zmm16, {ru-sae}\nvsqrtps ymm21, [rbx + 8]{1to8}\nvbroadcasti64x4 zmm22, [rbx + 0xff0]\nvbroadcastf32x4 zmm23, [rbx + 16]\n"
        "vpternlogd zmm22, zmm23, [rbx + 0x24]{1to16}, 0x96\nvmovups [rbx + 0x1000], zmm17\nvmovups [rbx + 0x1040], zmm18\nvmovups [rbx + 0x1080], zmm19\n"
        "vmovups [rbx + 0x10c0], zmm20\nvmovups [rbx + 0x1100], ymm21\nvmovups [rbx + 0x1140], zmm22");
PROGRAM(mask_arithmetic, "mov edi, 40\nxor r9d, r9d\n1: mov rsi, [rbx + rdi*8]\nkmovq k1, rsi\nkmovq k2, [rbx + rdi*8 + 0xfbc]\nkandnq k3, k1, k2\nkxorq k4, k3, k1\n"
        "kunpckdq k5, k4, k3\nkaddq k6, k5, k1\nkortestq k6, k3\nadc r9, 0\nktestq k1, k2\nsetz al\nmovzx eax, al\nlea r9, [r9 + r9*2]\nadd r9, rax\n"
        "kmovq r10, k6\nxor r9, r10\nkmovw [rbx + 0x1000 + rdi*2], k5\ndec edi\njnz 1b\nmov [rbx + 0x1100], r9");
PROGRAM(compares, "vmovdqu32 zmm24, [rbx + 0x11]\nvpcmpud k1, zmm24, [rbx + 0x51], 1\nvpcmpb k2{k1}, zmm24, [rbx + 0xfd1], 6\nvcmpps k3{k1}, zmm24, [rbx + 0x20]{1to16}, 0xd\n"
        "vptestmd k4, zmm24, zmm24\nvpblendmd zmm25{k1}, zmm24, [rbx + 0xfe3]\nvpmovm2b zmm26, k2\nkmovd eax, k3\nkmovd ecx, k4\nmov [rbx + 0x1000], eax\n"
        "mov [rbx + 0x1004], ecx\nvmovdqu32 [rbx + 0x1040], zmm25\nvmovdqu8 [rbx + 0x1080], zmm26\nvpconflictd zmm27, zmm24\nvplzcntd zmm28, zmm27\n"
        "vmovdqu32 [rbx + 0x10c0], zmm28");
PROGRAM(gather_scatter, "mov eax, 0x3c5b\nkmovd k1, eax\nmov eax, 0x7f\nvpbroadcastd zmm1, eax\nvpandd zmm1, zmm1, [rbx]\nvpxord zmm2, zmm2, zmm2\n"
        "vpgatherdd zmm2{k1}, [rbx + zmm1*4 + 0xf00]\nkmovd ecx, k1\nmov eax, 0xa7\nkmovd k2, eax\nvpscatterdq [rbx + ymm1*8 + 0x1003]{k2}, zmm2\n"
        "kmovd edx, k2\nlea ecx, [rcx + rdx + 5]\nmov [rbx + 0x1800], ecx\nvmovdqu32 [rbx + 0x1840], zmm2");
/* Elements on the page that is not there are not selected. */
PROGRAM(suppressed, "mov eax, 0xff\nkmovd k1, eax\nvmovdqu32 zmm0{k1}{z}, [rbx + 0x1fe0]\nvmovdqu32 [rbx + 0x1fd8]{k1}, zmm0\nkxorw k2, k2, k2\n"
        "vmovups zmm1{k2}{z}, [rbx + 0x2010]\nvaddps zmm1{k2}, zmm0, [rbx + 0x2010]\nvmovups [rbx + 0x2010]{k2}, zmm0\nvpaddd zmm2{k2}{z}, zmm0, [rbx + 0x2010]{1to16}\n"
        "vpcompressd [rbx + 0x1ff8]{k2}, zmm0\nmov eax, 0xff00\nkmovd k3, eax\nvmovdqu32 zmm3{k3}{z}, [rbx + 0x2fe0]\nvmovdqu32 [rbx + 0x1000], zmm3\n"
        "vmovdqu32 [rbx + 0x1040], zmm1\nvmovdqu32 [rbx + 0x1080], zmm2");
PROGRAM(conversions, "vcvtdq2ps zmm5, [rbx + 2]\nvcvtps2pd zmm6, [rbx + 0xff4]\nvcvttps2udq zmm7, zmm5, {sae}\nvcvtpd2ps ymm8, zmm6\nvpmovdb [rbx + 0x1005], zmm7\n"
        "vpmovqw [rbx + 0xffb], zmm6\nvpmovsxbd zmm9, [rbx + 9]\nvpmovusqd ymm10, zmm6\nvcvtps2ph [rbx + 0x1040], zmm5, 3\nvmovdqu32 [rbx + 0x1080], zmm7\n"
        "vmovups [rbx + 0x10c0], ymm8\nvmovdqu32 [rbx + 0x1100], zmm9\nvmovdqu32 [rbx + 0x1140], ymm10\nmov eax, [rbx]\nvcvtusi2sd xmm11, xmm11, eax\n"
        "vcvtsd2usi r9, [rbx + 0x38]\nvmovsd [rbx + 0x1180], xmm11\nmov [rbx + 0x1188], r9");
PROGRAM(permutes, "vmovdqu16 zmm12, [rbx + 6]\nvpermw zmm13, zmm12, [rbx + 0xfc6]\nvpermi2d zmm14, zmm12, [rbx + 0x30]\nvpermt2q zmm12, zmm13, [rbx + 0x10]{1to8}\n"
        "valignd zmm15, zmm13, [rbx + 0xff8], 5\nvshufi64x2 zmm16, zmm14, [rbx + 0x80], 0x1b\nvpshufb zmm17, zmm16, [rbx + 0x41]\nvdbpsadbw zmm18, zmm17, zmm16, 0x4e\n"
        "vmovdqu64 [rbx + 0x1000], zmm12\nvmovdqu64 [rbx + 0x1040], zmm15\nvmovdqu64 [rbx + 0x1080], zmm17\nvmovdqu64 [rbx + 0x10c0], zmm18");
/* Shorter vectors clear what is above; legacy SSE and VEX among them. */
PROGRAM(lengths, "vpternlogd zmm0, zmm0, zmm0, 0xff\nvmovdqa64 zmm1, zmm0\nvmovdqa64 zmm2, zmm0\nvmovdqa64 zmm16, zmm0\nvpaddd xmm1, xmm0, [rbx]\npaddd xmm2, xmm1\n"
        "vpaddd ymm16, ymm0, [rbx + 0x21]\nvmovdqu64 [rbx + 0x1000], zmm1\nvmovdqu64 [rbx + 0x1040], zmm2\nvmovdqu64 [rbx + 0x1080], zmm16\nvzeroupper\n"
        "vmovdqu64 [rbx + 0x10c0], zmm0\nvmovdqu64 [rbx + 0x1100], zmm16");
/* State through memory: XSAVEC into an area, everything destroyed, XRSTOR. */
PROGRAM(saved, "lea rsi, [rbx + 0xfff]\nand rsi, -64\nadd rsi, 0x40\nvmovdqu64 [rsi + 0x200], zmm1\nvmovdqu32 zmm0, [rbx]\n"
        "vmovdqu32 zmm29, [rbx + 0x33]\nmov eax, 0x1234\nkmovd k7, eax\nmov eax, 0xe6\nxor edx, edx\nxsavec [rsi]\nvpxord zmm0, zmm0, zmm0\nvpxord zmm29, zmm29, zmm29\n"
        "kxorq k7, k7, k7\nmov eax, 0xe6\nxrstor [rsi]\nkmovd ecx, k7\nmov [rbx + 0x400], ecx\nvmovdqu32 [rbx + 0x440], zmm0\nvmovdqu32 [rbx + 0x480], zmm29");

#define ROW(name) { #name, name, name##_end }
static const struct {
    const char *name;
    const uint8_t *code, *end;
} programs[] = {
    ROW(masked_moves), ROW(compress_expand), ROW(broadcasts), ROW(mask_arithmetic), ROW(compares), ROW(gather_scatter), ROW(suppressed), ROW(conversions),
    ROW(permutes), ROW(lengths), ROW(saved),
};
#undef ROW

static void data_fill(uint8_t *data)
{
    uint32_t x = 12345;
    for (unsigned i = 0; i < DATA_SIZE; i++) {
        x = x * 1664525 + 1013904223;
        if (i / 0x1000 != HOLE / 0x1000)
            data[i] = (uint8_t)(x >> 24);
    }
}

static void run_natively(uint8_t *data, const uint8_t *code, size_t size)
{
    uint8_t *page = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, size);
    page[size - 1] = 0xc3;
    mprotect(page, 0x1000, PROT_READ | PROT_EXEC);
    register uint8_t *at __asm__("r12") = page;
    register uint8_t *base __asm__("r13") = data;
    __asm__ volatile("mov %1, %%rbx; sub $128, %%rsp; call *%0; add $128, %%rsp; vzeroupper"
                     : "+r"(at), "+r"(base) : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r14", "r15", "memory", "cc");
    munmap(page, 0x1000);
}

START_TEST(bytes_are_the_hosts)
{
    size_t size = (size_t)(programs[_i].end - programs[_i].code);
    uint8_t *data = mmap(NULL, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CpuidModel *model = (CpuidModel *)bm->cpuid;
    bm_teardown();
    model->xcr0_mask = 0xe7;
    bm_setup();
    log_open(LOG_VERIFY, NULL, NULL);
    munmap(data + HOLE, 0x1000);
    data_fill(data);
    run_natively(data, programs[_i].code, size);
    *bm_pte(BM_DATA + HOLE) = 0;
    for (unsigned round = 0; round < 2; round++) { /* with the TLB cold and warm */
        bm_long();
        bm_state.xcr0 = 0xe7;
        data_fill(bm_ram + BM_DATA);
        bm_code(BM_CODE, programs[_i].code, size);
        run_to_end();
        for (unsigned i = 0; i < DATA_SIZE; i++)
            if (i / 0x1000 != HOLE / 0x1000)
                ck_assert_msg(bm_ram[BM_DATA + i] == data[i], "%s, round %u: byte %#x is %02x, the host has %02x", programs[_i].name, round, i,
                              bm_ram[BM_DATA + i], data[i]);
    }
    ck_assert_uint_gt(bm->bt->stat_verified, 0);
    model->xcr0_mask = 7;
}
END_TEST

int main(void)
{
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512cd"))
        return 77; /* the host has no AVX-512, so no vCPU does */
    Suite *suite = suite_create("evex");
    TCase *tc = tcase_create("evex");
    tcase_add_checked_fixture(tc, bm_setup, bm_teardown);
    tcase_add_loop_test(tc, bytes_are_the_hosts, 0, (int)G_N_ELEMENTS(programs));
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
