/*
 * Address spaces that come back.
 *
 * A CR3 load empties the TLB, and a process that is scheduled again misses on the same pages as before, each time through the slow path
 * of translated code.  So the pages an address space had in the TLB are noted when the guest leaves it, and walked again in one go when it
 * returns.  Nothing is kept but addresses: every translation comes from the guest's tables as they are after the load, so there is nothing
 * to trace or to invalidate, and a guest cannot tell it from a CPU that walks ahead of its program.  docs/softmmu.md has the numbers.
 */
#include "softmmu/tlb.h"

/* The list of a space that is never left for long only grows: every so often a stay starts with nothing, to learn what it needs now. */
#define STAYS_BETWEEN_LEARNING 8u

_Static_assert(MMU_NINDEXES <= PAGE_SIZE, "a page address has room for the index");

static void space_note(MmuSpace *space, const Mmu *mmu, MmuIndex index)
{
    uint32_t n = mmu->njournal[index] < TLB_JOURNAL ? mmu->njournal[index] : TLB_JOURNAL;
    for (uint32_t at = 0; at < n && space->npages < MMU_SPACE_PAGES; at++) {
        unsigned i = mmu->journal[index][at];
        const TlbEntry *entry = &mmu->tlb[index][i];
        if (entry->tag_read != tlb_invalid_tag(i) && !(tlb_info_of(mmu, entry) & TLB_INFO_GLOBAL))
            space->page[space->npages++] = entry->tag_read | index;
    }
}

void recall_leave(Mmu *mmu)
{
    MmuSpace *space = &mmu->space[mmu->space_current];
    if (!mmu->recalls || mmu->format == MMU_FORMAT_NONE || space->last_use == 0)
        return;
    space->npages = 0;
    for (unsigned index = 0; index < MMU_NINDEXES; index++)
        space_note(space, mmu, index);
}

/* space_find: the space of mmu->cr3; the least recently used one is given to a new one. */
static MmuSpace *space_find(Mmu *mmu)
{
    MmuSpace *oldest = &mmu->space[0];
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        MmuSpace *space = &mmu->space[i];
        if (space->cr3 == mmu->cr3 && space->last_use != 0)
            return space;
        if (space->last_use < oldest->last_use)
            oldest = space;
    }
    oldest->cr3 = mmu->cr3;
    oldest->npages = 0;
    oldest->nstays = 0;
    return oldest;
}

void recall_enter(Mmu *mmu)
{
    if (!mmu->recalls || mmu->format == MMU_FORMAT_NONE)
        return;
    MmuSpace *space = space_find(mmu);
    mmu->space_current = (uint8_t)(space - mmu->space);
    if (++mmu->space_clock == 0) { /* wrapped: all are equally old */
        for (unsigned i = 0; i < MMU_SPACES; i++)
            mmu->space[i].last_use = 0;
        mmu->space_clock = 1;
    }
    space->last_use = mmu->space_clock;
    if (++space->nstays % STAYS_BETWEEN_LEARNING == 0)
        return;
    for (unsigned at = 0; at < space->npages; at++)
        mmu->stat_recalls += mmu_prefill(mmu, page_of(space->page[at]), (MmuIndex)page_offset(space->page[at]));
}
