#include "vm/board.h"

#include <string.h>
#include <time.h>

#include "core/cpuid.h"
#include "core/error.h"
#include "core/log.h"
#include "devices/acpi-pm.h"
#include "devices/debugcon.h"
#include "devices/fw-cfg.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/i6300esb.h"
#include "devices/ioapic.h"
#include "devices/isa-debug-exit.h"
#include "devices/mc146818.h"
#include "devices/ns16550.h"
#include "devices/pc-testdev.h"
#include "devices/pci-testdev.h"
#include "devices/post80.h"
#include "devices/pvpanic.h"
#include "vm/acpi.h"
#include "vm/boot.h"

#define NISA_IRQS 16
#define PCI_TESTDEV_SLOT 31u
#define WATCHDOG_DEVFN    PCI_DEVFN(2, 0)
#define PVPANIC_DEVFN     PCI_DEVFN(1, 4) /* a function of the chip set */
#define SEABIOS_PM_BASE 0xb000u /* where it moves the PIIX4's PM block and what its ACPI tables say */

/* One processor's local APIC. */
typedef struct LapicSeat {
    Board *board;
    unsigned cpu;
    Lapic *lapic;
    Bus *page; /* addressed from 0 */
} LapicSeat;

typedef struct SerialPort {
    Board *board;
    Ns16550 *uart;
    Chardev *chardev;
} SerialPort;

struct Board {
    BoardWires wires;
    bool has_acpi, has_hpet, has_i8042, has_pit;
    bool is_held; /* no input from outside */
    Bus *ports, *memory;
    uint32_t irq_sources[NISA_IRQS]; /* bit s: source s holds the line up */
    I8259 *pic;
    Ioapic *ioapic;
    LapicBus *lapic_bus;
    unsigned ncpus;
    LapicSeat seat[CONFIG_MAX_CPUS];
    ApicLink apic_link;
    I8254 *pit;
    Mc146818 *rtc;
    I8042 *kbc;
    Hpet *hpet;
    AcpiPm *pm;
    PciBus *pci;
    FwCfg *fw;
    Post80 post;
    Debugcon *debugcon;
    IsaDebugExit *debug_exit;
    Pvpanic *pvpanic, *pvpanic_pci;
    I6300esb *watchdog;
    uint16_t pvpanic_port; /* 0: none */
    PcTestdev *testdev;
    PciTestdev *pci_testdev;
    SerialPort serial[CONFIG_MAX_SERIAL];
};

/* --- interrupts --- */

/* Several chips may share an ISA IRQ: each is a source with a bit of its own.  number = IRQ | source << 8. */
enum { SOURCE_ISA, SOURCE_PCI, SOURCE_HPET, SOURCE_TEST, SOURCE_SERIAL0, SOURCE_SERIAL_LAST = SOURCE_SERIAL0 + CONFIG_MAX_SERIAL - 1 };

static void isa_irq_set(void *opaque, unsigned number, bool level)
{
    Board *board = opaque;
    unsigned irq = number & 0xff, source = number >> 8;
    if (irq >= NISA_IRQS)
        return;
    if (level)
        board->irq_sources[irq] |= 1u << source;
    else
        board->irq_sources[irq] &= ~(1u << source);
    bool is_up = board->irq_sources[irq] != 0;
    i8259_set_irq(board->pic, irq, is_up);
    ioapic_set_irq(board->ioapic, irq == 0 ? 2 : irq, is_up);
}

static void pci_irq_set(void *opaque, unsigned number, bool level) { isa_irq_set(opaque, number | SOURCE_PCI << 8, level); }

static void hpet_isa_irq_set(void *opaque, unsigned number, bool level) { isa_irq_set(opaque, number | SOURCE_HPET << 8, level); }

static void hpet_gsi_set(void *opaque, unsigned number, bool level)
{
    Board *board = opaque;
    if (number < IOAPIC_NPINS)
        ioapic_set_irq(board->ioapic, number, level);
}

static void test_line_set(void *opaque, unsigned number, bool level)
{
    Board *board = opaque;
    if (number < NISA_IRQS)
        isa_irq_set(board, number | SOURCE_TEST << 8, level);
    else
        ioapic_set_irq(board->ioapic, number, level);
}

static IrqLine isa_line(Board *board, unsigned irq, unsigned source)
{
    return (IrqLine){ .set = isa_irq_set, .opaque = board, .number = irq | source << 8 };
}

static void hpet_legacy_changed(void *opaque, bool is_on)
{
    Board *board = opaque;
    if (board->pit)
        i8254_set_irq_enabled(board->pit, !is_on);
    mc146818_set_irq_enabled(board->rtc, !is_on);
}

static int seat_pic_acknowledge(void *opaque)
{
    LapicSeat *seat = opaque;
    return pic_acknowledge(seat->board->pic);
}

static uint64_t seat_guest_tsc(void *opaque)
{
    const BoardWires *wires = &((LapicSeat *)opaque)->board->wires;
    return wires->guest_tsc(wires->opaque);
}

static void seat_nmi(void *opaque)
{
    LapicSeat *seat = opaque;
    seat->board->wires.nmi(seat->board->wires.opaque, seat->cpu);
}

static void seat_init(void *opaque)
{
    LapicSeat *seat = opaque;
    seat->board->wires.cpu_init(seat->board->wires.opaque, seat->cpu);
}

static void seat_startup(void *opaque, uint8_t vector)
{
    LapicSeat *seat = opaque;
    seat->board->wires.cpu_startup(seat->board->wires.opaque, seat->cpu, vector);
}

static void board_ask_reset(void *opaque)
{
    Board *board = opaque;
    board->wires.reset(board->wires.opaque);
}

static void board_ask_power_off(void *opaque)
{
    Board *board = opaque;
    board->wires.power_off(board->wires.opaque);
}

static void board_panicked(void *opaque, uint8_t event)
{
    Board *board = opaque;
    board->wires.panicked(board->wires.opaque, event);
}

static void board_watchdog_expired(void *opaque)
{
    Board *board = opaque;
    board->wires.watchdog(board->wires.opaque);
}

static void board_ask_debug_exit(void *opaque, unsigned status)
{
    Board *board = opaque;
    board->wires.debug_exit(board->wires.opaque, status);
}

/* --- serial ports --- */

static size_t serial_receive(void *opaque, const uint8_t *bytes, size_t count)
{
    SerialPort *serial = opaque;
    g_mutex_lock(serial->board->wires.lock);
    size_t taken = serial->board->is_held ? 0 : ns16550_receive(serial->uart, bytes, count);
    g_mutex_unlock(serial->board->wires.lock);
    return taken;
}

static void serial_break(void *opaque)
{
    SerialPort *serial = opaque;
    g_mutex_lock(serial->board->wires.lock);
    if (!serial->board->is_held)
        ns16550_receive_break(serial->uart);
    g_mutex_unlock(serial->board->wires.lock);
}

static void serial_write(void *opaque, const uint8_t *bytes, size_t count)
{
    SerialPort *serial = opaque;
    chardev_write(serial->chardev, bytes, count);
}

static void serial_can_receive(void *opaque)
{
    SerialPort *serial = opaque;
    chardev_ready(serial->chardev);
}

static void debugcon_write(void *opaque, const uint8_t *bytes, size_t count)
{
    Board *board = opaque;
    if (board->wires.debugcon)
        chardev_write(board->wires.debugcon, bytes, count);
}

/* --- building --- */

static int64_t rtc_start(const Config *config)
{
    if (config->rtc_base >= 0)
        return config->rtc_base;
    time_t now = time(NULL);
    struct tm local;
    if (config->rtc_local && localtime_r(&now, &local))
        return (int64_t)now + local.tm_gmtoff;
    return (int64_t)now;
}

static void chips_build(Board *board, const Config *config)
{
    const BoardWires *wires = &board->wires;
    Clock *clock = wires->clock;
    board->lapic_bus = lapic_bus_new();
    board->ioapic = ioapic_new(&(IoapicWires){ .sink = lapic_bus_sink(board->lapic_bus), .id = 0, .route_changed = apic_link_route,
                                               .opaque = &board->apic_link });
    lapic_bus_set_eoi(board->lapic_bus, ioapic_eoi, board->ioapic);
    for (unsigned i = 0; i < board->ncpus; i++) {
        LapicSeat *seat = &board->seat[i];
        *seat = (LapicSeat){ .board = board, .cpu = i, .page = bus_new("lapic", LAPIC_SIZE - 1) };
        seat->lapic = lapic_new(&(LapicWires){ .clock = clock, .index = wires->apic_id[i], .bus = board->lapic_bus, .cpu_irq = wires->cpu_irq[i],
                                               .physical_bits = CPUID_PHYSICAL_BITS, .tsc_hz = wires->tsc_hz,
                                               .guest_tsc = seat_guest_tsc, .pic_acknowledge = seat_pic_acknowledge, .nmi = seat_nmi,
                                               .init = seat_init, .startup = seat_startup, .opaque = seat });
    }
    board->apic_link = (ApicLink){ .bus = board->lapic_bus, .ioapic = board->ioapic, .count = board->ncpus };
    for (unsigned i = 0; i < board->ncpus; i++)
        board->apic_link.lapic[i] = board->seat[i].lapic;
    board->pic = i8259_new(&(I8259Wires){ .output = lapic_lint(board->seat[0].lapic, 0) });
    if (board->has_pit)
        board->pit = i8254_new(&(I8254Wires){ .clock = clock, .irq = isa_line(board, 0, SOURCE_ISA) });
    uint64_t low = MIN(wires->ram->size_bytes, BOOT_PCI_HOLE_START);
    board->rtc = mc146818_new(&(Mc146818Wires){ .clock = clock, .irq = isa_line(board, 8, SOURCE_ISA), .start_time_s = rtc_start(config),
                                                .ram_below_4g = low, .ram_above_4g = wires->ram->size_bytes - low,
                                                .ncpus = config->ncpus });
    if (board->has_i8042)
        board->kbc = i8042_new(&(I8042Wires){ .keyboard_irq = isa_line(board, 1, SOURCE_ISA), .mouse_irq = isa_line(board, 12, SOURCE_ISA),
                                              .reset = board_ask_reset, .opaque = board });
    if (board->has_hpet)
        board->hpet = hpet_new(&(HpetWires){ .clock = clock, .gsi = { .set = hpet_gsi_set, .opaque = board },
                                             .isa_irq = { .set = hpet_isa_irq_set, .opaque = board },
                                             .legacy_changed = hpet_legacy_changed, .opaque = board });
    board->pm = acpi_pm_new(&(AcpiPmWires){ .clock = clock, .sci = isa_line(board, ACPI_PM_SCI_IRQ, SOURCE_ISA),
                                            .power_off = board_ask_power_off, .opaque = board });
    board->pci = pci_bus_new(&(PciBusWires){ .ports = board->ports, .memory = board->memory,
                                             .isa_irq = { .set = pci_irq_set, .opaque = board },
                                             .msi = lapic_bus_sink(board->lapic_bus), .reset = board_ask_reset, .opaque = board });
    if (config->debugcon)
        board->debugcon = debugcon_new(&(DebugconWires){ .write = debugcon_write, .opaque = board, .readback = 0xe9 });
    if (config->has_debug_exit)
        board->debug_exit = isa_debug_exit_new(&(IsaDebugExitWires){ .exit = board_ask_debug_exit, .opaque = board });
    if (config->has_pvpanic)
        board->pvpanic = pvpanic_new(&(PvpanicWires){ .panicked = board_panicked, .opaque = board });
    if (config->has_pc_testdev)
        board->testdev = pc_testdev_new((IrqLine){ .set = test_line_set, .opaque = board });
    static const unsigned serial_irqs[CONFIG_MAX_SERIAL] = { 4, 3, 4, 3 };
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++) {
        SerialPort *serial = &board->serial[i];
        if (!wires->serial[i])
            continue;
        *serial = (SerialPort){ .board = board, .chardev = wires->serial[i] };
        serial->uart = ns16550_new(&(Ns16550Wires){ .clock = clock, .irq = isa_line(board, serial_irqs[i], SOURCE_SERIAL0 + i),
                                                    .write = serial_write, .can_receive = serial_can_receive, .opaque = serial });
        chardev_set_front(serial->chardev, CHAR_SLOT_GUEST,
                          &(CharFront){ .receive = serial_receive, .send_break = serial_break, .opaque = serial });
    }
}

static gboolean firmware_config_build(Board *board, const Config *config, GError **error)
{
    const Ram *ram = board->wires.ram;
    board->fw = fw_cfg_new(&(FwCfgWires){ .ram = ram });
    fw_cfg_add_u64(board->fw, FW_CFG_RAM_SIZE, ram->size_bytes);
    fw_cfg_add_u16(board->fw, FW_CFG_NOGRAPHIC, 1);
    fw_cfg_add_u16(board->fw, FW_CFG_NCPUS, (uint16_t)config->ncpus);
    fw_cfg_add_u16(board->fw, FW_CFG_MAX_CPUS, (uint16_t)config->ncpus);
    BootE820 map[BOOT_E820_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < ram->nslots; i++)
        if (!ram->slot[i].is_rom && (ram->slot[i].start == 0 || ram->slot[i].start >> 32)) {
            uint64_t size = ram->slot[i].start ? ram->slot[i].size : boot_low_top(ram);
            map[n++] = (BootE820){ ram->slot[i].start, size, BOOT_E820_RAM };
        }
    return fw_cfg_add_file(board->fw, "etc/e820", map, n * sizeof map[0], error);
}

/* One row a range: the board's whole address map. */
static gboolean map_build(Board *board, const Config *config, GError **error)
{
    const struct {
        Bus *bus;
        uint64_t start, size;
        const BusOps *ops;
        void *device; /* NULL: not built */
    } rows[] = {
        { board->ports, 0x20, 2, &i8259_master_ops, board->pic },
        { board->ports, 0xa0, 2, &i8259_slave_ops, board->pic },
        { board->ports, 0x4d0, 2, &i8259_elcr_ops, board->pic },
        { board->ports, 0x40, 4, &i8254_ops, board->pit },
        { board->ports, 0x61, 1, &i8254_speaker_ops, board->pit },
        { board->ports, 0x60, 1, &i8042_data_ops, board->kbc },
        { board->ports, 0x64, 1, &i8042_command_ops, board->kbc },
        { board->ports, 0x92, 1, &i8042_port92_ops, board->kbc },
        { board->ports, 0x70, 2, &mc146818_ops, board->rtc },
        { board->ports, 0x80, 1, &post80_ops, &board->post },
        { board->ports, 0x3f8, 8, &ns16550_ops, board->serial[0].uart },
        { board->ports, 0x2f8, 8, &ns16550_ops, board->serial[1].uart },
        { board->ports, 0x3e8, 8, &ns16550_ops, board->serial[2].uart },
        { board->ports, 0x2e8, 8, &ns16550_ops, board->serial[3].uart },
        { board->ports, 0x510, 2, &fw_cfg_ops, board->fw },
        { board->ports, 0x514, 8, &fw_cfg_dma_ops, board->fw },
        { board->ports, board->wires.is_firmware_boot ? SEABIOS_PM_BASE : ACPI_PM_BASE, ACPI_PM_SIZE, &acpi_pm_ops, board->pm },
        { board->ports, ACPI_PM_GPE_BASE, ACPI_PM_GPE_SIZE, &acpi_pm_gpe_ops, board->pm },
        { board->ports, ACPI_PM_SMI_PORT, 2, &acpi_pm_smi_ops, board->pm },
        { board->ports, 0xcf8, 8, &pci_bus_ops, board->pci },
        { board->ports, PC_TESTDEV_PORTS, PC_TESTDEV_NPORTS, &pc_testdev_port_ops, board->testdev },
        { board->ports, PC_TESTDEV_LINES, PC_TESTDEV_NLINES, &pc_testdev_line_ops, board->testdev },
        { board->memory, PC_TESTDEV_MMIO, PC_TESTDEV_MMIO_SIZE, &pc_testdev_mmio_ops, board->testdev },
        { board->memory, IOAPIC_BASE, IOAPIC_SIZE, &ioapic_ops, board->ioapic },
        { board->memory, HPET_BASE, HPET_SIZE, &hpet_ops, board->hpet },
        /* Last, because the user chose where. */
        { board->ports, config->debugcon_port, 1, &debugcon_ops, board->debugcon },
        { board->ports, config->pvpanic_port, 1, &pvpanic_ops, board->pvpanic },
        { board->ports, config->debug_exit_port, config->debug_exit_size, &isa_debug_exit_ops, board->debug_exit },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].device && !bus_add(rows[i].bus, rows[i].start, rows[i].size, rows[i].ops, rows[i].device, error))
            return FALSE;
    for (unsigned i = 0; i < board->ncpus; i++)
        if (!bus_add(board->seat[i].page, 0, LAPIC_SIZE, &lapic_ops, board->seat[i].lapic, error))
            return FALSE;
    return TRUE;
}

Board *board_new(const Config *config, const BoardWires *wires, GError **error)
{
    g_autoptr(Board) board = g_new0(Board, 1);
    board->wires = *wires;
    board->ncpus = wires->ncpus;
    board->has_acpi = config->has_acpi;
    board->pvpanic_port = config->has_pvpanic ? config->pvpanic_port : 0;
    board->has_hpet = config->has_hpet;
    board->has_i8042 = config->has_i8042;
    board->has_pit = config->has_pit;
    board->ports = bus_new("port", 0xffff);
    board->memory = bus_new("mmio", UINT64_MAX);
    chips_build(board, config);
    if (!firmware_config_build(board, config, error) || !map_build(board, config, error))
        return NULL;
    const PvpanicWires panic = { .panicked = board_panicked, .opaque = board };
    if (config->has_pvpanic_pci && !(board->pvpanic_pci = pvpanic_pci_new(&panic, board->pci, PVPANIC_DEVFN, error)))
        return NULL;
    const I6300esbWires watchdog = { .clock = wires->clock, .bus = board->pci, .devfn = WATCHDOG_DEVFN,
                                     .expired = board_watchdog_expired, .opaque = board };
    if (config->has_watchdog && !(board->watchdog = i6300esb_new(&watchdog, error)))
        return NULL;
    if (config->has_pci_testdev) {
        board->pci_testdev = pci_testdev_new(board->pci, PCI_DEVFN(PCI_TESTDEV_SLOT, 0), error);
        if (!board->pci_testdev)
            return NULL;
    }
    return g_steal_pointer(&board);
}

void board_free(Board *board)
{
    if (!board)
        return;
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
        ns16550_free(board->serial[i].uart);
    isa_debug_exit_free(board->debug_exit);
    pvpanic_free(board->pvpanic);
    pvpanic_free(board->pvpanic_pci);
    i6300esb_free(board->watchdog);
    pc_testdev_free(board->testdev);
    pci_testdev_free(board->pci_testdev);
    debugcon_free(board->debugcon);
    fw_cfg_free(board->fw);
    pci_bus_free(board->pci);
    acpi_pm_free(board->pm);
    hpet_free(board->hpet);
    i8042_free(board->kbc);
    mc146818_free(board->rtc);
    i8254_free(board->pit);
    i8259_free(board->pic);
    for (unsigned i = 0; i < board->ncpus; i++) {
        lapic_free(board->seat[i].lapic);
        bus_free(board->seat[i].page);
    }
    ioapic_free(board->ioapic);
    lapic_bus_free(board->lapic_bus);
    bus_free(board->memory);
    bus_free(board->ports);
    g_free(board);
}

void board_reset(Board *board)
{
    pci_bus_reset(board->pci);
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
        if (board->serial[i].uart)
            ns16550_reset(board->serial[i].uart);
    if (board->fw)
        fw_cfg_reset(board->fw);
    acpi_pm_reset(board->pm);
    if (board->hpet)
        hpet_reset(board->hpet);
    if (board->kbc)
        i8042_reset(board->kbc);
    mc146818_reset(board->rtc);
    if (board->pit)
        i8254_reset(board->pit);
    ioapic_reset(board->ioapic);
    i8259_reset(board->pic);
    for (unsigned i = 0; i < board->ncpus; i++)
        lapic_reset(board->seat[i].lapic);
    memset(board->irq_sources, 0, sizeof board->irq_sources);
}

uint64_t board_publish(Board *board)
{
    pci_bus_set_default_routes(board->pci);
    g_autoptr(GError) error = NULL;
    if (!pci_bus_assign(board->pci, &error))
        log_text(LOG_GUEST_ERRORS, "%s", error->message);
    if (!board->has_acpi)
        return 0;
    return acpi_build(board->wires.ram, &(AcpiParams){ .ncpus = board->ncpus, .pvpanic_port = board->pvpanic_port,
                                                        .apic_id = board->wires.apic_id, .has_hpet = board->has_hpet, .has_i8042 = board->has_i8042 });
}

uint64_t board_port_read(Board *board, uint16_t port, unsigned size) { return bus_read(board->ports, port, size); }

void board_port_write(Board *board, uint16_t port, unsigned size, uint64_t value) { bus_write(board->ports, port, size, value); }

uint64_t board_mmio_read(Board *board, unsigned cpu, Gpa gpa, unsigned size)
{
    const LapicSeat *seat = &board->seat[cpu];
    if (lapic_covers(seat->lapic, gpa))
        return bus_read(seat->page, gpa - page_of(lapic_base(seat->lapic)), size);
    return bus_read(board->memory, gpa, size);
}

void board_mmio_write(Board *board, unsigned cpu, Gpa gpa, unsigned size, uint64_t value)
{
    const LapicSeat *seat = &board->seat[cpu];
    if (lapic_covers(seat->lapic, gpa))
        bus_write(seat->page, gpa - page_of(lapic_base(seat->lapic)), size, value);
    else
        bus_write(board->memory, gpa, size, value);
}

Lapic *board_lapic(Board *board, unsigned cpu) { return board->seat[cpu].lapic; }

void board_eoi(Board *board, uint8_t vector) { ioapic_eoi(board->ioapic, vector); }

ApicLink *board_apic_link(Board *board) { return &board->apic_link; }

PciBus *board_pci(Board *board) { return board->pci; }

void board_power_button(Board *board) { acpi_pm_power_button(board->pm); }

/* --- saved state --- */

void board_hold(Board *board, bool is_held)
{
    board->is_held = is_held;
    for (unsigned i = 0; !is_held && i < CONFIG_MAX_SERIAL; i++)
        if (board->serial[i].uart)
            chardev_ready(board->serial[i].chardev);
}

/* The lines that several chips share. */
static void lines_visit(void *device, Stream *stream)
{
    Board *board = device;
    for (unsigned i = 0; i < NISA_IRQS; i++)
        stream_u32(stream, &board->irq_sources[i]);
}

static const StateOps lines_state = { .name = "board", .version = 1, .visit = lines_visit };

void board_each_state(Board *board, BoardStateFunc func, void *opaque)
{
    const struct {
        const StateOps *ops;
        int instance;
        void *device; /* NULL: not built */
    } rows[] = {
        { &lines_state, -1, board },
        { &i8259_state, -1, board->pic },
        { &ioapic_state, -1, board->ioapic },
        { &i8254_state, -1, board->pit },
        { &mc146818_state, -1, board->rtc },
        { &i8042_state, -1, board->kbc },
        { &hpet_state, -1, board->hpet },
        { &acpi_pm_state, -1, board->pm },
        { &fw_cfg_state, -1, board->fw },
        { &post80_state, -1, &board->post },
        { &pc_testdev_state, -1, board->testdev },
        { &pci_testdev_state, -1, board->pci_testdev },
        { &i6300esb_state, -1, board->watchdog },
        { &ns16550_state, 0, board->serial[0].uart },
        { &ns16550_state, 1, board->serial[1].uart },
        { &ns16550_state, 2, board->serial[2].uart },
        { &ns16550_state, 3, board->serial[3].uart },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].device)
            func(opaque, rows[i].ops, rows[i].instance, rows[i].device);
    for (unsigned i = 0; i < board->ncpus; i++)
        func(opaque, &lapic_state, (int)i, board->seat[i].lapic);
}

void board_each_pci_state(Board *board, BoardStateFunc func, void *opaque)
{
    for (unsigned devfn = 0; devfn < 256; devfn++)
        if (pci_bus_device(board->pci, (uint8_t)devfn))
            func(opaque, &pci_device_state, (int)devfn, pci_bus_device(board->pci, (uint8_t)devfn));
    func(opaque, &pci_bus_state, -1, board->pci);
}
