#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "gdb/packet.h"

static GdbParser parser;

static void setup(void) { gdb_parser_init(&parser); }
static void teardown(void) { gdb_parser_clear(&parser); }

/* What the last byte of @text is; all before it must be nothing. */
static GdbEvent feed(const char *text, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++)
        ck_assert_int_eq(gdb_parser_byte(&parser, (uint8_t)text[i]), GDB_EVENT_NONE);
    return gdb_parser_byte(&parser, (uint8_t)text[count - 1]);
}

static const struct {
    const char *text;
    GdbEvent event;
    const char *body;
} rows[] = {
    { "$g#67", GDB_EVENT_PACKET, "g" },
    { "$#00", GDB_EVENT_PACKET, "" },
    { "+++$g#67", GDB_EVENT_PACKET, "g" },
    { "noise$m0,4#fd", GDB_EVENT_PACKET, "m0,4" },
    { "$}\x03#80", GDB_EVENT_PACKET, "#" },
    { "$gg$g#67", GDB_EVENT_PACKET, "g" },
    { "$g#68", GDB_EVENT_DAMAGED, NULL },
    { "$g#6z", GDB_EVENT_DAMAGED, NULL },
    { "$g#z", GDB_EVENT_DAMAGED, NULL },
    { "-", GDB_EVENT_NAK, NULL },
    { "\x03", GDB_EVENT_INTERRUPT, NULL },
    { "#67", GDB_EVENT_NONE, NULL },
};

START_TEST(packets)
{
    ck_assert_int_eq(feed(rows[_i].text, strlen(rows[_i].text)), rows[_i].event);
    if (rows[_i].body)
        ck_assert_str_eq((const char *)parser.body->data, rows[_i].body);
    ck_assert_int_eq(feed("$g#67", 5), GDB_EVENT_PACKET); /* and on it goes */
}
END_TEST

START_TEST(one_that_is_too_long)
{
    ck_assert_int_eq(gdb_parser_byte(&parser, '$'), GDB_EVENT_NONE);
    for (unsigned i = 0; i < 16 * GDB_PACKET_MAX; i++)
        ck_assert_int_eq(gdb_parser_byte(&parser, 0x80), GDB_EVENT_NONE);
    ck_assert_uint_le(parser.body->len, GDB_PACKET_MAX);
    ck_assert_int_eq(feed("#00", 3), GDB_EVENT_DAMAGED);
    ck_assert_int_eq(feed("$g#67", 5), GDB_EVENT_PACKET);
}
END_TEST

START_TEST(what_is_framed_is_understood)
{
    uint8_t all[256];
    for (unsigned i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    GString *frame = gdb_frame(all, sizeof all);
    ck_assert_int_eq(feed(frame->str, frame->len), GDB_EVENT_PACKET);
    ck_assert_uint_eq(parser.body->len, sizeof all);
    ck_assert_mem_eq(parser.body->data, all, sizeof all);
    g_string_free(frame, TRUE);
}
END_TEST

START_TEST(numbers)
{
    uint64_t number;
    const char *text = "ffffffffffffffff,1";
    ck_assert(gdb_number(&text, &number) && number == UINT64_MAX && *text == ',');
    ck_assert((text = "10000000000000000", !gdb_number(&text, &number)));
    ck_assert((text = "", !gdb_number(&text, &number)));
    ck_assert((text = "x", !gdb_number(&text, &number)));
    uint8_t bytes[2];
    ck_assert(gdb_hex_bytes("0aFf", bytes, 2) && bytes[0] == 10 && bytes[1] == 255);
    ck_assert(!gdb_hex_bytes("0aF", bytes, 2) && !gdb_hex_bytes("", bytes, 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("packet");
    TCase *tests = tcase_create("packet");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, packets, 0, (int)G_N_ELEMENTS(rows));
    tcase_add_test(tests, one_that_is_too_long);
    tcase_add_test(tests, what_is_framed_is_understood);
    tcase_add_test(tests, numbers);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
