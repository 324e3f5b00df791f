/*
 * A fuzz target is one file that defines both of these. It is linked with driver.c, which makes inputs of its own, or by clang with libFuzzer
 * (meson setup -Dfuzzer=libfuzzer with CC=clang), which looks for inputs that reach new code.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MAX 65536u

typedef struct FuzzSeed {
    const void *bytes;
    size_t size;
} FuzzSeed;
#define FUZZ_TEXT(text) { text, sizeof(text) - 1 }

/* fuzz_seeds: well-formed inputs, the first of which mutations begin from; at least one, at most 64, none empty.  Called once. */
size_t fuzz_seeds(FuzzSeed out_seeds[64]);

/* LLVMFuzzerTestOneInput: libFuzzer's name.  Must return 0, keep nothing, and crash or abort when something is wrong. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
