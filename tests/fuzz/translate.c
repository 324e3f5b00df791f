/*
 * Decode and translate whatever bytes come, in every kind of code segment and privilege, and have the verifier look at what was made.  Nothing is
 * executed: guest bytes may be anything, so nothing that is made of them may crash, run out of its room or reach outside.
 *
 * usage: fuzz-translate [--count N] [--first N] [--seed S]     inputs of its own making, by a reproducible seed
 * LLVMFuzzerTestOneInput() is libFuzzer's door, for a build with clang -fsanitize=fuzzer -DFUZZ_NO_MAIN.
 */
#include "../lib/bt-machine.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "bt/translate.h"
#include "bt/verify.h"
#include "core/log.h"

#define INPUT_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint32_t kinds[] = {
    MODE_CODE64 | MODE_CPL0 | MODE_PM, MODE_CODE64 | MODE_USER | MODE_PM, MODE_CODE64 | MODE_CPL0 | MODE_AC | MODE_PM,
    MODE_CODE64 | MODE_USER | MODE_PM | MODE_ALIGN, MODE_CODE64 | MODE_CPL0 | MODE_PM | MODE_NO_FPU, MODE_CODE64 | MODE_USER | MODE_PM | MODE_NO_SSE | MODE_NO_AVX,
    MODE_CODE64 | MODE_CPL0 | MODE_PM | MODE_TF, MODE_CODE64 | MODE_CPL0 | MODE_PM | MODE_DEBUG, MODE_CODE64 | MODE_CPL0 | MODE_PM | MODE_PLAIN,
    MODE_CODE64 | MODE_CPL0 | MODE_PM | MODE_ONE, MODE_CODE32 | MODE_STACK32 | MODE_FLAT | MODE_CPL0 | MODE_PM,
    MODE_CODE32 | MODE_STACK32 | MODE_FLAT | MODE_USER | MODE_PM, MODE_CODE32 | MODE_STACK32 | MODE_USER | MODE_PM, MODE_CODE32 | MODE_CPL0 | MODE_PM,
    MODE_CODE32 | MODE_STACK32 | MODE_FLAT | MODE_USER | MODE_PM | MODE_ALIGN, MODE_CPL0, MODE_CPL0 | MODE_FLAT, MODE_V86 | MODE_USER, MODE_PM | MODE_USER,
    MODE_STACK32 | MODE_PM | MODE_CPL0,
};

static void machine_start(void)
{
    log_open(LOG_VERIFY, NULL, NULL);
    bm_setup();
    bm_long();
    bt_cpu_ops.load(&bm->base, &bm_state);
}

/* First byte: the kind of code; second: how far from the end of a page it begins. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!bm)
        machine_start();
    if (size < 3 || size > INPUT_MAX)
        return 0;
    uint32_t mode = kinds[data[0] % G_N_ELEMENTS(kinds)];
    uint64_t rip = BM_CODE + (data[1] & 1 ? PAGE_SIZE - (data[1] >> 1) : 0);
    memcpy(bm_ram + rip, data + 2, size - 2);
    memset(bm_ram + rip + size - 2, 0xf4, 16);
    cache_flush(bm->bt, bm);
    for (uint64_t at = rip, end = rip + size - 2; at < end;) {
        if (!cache_has_room(bm->bt))
            cache_flush(bm->bt, bm);
        BtBlock *block = bt_translate(bm, at, mode);
        bm->exception_pending = false;
        at += block && block->guest_size ? block->guest_size : 1;
    }
    return 0;
}

#ifndef FUZZ_NO_MAIN
static uint64_t next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* Prefixes and escapes come more often than chance would have them; some inputs repeat a few instructions, for groups and guesses. */
static size_t input_make(uint64_t *s, uint8_t *out)
{
    static const uint8_t heads[] = { 0x0f, 0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x4c, 0x41, 0x45, 0xc4, 0xc5, 0x62, 0x67, 0x64, 0x65, 0x2e, 0x8b, 0x89, 0xff, 0xf7 };
    size_t size = 3 + next(s) % (INPUT_MAX - 3);
    unsigned mask = (unsigned)(next(s) % 4);
    for (size_t i = 0; i < size; i++) {
        uint64_t r = next(s);
        out[i] = mask && r % 8 < mask ? heads[(r >> 8) % sizeof heads] : (uint8_t)(r >> 16);
    }
    if (next(s) % 3 == 0)
        for (size_t piece = 2 + next(s) % 24, i = 2 + piece; i < size; i++)
            if (next(s) % 64)
                out[i] = out[i - piece];
    return size;
}

int main(int argc, char **argv)
{
    int count = 20000, first = 0, seed = 1;
    GOptionEntry entries[] = {
        { "count", 'n', 0, G_OPTION_ARG_INT, &count, "Inputs", "N" },
        { "first", 'f', 0, G_OPTION_ARG_INT, &first, "Begin with this input", "N" },
        { "seed", 's', 0, G_OPTION_ARG_INT, &seed, "Random seed", "S" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- translate random bytes and verify what is made of them");
    g_option_context_add_main_entries(context, entries, NULL);
    g_autoptr(GError) error = NULL;
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "fuzz-translate: %s\n", error->message);
        return 2;
    }
    machine_start();
    for (int i = first; i - first < count; i++) {
        uint8_t input[INPUT_MAX];
        uint64_t s = ((uint64_t)(uint32_t)seed << 32 | (uint32_t)i) * 0x9e3779b97f4a7c15u | 1;
        next(&s);
        size_t size = input_make(&s, input);
        if (count == 1)
            for (size_t k = 0; k < size; k++)
                printf("%02x%s", input[k], k + 1 < size ? " " : "\n");
        LLVMFuzzerTestOneInput(input, size);
    }
    uint64_t blocks = bm->bt->stat_verified, insns = bm->bt->stat_insns;
    bm_teardown();
    printf("%d inputs, %" G_GUINT64_FORMAT " blocks, %" G_GUINT64_FORMAT " instructions\n", count, blocks, insns);
    return blocks == 0;
}
#endif
