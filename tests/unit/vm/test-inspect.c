#include "vm/inspect.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "x86/pte.h"

#define RAM_BYTES (64 * PAGE_SIZE)
static uint8_t memory[RAM_BYTES] __attribute__((aligned(4096)));

static void put(Gpa table, unsigned index, unsigned bytes, uint64_t entry) { memcpy(memory + table + index * bytes, &entry, bytes); }

/* One guest of each format maps 0x7000 at a high address, writable for the kernel only, and a large page. */
static X86State long_guest(void)
{
    put(0x1000, 511, 8, 0x2000 | PTE_P | PTE_RW | PTE_US);
    put(0x2000, 510, 8, 0x3000 | PTE_P | PTE_RW);
    put(0x3000, 0, 8, 0x4000 | PTE_P | PTE_RW | PTE_NX);
    put(0x3000, 1, 8, 0x200000 | PTE_P | PTE_PS);
    put(0x4000, 5, 8, 0x7000 | PTE_P | PTE_RW | PTE_US);
    return (X86State){ .cr0 = X86_CR0_PG | X86_CR0_PE, .cr3 = 0x1000, .cr4 = X86_CR4_PAE, .efer = X86_EFER_LME | X86_EFER_LMA };
}

static X86State pae_guest(void)
{
    put(0x2000, 511, 8, 0x3000 | PTE_P | PTE_RW | PTE_US);
    put(0x3000, 5, 8, 0x7000 | PTE_P | PTE_RW);
    return (X86State){ .cr0 = X86_CR0_PG | X86_CR0_PE, .cr4 = X86_CR4_PAE, .pdptr = { 0, 0, 0, 0x2000 | PTE_P } };
}

static X86State legacy_guest(void)
{
    put(0x1000, 1023, 4, 0x3000 | PTE_P | PTE_RW | PTE_US);
    put(0x1000, 1, 4, 0x400000 | PTE_P | PTE_PS | 1u << 13);
    put(0x3000, 5, 4, 0x7000 | PTE_P | PTE_RW);
    return (X86State){ .cr0 = X86_CR0_PG | X86_CR0_PE, .cr3 = 0x1000, .cr4 = X86_CR4_PSE };
}

static const struct {
    const char *name;
    X86State (*guest)(void);
    Gva small, large; /* 0: none */
    Gpa large_gpa;
} guests[] = {
    { "long", long_guest, 0xffffffff80005000, 0xffffffff80200000, 0x200000 },
    { "pae", pae_guest, 0xffe05000, 0, 0 },
    { "legacy", legacy_guest, 0xffc05000, 0x400000, UINT64_C(0x100400000) },
};

static X86State guest_new(int index, Ram **out_ram)
{
    memset(memory, 0, sizeof memory);
    *out_ram = ram_new_array(memory, RAM_BYTES);
    return guests[index].guest();
}

START_TEST(pages_are_found)
{
    g_autoptr(Ram) ram = NULL;
    X86State state = guest_new(_i, &ram);
    Gva small = guests[_i].small, large = guests[_i].large;
    InspectPage page;
    ck_assert_msg(inspect_find(&state, ram, small + 0x123, &page), "%s", guests[_i].name);
    ck_assert_uint_eq(page.gva, small);
    ck_assert_uint_eq(page.gpa, 0x7000);
    ck_assert_uint_eq(page.size, PAGE_SIZE);
    ck_assert_uint_eq(page.entry & (PTE_RW | PTE_US), PTE_RW);
    ck_assert_uint_eq(page.entry & PTE_NX, _i == 0 ? PTE_NX : 0);
    ck_assert(!inspect_find(&state, ram, small + PAGE_SIZE, &page));
    if (large) {
        ck_assert(inspect_find(&state, ram, large + 0x12345, &page));
        ck_assert_uint_eq(page.gpa, guests[_i].large_gpa);
        ck_assert_uint_eq(page.entry & PTE_RW, 0);
    }
    /* Reading does not mark: the tables are as they were. */
    ck_assert_uint_eq(memory[0x4000 + 5 * 8] & PTE_A, 0);
}
END_TEST

START_TEST(pages_are_listed)
{
    g_autoptr(Ram) ram = NULL;
    X86State state = guest_new(_i, &ram);
    Gva cursor = 0, expected[2] = { guests[_i].large, guests[_i].small };
    unsigned budget = 100000, count = 0, first = guests[_i].large ? 0 : 1;
    if (guests[_i].large > guests[_i].small) {
        expected[0] = guests[_i].small;
        expected[1] = guests[_i].large;
    }
    InspectPage page;
    while (inspect_next(&state, ram, &cursor, &budget, &page)) {
        ck_assert_uint_lt(first + count, 2);
        ck_assert_uint_eq(page.gva, expected[first + count]);
        count++;
    }
    ck_assert_uint_eq(count, 2 - first);
    ck_assert_uint_gt(budget, 0);
}
END_TEST

/* Tables that lead to themselves map 2^36 pages. */
START_TEST(loops_end)
{
    g_autoptr(Ram) ram = NULL;
    X86State state = guest_new(0, &ram);
    for (unsigned i = 0; i < 512; i++)
        put(0x1000, i, 8, 0x1000 | PTE_P);
    Gva cursor = 0;
    unsigned budget = 1000, count = 0;
    InspectPage page;
    while (inspect_next(&state, ram, &cursor, &budget, &page))
        count++;
    ck_assert_uint_eq(count, 1000);
    ck_assert_uint_eq(budget, 0);
}
END_TEST

START_TEST(reading_stops_at_holes)
{
    g_autoptr(Ram) ram = NULL;
    X86State state = guest_new(0, &ram);
    uint8_t bytes[64];
    memset(memory + 0x7000, 0xab, PAGE_SIZE);
    ck_assert_uint_eq(inspect_read(&state, ram, guests[0].small + PAGE_SIZE - 10, bytes, sizeof bytes), 10);
    ck_assert_uint_eq(bytes[9], 0xab);
    ck_assert_uint_eq(inspect_read(&state, ram, 0x1234, bytes, sizeof bytes), 0);
    ck_assert_uint_eq(inspect_read(&state, ram, UINT64_C(0x0000800000000000), bytes, 1), 0); /* not canonical */
    state.cr0 = 0;
    ck_assert_uint_eq(inspect_read(&state, ram, 0x7ffe, bytes, 4), 4);
    ck_assert_uint_eq(inspect_read(&state, ram, RAM_BYTES - 2, bytes, 4), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspect");
    TCase *tcase = tcase_create("inspect");
    tcase_add_loop_test(tcase, pages_are_found, 0, G_N_ELEMENTS(guests));
    tcase_add_loop_test(tcase, pages_are_listed, 0, G_N_ELEMENTS(guests));
    tcase_add_test(tcase, loops_end);
    tcase_add_test(tcase, reading_stops_at_holes);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
