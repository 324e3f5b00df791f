/* Saving a board of chips and loading it into another one: from then on both answer alike, whatever is done to them.  And what a forged
 * state can do: nothing worse than a guest could. */
#include "random-board.h"

#include <stdlib.h>
#include <string.h>

#include "core/sections.h"

#define NSTEPS 4000
#define NSEEDS 60

typedef struct Part {
    const StateOps *ops;
    void *device;
} Part;

static unsigned parts_of(RandomBoard *b, Part out_parts[32])
{
    const Part parts[] = {
        {&i8259_state, b->pic}, {&ioapic_state, b->ioapic}, {&i8254_state, b->pit}, {&mc146818_state, b->rtc}, {&i8042_state, b->kbc},
        {&hpet_state, b->hpet}, {&acpi_pm_state, b->pm}, {&fw_cfg_state, b->fw}, {&ns16550_state, b->uart}, {&lapic_state, b->lapic},
        {&virtio_pci_state, b->rng_pci}, {&virtio_pci_state, b->console_pci},
    };
    unsigned count = G_N_ELEMENTS(parts);
    memcpy(out_parts, parts, sizeof parts);
    for (unsigned devfn = 0; devfn < 256; devfn++)
        if (pci_bus_device(b->pci, (uint8_t)devfn))
            out_parts[count++] = (Part){&pci_device_state, pci_bus_device(b->pci, (uint8_t)devfn)};
    out_parts[count++] = (Part){&pci_bus_state, b->pci};
    return count;
}

static void run(RandomBoard *board, GRand *rand, unsigned nsteps)
{
    for (unsigned i = 0; i < nsteps; i++)
        random_board_step(board, rand);
}

static void used_board(RandomBoard *board, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    random_board_build(board);
    run(board, rand, NSTEPS);
}

/* What lies outside the chips. */
static void surroundings_copy(RandomBoard *to, const RandomBoard *from)
{
    clock_set(to->script.clock, clock_now_ns(from->script.clock));
    memcpy(to->ram->slot[0].host, from->ram->slot[0].host, RANDOM_BOARD_RAM);
}

START_TEST(test_goes_on_alike)
{
    RandomBoard first, second;
    used_board(&first, (guint32)_i + 1000);
    used_board(&second, (guint32)_i + 2000); /* not fresh: nothing of what it was may be left */
    g_autoptr(GOutputStream) out = g_memory_output_stream_new_resizable();
    g_autoptr(SectionWriter) writer = section_writer_new(out, NULL);
    Part part[32];
    unsigned nparts = parts_of(&first, part);
    for (unsigned i = 0; i < nparts; i++)
        ck_assert(section_write_state(writer, part[i].ops, (int)i, part[i].device, NULL));
    ck_assert(section_write_end(writer, NULL));
    ck_assert(g_output_stream_close(out, NULL, NULL));

    g_autoptr(GBytes) bytes = g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(out));
    g_autoptr(GInputStream) in = g_memory_input_stream_new_from_bytes(bytes);
    g_autoptr(SectionReader) reader = section_reader_new(in, NULL);
    surroundings_copy(&second, &first);
    ck_assert_uint_eq(parts_of(&second, part), nparts);
    for (unsigned i = 0; i < nparts; i++) {
        Section section;
        g_autoptr(GError) error = NULL;
        ck_assert(section_read(reader, &section, &error));
        ck_assert_msg(section_load_state(&section, part[i].ops, part[i].device, &error), "%s", error ? error->message : "");
    }

    RandomBoard *boards[] = {&first, &second};
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
        boards[i]->answers = g_string_new(NULL);
        boards[i]->nirqs = 0;
        run(boards[i], rand, NSTEPS);
    }
    const char *a = first.answers->str, *b = second.answers->str;
    size_t same = 0, line = 0;
    for (; a[same] && a[same] == b[same]; same++)
        if (a[same] == '\n')
            line = same + 1;
    ck_assert_msg(a[same] == b[same], "seed %d: saved %.40s, loaded %.40s", _i, a + line, b + line);
    ck_assert_uint_eq(first.nirqs, second.nirqs);
    for (unsigned i = 0; i < 2; i++) {
        g_string_free(boards[i]->answers, TRUE);
        random_board_clear(boards[i]);
    }
}
END_TEST

/* Flips bits in each chip's state and puts extreme numbers into it; the chips refuse it or can live with it. */
START_TEST(test_forged)
{
    RandomBoard board;
    used_board(&board, (guint32)_i + 5000);
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
    Part part[32];
    unsigned nparts = parts_of(&board, part), nrefused = 0;
    for (unsigned round = 0; round < 40; round++) {
        const Part *victim = &part[g_rand_int_range(rand, 0, (gint32)nparts)];
        g_autoptr(Stream) saved = stream_new_save();
        victim->ops->visit(victim->device, saved);
        size_t size;
        const uint8_t *bytes = stream_saved(saved, &size);
        g_autofree uint8_t *forged = g_memdup2(bytes, size);
        for (int n = g_rand_int_range(rand, 1, 8); n; n--) {
            size_t at = g_rand_int(rand) % size, length = MIN(size - at, 8u);
            switch (g_rand_int_range(rand, 0, 3)) {
            case 0:
                forged[at] ^= (uint8_t)(1u << g_rand_int_range(rand, 0, 8));
                break;
            case 1:
                memset(forged + at, g_rand_int_range(rand, 0, 2) ? 0xff : 0x7f, length);
                break;
            default:
                forged[at] = (uint8_t)g_rand_int(rand);
                break;
            }
        }
        if (g_rand_int_range(rand, 0, 8) == 0)
            size = g_rand_int(rand) % size;
        g_autoptr(Stream) stream = stream_new_load("forged", victim->ops->version, forged, size);
        victim->ops->visit(victim->device, stream);
        g_autoptr(GError) error = NULL;
        if (!stream_finish(stream, &error)) {
            nrefused++;
            ck_assert_ptr_nonnull(strstr(error->message, "section \"forged\": "));
            /* As a machine does then: what was there before comes back. */
            g_autoptr(Stream) back = stream_new_load("saved", victim->ops->version, bytes, stream_saved(saved, &size) ? size : 0);
            victim->ops->visit(victim->device, back);
            g_clear_error(&error);
            ck_assert_msg(stream_finish(back, &error), "%s: %s", victim->ops->name, error->message);
        }
        run(&board, rand, 100);
    }
    board.nirqs = 0;
    clock_fake_advance(board.script.clock, 1000000000);
    ck_assert_msg(board.nirqs < 200000, "seed %d: %u line changes in a second", _i, board.nirqs);
    ck_assert_uint_gt(nrefused, 0);
    random_board_clear(&board);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("saved-state");
    TCase *alike = tcase_create("alike"), *forged = tcase_create("forged");
    tcase_set_timeout(alike, 60);
    tcase_set_timeout(forged, 60);
    tcase_add_loop_test(alike, test_goes_on_alike, 0, NSEEDS);
    tcase_add_loop_test(forged, test_forged, 0, NSEEDS);
    suite_add_tcase(suite, alike);
    suite_add_tcase(suite, forged);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int nfailed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return nfailed ? EXIT_FAILURE : EXIT_SUCCESS;
}
