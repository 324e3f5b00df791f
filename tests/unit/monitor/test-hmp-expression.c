#include "monitor/hmp-expression.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    uint64_t value;
    const char *wrong, *rest;
} rows[] = {
    { "0x10", 16 },
    { "010", 10 }, /* decimal, as people mean it */
    { " 3 * ( 4 + 1 ) ", 15 },
    { "1+2*3", 7 },
    { "$rax + 1", 0x1122334455667789 },
    { "$eax", 0x55667788 },
    { "$r15&0xf0", 0xf0 },
    { "-1", ~UINT64_C(0) },
    { "~0 / 2", ~UINT64_C(0) / 2 },
    { "$cs", 0x10 },
    { "7%4 rest", 3, NULL, "rest" },
    { "1/0", 0, "division by zero" },
    { "1%(2-2)", 0, "division by zero" },
    { "$nothing", 0, "unknown register" },
    { "$", 0, "unknown register" },
    { "(1", 0, "')' is missing" },
    { "", 0, "a number is missing" },
    { "1+", 0, "a number is missing" },
    { "x", 0, "not a number" },
};

START_TEST(row_is_read)
{
    X86State state = { .gpr = { [X86_RAX] = 0x1122334455667788, [15] = 0xff } };
    state.seg[X86_CS].selector = 0x10;
    const char *text = rows[_i].text;
    uint64_t value = 0;
    const char *wrong = expression_take(&text, &state, &value);
    ck_assert_msg(!wrong == !rows[_i].wrong && (!wrong || strstr(wrong, rows[_i].wrong)), "'%s': %s", rows[_i].text, wrong ? wrong : "accepted");
    ck_assert_msg(value == rows[_i].value, "'%s': %llx", rows[_i].text, (unsigned long long)value);
    if (!wrong)
        ck_assert_str_eq(text, rows[_i].rest ? rows[_i].rest : "");
    else
        ck_assert_ptr_eq(text, rows[_i].text);
}
END_TEST

START_TEST(depth_is_bounded)
{
    static const char openers[] = "(-~+";
    for (unsigned i = 0; openers[i]; i++) {
        g_autofree char *deep = g_strnfill(100000, openers[i]);
        const char *text = deep;
        X86State state = { 0 };
        uint64_t value;
        ck_assert_str_eq(expression_take(&text, &state, &value), "nested too deeply");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hmp-expression");
    TCase *tcase = tcase_create("expression");
    tcase_add_loop_test(tcase, row_is_read, 0, G_N_ELEMENTS(rows));
    tcase_add_test(tcase, depth_is_bounded);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
