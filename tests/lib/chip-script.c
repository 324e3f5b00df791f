#include "chip-script.h"

#include <stdlib.h>
#include <string.h>

void chip_script_init(ChipScript *script)
{
    memset(script, 0, sizeof *script);
    script->bus = bus_new("test", UINT64_MAX);
    script->clock = clock_new_fake();
    script->irqs = g_string_new("");
    script->notes = g_string_new("");
}

void chip_script_clear(ChipScript *script)
{
    bus_free(script->bus);
    clock_free(script->clock);
    g_string_free(script->irqs, TRUE);
    g_string_free(script->notes, TRUE);
}

void chip_script_map(ChipScript *script, uint64_t start, uint64_t size, const BusOps *ops, void *device)
{
    ck_assert(bus_add(script->bus, start, size, ops, device, NULL));
}

static void line_set(void *opaque, unsigned number, bool level)
{
    ChipScript *script = opaque;
    g_string_append_printf(script->irqs, "%u%c", number, level ? '+' : '-');
}

IrqLine chip_line(ChipScript *script, unsigned number)
{
    return (IrqLine){.set = line_set, .opaque = script, .number = number};
}

void chip_note(ChipScript *script, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_string_append_vprintf(script->notes, format, args);
    va_end(args);
}

static int64_t parse_time(const char *text)
{
    char *unit;
    int64_t value = strtoll(text, &unit, 10);
    if (strcmp(unit, "us") == 0)
        return value * 1000;
    if (strcmp(unit, "ms") == 0)
        return value * 1000000;
    if (strcmp(unit, "s") == 0)
        return value * 1000000000;
    ck_assert_str_eq(unit, "ns");
    return value;
}

static void check_text(const char *name, const char *token, GString *got, const char *expected)
{
    ck_assert_msg(strcmp(got->str, expected) == 0, "%s: %s: got \"%s\"", name, token, got->str);
    g_string_truncate(got, 0);
}

static void run_token(ChipScript *script, const char *name, const char *token)
{
    if (token[0] == '@') {
        clock_fake_advance(script->clock, parse_time(token + 1));
    } else if (g_str_has_prefix(token, "irq:")) {
        check_text(name, token, script->irqs, token + 4);
    } else if (g_str_has_prefix(token, "log:")) {
        check_text(name, token, script->notes, token + 4);
    } else if (token[0] == '!') {
        script->action(script->chip, token + 1);
    } else {
        char *operator, *end;
        uint64_t addr = strtoull(token, &operator, 16);
        ck_assert_msg(*operator == '=' || *operator == '?', "%s: bad token \"%s\"", name, token);
        uint64_t value = strtoull(operator + 1, &end, 16), mask = UINT64_MAX;
        unsigned size = (unsigned)(end - operator) / 2;
        if (*end == '&')
            mask = strtoull(end + 1, NULL, 16);
        if (*operator == '=') {
            bus_write(script->bus, addr, size, value);
        } else {
            uint64_t got = bus_read(script->bus, addr, size) & mask;
            ck_assert_msg(got == value, "%s: %s: got %" G_GINT64_MODIFIER "x", name, token, got);
        }
    }
}

void chip_script_run(ChipScript *script, const char *name, const char *text)
{
    g_auto(GStrv) tokens = g_strsplit_set(text, " \n", -1);
    for (unsigned i = 0; tokens[i]; i++)
        if (tokens[i][0])
            run_token(script, name, tokens[i]);
}

int chip_script_main(const char *suite_name, const TTest *test, unsigned count, SFun setup, SFun teardown)
{
    Suite *suite = suite_create(suite_name);
    TCase *tcase = tcase_create("rows");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, test, 0, (int)count);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
