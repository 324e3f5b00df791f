/*
 * AVX-512 in several processes at once, under a timer's signals: prints a digest, which must be the same on every machine.
 *
 * Whatever saves and restores vector state around it (the guest's kernel on signals and switches between processes, the monitor when it leaves
 * translated code) would change the digest by losing any of it.  Ends with status 77 where there is no AVX-512.
 */
#include <immintrin.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512cd")))
#define PROCESSES 3
#define ROUNDS 20000
#define WORDS 1024

static uint32_t words[WORDS + 64];
static volatile unsigned signals;

/* A handler with vector state of its own: the kernel must bring back ours. */
AVX512 static void on_timer(int signal)
{
    (void)signal;
    __asm__ volatile("vpternlogd $255, %%zmm0, %%zmm0, %%zmm0; vpternlogd $255, %%zmm31, %%zmm31, %%zmm31; kxnorq %%k1, %%k1, %%k1; kxnorq %%k7, %%k7, %%k7"
                     : : : "xmm0");
    signals++;
}

AVX512 static uint64_t mix(uint64_t digest, __m512i v)
{
    uint64_t lane[8];
    _mm512_storeu_si512(lane, v);
    for (unsigned i = 0; i < 8; i++)
        digest = (digest ^ lane[i]) * 0x100000001b3u;
    return digest;
}

/* One pass over the words: masked arithmetic, compress and expand, gathers and scatters, conversions, at every alignment. */
AVX512 static uint64_t pass(unsigned round)
{
    uint64_t digest = 0xcbf29ce484222325u + round;
    __m512i sum = _mm512_set1_epi32((int)round);
    __m512d product = _mm512_set1_pd(1.0 + round / 1024.0);
    for (unsigned i = 0; i + 16 <= WORDS; i += 13) {
        __m512i v = _mm512_loadu_si512((const char *)(words + i) + round % 4);
        __mmask16 odd = _mm512_test_epi32_mask(v, _mm512_set1_epi32(1)), less = _mm512_cmplt_epu32_mask(v, sum);
        sum = _mm512_mask_add_epi32(sum, odd, sum, v);
        sum = _mm512_mask_rol_epi32(sum, less, sum, 7);
        _mm512_mask_compressstoreu_epi32(words + i, (__mmask16)(odd & ~less), sum);
        __m512i spread = _mm512_maskz_expandloadu_epi32((__mmask16)(odd | less), words + i / 2);
        __m512i index = _mm512_and_si512(spread, _mm512_set1_epi32(WORDS - 1));
        __m512i far = _mm512_mask_i32gather_epi32(v, less, index, words, 4);
        if (round % 5 == 0)
            _mm512_mask_i32scatter_epi32(words, odd, index, far, 4);
        product = _mm512_mask_mul_pd(product, (__mmask8)odd, product, _mm512_cvtepi32_pd(_mm512_castsi512_si256(_mm512_srli_epi32(far, 20))));
        product = _mm512_mask_add_pd(product, _mm512_cmp_pd_mask(product, _mm512_set1_pd(1e100), _CMP_GT_OQ), _mm512_set1_pd(3.5), _mm512_set1_pd(i));
        sum = _mm512_xor_si512(sum, _mm512_conflict_epi32(index));
        __m256i narrow = _mm512_cvtepi32_epi16(sum);
        sum = _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), sum, _mm512_cvtepi16_epi32(narrow));
    }
    return mix(mix(digest, sum), _mm512_castpd_si512(product));
}

int main(void)
{
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512cd"))
        return 77;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned p = 0; p < PROCESSES; p++) {
        if (fork())
            continue;
        struct sigaction action = {.sa_handler = on_timer};
        struct itimerval every = {{0, 1000}, {0, 1000}};
        uint64_t digest = p;
        for (unsigned i = 0; i < WORDS + 64; i++)
            words[i] = (i + p) * 2654435761u ^ i << 7;
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &every, NULL);
        for (unsigned round = 0; round < ROUNDS; round++)
            digest = digest * 31 + pass(round);
        every = (struct itimerval){{0, 0}, {0, 0}}; /* a signal would end a write to a terminal that is slow */
        setitimer(ITIMER_REAL, &every, NULL);
        bool written = printf("vector %u %016llx\n", p, (unsigned long long)digest) > 0;
        _exit(!written || signals == 0); /* a timer that never came would prove little */
    }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= !WIFEXITED(status) || WEXITSTATUS(status);
    return failed;
}
