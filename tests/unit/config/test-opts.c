#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "config/opts.h"
#include "core/error.h"

START_TEST(pairs_and_escapes)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Opts) opts = opts_parse("-x", "first,path=a,,b,flag,n=0x10,off=off", "kind", &error);
    ck_assert_ptr_nonnull(opts);
    ck_assert_str_eq(opts_take(opts, "kind"), "first");
    ck_assert_str_eq(opts_take(opts, "path"), "a,b");
    ck_assert_ptr_null(opts_take(opts, "absent"));
    bool flag = false, off = true;
    uint64_t n = 0;
    ck_assert(opts_take_bool(opts, "flag", &flag, &error) && flag);
    ck_assert(opts_take_bool(opts, "off", &off, &error) && !off);
    ck_assert(opts_take_uint(opts, "n", 100, &n, &error));
    ck_assert_uint_eq(n, 16);
    ck_assert(opts_done(opts, NULL, &error));
}
END_TEST

START_TEST(last_value_wins)
{
    g_autoptr(Opts) opts = opts_parse("-x", "a=1,a=2", NULL, NULL);
    ck_assert_str_eq(opts_take(opts, "a"), "2");
    ck_assert(opts_done(opts, NULL, NULL));
}
END_TEST

START_TEST(leftover_is_named)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Opts) opts = opts_parse("-x", "a=1,typo=2", NULL, NULL);
    opts_take(opts, "a");
    ck_assert(!opts_done(opts, "a b", &error));
    ck_assert(g_error_matches(error, VMM_ERROR, VMM_ERROR_USAGE));
    ck_assert_ptr_nonnull(strstr(error->message, "-x: unknown property 'typo'; known: a b"));
}
END_TEST

START_TEST(empty_key_refused)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(opts_parse("-x", "a=1,=2", NULL, &error));
    ck_assert_ptr_nonnull(error);
}
END_TEST

static const struct {
    const char *text;
    uint64_t unit;
    bool is_ok;
    uint64_t bytes;
} sizes[] = {
    { "512", 1 << 20, true, UINT64_C(512) << 20 }, { "1G", 1 << 20, true, UINT64_C(1) << 30 },
    { "1.5G", 1 << 20, true, UINT64_C(3) << 29 },  { "64k", 1, true, 65536 },
    { "2T", 1, true, UINT64_C(2) << 40 },          { "128MB", 1, true, UINT64_C(128) << 20 },
    { "17B", 1 << 20, true, 17 },                  { "", 1, false, 0 },
    { "-1", 1, false, 0 },                         { "G", 1, false, 0 },
    { "1X", 1, false, 0 },                         { "1GG", 1, false, 0 },
    { "99999999999999999999T", 1, false, 0 },      { "nan", 1, false, 0 },
    { "1e400", 1, false, 0 },                      { "1 G", 1, false, 0 },
};

START_TEST(size_row)
{
    uint64_t bytes = 0;
    ck_assert_msg(parse_size(sizes[_i].text, sizes[_i].unit, &bytes) == sizes[_i].is_ok, "'%s'", sizes[_i].text);
    if (sizes[_i].is_ok)
        ck_assert_msg(bytes == sizes[_i].bytes, "'%s': %lu", sizes[_i].text, bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("opts");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, pairs_and_escapes);
    tcase_add_test(tcase, last_value_wins);
    tcase_add_test(tcase, leftover_is_named);
    tcase_add_test(tcase, empty_key_refused);
    tcase_add_loop_test(tcase, size_row, 0, G_N_ELEMENTS(sizes));
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
