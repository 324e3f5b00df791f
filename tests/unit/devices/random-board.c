#include "random-board.h"

#include <stdlib.h>
#include <string.h>

static void isa_set(void *opaque, unsigned number, bool level)
{
    RandomBoard *machine = opaque;
    machine->nirqs++;
    i8259_set_irq(machine->pic, number & 15, level);
    ioapic_set_irq(machine->ioapic, number & 15, level);
}

static void gsi_set(void *opaque, unsigned number, bool level)
{
    RandomBoard *machine = opaque;
    machine->nirqs++;
    ioapic_set_irq(machine->ioapic, number, level);
}

static IrqLine isa(RandomBoard *machine, unsigned irq) { return (IrqLine){.set = isa_set, .opaque = machine, .number = irq}; }

static int acknowledge(void *opaque) { return pic_acknowledge(((RandomBoard *)opaque)->pic); }
static uint64_t guest_tsc(void *opaque) { return (uint64_t)clock_now_ns(((RandomBoard *)opaque)->script.clock) * 2; }

static void build(RandomBoard *m)
{
    memset(m, 0, sizeof *m);
    chip_script_init(&m->script);
    Clock *clock = m->script.clock;
    m->memory = g_malloc0(RANDOM_BOARD_RAM + PAGE_SIZE);
    m->ram = ram_new_array((uint8_t *)page_of((uintptr_t)m->memory + PAGE_SIZE - 1), RANDOM_BOARD_RAM);
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

static void map(RandomBoard *m)
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

void random_board_build(RandomBoard *board)
{
    build(board);
    map(board);
}

void random_board_clear(RandomBoard *m)
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

/* As text, for comparing one board with another. */
static void answer(RandomBoard *board, const char *what, uint64_t where, uint64_t value)
{
    if (board->answers)
        g_string_append_printf(board->answers, "%s %" G_GINT64_MODIFIER "x: %" G_GINT64_MODIFIER "x\n", what, where, value);
}

void random_board_step(RandomBoard *m, GRand *rand)
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
        answer(m, "vector", 0, (uint64_t)(int64_t)lapic_acknowledge(m->lapic));
        break;
    case 2:
        if (!lapic_msr_write(m->lapic, g_rand_int_range(rand, 0, 4) ? 0x800 + g_rand_int_range(rand, 0, 0x40) : 0x6e0, pick_value(rand)))
            (void)lapic_msr_read(m->lapic, 0x800 + g_rand_int_range(rand, 0, 0x40), &value);
        break;
    case 3:
        value = pick_value(rand);
        memcpy(ram_slice(m->ram, g_rand_int_range(rand, 0, RANDOM_BOARD_RAM / 8) * 8, 8), &value, 8);
        break;
    case 4:
        answer(m, "uart took", 0, ns16550_receive(m->uart, (const uint8_t *)"abc", 3));
        answer(m, "console took", 0, virtio_console_receive(m->console, (const uint8_t *)"abc", 3));
        answer(m, "keyboard took", 0, i8042_key(m->kbc, (const uint8_t[]){0xf0, 0x1c}, 2));
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        answer(m, "read", addr, bus_read(m->script.bus, addr, size));
        break;
    default:
        bus_write(m->script.bus, addr, size, pick_value(rand));
        break;
    }
}
