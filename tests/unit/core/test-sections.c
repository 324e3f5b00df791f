#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/sections.h"

typedef struct Fields {
    uint8_t a;
    uint16_t b;
    uint32_t c;
    uint64_t d;
    int64_t e;
    bool f;
    uint8_t g[3];
    char *text;
} Fields;

static void fields_visit(void *device, Stream *stream)
{
    Fields *fields = device;
    stream_u8(stream, &fields->a);
    stream_u16(stream, &fields->b);
    stream_u32(stream, &fields->c);
    stream_u64(stream, &fields->d);
    stream_i64(stream, &fields->e);
    stream_bool(stream, &fields->f);
    stream_bytes(stream, fields->g, sizeof fields->g);
    stream_skip(stream, 2);
    stream_text(stream, &fields->text, 100);
    stream_check(stream, fields->a < 200, "a");
}

static const StateOps fields_ops = { .name = "fields", .version = 2, .visit = fields_visit };

static GBytes *written(void)
{
    g_autoptr(GOutputStream) out = g_memory_output_stream_new_resizable();
    g_autoptr(SectionWriter) writer = section_writer_new(out, NULL);
    Fields fields = { 1, 0x203, 0x4050607, UINT64_C(0x8090a0b0c0d0e0f), -5, true, { 7, 8, 9 }, (char *)"as\xc3\xa9" };
    ck_assert(section_write_state(writer, &fields_ops, 3, &fields, NULL));
    ck_assert(section_write(writer, "plain", 1, "xyz", 3, NULL));
    ck_assert(section_write(writer, "plain", 1, "xyz", 3, NULL));
    ck_assert(section_write_end(writer, NULL));
    ck_assert(g_output_stream_close(out, NULL, NULL));
    GBytes *bytes = g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(out));
    ck_assert_uint_eq(section_writer_total(writer), g_bytes_get_size(bytes));
    return bytes;
}

/* Reads all of @bytes.  Returns: sections read before the end or the error. */
static unsigned consume(const void *bytes, size_t size, GError **error)
{
    g_autoptr(GInputStream) in = g_memory_input_stream_new_from_data(bytes, (gssize)size, NULL);
    g_autoptr(SectionReader) reader = section_reader_new(in, NULL);
    Section section;
    unsigned count = 0;
    while (section_read(reader, &section, error) && !section_is_end(&section)) {
        count++;
        Fields fields = { 0 };
        if (g_str_has_prefix(section.name, "fields."))
            section_load_state(&section, &fields_ops, &fields, NULL);
        g_free(fields.text);
    }
    return count;
}

START_TEST(fields_come_back)
{
    g_autoptr(GBytes) bytes = written();
    g_autoptr(GInputStream) in = g_memory_input_stream_new_from_bytes(bytes);
    g_autoptr(SectionReader) reader = section_reader_new(in, NULL);
    g_autoptr(GError) error = NULL;
    Section section;
    Fields fields = { 0 };
    ck_assert(section_read(reader, &section, &error));
    ck_assert_str_eq(section.name, "fields.3");
    ck_assert_uint_eq(section.version, 2);
    ck_assert(section_load_state(&section, &fields_ops, &fields, &error));
    ck_assert_uint_eq(fields.a, 1);
    ck_assert_uint_eq(fields.b, 0x203);
    ck_assert_uint_eq(fields.c, 0x4050607);
    ck_assert_uint_eq(fields.d, UINT64_C(0x8090a0b0c0d0e0f));
    ck_assert_int_eq(fields.e, -5);
    ck_assert(fields.f);
    ck_assert_mem_eq(fields.g, "\7\10\11", 3);
    ck_assert_str_eq(fields.text, "as\xc3\xa9");
    g_free(fields.text);
    ck_assert(section_read(reader, &section, &error));
    ck_assert_mem_eq(section.bytes, "xyz", 3);
    ck_assert(section_read(reader, &section, &error));
    ck_assert(section_read(reader, &section, &error));
    ck_assert(section_is_end(&section));
    ck_assert_uint_eq(section_reader_total(reader), g_bytes_get_size(bytes));
    ck_assert(!section_read(reader, &section, &error));
}
END_TEST

/* The layout is fixed: other versions of this program read it. */
START_TEST(layout)
{
    static const uint8_t begin[] = { 'S', 'e', 'g', 'u', 'e', ' ', 'V', 'M', 1, 0, 0, 0, 'S', 'E', 'C', 'T', 8, 'f', 'i', 'e', 'l', 'd', 's',
                                     '.', '3', 2, 0, 0, 0, 35, 0, 0, 0, 1, 3, 2, 7, 6, 5, 4, 0xf, 0xe, 0xd, 0xc, 0xb, 0xa, 9, 8, 0xfb, 0xff };
    g_autoptr(GBytes) bytes = written();
    ck_assert_mem_eq(g_bytes_get_data(bytes, NULL), begin, sizeof begin);
}
END_TEST

START_TEST(each_truncation_is_refused)
{
    g_autoptr(GBytes) bytes = written();
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    for (size_t length = 0; length < size; length++) {
        g_autoptr(GError) error = NULL;
        consume(data, length, &error);
        ck_assert_msg(g_error_matches(error, VMM_ERROR, VMM_ERROR_USAGE), "%zu bytes", length);
        ck_assert_msg(strstr(error->message, length ? "truncated" : "empty") != NULL, "%zu bytes: %s", length, error->message);
    }
}
END_TEST

START_TEST(each_changed_bit_is_refused)
{
    g_autoptr(GBytes) bytes = written();
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        g_autofree uint8_t *copy = g_memdup2(data, size);
        g_autoptr(GError) error = NULL;
        copy[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        consume(copy, size, &error);
        ck_assert_msg(error != NULL, "bit %zu", bit);
    }
}
END_TEST

/* Found by tests/fuzz/stream.c: nothing had made room for bytes yet. */
START_TEST(the_first_section_may_be_empty)
{
    g_autoptr(GOutputStream) out = g_memory_output_stream_new_resizable();
    g_autoptr(SectionWriter) writer = section_writer_new(out, NULL);
    ck_assert(_i || section_write(writer, "empty", 1, NULL, 0, NULL));
    ck_assert(section_write_end(writer, NULL) && g_output_stream_close(out, NULL, NULL));
    g_autoptr(GBytes) bytes = g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(out));
    g_autoptr(GError) error = NULL;
    ck_assert_uint_eq(consume(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), &error), 1 - _i);
    ck_assert_ptr_null(error);
}
END_TEST

/* The two "plain" sections have the same bytes, so only the running checksum can tell that one is missing. */
START_TEST(a_missing_section_is_refused)
{
    g_autoptr(GBytes) bytes = written();
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    size_t plain = 4 + 1 + 5 + 4 + 4 + 3 + 4, end = 4 + 1 + 3 + 4 + 4 + 4;
    g_autofree uint8_t *copy = g_memdup2(data, size);
    memmove(copy + size - end - plain, copy + size - end, end);
    g_autoptr(GError) error = NULL;
    ck_assert_uint_eq(consume(copy, size - plain, &error), 2);
    ck_assert_ptr_nonnull(strstr(error->message, "checksum"));
}
END_TEST

START_TEST(random_changes)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
    g_autoptr(GBytes) bytes = written();
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    for (unsigned round = 0; round < 2000; round++) {
        g_autofree uint8_t *copy = g_memdup2(data, size);
        g_autoptr(GError) error = NULL;
        for (int n = g_rand_int_range(rand, 1, 10); n; n--)
            copy[g_rand_int(rand) % size] = (uint8_t)g_rand_int(rand);
        consume(copy, g_rand_int_range(rand, 0, 4) ? size : g_rand_int(rand) % size, &error);
        ck_assert(error != NULL || !memcmp(copy, data, size));
    }
}
END_TEST

static const struct {
    const char *name, *message;
    uint32_t version;
    size_t size;
    uint8_t bytes[64];
} malformed[] = {
    { "newer", "version 3; this Segue reads up to version 2", 3, 0 },
    { "version 0", "version 0", 0, 0 },
    { "short", "within a field", 2, 3, { 1, 2, 3 } },
    { "flag", "neither 0 nor 1", 2, 33, { [23] = 2 } },
    { "text longer than the section", "within a field", 2, 31, { [29] = 9 } },
    { "text longer than any", "length of a text", 2, 31, { [29] = 101 } },
    { "text that is not UTF-8", "UTF-8", 2, 32, { [29] = 1, [31] = 0xff } },
    { "text with a zero", "UTF-8", 2, 32, { [29] = 1 } },
    { "too long", "2 bytes too many", 2, 33, { 0 } },
    { "value", "impossible value: a", 2, 31, { 200 } },
};

START_TEST(malformed_is_refused)
{
    Section section = { .name = "fields", .version = malformed[_i].version, .size = (uint32_t)malformed[_i].size, .bytes = malformed[_i].bytes };
    Fields fields = { 0 };
    g_autoptr(GError) error = NULL;
    ck_assert_msg(!section_load_state(&section, &fields_ops, &fields, &error), "%s", malformed[_i].name);
    ck_assert_msg(g_error_matches(error, VMM_ERROR, VMM_ERROR_USAGE), "%s", malformed[_i].name);
    ck_assert_msg(strstr(error->message, malformed[_i].message) != NULL, "%s: %s", malformed[_i].name, error->message);
    g_free(fields.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sections");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, fields_come_back);
    tcase_add_test(tcase, layout);
    tcase_add_test(tcase, each_truncation_is_refused);
    tcase_add_test(tcase, each_changed_bit_is_refused);
    tcase_add_test(tcase, a_missing_section_is_refused);
    tcase_add_loop_test(tcase, the_first_section_may_be_empty, 0, 2);
    tcase_add_loop_test(tcase, random_changes, 0, 10);
    tcase_add_loop_test(tcase, malformed_is_refused, 0, G_N_ELEMENTS(malformed));
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int nfailed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return nfailed ? EXIT_FAILURE : EXIT_SUCCESS;
}
