#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/ram.h"

#define MIB ((uint64_t)1 << 20)

START_TEST(layout_leaves_the_vga_hole)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Ram) ram = ram_new(16 * MIB, &error);
    ck_assert_ptr_nonnull(ram);
    ck_assert_uint_eq(ram->nslots, 2);
    ck_assert_uint_eq(ram->size_bytes, 16 * MIB);
    ck_assert_uint_eq((uintptr_t)ram->slot[0].host % (2 * MIB), 0);
    ck_assert_ptr_nonnull(ram_slice(ram, 0x9ffff, 1));
    ck_assert_ptr_null(ram_slice(ram, 0x9ffff, 2));
    ck_assert_ptr_null(ram_slice(ram, 0xa0000, 1));
    ck_assert_ptr_eq(ram_slice(ram, 0xc0000, 4), ram->slot[0].host + 0xc0000);
    ck_assert_ptr_null(ram_slice(ram, 16 * MIB, 1));
    ck_assert_ptr_null(ram_slice(ram, 16 * MIB - 4, 5));
    ck_assert_ptr_null(ram_slice(ram, 0x1000, UINT64_MAX));
    memset(ram_slice(ram, 16 * MIB - 4096, 4096), 0x55, 4096);
}
END_TEST

static const struct {
    const char *name;
    uint64_t size;
    const char *message;
} refused[] = {
    { "nothing", 0, "-m" },
    { "not whole MiB", MIB + 4096, "-m" },
    { "more than the host has", (uint64_t)1 << 45, "smaller -m" },
    { "absurd", ~(MIB - 1), "smaller -m" },
};

START_TEST(sizes_refused)
{
    g_autoptr(GError) error = NULL;
    ck_assert_msg(ram_new(refused[_i].size, &error) == NULL, "%s", refused[_i].name);
    ck_assert_msg(g_error_matches(error, VMM_ERROR, VMM_ERROR_USAGE), "%s", refused[_i].name);
    ck_assert_msg(strstr(error->message, refused[_i].message) != NULL, "%s: %s", refused[_i].name, error->message);
}
END_TEST

START_TEST(rom_is_its_own_slot)
{
    g_autoptr(Ram) ram = ram_new(2 * MIB, NULL);
    uint8_t *rom = ram_add_rom(ram, 0xfffc0000, 0x40000);
    rom[0x3fff0] = 0xea;
    ck_assert_uint_eq(*(uint8_t *)ram_slice(ram, 0xfffffff0, 16), 0xea);
    ck_assert_ptr_null(ram_slice(ram, 0xfffffff0, 17));
    ck_assert(ram_find(ram, 0xfffff000)->is_rom);
    ck_assert(!ram_find(ram, 0x1000)->is_rom);
    ck_assert_uint_eq(ram->size_bytes, 2 * MIB);
}
END_TEST

static void note_write(void *opaque, Gpa start, uint64_t size)
{
    *(Gpa *)opaque = start + size;
}

START_TEST(array_and_written)
{
    static uint8_t memory[8192] __attribute__((aligned(4096)));
    g_autoptr(Ram) ram = ram_new_array(memory, sizeof(memory));
    ck_assert_ptr_eq(ram_slice(ram, 4096, 4096), memory + 4096);
    Gpa end = 0;
    ram_wrote(ram, 1, 2);
    Gpa other = 0;
    RamListener first = { .written = note_write, .opaque = &end }, second = { .written = note_write, .opaque = &other };
    ram_listen(ram, &first);
    ram_listen(ram, &second);
    ram_wrote(ram, 0x100, 0x20);
    ck_assert_uint_eq(end, 0x120);
    ck_assert_uint_eq(other, 0x120);
    ram_unlisten(ram, &first);
    ram_wrote(ram, 0x200, 0x20);
    ck_assert_uint_eq(end, 0x120);
    ck_assert_uint_eq(other, 0x220);
    ram_unlisten(ram, &second);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ram");
    TCase *tcase = tcase_create("ram");
    tcase_add_test(tcase, layout_leaves_the_vga_hole);
    tcase_add_loop_test(tcase, sizes_refused, 0, G_N_ELEMENTS(refused));
    tcase_add_test(tcase, rom_is_its_own_slot);
    tcase_add_test(tcase, array_and_written);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
