#include "vm/acpi.h"

#include <string.h>

#include "devices/acpi-pm.h"
#include "devices/hpet.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "vm/dsdt.hex"
#include "vm/pvpanic.hex"

typedef struct TableHeader {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} __attribute__((packed)) TableHeader;

typedef struct GenericAddress {
    uint8_t space, bit_width, bit_offset, access_size;
    uint64_t address;
} __attribute__((packed)) GenericAddress;

typedef struct Rsdp {
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
    uint8_t extended_checksum, reserved[3];
} __attribute__((packed)) Rsdp;

typedef struct Fadt {
    TableHeader header;
    uint32_t facs, dsdt;
    uint8_t int_model, pm_profile;
    uint16_t sci_irq;
    uint32_t smi_port;
    uint8_t acpi_enable, acpi_disable, s4bios, pstate;
    uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
    uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length, gpe0_length, gpe1_length, gpe1_base, cst;
    uint16_t c2_latency, c3_latency, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_arch;
    uint8_t reserved;
    uint32_t flags;
    GenericAddress reset_register;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor;
    uint64_t x_facs, x_dsdt;
    GenericAddress x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control, x_pm_timer, x_gpe0, x_gpe1;
} __attribute__((packed)) Fadt;

enum { FADT_WBINVD = 1, FADT_PROC_C1 = 4, FADT_NO_SLEEP_BUTTON = 0x20, FADT_RESET_REGISTER = 0x400 };
enum { BOOT_LEGACY = 1, BOOT_8042 = 2, BOOT_NO_VGA = 4 };
enum { SPACE_MEMORY = 0, SPACE_IO = 1 };

typedef struct HpetTable {
    TableHeader header;
    uint32_t block_id;
    GenericAddress base;
    uint8_t number;
    uint16_t min_tick;
    uint8_t page_protection;
} __attribute__((packed)) HpetTable;

typedef struct Writer {
    uint8_t *at; /* host memory of ACPI_TABLES_START */
    uint64_t used;
    uint64_t table[8]; /* addresses for RSDT and XSDT */
    unsigned ntables;
} Writer;

static uint8_t checksum(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

static uint64_t put(Writer *writer, const void *data, size_t size, size_t align)
{
    writer->used = (writer->used + align - 1) & ~(uint64_t)(align - 1);
    g_assert(writer->used + size <= ACPI_TABLES_SIZE);
    memcpy(writer->at + writer->used, data, size);
    uint64_t address = ACPI_TABLES_START + writer->used;
    writer->used += size;
    return address;
}

static void header_fill(TableHeader *header, const char *signature, uint8_t revision, size_t size)
{
    memcpy(header->signature, signature, 4);
    memcpy(header->oem_id, "SEGUE ", 6);
    memcpy(header->oem_table_id, "SEGUEPC ", 8);
    memcpy(header->creator_id, "SEGU", 4);
    header->length = (uint32_t)size;
    header->revision = revision;
    header->oem_revision = header->creator_revision = 1;
    header->checksum = 0;
    header->checksum = checksum(header, size);
}

static void table_put(Writer *writer, void *table, const char *signature, uint8_t revision, size_t size)
{
    header_fill(table, signature, revision, size);
    writer->table[writer->ntables++] = put(writer, table, size, 16);
}

static GenericAddress io(uint32_t port, uint8_t bytes)
{
    return (GenericAddress){ .space = SPACE_IO, .bit_width = (uint8_t)(bytes * 8), .access_size = bytes == 1 ? 1 : bytes == 2 ? 2 : 3,
                             .address = port };
}

static void fadt_put(Writer *writer, const AcpiParams *params)
{
    uint8_t facs[64] = "FACS";
    facs[4] = sizeof facs;
    facs[32] = 2; /* version */
    uint64_t facs_address = put(writer, facs, sizeof facs, 64);
    uint64_t dsdt_address = put(writer, dsdt_aml_code, sizeof dsdt_aml_code, 16);
    Fadt fadt = {
        .facs = (uint32_t)facs_address, .dsdt = (uint32_t)dsdt_address, .x_facs = facs_address, .x_dsdt = dsdt_address,
        .int_model = 1, .sci_irq = ACPI_PM_SCI_IRQ,
        .smi_port = ACPI_PM_SMI_PORT, .acpi_enable = ACPI_PM_ENABLE, .acpi_disable = ACPI_PM_DISABLE,
        .pm1a_event = ACPI_PM_BASE, .pm1_event_length = 4, .x_pm1a_event = io(ACPI_PM_BASE, 4),
        .pm1a_control = ACPI_PM_BASE + 4, .pm1_control_length = 2, .x_pm1a_control = io(ACPI_PM_BASE + 4, 2),
        .pm_timer = ACPI_PM_BASE + 8, .pm_timer_length = 4, .x_pm_timer = io(ACPI_PM_BASE + 8, 4),
        .gpe0 = ACPI_PM_GPE_BASE, .gpe0_length = ACPI_PM_GPE_SIZE, .x_gpe0 = io(ACPI_PM_GPE_BASE, ACPI_PM_GPE_SIZE),
        .c2_latency = 0xfff, .c3_latency = 0xfff, .century = 0x32,
        .boot_arch = (uint16_t)(BOOT_LEGACY | BOOT_NO_VGA | (params->has_i8042 ? BOOT_8042 : 0)),
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_RESET_REGISTER,
        .reset_register = { .space = SPACE_IO, .bit_width = 8, .access_size = 1, .address = 0xcf9 }, .reset_value = 6,
    };
    table_put(writer, &fadt, "FACP", 3, sizeof fadt);
}

static void madt_put(Writer *writer, const AcpiParams *params)
{
    g_autoptr(GByteArray) table = g_byte_array_new();
    TableHeader header = { 0 };
    const uint32_t lapic_address = (uint32_t)LAPIC_DEFAULT_BASE, flags = 1 /* 8259 present */;
    g_byte_array_append(table, (const uint8_t *)&header, sizeof header);
    g_byte_array_append(table, (const uint8_t *)&lapic_address, 4);
    g_byte_array_append(table, (const uint8_t *)&flags, 4);
    for (unsigned i = 0; i < params->ncpus; i++) {
        const uint8_t lapic[8] = { 0, 8, (uint8_t)i, params->apic_id[i], 1 };
        g_byte_array_append(table, lapic, sizeof lapic);
    }
    const uint32_t ioapic_address = (uint32_t)IOAPIC_BASE;
    uint8_t ioapic[12] = { 1, 12, 0, 0 };
    memcpy(ioapic + 4, &ioapic_address, 4);
    g_byte_array_append(table, ioapic, sizeof ioapic);
    /* Type 2: bus 0 (ISA), source, GSI (4), flags (2): bits 1:0 polarity, 3:2 trigger. */
    static const uint8_t timer[10] = { 2, 10, 0, 0, 2, 0, 0, 0, 0, 0 };
    static const uint8_t sci[10] = { 2, 10, 0, ACPI_PM_SCI_IRQ, ACPI_PM_SCI_IRQ, 0, 0, 0, 0x0d, 0 }; /* level, active high */
    static const uint8_t nmi[6] = { 4, 6, 0xff, 0, 0, 1 }; /* LINT1 of all CPUs */
    g_byte_array_append(table, timer, sizeof timer);
    g_byte_array_append(table, sci, sizeof sci);
    g_byte_array_append(table, nmi, sizeof nmi);
    table_put(writer, table->data, "APIC", 1, table->len);
}

static void pvpanic_put(Writer *writer, uint16_t port)
{
    static const uint8_t io_port[6] = { 0x47, 1, 0x05, 0x05, 0x05, 0x05 }; /* ACPI 6.4.2.5: decodes 16 bits, least, most */
    uint8_t table[sizeof pvpanic_aml_code];
    memcpy(table, pvpanic_aml_code, sizeof table);
    uint8_t *at = memmem(table, sizeof table, io_port, sizeof io_port);
    g_assert(at);
    for (unsigned i = 0; i < 4; i++)
        at[2 + i] = (uint8_t)(port >> (i % 2 * 8));
    table_put(writer, table, "SSDT", 2, sizeof table);
}

static void hpet_put(Writer *writer)
{
    /* Revision 1, three comparators (last index 2), 64-bit counter, legacy replacement capable, vendor 8086. */
    HpetTable hpet = { .block_id = 0x8086a201,
                       .base = { .space = SPACE_MEMORY, .bit_width = 64, .address = HPET_BASE } };
    table_put(writer, &hpet, "HPET", 1, sizeof hpet);
}

uint64_t acpi_build(const Ram *ram, const AcpiParams *params)
{
    Writer writer = { .at = ram_slice(ram, ACPI_TABLES_START, ACPI_TABLES_SIZE) };
    if (!writer.at)
        return 0;
    memset(writer.at, 0, ACPI_TABLES_SIZE);
    writer.used = 64; /* the RSDP comes first */
    fadt_put(&writer, params);
    madt_put(&writer, params);
    if (params->has_hpet)
        hpet_put(&writer);
    if (params->pvpanic_port)
        pvpanic_put(&writer, params->pvpanic_port);

    struct {
        TableHeader header;
        uint32_t entry[8];
    } __attribute__((packed)) rsdt = { 0 };
    struct {
        TableHeader header;
        uint64_t entry[8];
    } __attribute__((packed)) xsdt = { 0 };
    unsigned n = writer.ntables;
    for (unsigned i = 0; i < n; i++) {
        rsdt.entry[i] = (uint32_t)writer.table[i];
        xsdt.entry[i] = writer.table[i];
    }
    size_t rsdt_size = sizeof rsdt.header + n * 4, xsdt_size = sizeof xsdt.header + n * 8;
    header_fill(&rsdt.header, "RSDT", 1, rsdt_size);
    header_fill(&xsdt.header, "XSDT", 1, xsdt_size);
    Rsdp rsdp = { .signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' }, .oem_id = { 'S', 'E', 'G', 'U', 'E', ' ' }, .revision = 2,
                  .length = sizeof rsdp };
    rsdp.rsdt = (uint32_t)put(&writer, &rsdt, rsdt_size, 16);
    rsdp.xsdt = put(&writer, &xsdt, xsdt_size, 16);
    rsdp.checksum = checksum(&rsdp, 20); /* the first 20 bytes are the ACPI 1.0 part */
    rsdp.extended_checksum = checksum(&rsdp, sizeof rsdp);
    memcpy(writer.at, &rsdp, sizeof rsdp);
    ram_wrote(ram, ACPI_TABLES_START, ACPI_TABLES_SIZE);
    return ACPI_TABLES_START;
}
