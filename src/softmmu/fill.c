#include "softmmu/mmu.h"
#include "softmmu/tlb.h"
#include "softmmu/walk-inline.h"

static void journal_add(Mmu *mmu, MmuIndex index, unsigned i)
{
    uint32_t n = mmu->njournal[index];
    if (n < TLB_JOURNAL)
        mmu->journal[index][n] = (uint16_t)i;
    if (n <= TLB_JOURNAL)
        mmu->njournal[index] = n + 1;
}

MmuOutcome mmu_fill(Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, MmuFill *out)
{
    Walk walk = walk_any(mmu, gva, access, index, true);
    Gva page = page_of(gva);
    mmu->stat_fills++;
    mmu->stat_walks++;

    if (__builtin_expect(!(walk.rights >> access & 1), 0)) {
        mmu->stat_faults++;
        tlb_drop_page(mmu, page); /* as a CPU does before #PF.  Source: SDM 3A 4.10.4.1 */
        out->error_code = walk.error_code;
        return MMU_FAULT;
    }

    out->gpa = walk.gpa;
    const RamSlot *slot = ram_find(mmu->ram, walk.gpa);
    if (__builtin_expect(!slot, 0)) {
        tlb_drop_page(mmu, page);
        return MMU_MMIO;
    }
    uint64_t offset = walk.gpa - slot->start;
    out->host = slot->host + offset;
    const uint8_t *has_code = mmu->code ? mmu->code->has_code[slot - mmu->ram->slot] : NULL;
    bool is_code = has_code && __atomic_load_n(&has_code[offset >> PAGE_SHIFT], __ATOMIC_ACQUIRE);

    unsigned i = TLB_INDEX(gva);
    TlbEntry *entry = &mmu->tlb[index][i];
    /* The journal names every entry with a non-global page; it does already when such a page was in it. */
    if (!walk.is_global && (!tlb_is_valid(entry) || entry->info & TLB_INFO_GLOBAL))
        journal_add(mmu, index, i);

    uint64_t invalid = tlb_invalid_tag(i);
    bool may_write = walk.rights & MMU_RIGHT_WRITE && walk.is_dirty && !is_code && !slot->is_rom;
    entry->tag_read = walk.rights & MMU_RIGHT_READ ? page : invalid;
    entry->tag_write = may_write ? page : invalid;
    entry->host = slot->host + page_of(offset);
    entry->info = page_of(walk.gpa) | (walk.is_global ? TLB_INFO_GLOBAL : 0) |
                  (walk.rights & MMU_RIGHT_FETCH ? TLB_INFO_FETCH : 0);
    if (walk.page_bits != PAGE_SHIFT) {
        entry->info |= TLB_INFO_LARGE;
        mmu->large_seen[walk.is_global][large_word(gva)] |= large_bit(gva);
    }

    if (access == MMU_WRITE) {
        if (slot->is_rom)
            return MMU_ROM;
        if (is_code)
            return MMU_CODE;
    }
    return MMU_RAM;
}
