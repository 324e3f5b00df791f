/* Who has the local APICs: registers, messages and routes go with the engine.  The engine here is a page of memory. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "vm/apic-link.h"

typedef struct FakeCpu {
    Cpu base;
    CpuApic apic;
} FakeCpu;

static GMutex lock;
static Clock *wall;
static LapicBus *bus;
static Lapic *chip;
static Ioapic *ioapic;
static ApicLink link_;
static FakeCpu with, without;
static GString *events;
static bool irq_level;

static bool fake_msi(Cpu *cpu, uint64_t address, uint32_t data)
{
    g_string_append_printf(events, "msi %x=%x ", (unsigned)address, data);
    return true;
}

static void fake_route(Cpu *cpu, unsigned pin, uint64_t address, uint32_t data)
{
    if (data)
        g_string_append_printf(events, "route %u:%x=%x ", pin, (unsigned)address, data);
}

static void fake_get(Cpu *cpu, CpuApic *out_apic) { *out_apic = ((FakeCpu *)cpu)->apic; }
static void fake_set(Cpu *cpu, const CpuApic *apic) { ((FakeCpu *)cpu)->apic = *apic; }

static const CpuOps with_ops = { .name = "with", .msi = fake_msi, .route = fake_route, .apic_get = fake_get, .apic_set = fake_set };
static const CpuOps without_ops = { .name = "without" };

static void irq_note(void *opaque, unsigned number, bool level) { irq_level = level; }

static void setup(void)
{
    g_mutex_init(&lock);
    wall = clock_new(NULL, &lock, NULL);
    g_mutex_lock(&lock);
    bus = lapic_bus_new();
    ioapic = ioapic_new(&(IoapicWires){ .sink = lapic_bus_sink(bus), .route_changed = apic_link_route, .opaque = &link_ });
    chip = lapic_new(&(LapicWires){ .clock = wall, .bus = bus, .cpu_irq = { .set = irq_note } });
    link_ = (ApicLink){ .bus = bus, .ioapic = ioapic, .lapic = { chip }, .count = 1 };
    with = (FakeCpu){ .base = { .ops = &with_ops, .has_apic = true } };
    without = (FakeCpu){ .base = { .ops = &without_ops } };
    events = g_string_new(NULL);
    irq_level = false;
}

static void teardown(void)
{
    g_string_free(events, TRUE);
    lapic_free(chip);
    ioapic_free(ioapic);
    lapic_bus_free(bus);
    g_mutex_unlock(&lock);
    clock_free(wall);
    g_mutex_clear(&lock);
}

static void connect_cpu(FakeCpu *cpu)
{
    Cpu *base = &cpu->base;
    apic_link_connect(&link_, &base);
}

static void register_write(unsigned offset, uint32_t value) { lapic_ops.write(chip, offset, 4, value); }

static uint32_t word(const FakeCpu *cpu, unsigned offset)
{
    uint32_t value;
    memcpy(&value, cpu->apic.page + offset, sizeof value);
    return value;
}

START_TEST(test_registers_go_and_come_back)
{
    connect_cpu(&without);
    register_write(0xf0, 0x1ff);
    register_write(0x80, 0x20); /* TPR */
    connect_cpu(&with);
    ck_assert_uint_eq(word(&with, 0x80), 0x20);
    ck_assert_uint_eq(with.apic.base, 0xfee00900);
    with.apic.page[0x80] = 0x30;   /* the guest in the engine */
    with.apic.page[0x222] = 0x02;  /* an interrupt of vector 0x51 waits */
    ck_assert(!irq_level);
    connect_cpu(&without);
    ck_assert_uint_eq(lapic_cr8_read(chip), 3);
    ck_assert(irq_level);
    ck_assert_int_eq(lapic_acknowledge(chip), 0x51);
}
END_TEST

START_TEST(test_messages_go_to_the_engine)
{
    ApicMessage message = { .destination = 0, .vector = 0x61, .is_level = true };
    connect_cpu(&with);
    ck_assert(lapic_bus_deliver(bus, &message));
    ck_assert_str_eq(events->str, "msi fee00000=c061 ");
    apic_link_connect(&link_, NULL);
    g_string_truncate(events, 0);
    lapic_bus_deliver(bus, &message);
    ck_assert_str_eq(events->str, "");
}
END_TEST

static void rte_write(unsigned pin, uint32_t low)
{
    ioapic_ops.write(ioapic, 0, 4, 0x10 + 2 * pin);
    ioapic_ops.write(ioapic, 0x10, 4, low);
}

START_TEST(test_level_pins_are_routes)
{
    rte_write(9, 0x8071);
    rte_write(4, 0x0031); /* edge: nobody is told of its end */
    connect_cpu(&with);
    ck_assert_str_eq(events->str, "route 9:fee00000=c071 ");
    g_string_truncate(events, 0);
    rte_write(9, 0x18071); /* masked: the end of one that is under way must still be told */
    ck_assert_str_eq(events->str, "");
    rte_write(9, 0x8072);
    ck_assert_str_eq(events->str, "route 9:fee00000=c072 ");
}
END_TEST

START_TEST(test_reset_reaches_the_engine)
{
    connect_cpu(&with);
    with.apic.page[0x80] = 0x50;
    lapic_reset(chip);
    apic_link_push(&link_);
    ck_assert_uint_eq(word(&with, 0x80), 0);
    with.apic.page[0x80] = 0x60;
    apic_link_pull(&link_);
    ck_assert_uint_eq(lapic_cr8_read(chip), 6);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("apic-link");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_registers_go_and_come_back);
    tcase_add_test(tcase, test_messages_go_to_the_engine);
    tcase_add_test(tcase, test_level_pins_are_routes);
    tcase_add_test(tcase, test_reset_reaches_the_engine);
    Suite *suite = suite_create("vm-apic-routes");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
