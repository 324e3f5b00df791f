/*
 * A guest of a few MiB in an array, and its page tables: what the softmmu tests and benchmarks build address spaces with.
 *
 * Physical layout: tables are taken from TABLES_START upwards, one page each; everything else is the test's.
 */
#pragma once

#include <glib.h>
#include <string.h>

#include "softmmu/mmu.h"
#include "x86/pte.h"

#define GUEST_SIZE ((uint64_t)16 << 20)
#define TABLES_START ((Gpa)8 << 20)

typedef struct Guest {
    uint8_t *memory;
    Ram *ram;
    CodeMap *code;
    Mmu *mmu;
    Gpa next_table;
} Guest;

static inline Guest guest_new(void)
{
    Guest guest = { .next_table = TABLES_START };
    guest.memory = g_aligned_alloc0(1, GUEST_SIZE, PAGE_SIZE);
    guest.ram = ram_new_array(guest.memory, GUEST_SIZE);
    ram_add_rom(guest.ram, 0xfffc0000, 0x40000);
    guest.code = code_map_new(guest.ram);
    guest.mmu = g_aligned_alloc0(1, sizeof(Mmu), 64);
    mmu_init(guest.mmu, guest.ram, guest.code);
    return guest;
}

static inline void guest_free(Guest *guest)
{
    code_map_free(guest->code);
    ram_free(guest->ram);
    g_aligned_free(guest->memory);
    g_aligned_free(guest->mmu);
}

static inline Gpa guest_table(Guest *guest)
{
    Gpa table = guest->next_table;
    guest->next_table += PAGE_SIZE;
    g_assert(guest->next_table <= GUEST_SIZE);
    return table;
}

/* guest_entry8: the entry of @gva in the table at @table; made to point to a new table with @bits when it is not present. */
static inline uint64_t *guest_entry8(Guest *guest, Gpa table, Gva gva, unsigned level)
{
    return (uint64_t *)(guest->memory + (table & PTE_ADDR_MASK) % GUEST_SIZE + ((gva >> (12 + 9 * level)) & 511) * 8);
}

/* guest_map8: maps @gva in the @nlevels tables below @root with @leaf (address and bits) at @level (0: 4 KiB); tables above get @bits. */
static inline uint64_t *guest_map8(Guest *guest, Gpa root, unsigned nlevels, Gva gva, uint64_t leaf, unsigned level, uint64_t bits)
{
    Gpa table = root;
    for (unsigned at = nlevels - 1; at > level; at--) {
        uint64_t *entry = guest_entry8(guest, table, gva, at);
        if (!(*entry & PTE_P))
            *entry = guest_table(guest) | bits;
        table = *entry;
    }
    uint64_t *entry = guest_entry8(guest, table, gva, level);
    *entry = leaf;
    return entry;
}

static inline uint32_t *guest_map4(Guest *guest, Gpa root, Gva gva, uint32_t leaf, bool large, uint32_t bits)
{
    uint32_t *pde = (uint32_t *)(guest->memory + root + ((gva >> 22) & 1023) * 4);
    if (large) {
        *pde = leaf;
        return pde;
    }
    if (!(*pde & PTE_P))
        *pde = (uint32_t)guest_table(guest) | bits;
    uint32_t *pte = (uint32_t *)(guest->memory + (*pde & 0xfffff000u) + ((gva >> 12) & 1023) * 4);
    *pte = leaf;
    return pte;
}
