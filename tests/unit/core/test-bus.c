#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/bus.h"
#include "core/error.h"

/* A chip with 16 bytes that writes down what it is asked: "r2@4 w1@0=ff ". */
typedef struct Chip {
    uint8_t byte[16];
    GString *log;
} Chip;

static uint64_t chip_read(void *device, uint64_t offset, unsigned size)
{
    Chip *chip = device;
    uint64_t value = 0;
    memcpy(&value, &chip->byte[offset], size);
    g_string_append_printf(chip->log, "r%u@%u ", size, (unsigned)offset);
    return value | (size < 8 ? UINT64_MAX << (8 * size) : 0); /* what is above must be ignored */
}

static void chip_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    Chip *chip = device;
    memcpy(&chip->byte[offset], &value, size);
    g_string_append_printf(chip->log, "w%u@%u=%" G_GINT64_MODIFIER "x ", size, (unsigned)offset, value);
}

static const BusOps ops_any = { "any", chip_read, chip_write, 0, 0 };
static const BusOps ops_byte = { "byte", chip_read, chip_write, 1, 1 };
static const BusOps ops_dword = { "dword", chip_read, chip_write, 4, 4 };

static const struct {
    const char *name;
    const BusOps *ops;
    uint64_t addr;
    unsigned size;
    uint64_t value; /* of a read; the chip holds 00 01 02 … at 0x100 */
    const char *read_log, *write_log; /* the write is of 0x8877665544332211 */
} accesses[] = {
    { "as it is", &ops_any, 0x104, 4, 0x07060504, "r4@4 ", "w4@4=44332211 " },
    { "eight", &ops_any, 0x108, 8, 0x0f0e0d0c0b0a0908, "r8@8 ", "w8@8=8877665544332211 " },
    { "split", &ops_byte, 0x102, 4, 0x05040302, "r1@2 r1@3 r1@4 r1@5 ", "w1@2=11 w1@3=22 w1@4=33 w1@5=44 " },
    { "split in two", &ops_dword, 0x100, 8, 0x0706050403020100, "r4@0 r4@4 ", "w4@0=44332211 w4@4=88776655 " },
    { "widened", &ops_dword, 0x105, 1, 0x05, "r4@4 ", "r4@4 w4@4=7061104 " },
    { "widened twice", &ops_dword, 0x103, 2, 0x0403, "r4@0 r4@4 ", "r4@0 w4@0=11020100 r4@4 w4@4=7060522 " },
    { "past the end", &ops_any, 0x10e, 4, 0xffff0f0e, "r2@14 ", "w2@14=2211 " },
    { "from below", &ops_any, 0xfe, 4, 0x0100ffff, "r2@0 ", "w2@0=4433 " },
    { "nobody", &ops_any, 0x200, 2, 0xffff, "", "" },
    { "end of the bus", &ops_any, 0xffff, 4, 0xffffffff, "", "" },
    { "end of all", &ops_any, UINT64_MAX, 4, 0xffffffff, "", "" },
};

static void chip_reset(Chip *chip)
{
    for (unsigned i = 0; i < 16; i++)
        chip->byte[i] = (uint8_t)i;
    g_string_truncate(chip->log, 0);
}

START_TEST(access_sizes)
{
    Chip chip = { .log = g_string_new(NULL) };
    g_autoptr(Bus) bus = bus_new("port", 0xffff);
    ck_assert(bus_add(bus, 0x100, 16, accesses[_i].ops, &chip, NULL));
    chip_reset(&chip);
    uint64_t value = bus_read(bus, accesses[_i].addr, accesses[_i].size);
    ck_assert_msg(value == accesses[_i].value, "%s: %lx", accesses[_i].name, value);
    ck_assert_str_eq(chip.log->str, accesses[_i].read_log);
    chip_reset(&chip);
    bus_write(bus, accesses[_i].addr, accesses[_i].size, 0x8877665544332211);
    ck_assert_str_eq(chip.log->str, accesses[_i].write_log);
    g_string_free(chip.log, TRUE);
}
END_TEST

static const struct {
    const char *name;
    uint64_t start, size;
    bool fits;
} ranges[] = {
    { "before", 0xf0, 0x10, true },    { "after", 0x110, 1, true },      { "same", 0x100, 0x10, false },
    { "inside", 0x108, 1, false },     { "around", 0xf0, 0x100, false }, { "head", 0xff, 2, false },
    { "tail", 0x10f, 2, false },       { "empty", 0x300, 0, false },     { "last", 0xffff, 1, true },
    { "too far", 0xffff, 2, false },   { "way out", 0x10000, 1, false }, { "wraps", 0x200, UINT64_MAX, false },
};

START_TEST(overlaps)
{
    Chip chip = { .log = g_string_new(NULL) };
    g_autoptr(GError) error = NULL;
    g_autoptr(Bus) bus = bus_new("port", 0xffff);
    ck_assert(bus_add(bus, 0x100, 16, &ops_any, &chip, NULL));
    bool fits = bus_add(bus, ranges[_i].start, ranges[_i].size, &ops_byte, &chip, &error);
    ck_assert_msg(fits == ranges[_i].fits, "%s", ranges[_i].name);
    ck_assert_msg(fits || g_error_matches(error, VMM_ERROR, VMM_ERROR_HOST), "%s", ranges[_i].name);
    g_string_free(chip.log, TRUE);
}
END_TEST

START_TEST(many_and_remove)
{
    Chip chip[40];
    g_autoptr(Bus) bus = bus_new("mmio", UINT64_MAX);
    for (unsigned i = 0; i < 40; i++) {
        unsigned at = i * 17 % 40; /* out of order */
        chip[at].log = g_string_new(NULL);
        chip_reset(&chip[at]);
        chip[at].byte[0] = (uint8_t)at;
        ck_assert(bus_add(bus, 0xfee00000 + at * 0x20, 16, &ops_any, &chip[at], NULL));
    }
    for (unsigned i = 0; i < 40; i++)
        ck_assert_uint_eq(bus_read(bus, 0xfee00000 + i * 0x20, 1), i);
    ck_assert(!bus_remove(bus, 0xfee00001));
    ck_assert(bus_remove(bus, 0xfee00020));
    ck_assert(!bus_remove(bus, 0xfee00020));
    ck_assert_uint_eq(bus_read(bus, 0xfee00020, 1), 0xff);
    ck_assert_uint_eq(bus_read(bus, 0xfee00040, 1), 2);
    for (unsigned i = 0; i < 40; i++)
        g_string_free(chip[i].log, TRUE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bus");
    TCase *tcase = tcase_create("bus");
    tcase_add_loop_test(tcase, access_sizes, 0, G_N_ELEMENTS(accesses));
    tcase_add_loop_test(tcase, overlaps, 0, G_N_ELEMENTS(ranges));
    tcase_add_test(tcase, many_and_remove);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
