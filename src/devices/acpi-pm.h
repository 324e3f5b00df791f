/*
 * ACPI power management as in the PIIX4: PM1a event and control, PM timer, GPE0, and the SMI command port.
 *
 * Source: ACPI specification 4.8 (fixed hardware); Intel 82371AB (PIIX4) datasheet chapter 7.  The PM timer counts 24
 * bits at 3.579545 MHz; its overflow raises SCI while TMR_EN is set.  SLP_TYP 0 with SLP_EN is S5 (as the DSDT says);
 * S1–S4 are not offered and other values do nothing. There is no SMM: writing ACPI_ENABLE or ACPI_DISABLE to port 0xb2
 * switches SCI_EN directly.  Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"
#include "core/stream.h"

/* What the FADT must say. */
#define ACPI_PM_BASE       0x600u /* PM1a_EVT_BLK +0 (4), PM1a_CNT_BLK +4 (2), PM_TMR_BLK +8 (4) */
#define ACPI_PM_SIZE       0x40u
#define ACPI_PM_GPE_BASE   0xafe0u /* GPE0_BLK (4: 2 status, 2 enable) */
#define ACPI_PM_GPE_SIZE   4u
#define ACPI_PM_SMI_PORT   0xb2u
#define ACPI_PM_ENABLE     0xf1u /* FADT.ACPI_ENABLE */
#define ACPI_PM_DISABLE    0xf0u /* FADT.ACPI_DISABLE */
#define ACPI_PM_SLP_TYP_S5 0u    /* \_S5 package */
#define ACPI_PM_TIMER_HZ   3579545u
#define ACPI_PM_SCI_IRQ    9u /* level, active high */

typedef struct AcpiPm AcpiPm;

typedef struct AcpiPmWires {
    Clock *clock;
    IrqLine sci;
    void (*power_off)(void *opaque); /* the guest entered S5 */
    void *opaque;
} AcpiPmWires;

extern const BusOps acpi_pm_ops;     /* ACPI_PM_SIZE ports at ACPI_PM_BASE */
extern const BusOps acpi_pm_gpe_ops; /* ACPI_PM_GPE_SIZE ports at ACPI_PM_GPE_BASE */
extern const BusOps acpi_pm_smi_ops; /* 2 ports at ACPI_PM_SMI_PORT: command and status */

AcpiPm *acpi_pm_new(const AcpiPmWires *wires);
void acpi_pm_free(AcpiPm *pm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AcpiPm, acpi_pm_free)
void acpi_pm_reset(AcpiPm *pm);

void acpi_pm_power_button(AcpiPm *pm);        /* PWRBTN_STS, SCI if enabled */
void acpi_pm_gpe(AcpiPm *pm, unsigned event); /* 0–15: sets the status bit */
bool acpi_pm_sci_enabled(const AcpiPm *pm);   /* whether an OS has taken over; the power button means something then */
extern const StateOps acpi_pm_state; /* device is the AcpiPm */
