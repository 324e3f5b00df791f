/*
 * Inputs without libFuzzer: seeds and what random changes make of them, the same for the same numbers on every host.
 *
 * usage: fuzz-NAME [--count N] [--first N] [--seed S]     runs inputs first … first + count - 1
 *        fuzz-NAME --write-seeds DIR                      the seeds as files, for libFuzzer
 *        fuzz-NAME FILE…                                  runs these, as libFuzzer does; for what it found
 */
#include "fuzz.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

static uint64_t next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* One change: a bit, a byte, an interesting number, a piece out, a piece twice, a piece of another seed. */
static void change(GByteArray *input, uint64_t *s, const FuzzSeed *other)
{
    static const uint32_t numbers[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffff000, '"', '{', ',', '=' };
    guint at = input->len ? (guint)(next(s) % input->len) : 0, left = input->len - at;
    guint width = 1u << (next(s) % 3), piece = 1 + (guint)(next(s) % 64);
    piece = MIN(piece, left);
    switch (input->len ? next(s) % 7 : 6) {
    case 0:
        input->data[at] ^= (uint8_t)(1u << (next(s) % 8));
        break;
    case 1:
        input->data[at] = (uint8_t)next(s);
        break;
    case 2: {
        uint32_t number = numbers[next(s) % G_N_ELEMENTS(numbers)];
        memcpy(input->data + at, &number, MIN(left, width));
        break;
    }
    case 3:
        g_byte_array_remove_range(input, at, piece);
        break;
    case 4:
        g_byte_array_set_size(input, at);
        break;
    case 5: {
        g_autofree uint8_t *copy = g_memdup2(input->data + at, piece);
        g_byte_array_append(input, copy, piece);
        break;
    }
    default: {
        gsize start = next(s) % other->size, size = 1 + next(s) % 256;
        g_byte_array_append(input, (const guint8 *)other->bytes + start, (guint)MIN(other->size - start, size));
        break;
    }
    }
    if (input->len > FUZZ_INPUT_MAX)
        g_byte_array_set_size(input, FUZZ_INPUT_MAX);
}

static int seeds_write(const char *folder, const FuzzSeed *seeds, size_t nseeds)
{
    g_mkdir_with_parents(folder, 0777);
    for (size_t i = 0; i < nseeds; i++) {
        g_autofree char *name = g_strdup_printf("%s/seed-%02zu", folder, i);
        g_autoptr(GError) error = NULL;
        if (!g_file_set_contents(name, seeds[i].bytes, (gssize)seeds[i].size, &error)) {
            fprintf(stderr, "fuzz: %s\n", error->message);
            return 2;
        }
    }
    return 0;
}

static int files_run(char **names)
{
    for (; *names; names++) {
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;
        gsize size;
        if (!g_file_get_contents(*names, &text, &size, &error)) {
            fprintf(stderr, "fuzz: %s\n", error->message);
            return 2;
        }
        g_autofree uint8_t *exact = g_memdup2(text, size); /* so that a sanitizer sees a read behind the end */
        LLVMFuzzerTestOneInput(exact, size);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int count = 20000, first = 0, seed = 1;
    g_autofree char *folder = NULL;
    GOptionEntry entries[] = {
        { "count", 'n', 0, G_OPTION_ARG_INT, &count, "Inputs", "N" },
        { "first", 'f', 0, G_OPTION_ARG_INT, &first, "Begin with this input", "N" },
        { "seed", 's', 0, G_OPTION_ARG_INT, &seed, "Random seed", "S" },
        { "write-seeds", 0, 0, G_OPTION_ARG_FILENAME, &folder, "Write the seeds into this folder", "DIR" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("[FILE…] - hostile input for one reader");
    g_option_context_add_main_entries(context, entries, NULL);
    g_autoptr(GError) error = NULL;
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "fuzz: %s\n", error->message);
        return 2;
    }
    FuzzSeed seeds[64];
    size_t nseeds = fuzz_seeds(seeds);
    if (folder)
        return seeds_write(folder, seeds, nseeds);
    if (argc > 1)
        return files_run(argv + 1);
    for (int i = first; i - first < count; i++) {
        uint64_t s = ((uint64_t)(uint32_t)seed << 32 | (uint32_t)i) * 0x9e3779b97f4a7c15u | 1;
        const FuzzSeed *from = &seeds[(size_t)i % nseeds];
        g_autoptr(GByteArray) input = g_byte_array_new();
        g_byte_array_append(input, from->bytes, (guint)from->size);
        for (uint64_t n = (size_t)i < nseeds ? 0 : 1 + next(&s) % 8; n; n--)
            change(input, &s, &seeds[next(&s) % nseeds]);
        g_autofree uint8_t *exact = g_memdup2(input->data, input->len);
        LLVMFuzzerTestOneInput(exact, input->len);
    }
    printf("%d inputs\n", count);
    return 0;
}
