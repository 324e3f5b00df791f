#include "monitor/qmp-frame.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* What @text gives when it comes in pieces of @piece bytes: one line a result, "! " before a complaint. */
static char *cut(const char *text, size_t size, size_t piece)
{
    QmpFrame frame;
    GString *out = g_string_new(NULL);
    qmp_frame_init(&frame);
    for (size_t done = 0; done < size;) {
        size_t count = MIN(piece, size - done), taken = 0, object_size = 0;
        const char *result = NULL;
        QmpFrameKind kind = qmp_frame_take(&frame, (const uint8_t *)text + done, count, &taken, &result, &object_size);
        ck_assert_uint_le(taken, count);
        ck_assert(taken > 0);
        done += taken;
        ck_assert_uint_le(frame.object->len, QMP_OBJECT_MAX_BYTES + 1);
        if (kind == QMP_FRAME_OBJECT) {
            ck_assert_uint_eq(strnlen(result, object_size + 1) <= object_size, 1);
            g_string_append_printf(out, "%s\n", result);
        } else if (kind == QMP_FRAME_MALFORMED) {
            g_string_append_printf(out, "! %s\n", result);
        }
    }
    qmp_frame_clear(&frame);
    return g_string_free(out, FALSE);
}

#define BROKEN "! JSON parse error: the object is not complete at the end of the line\n"

static const struct {
    const char *text, *result;
} rows[] = {
    { "{}\n", "{}\n" },
    { "{\"a\":[1,{}]}{}\r\n  {}", "{\"a\":[1,{}]}\n{}\n{}\n" },
    { "{\"a\":\"}\\\"{\"}\n", "{\"a\":\"}\\\"{\"}\n" },
    { "[1]\n", "[1]\n" },
    { "\n\r\n \t\n", "" },
    { "{\n{}\n", BROKEN "{}\n" },
    { "noise\n{}\n", BROKEN "{}\n" },
    { "]]]{}\n{}\n", "! JSON parse error: a bracket too many\n{}\n" },
    { "\"open\n{}\n", BROKEN "{}\n" },
    { "{\"a\":1", "" },
};

START_TEST(row_in_pieces)
{
    size_t size = strlen(rows[_i].text);
    for (size_t piece = 1; piece <= size; piece++) {
        g_autofree char *result = cut(rows[_i].text, size, piece);
        ck_assert_msg(!strcmp(result, rows[_i].result), "'%s' in pieces of %zu: '%s'", rows[_i].text, piece, result);
    }
}
END_TEST

START_TEST(depth_and_size_end)
{
    g_autofree char *deep = g_strnfill(QMP_MAX_DEPTH + 1, '[');
    g_autofree char *deep_line = g_strconcat(deep, "]]\n{}\n", NULL);
    g_autofree char *result = cut(deep_line, strlen(deep_line), 7);
    ck_assert_str_eq(result, "! JSON parse error: nested too deeply\n{}\n");
    g_autofree char *wide = g_strnfill(QMP_OBJECT_MAX_BYTES, 'x');
    g_autofree char *wide_line = g_strconcat("{\"", wide, "\"}\n{}\n", NULL);
    g_autofree char *wide_result = cut(wide_line, strlen(wide_line), 4096);
    ck_assert_str_eq(wide_result, "! the command is longer than 256 KiB\n{}\n");
}
END_TEST

/* Whatever comes, in whatever pieces, gives the same, and a newline brings it back to its senses. */
START_TEST(noise_is_cut_alike)
{
    static const char letters[] = "{}[]\"\\\n ,:ax\xff";
    g_autoptr(GRand) rand = g_rand_new_with_seed(_i + 1);
    for (unsigned round = 0; round < 300; round++) {
        char text[400];
        size_t size = (size_t)g_rand_int_range(rand, 1, 300);
        for (size_t i = 0; i < size; i++)
            text[i] = letters[g_rand_int_range(rand, 0, sizeof letters)]; /* the NUL too */
        memcpy(text + size, "\n{}\n", 5);
        g_autofree char *whole = cut(text, size + 4, size + 4), *pieces = cut(text, size + 4, (size_t)g_rand_int_range(rand, 1, 40));
        ck_assert_str_eq(whole, pieces);
        ck_assert_msg(g_str_has_suffix(whole, "{}\n"), "%s", whole);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp-frame");
    TCase *tcase = tcase_create("frame");
    tcase_add_loop_test(tcase, row_in_pieces, 0, G_N_ELEMENTS(rows));
    tcase_add_test(tcase, depth_and_size_end);
    tcase_add_loop_test(tcase, noise_is_cut_alike, 0, 8);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
