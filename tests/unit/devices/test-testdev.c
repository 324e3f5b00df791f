/* pc-testdev and pci-testdev. */
#include "devices/pc-testdev.h"
#include "devices/pci-testdev.h"

#include <check.h>

static unsigned line_number;
static bool line_level;

static void line_set(void *opaque, unsigned number, bool level)
{
    line_number = number;
    line_level = level;
}

START_TEST(ports_hold_bytes)
{
    g_autoptr(PcTestdev) device = pc_testdev_new((IrqLine){ .set = line_set });
    g_autoptr(Bus) bus = bus_new("port", 0xffff);
    ck_assert(bus_add(bus, PC_TESTDEV_PORTS, PC_TESTDEV_NPORTS, &pc_testdev_port_ops, device, NULL));
    bus_write(bus, 0xe0, 4, 0x44332211);
    ck_assert_uint_eq(bus_read(bus, 0xe0, 4), 0x44332211);
    ck_assert_uint_eq(bus_read(bus, 0xe2, 2), 0x4433);
    ck_assert_uint_eq(bus_read(bus, 0xe9, 1), 0x22);
    bus_write(bus, 0xe4, 4, 0x1000); /* flush a page: nothing to see */
    ck_assert_uint_eq(bus_read(bus, 0xe0, 4), 0x44332211);
}
END_TEST

START_TEST(ports_drive_lines)
{
    g_autoptr(PcTestdev) device = pc_testdev_new((IrqLine){ .set = line_set });
    pc_testdev_line_ops.write(device, 17, 1, 1);
    ck_assert_uint_eq(line_number, 17);
    ck_assert(line_level);
    pc_testdev_line_ops.write(device, 17, 1, 0);
    ck_assert(!line_level);
}
END_TEST

START_TEST(memory_holds_bytes)
{
    g_autoptr(PcTestdev) device = pc_testdev_new((IrqLine){ 0 });
    pc_testdev_mmio_ops.write(device, PC_TESTDEV_MMIO_SIZE - 8, 8, 0x8877665544332211);
    ck_assert_uint_eq(pc_testdev_mmio_ops.read(device, PC_TESTDEV_MMIO_SIZE - 4, 2), 0x6655);
}
END_TEST

START_TEST(pci_function_counts_writes)
{
    g_autoptr(Bus) ports = bus_new("port", 0xffff), memory = bus_new("mmio", UINT64_MAX);
    PciBus *pci = pci_bus_new(&(PciBusWires){ .ports = ports, .memory = memory });
    PciTestdev *device = pci_testdev_new(pci, PCI_DEVFN(31, 0), NULL);
    ck_assert_ptr_nonnull(device);
    ck_assert(pci_bus_assign(pci, NULL));
    const PciBar *bar = &((const PciDevice *)device)->bar[0];
    ck_assert(bar->is_mapped);
    uint64_t at = bar->mapped;
    bus_write(memory, at, 1, 0); /* test 0 */
    ck_assert_uint_eq(bus_read(memory, at + 1, 1), 1);
    uint64_t offset = bus_read(memory, at + 4, 4), value = bus_read(memory, at + 8, 4);
    for (unsigned i = 0; i < 3; i++)
        bus_write(memory, at + offset, 1, value);
    bus_write(memory, at + offset, 1, value + 1);
    ck_assert_uint_eq(bus_read(memory, at + 12, 4), 3);
    bus_write(memory, at, 1, 200); /* no such test */
    ck_assert_uint_eq(bus_read(memory, at + 1, 1), 0);
    pci_testdev_free(device);
    pci_bus_free(pci);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("testdev");
    TCase *test = tcase_create("all");
    tcase_add_test(test, ports_hold_bytes);
    tcase_add_test(test, ports_drive_lines);
    tcase_add_test(test, memory_holds_bytes);
    tcase_add_test(test, pci_function_counts_writes);
    suite_add_tcase(suite, test);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
