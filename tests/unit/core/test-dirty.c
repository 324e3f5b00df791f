#include <check.h>
#include <stdlib.h>

#include "core/dirty.h"

#define MIB ((uint64_t)1 << 20)

static bool has(const PageSet *pages, unsigned slot, uint64_t page) { return pages->bits[slot][page / 64] >> (page % 64) & 1; }

START_TEST(what_is_marked_is_taken_once)
{
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    DirtyLog *log = dirty_log_new(ram);
    g_autoptr(PageSet) pages = page_set_new(ram);
    ck_assert_ptr_eq(ram->dirty, log);
    ck_assert_uint_eq(dirty_log_take(log, pages), 0);
    dirty_log_mark(log, 0x9ffff);
    dirty_log_mark(log, 0x9f000);
    dirty_log_mark(log, 0xa0000); /* the VGA window: no memory */
    dirty_log_mark(log, 16 * MIB - 1);
    ck_assert_uint_eq(dirty_log_take(log, pages), 2);
    ck_assert(has(pages, 0, 0x9f) && has(pages, 1, (16 * MIB - 1 - 0xc0000) >> PAGE_SHIFT));
    dirty_log_mark(log, 0);
    ck_assert_uint_eq(dirty_log_take(log, pages), 3); /* to what is there */
    page_set_clear(pages);
    ck_assert_uint_eq(dirty_log_take(log, pages), 0);
    dirty_log_free(log);
    ck_assert_ptr_null(ram->dirty);
}
END_TEST

START_TEST(what_the_monitor_writes_is_noted)
{
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    DirtyLog *log = dirty_log_new(ram);
    g_autoptr(PageSet) pages = page_set_new(ram);
    ram_wrote(ram, 0x1ffe, 4);
    ram_wrote(ram, 0x200000, 3 * PAGE_SIZE);
    ck_assert_uint_eq(dirty_log_take(log, pages), 5);
    ck_assert(has(pages, 0, 1) && has(pages, 0, 2) && !has(pages, 0, 3));
    dirty_log_free(log);
    ram_wrote(ram, 0x1000, 1); /* nobody listens any more */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dirty");
    TCase *tests = tcase_create("dirty");
    tcase_add_test(tests, what_is_marked_is_taken_once);
    tcase_add_test(tests, what_the_monitor_writes_is_noted);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
