/* The two stages of the watchdog, its lock and its unlocking, on a fake clock. */
#include <check.h>
#include <stdlib.h>

#include "devices/i6300esb.h"

#define DEVFN 0x10
#define BAR   0xe0000000u
#define TICK  INT64_C(983040)

static Bus *ports, *memory;
static Clock *fake;
static PciBus *bus;
static I6300esb *watchdog;
static unsigned nexpired;

static void note_expired(void *opaque) { nexpired++; }
static void ignore_line(void *opaque, unsigned number, bool level) { }

static void config_out(unsigned offset, unsigned size, uint32_t value)
{
    bus_write(ports, 0xcf8, 4, 0x80000000u | DEVFN << 8 | (offset & 0xfc));
    bus_write(ports, 0xcfc + (offset & 3), size, value);
}

static uint32_t config_in(unsigned offset, unsigned size)
{
    bus_write(ports, 0xcf8, 4, 0x80000000u | DEVFN << 8 | (offset & 0xfc));
    return (uint32_t)bus_read(ports, 0xcfc + (offset & 3), size);
}

static void unlocked(unsigned offset, unsigned size, uint32_t value)
{
    bus_write(memory, BAR + 12, 2, 0x80);
    bus_write(memory, BAR + 12, 2, 0x86);
    bus_write(memory, BAR + offset, size, value);
}

static void setup(void)
{
    nexpired = 0;
    ports = bus_new("port", 0xffff);
    memory = bus_new("mmio", UINT64_MAX);
    fake = clock_new_fake();
    bus = pci_bus_new(&(PciBusWires){ .ports = ports, .memory = memory, .isa_irq = { .set = ignore_line } });
    ck_assert(bus_add(ports, 0xcf8, 8, &pci_bus_ops, bus, NULL));
    watchdog = i6300esb_new(&(I6300esbWires){ .clock = fake, .bus = bus, .devfn = DEVFN, .expired = note_expired }, NULL);
    ck_assert_ptr_nonnull(watchdog);
    config_out(PCI_BAR0, 4, BAR);
    config_out(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    config_out(0x60, 2, 3); /* no interrupt at the first stage's end, as Linux sets it */
    unlocked(0, 4, 100);
    unlocked(4, 4, 50);
}

static void teardown(void)
{
    i6300esb_free(watchdog);
    pci_bus_free(bus);
    clock_free(fake);
    bus_free(memory);
    bus_free(ports);
}

START_TEST(test_two_stages)
{
    config_out(0x68, 1, 2);
    clock_fake_advance(fake, 150 * TICK - 1);
    ck_assert_uint_eq(nexpired, 0);
    clock_fake_advance(fake, 1);
    ck_assert_uint_eq(nexpired, 1);
    ck_assert_uint_eq(bus_read(memory, BAR + 12, 2), 0x200);
    ck_assert_uint_eq(config_in(0x68, 1), 0);
    clock_fake_advance(fake, 1000 * TICK);
    ck_assert_uint_eq(nexpired, 1);
    pci_bus_reset(bus);
    config_out(PCI_BAR0, 4, BAR);
    config_out(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    ck_assert_uint_eq(bus_read(memory, BAR + 12, 2), 0x200); /* why it starts */
    unlocked(12, 2, 0x200);
    ck_assert_uint_eq(bus_read(memory, BAR + 12, 2), 0);
}
END_TEST

START_TEST(test_reload)
{
    config_out(0x68, 1, 2);
    for (unsigned i = 0; i < 10; i++) {
        clock_fake_advance(fake, 140 * TICK);
        unlocked(12, 2, 0x100);
    }
    ck_assert_uint_eq(nexpired, 0);
    bus_write(memory, BAR + 12, 2, 0x100); /* not unlocked: no effect */
    clock_fake_advance(fake, 100 * TICK);
    bus_write(memory, BAR + 12, 2, 0x100);
    clock_fake_advance(fake, 50 * TICK);
    ck_assert_uint_eq(nexpired, 1);
}
END_TEST

START_TEST(test_lock)
{
    config_out(0x68, 1, 3);
    config_out(0x68, 1, 0);
    ck_assert_uint_eq(config_in(0x68, 1), 3);
    clock_fake_advance(fake, 150 * TICK);
    ck_assert_uint_eq(nexpired, 1);
}
END_TEST

START_TEST(test_off)
{
    config_out(0x68, 1, 2);
    clock_fake_advance(fake, 120 * TICK);
    config_out(0x68, 1, 0);
    clock_fake_advance(fake, 1000 * TICK);
    ck_assert_uint_eq(nexpired, 0);
}
END_TEST

START_TEST(test_interrupt_and_no_reboot)
{
    config_out(0x60, 2, 0x20);
    config_out(0x68, 1, 2);
    clock_fake_advance(fake, 100 * TICK);
    ck_assert_uint_eq(bus_read(memory, BAR + 8, 4), 1);
    bus_write(memory, BAR + 8, 4, 1);
    ck_assert_uint_eq(bus_read(memory, BAR + 8, 4), 0);
    clock_fake_advance(fake, 50 * TICK);
    ck_assert_uint_eq(nexpired, 0);
    ck_assert_uint_eq(bus_read(memory, BAR + 12, 2), 0x200);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("i6300esb");
    TCase *tcase = tcase_create("i6300esb");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_two_stages);
    tcase_add_test(tcase, test_reload);
    tcase_add_test(tcase, test_lock);
    tcase_add_test(tcase, test_off);
    tcase_add_test(tcase, test_interrupt_and_no_reboot);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
