#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/symbols.h"

static char *file_with(const char *text)
{
    char *path = NULL;
    int fd = g_file_open_tmp("symbols-XXXXXX", &path, NULL);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert(g_file_set_contents(path, text, -1, NULL));
    return path;
}

static const struct {
    uint64_t address;
    const char *name; /* NULL: none */
} rows[] = {
    { 0xffffffff80ffffff, NULL },
    { 0xffffffff81000000, "_text" },
    { 0xffffffff810001ff, "_text" },
    { 0xffffffff81000200, "start_kernel" },
    { 0xffffffff81000300, "in_module" }, /* out of order in the file; data between is no function */
    { UINT64_MAX, "in_module" },
};

START_TEST(text_lines)
{
    g_autofree char *path = file_with("ffffffff81000200 T start_kernel\nffffffff81000000 t _text\nffffffff81000280 D jiffies\n"
                                      "nonsense\nffffffff81000300 t in_module\t[module]\r\n0 T hidden\nffffffff81000310 T");
    g_autoptr(GError) error = NULL;
    g_autoptr(Symbols) symbols = symbols_load(path, &error);
    ck_assert_msg(symbols != NULL, "%s", error ? error->message : "");
    const Symbol *symbol = symbols_find(symbols, rows[_i].address);
    if (rows[_i].name)
        ck_assert_msg(symbol && g_str_equal(symbol->name, rows[_i].name), "%s is wanted, not %s", rows[_i].name, symbol ? symbol->name : "none");
    else
        ck_assert_ptr_null(symbol);
    g_unlink(path);
}
END_TEST

static G_GNUC_UNUSED __attribute__((noipa)) int a_local_function(int n) { return n * 3; }

START_TEST(own_elf_file)
{
    g_autoptr(Symbols) symbols = symbols_load("/proc/self/exe", NULL);
    ck_assert_ptr_nonnull(symbols);
    ck_assert_int_eq(a_local_function(2), 6);
    /* The file's addresses differ from ours by a constant that main() shares. */
    const Symbol *found = NULL;
    for (uint64_t address = 0; address < 1 << 20 && !found; address++) {
        const Symbol *symbol = symbols_find(symbols, address);
        if (symbol && g_str_equal(symbol->name, "a_local_function"))
            found = symbol;
    }
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(found->file, "test-symbols.c");
}
END_TEST

START_TEST(refused)
{
    static const char *const bad[] = { "", "nothing here\n", "0000000000000000 T hidden\n", "\177ELF", "\177ELF\002" };
    g_autoptr(GError) error = NULL;
    g_autofree char *path = file_with(bad[_i]);
    ck_assert_ptr_null(symbols_load(path, &error));
    ck_assert(g_str_has_prefix(error->message, "symbols: "));
    g_unlink(path);
}
END_TEST

/* An ELF header whose numbers point anywhere. */
START_TEST(broken_elf)
{
    gsize size;
    g_autofree char *bytes = NULL;
    ck_assert(g_file_get_contents("/proc/self/exe", &bytes, &size, NULL));
    g_autofree char *path = file_with("");
    GRand *random = g_rand_new_with_seed((guint32)_i);
    for (unsigned i = 0; i < 4; i++)
        bytes[g_rand_int_range(random, 5, 64)] = (char)g_rand_int(random);
    gsize keep = _i % 2 ? size : (gsize)g_rand_int_range(random, 5, (gint32)size);
    ck_assert(g_file_set_contents(path, bytes, (gssize)keep, NULL));
    g_autoptr(Symbols) symbols = symbols_load(path, NULL);
    symbols_find(symbols, 0x1000);
    g_rand_free(random);
    g_unlink(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("symbols");
    TCase *tcase = tcase_create("symbols");
    tcase_add_loop_test(tcase, text_lines, 0, G_N_ELEMENTS(rows));
    tcase_add_test(tcase, own_elf_file);
    tcase_add_loop_test(tcase, refused, 0, 5);
    tcase_add_loop_test(tcase, broken_elf, 0, 60);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
