/* The inline TLB's entries, seen from inside this folder. */
#pragma once

#include "softmmu/mmu.h"
#include "x86/pte.h"

#define TLB_INDEX(gva) ((unsigned)((gva) >> PAGE_SHIFT) & (TLB_SIZE - 1))

/* key_of: the protection key of a leaf of 4-level paging. */
static inline unsigned key_of(uint64_t leaf) { return (unsigned)(leaf >> PTE_KEY_SHIFT) & 15; }

static inline bool tlb_is_valid(const TlbEntry *entry) { return entry->host != NULL; }

static inline void tlb_drop(Mmu *mmu, TlbEntry *entry, unsigned i)
{
    entry->tag_read = tlb_invalid_tag(i);
    entry->tag_write = tlb_invalid_tag(i);
    entry->host = NULL;
    *tlb_info(mmu, entry) = 0;
}

/* tlb_drop_page: drops what the three classes hold of @page.  An entry that can only be fetched names no page: it goes as well. */
static inline void tlb_drop_page(Mmu *mmu, Gva page)
{
    unsigned i = TLB_INDEX(page);
    for (unsigned index = 0; index < MMU_NINDEXES; index++) {
        TlbEntry *entry = &mmu->tlb[index][i];
        if (entry->tag_read == page || entry->tag_write == page || entry->tag_read == tlb_invalid_tag(i))
            tlb_drop(mmu, entry, i);
    }
}

/* large_seen: the bit for the gigabyte of @gva. */
static inline unsigned large_word(Gva gva) { return (unsigned)(gva >> 36) & 7; }
static inline uint64_t large_bit(Gva gva) { return (uint64_t)1 << ((gva >> 30) & 63); }

static inline unsigned large_2m_word(Gva gva) { return (unsigned)(gva >> 27) & 63; }
static inline uint64_t large_2m_bit(Gva gva) { return (uint64_t)1 << ((gva >> 21) & 63); }

/* table_cache_drop: forgets all page tables; an epoch costs nothing, going through the entries is needed once in two million times. */
static inline void table_cache_drop(Mmu *mmu)
{
    mmu->table_epoch += (uint64_t)1 << TABLE_CACHE_EPOCH_SHIFT;
    if (__builtin_expect(mmu->table_epoch != 0, 1))
        return;
    for (unsigned i = 0; i < TABLE_CACHE_SIZE; i++)
        mmu->table_cache[i].tag = 0;
    mmu->table_epoch = (uint64_t)1 << TABLE_CACHE_EPOCH_SHIFT;
}

/* mmu_prefill: fills the entry for @gva as a read would, if that needs neither a fault nor an A bit. */
bool mmu_prefill(Mmu *mmu, Gva gva, MmuIndex index);

/* recall_leave: notes what the TLB holds of the current address space; before its entries are dropped.
 * recall_enter: refills what was noted of the one that mmu->cr3 now names. */
void recall_leave(Mmu *mmu);
void recall_enter(Mmu *mmu);
