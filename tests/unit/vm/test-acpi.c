/* The tables as a guest finds them: signature search, checksums, lengths, addresses inside the reserved range. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "vm/acpi.h"
#include "vm/boot.h"

#define MIB (UINT64_C(1) << 20)

static const uint8_t apic_ids[CONFIG_MAX_CPUS] = { 0, 1, 2 };

static uint8_t sum(const uint8_t *bytes, size_t size)
{
    uint8_t total = 0;
    for (size_t i = 0; i < size; i++)
        total = (uint8_t)(total + bytes[i]);
    return total;
}

static const uint8_t *at(const Ram *ram, uint64_t address, size_t size)
{
    ck_assert_uint_ge(address, ACPI_TABLES_START);
    ck_assert_uint_le(address + size, ACPI_TABLES_START + ACPI_TABLES_SIZE);
    return ram_slice(ram, address, size);
}

static const uint8_t *table(const Ram *ram, uint64_t address, const char *signature)
{
    const uint8_t *header = at(ram, address, 36);
    uint32_t length = boot_u32(header + 4);
    ck_assert_msg(sum(at(ram, address, length), length) == 0, "%.4s: checksum", (const char *)header);
    if (signature)
        ck_assert_mem_eq(header, signature, 4);
    return header;
}

static const uint8_t *find(const Ram *ram, uint64_t rsdp, const char *signature)
{
    const uint8_t *root = at(ram, rsdp, 36);
    ck_assert_mem_eq(root, "RSD PTR ", 8);
    ck_assert_uint_eq(sum(root, 20), 0);
    ck_assert_uint_eq(sum(root, 36), 0);
    const uint8_t *rsdt = table(ram, boot_u32(root + 16), "RSDT"), *xsdt = table(ram, boot_u64(root + 24), "XSDT");
    unsigned count = (boot_u32(rsdt + 4) - 36) / 4;
    ck_assert_uint_eq(count, (boot_u32(xsdt + 4) - 36) / 8);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_uint_eq(boot_u32(rsdt + 36 + i * 4), boot_u64(xsdt + 36 + i * 8));
        const uint8_t *found = table(ram, boot_u32(rsdt + 36 + i * 4), NULL);
        if (!memcmp(found, signature, 4))
            return found;
    }
    return NULL;
}

START_TEST(tables_are_sound)
{
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    uint64_t rsdp = acpi_build(ram, &(AcpiParams){ .apic_id = apic_ids, .ncpus = 1, .has_hpet = true, .has_i8042 = true });
    ck_assert_uint_eq(rsdp % 16, 0);
    const uint8_t *fadt = find(ram, rsdp, "FACP"), *madt = find(ram, rsdp, "APIC");
    ck_assert_ptr_nonnull(madt);
    ck_assert_ptr_nonnull(find(ram, rsdp, "HPET"));
    ck_assert_uint_eq(boot_u32(fadt + 4), 244);
    table(ram, boot_u32(fadt + 40), "DSDT");
    ck_assert_uint_eq(boot_u32(fadt + 36) % 64, 0); /* FACS */
    ck_assert_mem_eq(at(ram, boot_u32(fadt + 36), 64), "FACS", 4);
    ck_assert_uint_eq(boot_u32(fadt + 76), 0x608);  /* PM timer */
    ck_assert_uint_eq(boot_u64(fadt + 120), 0xcf9); /* reset register */
    ck_assert_uint_eq(fadt[128], 6);
    ck_assert_uint_eq(boot_u16(fadt + 46), 9); /* SCI */
}
END_TEST

START_TEST(hpet_is_optional)
{
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    ck_assert_ptr_null(find(ram, acpi_build(ram, &(AcpiParams){ .apic_id = apic_ids, .ncpus = 1 }), "HPET"));
}
END_TEST

START_TEST(madt_entries_fill_the_table)
{
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    const uint8_t *madt = find(ram, acpi_build(ram, &(AcpiParams){ .apic_id = apic_ids, .ncpus = 3 }), "APIC");
    uint32_t length = boot_u32(madt + 4), cpus = 0, offset = 44;
    while (offset < length) {
        ck_assert_uint_ge(madt[offset + 1], 2);
        cpus += madt[offset] == 0;
        offset += madt[offset + 1];
    }
    ck_assert_uint_eq(offset, length);
    ck_assert_uint_eq(cpus, 3);
}
END_TEST

START_TEST(no_memory_there)
{
    void *host = aligned_alloc(PAGE_SIZE, 0x10000);
    g_autoptr(Ram) ram = ram_new_array(host, 0x10000);
    ck_assert_uint_eq(acpi_build(ram, &(AcpiParams){ .apic_id = apic_ids, .ncpus = 1 }), 0);
    free(host);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("acpi");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, tables_are_sound);
    tcase_add_test(tcase, hpet_is_optional);
    tcase_add_test(tcase, madt_entries_fill_the_table);
    tcase_add_test(tcase, no_memory_there);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
