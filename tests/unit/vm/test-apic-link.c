/* Vm: who has the local APICs.  An engine that has them, as a page and a list of what it was sent. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "vm/apic-link.h"

#define PIN 10
#define VECTOR 0x41u
#define IRR (0x200 + VECTOR / 32 * 16)
#define SVR 0xf0

static GMutex lock;
static Clock *machine_clock;
static LapicBus *bus;
static Ioapic *ioapic;
static Lapic *chip;
static ApicLink apic_link;
static CpuApic engine_apic;
static unsigned nmessages;

static void set_word(uint8_t *page, unsigned at, uint32_t value) { memcpy(page + at, &value, 4); }

static bool engine_msi(Cpu *cpu, uint64_t address, uint32_t data)
{
    nmessages++;
    set_word(engine_apic.page, IRR, 1u << data % 32);
    return true;
}

static void engine_route(Cpu *cpu, unsigned pin, uint64_t address, uint32_t data) {}
static void engine_get(Cpu *cpu, CpuApic *out_apic) { *out_apic = engine_apic; }
static void engine_set(Cpu *cpu, const CpuApic *apic) { engine_apic = *apic; }
static const CpuOps ops = { .name = "fake", .msi = engine_msi, .route = engine_route, .apic_get = engine_get, .apic_set = engine_set };
static Cpu engine = { .ops = &ops, .has_apic = true };

static void line_ignore(void *opaque, unsigned number, bool level) {}
static uint64_t no_tsc(void *opaque) { return 0; }
static int no_vector(void *opaque) { return -1; }
static void nothing(void *opaque) {}

static void setup(void)
{
    Cpu *cpus[] = { &engine };
    machine_clock = clock_new(NULL, &lock, NULL);
    bus = lapic_bus_new();
    ioapic = ioapic_new(&(IoapicWires){ .sink = lapic_bus_sink(bus) });
    chip = lapic_new(&(LapicWires){ .clock = machine_clock, .bus = bus, .cpu_irq = { .set = line_ignore }, .guest_tsc = no_tsc,
                                    .pic_acknowledge = no_vector, .nmi = nothing, .init = nothing });
    lapic_bus_set_eoi(bus, ioapic_eoi, ioapic);
    apic_link = (ApicLink){ .bus = bus, .ioapic = ioapic, .lapic = { chip }, .count = 1 };
    lapic_ops.write(chip, SVR, 4, 0x1ff);
    ioapic_ops.write(ioapic, 0, 4, 0x10 + 2 * PIN);
    ioapic_ops.write(ioapic, 0x10, 4, 1u << 15 | VECTOR); /* level, physical destination 0 */
    nmessages = 0;
    apic_link_connect(&apic_link, cpus);
}

static void teardown(void)
{
    lapic_free(chip);
    ioapic_free(ioapic);
    lapic_bus_free(bus);
    clock_free(machine_clock);
}

/* The guest has ended the interrupt inside the engine, which was stopped before it could tell: the pin is not dead. */
START_TEST(untold_end_is_noticed)
{
    ioapic_set_irq(ioapic, PIN, true);
    ck_assert_uint_eq(nmessages, 1);
    ioapic_set_irq(ioapic, PIN, false);
    set_word(engine_apic.page, IRR, 0); /* taken and ended */
    apic_link_connect(&apic_link, NULL);
    ck_assert(!lapic_holds(chip, VECTOR));
    ioapic_set_irq(ioapic, PIN, true);
    ck_assert(lapic_holds(chip, VECTOR));
    ck_assert_uint_eq(nmessages, 1);
}
END_TEST

/* The same while the device still asks: the interrupt that follows is not lost on the way. */
START_TEST(next_one_travels)
{
    ioapic_set_irq(ioapic, PIN, true);
    set_word(engine_apic.page, IRR, 0);
    apic_link_connect(&apic_link, NULL);
    ck_assert_uint_eq(nmessages, 2);
    ck_assert(lapic_holds(chip, VECTOR));
}
END_TEST

/* What waits or is in service has not ended. */
START_TEST(waiting_one_stays_one)
{
    ioapic_set_irq(ioapic, PIN, true);
    apic_link_connect(&apic_link, NULL);
    ck_assert_uint_eq(nmessages, 1);
    ck_assert(lapic_holds(chip, VECTOR));
    ck_assert(ioapic_waits(ioapic, VECTOR));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("apic-link");
    TCase *tcase = tcase_create("link");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, untold_end_is_noticed);
    tcase_add_test(tcase, next_one_travels);
    tcase_add_test(tcase, waiting_one_stays_one);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
