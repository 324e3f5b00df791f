#include "devices/acpi-pm.h"

#include <string.h>

#define NS_PER_S   1000000000
#define TIMER_MASK 0xffffffu
#define TIMER_HALF 0x800000u /* TMR_STS is set whenever bit 23 changes */

enum { REG_STATUS = 0x00, REG_ENABLE = 0x02, REG_CONTROL = 0x04, REG_TIMER = 0x08 };

#define PM1_TIMER        0x0001u
#define PM1_GLOBAL       0x0020u
#define PM1_POWER_BUTTON 0x0100u
#define PM1_RTC          0x0400u

#define PM1_ENABLE_BITS (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_RTC)

#define CONTROL_SCI_ENABLE    0x0001u
#define CONTROL_SLEEP_TYPE(v) ((v) >> 10 & 7u)
#define CONTROL_SLEEP_ENABLE  0x2000u
#define CONTROL_WRITABLE      0x1c03u /* SCI_EN, BM_RLD, SLP_TYP; SLP_EN and GBL_RLS read as zero */

typedef struct AcpiPmState {
    uint16_t status, enable, control;
    uint64_t halves_seen; /* changes of timer bit 23 already turned into TMR_STS */
    uint16_t gpe_status, gpe_enable;
    uint8_t smi_command, smi_status;
} AcpiPmState;

struct AcpiPm {
    AcpiPmWires wires;
    AcpiPmState s;
    Timer *overflow;
    bool line;
};

static uint64_t timer_ticks(const AcpiPm *pm)
{
    return (uint64_t)((unsigned __int128)clock_now_ns(pm->wires.clock) * ACPI_PM_TIMER_HZ / NS_PER_S);
}

static void check_timer(AcpiPm *pm)
{
    uint64_t halves = timer_ticks(pm) / TIMER_HALF;
    if (halves != pm->s.halves_seen) {
        pm->s.halves_seen = halves;
        pm->s.status |= PM1_TIMER;
    }
}

static void update_sci(AcpiPm *pm)
{
    bool level = pm->s.control & CONTROL_SCI_ENABLE &&
                 ((pm->s.status & pm->s.enable & PM1_ENABLE_BITS) || (pm->s.gpe_status & pm->s.gpe_enable));
    if (level != pm->line) {
        pm->line = level;
        irq_set(pm->wires.sci, level);
    }
}

/* The timer is needed only while its overflow would interrupt. */
static void schedule(AcpiPm *pm)
{
    if (!(pm->s.enable & PM1_TIMER) || pm->s.status & PM1_TIMER) {
        timer_arm(pm->overflow, TIMER_NEVER);
        return;
    }
    unsigned __int128 ticks = (unsigned __int128)(pm->s.halves_seen + 1) * TIMER_HALF;
    timer_arm(pm->overflow, (int64_t)((ticks * NS_PER_S + ACPI_PM_TIMER_HZ - 1) / ACPI_PM_TIMER_HZ));
}

static void overflow_fired(void *opaque)
{
    AcpiPm *pm = opaque;
    check_timer(pm);
    schedule(pm);
    update_sci(pm);
}

static void set_control(AcpiPm *pm, uint16_t value)
{
    pm->s.control = value & CONTROL_WRITABLE;
    update_sci(pm);
    if (value & CONTROL_SLEEP_ENABLE && CONTROL_SLEEP_TYPE(value) == ACPI_PM_SLP_TYP_S5 && pm->wires.power_off)
        pm->wires.power_off(pm->wires.opaque);
}

static uint16_t register_read(AcpiPm *pm, unsigned offset)
{
    switch (offset) {
    case REG_STATUS:
        check_timer(pm);
        schedule(pm);
        return pm->s.status;
    case REG_ENABLE:
        return pm->s.enable;
    case REG_CONTROL:
        return pm->s.control;
    case REG_TIMER:
        return (uint16_t)timer_ticks(pm);
    case REG_TIMER + 2:
        return (uint16_t)((timer_ticks(pm) & TIMER_MASK) >> 16);
    default:
        return 0;
    }
}

static void register_write(AcpiPm *pm, unsigned offset, uint16_t value)
{
    switch (offset) {
    case REG_STATUS:
        check_timer(pm);
        pm->s.status &= (uint16_t)~value;
        break;
    case REG_ENABLE:
        check_timer(pm);
        pm->s.enable = value & PM1_ENABLE_BITS;
        break;
    case REG_CONTROL:
        set_control(pm, value);
        return;
    default:
        return;
    }
    schedule(pm);
    update_sci(pm);
}

static uint64_t acpi_pm_read(void *device, uint64_t offset, unsigned size)
{
    AcpiPm *pm = device;
    if (offset == REG_TIMER && size == 4)
        return timer_ticks(pm) & TIMER_MASK; /* whole, so that it cannot tear */
    uint64_t value = 0;
    for (unsigned done = 0; done < size;) {
        unsigned at = (unsigned)offset + done, skip = at & 1;
        value |= (uint64_t)((register_read(pm, at & ~1u) >> (8 * skip)) & (skip || size - done == 1 ? 0xff : 0xffff))
                 << (8 * done);
        done += skip || size - done == 1 ? 1 : 2;
    }
    return value;
}

static void acpi_pm_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    AcpiPm *pm = device;
    if (size == 1) {
        /* A byte write leaves the other byte alone; of the status register, that byte clears nothing. */
        unsigned at = (unsigned)offset & ~1u, shift = offset & 1 ? 8 : 0;
        uint16_t old = at == REG_STATUS ? 0 : register_read(pm, at);
        register_write(pm, at, (uint16_t)((old & ~(0xffu << shift)) | (value & 0xff) << shift));
        return;
    }
    if (offset & 1)
        return;
    for (unsigned done = 0; done < size; done += 2)
        register_write(pm, (unsigned)offset + done, (uint16_t)(value >> (8 * done)));
}

const BusOps acpi_pm_ops = {.name = "acpi-pm", .read = acpi_pm_read, .write = acpi_pm_write, .max_size = 4};

static uint64_t gpe_read(void *device, uint64_t offset, unsigned size)
{
    const AcpiPm *pm = device;
    uint16_t value = offset & 2 ? pm->s.gpe_enable : pm->s.gpe_status;
    return (value >> (offset & 1 ? 8 : 0)) & 0xff;
}

static void gpe_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    AcpiPm *pm = device;
    unsigned shift = offset & 1 ? 8 : 0;
    uint16_t bits = (uint16_t)((value & 0xff) << shift);
    if (offset & 2)
        pm->s.gpe_enable = (uint16_t)((pm->s.gpe_enable & ~(0xffu << shift)) | bits);
    else
        pm->s.gpe_status &= (uint16_t)~bits;
    update_sci(pm);
}

const BusOps acpi_pm_gpe_ops = {.name = "acpi-gpe", .read = gpe_read, .write = gpe_write, .max_size = 1};

static uint64_t smi_read(void *device, uint64_t offset, unsigned size)
{
    const AcpiPm *pm = device;
    return offset ? pm->s.smi_status : pm->s.smi_command;
}

static void smi_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    AcpiPm *pm = device;
    if (offset) {
        pm->s.smi_status = (uint8_t)value;
        return;
    }
    pm->s.smi_command = (uint8_t)value;
    if (value == ACPI_PM_ENABLE)
        pm->s.control |= CONTROL_SCI_ENABLE;
    else if (value == ACPI_PM_DISABLE)
        pm->s.control &= (uint16_t)~CONTROL_SCI_ENABLE;
    update_sci(pm);
}

const BusOps acpi_pm_smi_ops = {.name = "smi-command", .read = smi_read, .write = smi_write, .max_size = 1};

void acpi_pm_power_button(AcpiPm *pm)
{
    pm->s.status |= PM1_POWER_BUTTON;
    update_sci(pm);
}

void acpi_pm_gpe(AcpiPm *pm, unsigned event)
{
    g_return_if_fail(event < 16);
    pm->s.gpe_status |= (uint16_t)(1u << event);
    update_sci(pm);
}

bool acpi_pm_sci_enabled(const AcpiPm *pm) { return pm->s.control & CONTROL_SCI_ENABLE; }

void acpi_pm_reset(AcpiPm *pm)
{
    memset(&pm->s, 0, sizeof pm->s);
    pm->s.halves_seen = timer_ticks(pm) / TIMER_HALF;
    schedule(pm);
    update_sci(pm);
}

AcpiPm *acpi_pm_new(const AcpiPmWires *wires)
{
    AcpiPm *pm = g_new0(AcpiPm, 1);
    pm->wires = *wires;
    pm->overflow = timer_new(wires->clock, overflow_fired, pm);
    acpi_pm_reset(pm);
    return pm;
}

void acpi_pm_free(AcpiPm *pm)
{
    if (!pm)
        return;
    timer_free(pm->overflow);
    g_free(pm);
}

/* --- saved state --- */

static void state_visit(void *device, Stream *stream)
{
    AcpiPm *pm = device;
    stream_u16(stream, &pm->s.status);
    stream_u16(stream, &pm->s.enable);
    stream_u16(stream, &pm->s.control);
    stream_u64(stream, &pm->s.halves_seen);
    stream_u16(stream, &pm->s.gpe_status);
    stream_u16(stream, &pm->s.gpe_enable);
    stream_u8(stream, &pm->s.smi_command);
    stream_u8(stream, &pm->s.smi_status);
    stream_bool(stream, &pm->line);
    stream_check(stream, pm->s.halves_seen <= timer_ticks(pm) / TIMER_HALF, "PM timer");
    if (stream_is_loading(stream) && stream_is_ok(stream))
        schedule(pm);
}

const StateOps acpi_pm_state = {.name = "acpi-pm", .version = 1, .visit = state_visit};
