#include "softmmu/tlb.h"

static bool probe(const Mmu *mmu, Gva page, MmuAccess access, MmuIndex index, Gpa gpa, MmuWalk *walk)
{
    return mmu_probe(mmu, page, access, index, walk) == MMU_WALK_OK && walk->gpa == gpa;
}

static bool entry_is_sound(const Mmu *mmu, MmuIndex index, unsigned i, Gva page)
{
    const TlbEntry *entry = &mmu->tlb[index][i];
    Gpa gpa = page_of(tlb_info_of(mmu, entry));
    MmuWalk walk;
    const RamSlot *slot = ram_find(mmu->ram, gpa);
    if (!slot || entry->host != slot->host + (gpa - slot->start) || entry->addend != (uint64_t)(uintptr_t)entry->host - page || TLB_INDEX(page) != i)
        return false;
    if (entry->tag_read == page && !probe(mmu, page, MMU_READ, index, gpa, &walk))
        return false;
    if (tlb_info_of(mmu, entry) & TLB_INFO_FETCH && !probe(mmu, page, MMU_FETCH, index, gpa, &walk))
        return false;
    if (entry->tag_write == page) {
        if (!probe(mmu, page, MMU_WRITE, index, gpa, &walk) || !walk.is_writable || slot->is_rom)
            return false;
        if (mmu->code && code_map_users(mmu->code, gpa))
            return false;
    }
    return true;
}

unsigned mmu_audit(const Mmu *mmu, Gva *out_gva)
{
    unsigned nbad = 0;
    for (unsigned index = 0; index < MMU_NINDEXES; index++) {
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            const TlbEntry *entry = &mmu->tlb[index][i];
            uint64_t invalid = tlb_invalid_tag(i);
            if (!tlb_is_valid(entry)) {
                /* An empty entry must miss. */
                if ((entry->tag_read != invalid || entry->tag_write != invalid) && nbad++ == 0)
                    *out_gva = entry->tag_read;
                continue;
            }
            Gva page = entry->tag_read != invalid ? entry->tag_read : entry->tag_write;
            if (page == invalid) /* can only be fetched: reached through no tag */
                continue;
            if (!entry_is_sound(mmu, index, i, page) && nbad++ == 0)
                *out_gva = page;
        }
    }
    return nbad;
}
