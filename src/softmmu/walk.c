#include "core/dirty.h"
#include "softmmu/tlb.h"
#include "softmmu/walk-inline.h"

static const uint64_t all_ones = ~(uint64_t)0; /* A and D are set: nobody tries to write it */

const void *entry_find_slow(const Mmu *mmu, Gpa gpa)
{
    gpa &= mmu->a20_mask;
    const RamSlot *slot = ram_find(mmu->ram, gpa);
    return slot ? (const void *)(slot->host + (gpa - slot->start)) : &all_ones;
}

/* entry_is_writable: whether @entry lies in RAM that the guest could write.  Slots are few and this is rare. */
static bool entry_is_writable(const Mmu *mmu, const void *entry)
{
    const uint8_t *at = entry;
    for (unsigned i = 0; i < mmu->ram->nslots; i++) {
        const RamSlot *slot = &mmu->ram->slot[i];
        if (at >= slot->host && at < slot->host + slot->size)
            return !slot->is_rom;
    }
    return false;
}

/* A page table is a page that has been written. */
static inline void entry_note(const Mmu *mmu, Gpa gpa)
{
    if (__builtin_expect(mmu->ram->dirty != NULL, 0))
        dirty_log_mark(mmu->ram->dirty, gpa & mmu->a20_mask);
}

bool walk_set_ad8(const Mmu *mmu, Gva gva, Gpa table, unsigned nlevels, unsigned level, uint64_t leaf, uint64_t leaf_bits)
{
    for (unsigned at = nlevels; at-- > level;) {
        Gpa gpa = (table & PTE_ADDR_MASK) + ((gva >> (PAGE_SHIFT + 9 * at)) & 511) * 8;
        const uint64_t *entry = entry_find(mmu, gpa);
        uint64_t old = __atomic_load_n(entry, __ATOMIC_RELAXED);
        uint64_t bits = at == level ? leaf_bits : PTE_A;
        table = old;
        if (!(old & PTE_P) || (at == level && old != leaf))
            return false;
        if ((old & bits) == bits || !entry_is_writable(mmu, entry))
            continue;
        if (!__atomic_compare_exchange_n((uint64_t *)entry, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return false;
        entry_note(mmu, gpa);
    }
    return true;
}

bool walk_set_ad4(const Mmu *mmu, Gva gva, unsigned level, uint32_t leaf, uint32_t leaf_bits)
{
    uint32_t table = (uint32_t)mmu->cr3;
    for (unsigned at = 2; at-- > level;) {
        Gpa gpa = (table & 0xfffff000u) + ((gva >> (PAGE_SHIFT + 10 * at)) & 1023) * 4;
        const uint32_t *entry = entry_find(mmu, gpa);
        uint32_t old = __atomic_load_n(entry, __ATOMIC_RELAXED);
        uint32_t bits = at == level ? leaf_bits : (uint32_t)PTE_A;
        table = old;
        if (!(old & PTE_P) || (at == level && old != leaf))
            return false;
        if ((old & bits) == bits || !entry_is_writable(mmu, entry))
            continue;
        if (!__atomic_compare_exchange_n((uint32_t *)entry, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return false;
        entry_note(mmu, gpa);
    }
    return true;
}

static MmuWalkOutcome walk_result(const Walk *walk, MmuAccess access, MmuWalk *out)
{
    if (!(walk->rights >> access & 1)) {
        out->error_code = walk->error_code;
        return MMU_WALK_FAULT;
    }
    out->gpa = walk->gpa;
    out->is_writable = walk->rights & MMU_RIGHT_WRITE && walk->is_dirty;
    out->is_executable = (walk->rights & MMU_RIGHT_FETCH) != 0;
    out->is_global = walk->is_global;
    out->page_bits = walk->page_bits;
    return MMU_WALK_OK;
}

MmuWalkOutcome mmu_walk(Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, MmuWalk *out)
{
    Walk walk = walk_any(mmu, gva, access, index, true);
    mmu->stat_walks++;
    return walk_result(&walk, access, out);
}

MmuWalkOutcome mmu_probe(const Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, MmuWalk *out)
{
    Walk walk = walk_any(mmu, gva, access, index, false);
    return walk_result(&walk, access, out);
}

bool mmu_load_pdptrs(Mmu *mmu, uint64_t cr3)
{
    uint64_t pdptr[4];
    uint64_t reserved = ~mmu->physical_mask | 0x1e6; /* bits 2:1 and 8:5.  Source: SDM 3A table 4-8 */
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t *at = entry_find(mmu, (cr3 & 0xffffffe0u) + i * 8);
        pdptr[i] = __atomic_load_n(at, __ATOMIC_RELAXED);
        if (pdptr[i] & PTE_P && pdptr[i] & reserved)
            return false;
    }
    for (unsigned i = 0; i < 4; i++)
        mmu->pdptr[i] = pdptr[i];
    table_cache_drop(mmu);
    return true;
}
