/*
 * ACPI tables for boots without firmware: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET and the DSDT of dsdt.asl.
 * Source: ACPI specification 6.4, chapter 5; IA-PC HPET specification 3.2.4.
 */
#pragma once

#include <stdbool.h>

#include "core/ram.h"

#define ACPI_TABLES_START UINT64_C(0xe0000) /* in the range that boot_e820() reserves */
#define ACPI_TABLES_SIZE UINT64_C(0x10000)

typedef struct AcpiParams {
    unsigned ncpus;
    const uint8_t *apic_id; /* of each */
    bool has_hpet, has_i8042;
    uint16_t pvpanic_port; /* 0: there is none */
} AcpiParams;

/* acpi_build: writes all tables.  Returns: address of the RSDP, 0 when RAM does not reach there. */
uint64_t acpi_build(const Ram *ram, const AcpiParams *params);
