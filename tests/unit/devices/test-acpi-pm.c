#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/acpi-pm.h"

static ChipScript script;
static AcpiPm *pm;

static void note_power_off(void *opaque) { chip_note(&script, "off"); }

static void action(void *chip, const char *word)
{
    if (strcmp(word, "button") == 0)
        acpi_pm_power_button(chip);
    else if (strcmp(word, "reset") == 0)
        acpi_pm_reset(chip);
    else
        acpi_pm_gpe(chip, (unsigned)strtoul(word + 3, NULL, 10));
}

static void setup(void)
{
    chip_script_init(&script);
    pm = acpi_pm_new(&(AcpiPmWires){.clock = script.clock, .sci = chip_line(&script, 9), .power_off = note_power_off});
    chip_script_map(&script, ACPI_PM_BASE, ACPI_PM_SIZE, &acpi_pm_ops, pm);
    chip_script_map(&script, ACPI_PM_GPE_BASE, ACPI_PM_GPE_SIZE, &acpi_pm_gpe_ops, pm);
    chip_script_map(&script, ACPI_PM_SMI_PORT, 2, &acpi_pm_smi_ops, pm);
    script.action = action;
    script.chip = pm;
}

static void teardown(void)
{
    acpi_pm_free(pm);
    chip_script_clear(&script);
}

static const struct {
    const char *name, *text;
} rows[] = {
    { "power-on", "600?0000 602?0000 604?0000 608?00000000" },
    { "timer", "@1s 608?00369e99 608?9e99 60a?0036 609?9e" },
    { "timer is 24 bits", "@10s 608?002231fa&00ffffff" },
    { "ACPI enable and disable", "b2=f1 604?0001 b2?f1 b2=f0 604?0000 b3=12 b3?12" },
    { "power off", "604=0001 604=2001 log:off 604?0001" },
    { "power off as Linux writes it", "b2=f1 604=0001 604=2001 log:off" },
    { "other sleep types do nothing", "604=2400 604=3c00 log: 604?1c00" },
    { "power button", "b2=f1 602=0100 irq: !button irq:9+ 600?0100 600=0100 irq:9- 600?0000" },
    { "power button, byte accesses", "b2=f1 603=01 602?0100 !button irq:9+ 600=ff irq: 601?01 601=01 irq:9-" },
    { "button before the enable", "!button irq: b2=f1 irq: 602=0100 irq:9+ b2=f0 irq:9-" },
    { "status and enable as one", "600=01210000 602?0121 600?01210000" },
    { "timer overflow", "b2=f1 602=0001 @2343ms irq: @1ms irq:9+ 600?0001 600=0001 irq:9- @2342ms irq: @1ms irq:9+" },
    { "timer status without interrupt", "@3s irq: 600?0001 600=0001 600?0000" },
    { "GPE", "b2=f1 afe2=0004 !gpe2 irq:9+ afe0?0004 afe0=04 irq:9- !gpe3 irq: afe0?0008 afe2?0004 !gpe10 afe1?04 afe3=04 irq:9+" },
    { "nothing elsewhere", "620?00000000 620=ffffffff 60c?00000000" },
    { "reset", "b2=f1 602=0100 !button irq:9+ !reset irq:9- 604?0000" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("acpi-pm", test_row, G_N_ELEMENTS(rows), setup, teardown); }
