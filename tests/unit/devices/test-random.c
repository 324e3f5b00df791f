/* Whatever a guest writes where, the chips neither stop nor hang the monitor: random accesses to a whole board, many seeds. */
#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/acpi-pm.h"
#include "devices/fw-cfg.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/mc146818.h"
#include "devices/ns16550.h"
#include "devices/virtio-console.h"
#include "devices/virtio-pci.h"
#include "devices/virtio-rng.h"

#define NSTEPS 20000
#define NSEEDS 20
#define RAM_SIZE 0x100000

typedef struct Machine {
    ChipScript script;
    uint8_t *memory;
    Ram *ram;
    I8259 *pic;
    Ioapic *ioapic;
    LapicBus *lapic_bus;
    Lapic *lapic;
    I8254 *pit;
    Mc146818 *rtc;
    I8042 *kbc;
    Hpet *hpet;
    AcpiPm *pm;
    PciBus *pci;
    FwCfg *fw;
    Ns16550 *uart;
    VirtioRng *rng;
    VirtioConsole *console;
    VirtioPci *rng_pci, *console_pci;
    unsigned nirqs; /* changes of lines, bounded by time and accesses */
} Machine;

static void isa_set(void *opaque, unsigned number, bool level)
{
    Machine *machine = opaque;
    machine->nirqs++;
    i8259_set_irq(machine->pic, number & 15, level);
    ioapic_set_irq(machine->ioapic, number & 15, level);
}

static void gsi_set(void *opaque, unsigned number, bool level)
{
    Machine *machine = opaque;
    machine->nirqs++;
    ioapic_set_irq(machine->ioapic, number, level);
}

static IrqLine isa(Machine *machine, unsigned irq) { return (IrqLine){.set = isa_set, .opaque = machine, .number = irq}; }

static int acknowledge(void *opaque) { return pic_acknowledge(((Machine *)opaque)->pic); }
static uint64_t guest_tsc(void *opaque) { return (uint64_t)clock_now_ns(((Machine *)opaque)->script.clock) * 2; }

static void build(Machine *m)
{
    memset(m, 0, sizeof *m);
    chip_script_init(&m->script);
    Clock *clock = m->script.clock;
    m->memory = g_malloc0(RAM_SIZE + PAGE_SIZE);
    m->ram = ram_new_array((uint8_t *)page_of((uintptr_t)m->memory + PAGE_SIZE - 1), RAM_SIZE);
    m->lapic_bus = lapic_bus_new();
    m->ioapic = ioapic_new(&(IoapicWires){.sink = lapic_bus_sink(m->lapic_bus)});
    lapic_bus_set_eoi(m->lapic_bus, ioapic_eoi, m->ioapic);
    m->lapic = lapic_new(&(LapicWires){
        .clock = clock, .bus = m->lapic_bus, .tsc_hz = 2000000000, .guest_tsc = guest_tsc, .pic_acknowledge = acknowledge, .opaque = m});
    m->pic = i8259_new(&(I8259Wires){.output = lapic_lint(m->lapic, 0)});
    m->pit = i8254_new(&(I8254Wires){.clock = clock, .irq = isa(m, 0)});
    m->rtc = mc146818_new(&(Mc146818Wires){.clock = clock, .irq = isa(m, 8), .ncpus = 1});
    m->kbc = i8042_new(&(I8042Wires){.keyboard_irq = isa(m, 1), .mouse_irq = isa(m, 12)});
    m->hpet = hpet_new(&(HpetWires){.clock = clock, .gsi = {.set = gsi_set, .opaque = m}, .isa_irq = isa(m, 0)});
    m->pm = acpi_pm_new(&(AcpiPmWires){.clock = clock, .sci = isa(m, 9)});
    m->pci = pci_bus_new(&(PciBusWires){
        .ports = m->script.bus, .memory = m->script.bus, .isa_irq = isa(m, 0), .msi = lapic_bus_sink(m->lapic_bus)});
    m->fw = fw_cfg_new(&(FwCfgWires){.ram = m->ram});
    m->uart = ns16550_new(&(Ns16550Wires){.clock = clock, .irq = isa(m, 4)});
    m->rng = virtio_rng_new(m->ram);
    m->console = virtio_console_new(&(VirtioConsoleWires){.ram = m->ram});
    m->rng_pci = virtio_pci_new(m->pci, PCI_DEVFN(2, 0), virtio_rng_device(m->rng), VIRTIO_PCI_TRANSITIONAL, NULL);
    m->console_pci = virtio_pci_new(m->pci, PCI_DEVFN(3, 0), virtio_console_device(m->console), VIRTIO_PCI_MODERN, NULL);
}

/* Where accesses go; the last rows are the BARs that pci_bus_assign() hands out. */
typedef struct Range {
    uint64_t start, size;
} Range;

static const Range ranges[] = {
    {0x20, 2}, {0xa0, 2}, {0x4d0, 2}, {0x40, 4}, {0x61, 1}, {0x60, 1}, {0x64, 1}, {0x92, 1}, {0x70, 2}, {0x3f8, 8}, {0x510, 12},
    {0x600, 0x40}, {0xafe0, 4}, {0xb2, 2}, {0xcf8, 8}, {0xcf8, 8}, {IOAPIC_BASE, 0x48}, {HPET_BASE, 0x160}, {0xfee00000, 0x400},
    {0xc000, 0x80}, {0xe0000000, 0x100}, {0xe0004000, 0x40}, {0xe0005000, 0x1010}, {0xe0006000, 0x2010}, {0xe0008000, 0x4000},
};

static void map(Machine *m)
{
    const struct {
        Range range;
        const BusOps *ops;
        void *device;
    } rows[] = {
        {{0x20, 2}, &i8259_master_ops, m->pic}, {{0xa0, 2}, &i8259_slave_ops, m->pic}, {{0x4d0, 2}, &i8259_elcr_ops, m->pic},
        {{0x40, 4}, &i8254_ops, m->pit}, {{0x61, 1}, &i8254_speaker_ops, m->pit}, {{0x60, 1}, &i8042_data_ops, m->kbc},
        {{0x64, 1}, &i8042_command_ops, m->kbc}, {{0x92, 1}, &i8042_port92_ops, m->kbc}, {{0x70, 2}, &mc146818_ops, m->rtc},
        {{0x3f8, 8}, &ns16550_ops, m->uart}, {{0x510, 2}, &fw_cfg_ops, m->fw}, {{0x514, 8}, &fw_cfg_dma_ops, m->fw},
        {{0x600, 0x40}, &acpi_pm_ops, m->pm}, {{0xafe0, 4}, &acpi_pm_gpe_ops, m->pm}, {{0xb2, 2}, &acpi_pm_smi_ops, m->pm},
        {{0xcf8, 8}, &pci_bus_ops, m->pci}, {{IOAPIC_BASE, IOAPIC_SIZE}, &ioapic_ops, m->ioapic}, {{HPET_BASE, HPET_SIZE}, &hpet_ops, m->hpet},
        {{0xfee00000, LAPIC_SIZE}, &lapic_ops, m->lapic},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        chip_script_map(&m->script, rows[i].range.start, rows[i].range.size, rows[i].ops, rows[i].device);
    pci_bus_set_default_routes(m->pci);
    ck_assert(pci_bus_assign(m->pci, NULL));
}

static void clear(Machine *m)
{
    virtio_pci_free(m->rng_pci);
    virtio_pci_free(m->console_pci);
    virtio_rng_free(m->rng);
    virtio_console_free(m->console);
    ns16550_free(m->uart);
    fw_cfg_free(m->fw);
    pci_bus_free(m->pci);
    acpi_pm_free(m->pm);
    hpet_free(m->hpet);
    i8042_free(m->kbc);
    mc146818_free(m->rtc);
    i8254_free(m->pit);
    i8259_free(m->pic);
    lapic_free(m->lapic);
    ioapic_free(m->ioapic);
    lapic_bus_free(m->lapic_bus);
    ram_free(m->ram);
    g_free(m->memory);
    chip_script_clear(&m->script);
}

/* Values that matter more often than chance would have it. */
static uint64_t pick_value(GRand *rand)
{
    static const uint64_t special[] = {0, 1, 2, 0x80, 0xff, 0xffff, 0x80000000, 0xffffffff, 0x80001000, 0x80001810, 0x80001804, 0x1000, 0x70000};
    if (g_rand_int_range(rand, 0, 3) == 0)
        return special[g_rand_int_range(rand, 0, G_N_ELEMENTS(special))];
    return (uint64_t)g_rand_int(rand) << (g_rand_int_range(rand, 0, 4) == 0 ? 32 : 0) >> g_rand_int_range(rand, 0, 32);
}

static void step(Machine *m, GRand *rand)
{
    const Range *range = &ranges[g_rand_int_range(rand, 0, G_N_ELEMENTS(ranges))];
    uint64_t addr = range->start + g_rand_int(rand) % range->size;
    unsigned size = 1u << g_rand_int_range(rand, 0, 4);
    uint64_t value;
    if (g_rand_int_range(rand, 0, 2))
        addr &= ~(uint64_t)(size - 1);
    switch (g_rand_int_range(rand, 0, 16)) {
    case 0:
        clock_fake_advance(m->script.clock, g_rand_int_range(rand, 0, 3000000));
        break;
    case 1:
        (void)lapic_acknowledge(m->lapic);
        break;
    case 2:
        if (!lapic_msr_write(m->lapic, g_rand_int_range(rand, 0, 4) ? 0x800 + g_rand_int_range(rand, 0, 0x40) : 0x6e0, pick_value(rand)))
            (void)lapic_msr_read(m->lapic, 0x800 + g_rand_int_range(rand, 0, 0x40), &value);
        break;
    case 3:
        value = pick_value(rand);
        memcpy(ram_slice(m->ram, g_rand_int_range(rand, 0, RAM_SIZE / 8) * 8, 8), &value, 8);
        break;
    case 4:
        (void)ns16550_receive(m->uart, (const uint8_t *)"abc", 3);
        (void)virtio_console_receive(m->console, (const uint8_t *)"abc", 3);
        (void)i8042_key(m->kbc, (const uint8_t[]){0xf0, 0x1c}, 2);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        (void)bus_read(m->script.bus, addr, size);
        break;
    default:
        bus_write(m->script.bus, addr, size, pick_value(rand));
        break;
    }
}

START_TEST(test_seed)
{
    Machine machine;
    GRand *rand = g_rand_new_with_seed((guint32)_i + 1);
    build(&machine);
    map(&machine);
    for (unsigned i = 0; i < NSTEPS; i++)
        step(&machine, rand);
    /* Time may pass in one piece too, with everything armed: at 100 µs a period at least, that is bounded. */
    machine.nirqs = 0;
    clock_fake_advance(machine.script.clock, 1000000000);
    ck_assert_msg(machine.nirqs < 200000, "seed %d: %u line changes in a second", _i + 1, machine.nirqs);
    g_rand_free(rand);
    clear(&machine);
}
END_TEST

static void nothing(void) {}

int main(void) { return chip_script_main("random", test_seed, NSEEDS, nothing, nothing); }
