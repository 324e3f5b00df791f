#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "gdb/registers.h"

static const GdbRegister *find(bool is_64, const char *name)
{
    unsigned count;
    const GdbRegister *registers = gdb_registers(is_64, &count);
    for (unsigned i = 0; i < count; i++)
        if (!strcmp(gdb_register_name(gdb_register_at(registers, i)), name))
            return gdb_register_at(registers, i);
    ck_abort_msg("no register %s", name);
}

static uint64_t get(const char *name, const X86State *state)
{
    uint8_t bytes[GDB_REGISTER_MAX_BYTES];
    uint64_t value = 0;
    gdb_register_get(find(true, name), state, bytes);
    memcpy(&value, bytes, 8);
    return value;
}

static bool set(const char *name, X86State *state, uint64_t value)
{
    uint8_t bytes[GDB_REGISTER_MAX_BYTES] = { 0 };
    memcpy(bytes, &value, 8);
    return gdb_register_set(find(true, name), state, bytes);
}

static X86State *state;

static void setup(void) { state = g_new0(X86State, 1); }
static void teardown(void) { g_free(state); }

/* gdb's order: its amd64 and i386 register numbers up to the SSE registers (gdb/amd64-tdep.h). */
START_TEST(the_order)
{
    static const struct {
        bool is_64;
        unsigned index;
        const char *name;
        unsigned bytes;
    } rows[] = { { true, 0, "rax", 8 }, { true, 1, "rbx", 8 }, { true, 6, "rbp", 8 }, { true, 7, "rsp", 8 }, { true, 15, "r15", 8 },
                 { true, 16, "rip", 8 }, { true, 17, "eflags", 4 }, { true, 18, "cs", 4 }, { true, 24, "st0", 10 }, { true, 32, "fctrl", 4 },
                 { true, 40, "xmm0", 16 }, { true, 56, "mxcsr", 4 }, { true, 57, "fs_base", 8 }, { false, 0, "eax", 4 }, { false, 1, "ecx", 4 },
                 { false, 4, "esp", 4 }, { false, 8, "eip", 4 }, { false, 16, "st0", 10 }, { false, 32, "xmm0", 16 }, { false, 40, "mxcsr", 4 } };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        unsigned count;
        const GdbRegister *reg = gdb_register_at(gdb_registers(rows[i].is_64, &count), rows[i].index);
        ck_assert_str_eq(gdb_register_name(reg), rows[i].name);
        ck_assert_uint_eq(gdb_register_size(reg), rows[i].bytes);
    }
}
END_TEST

START_TEST(values)
{
    state->gpr[X86_RBX] = 0x1122334455667788;
    state->rip = 0xffffffff81000000;
    state->seg[X86_GS].base = 0xffff888000000000;
    ck_assert_uint_eq(get("rbx", state), 0x1122334455667788);
    ck_assert_uint_eq(get("gs_base", state), 0xffff888000000000);
    uint8_t bytes[GDB_REGISTER_MAX_BYTES];
    ck_assert_uint_eq(gdb_register_get(find(false, "ebx"), state, bytes), 4);
    ck_assert_uint_eq(bytes[3], 0x55);
    ck_assert(set("r9", state, 5) && state->gpr[X86_R9] == 5);
    ck_assert(!set("cr0", state, 1) && !set("cs", state, 8) && !set("efer", state, 0x500));
    ck_assert(set("cr0", state, state->cr0)); /* "G" writes them all */
}
END_TEST

/* What would be a fault of the host's XRSTOR, or a mode of the CPU, does not get through. */
START_TEST(what_a_cpu_would_not_take)
{
    ck_assert(set("mxcsr", state, 0xffffffff) && get("mxcsr", state) == 0xffff);
    state->rflags = 2;
    ck_assert(set("eflags", state, 0xffffffff));
    ck_assert_uint_eq(state->rflags & (X86_FLAG_VM | 8 | 32), 0);
    ck_assert_uint_eq(state->rflags & 2, 2);
}
END_TEST

/* Components that are marked initial have their initial values, and are marked no more when one is written. */
START_TEST(initial_components)
{
    memset(state->xsave, 0xaa, 512);
    ck_assert_uint_eq(get("fctrl", state), 0x37f);
    ck_assert_uint_eq(get("ftag", state), 0xffff);
    ck_assert_uint_eq(get("mxcsr", state), 0x1f80);
    ck_assert_uint_eq(get("xmm3", state), 0);
    ck_assert_uint_eq(state->xsave[512], 0); /* only looked at */
    ck_assert(set("xmm3", state, 7));
    ck_assert_uint_eq(state->xsave[512], 2);
    ck_assert_uint_eq(get("xmm3", state), 7);
    ck_assert_uint_eq(get("xmm4", state), 0);
}
END_TEST

START_TEST(the_description)
{
    for (unsigned is_64 = 0; is_64 < 2; is_64++) {
        g_autofree char *xml = gdb_target_xml(is_64);
        unsigned count, nregs = 0;
        gdb_registers(is_64, &count);
        for (const char *at = xml; (at = strstr(at, "<reg ")); at++)
            nregs++;
        ck_assert_uint_eq(nregs, count);
        ck_assert_ptr_nonnull(strstr(xml, is_64 ? "i386:x86-64" : "<architecture>i386<"));
        g_autoptr(GMarkupParseContext) context = g_markup_parse_context_new(&(GMarkupParser){ 0 }, 0, NULL, NULL);
        ck_assert(g_markup_parse_context_parse(context, xml, -1, NULL) && g_markup_parse_context_end_parse(context, NULL));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("registers");
    TCase *tests = tcase_create("registers");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_order);
    tcase_add_test(tests, values);
    tcase_add_test(tests, what_a_cpu_would_not_take);
    tcase_add_test(tests, initial_components);
    tcase_add_test(tests, the_description);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
