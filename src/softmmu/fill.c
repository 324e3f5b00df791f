#include "core/dirty.h"
#include "softmmu/mmu.h"
#include "softmmu/tlb.h"
#include "softmmu/walk-inline.h"

/* walk_cached: the walk when the page table, or the large page, is in the table cache and nothing is out of the ordinary: access allowed,
 * A and D bits set.  False: make the full walk, which finds out. */
WALK_INLINE bool walk_cached(const Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, Walk *out)
{
    const TableCacheEntry *cached = &mmu->table_cache[(gva >> 21) & (TABLE_CACHE_SIZE - 1)];
    if (__builtin_expect(cached->tag != (gva >> 21 | mmu->table_epoch), 0))
        return false;
    uint64_t leaf = cached->leaf;
    if (cached->table)
        leaf = __atomic_load_n(&cached->table[(gva >> PAGE_SHIFT) & 511], __ATOMIC_RELAXED);
    uint64_t wanted = access == MMU_WRITE ? PTE_P | PTE_A | PTE_D : PTE_P | PTE_A;
    if (__builtin_expect((leaf & (mmu->reserved | wanted)) != wanted, 0))
        return false;
    unsigned key = (unsigned)((leaf & cached->upper_bits) >> 1) | (unsigned)(leaf >> 63 | cached->upper_nx) << 2;
    unsigned rights = mmu->rights[index][key];
    if (__builtin_expect(mmu->has_keys, 0))
        rights &= ~mmu->key_denied[index][(key & 2) << 3 | key_of(leaf)];
    if (__builtin_expect(!(rights >> access & 1), 0))
        return false;
    uint64_t offset_mask = ((uint64_t)1 << cached->page_bits) - 1;
    *out = (Walk){
        .gpa = ((leaf & PTE_ADDR_MASK & ~offset_mask) | (gva & offset_mask)) & mmu->a20_mask,
        .leaf = leaf,
        .rights = rights,
        .page_bits = cached->page_bits,
        .is_dirty = (leaf & PTE_D) != 0,
        .is_global = (leaf & PTE_G) && mmu->cr4 & X86_CR4_PGE,
    };
    return true;
}

/* table_cache_add: after a full walk that succeeded. */
static inline void table_cache_add(Mmu *mmu, Gva gva, const Walk *walk)
{
    /* Only entries already marked accessed may be used without looking at them again. */
    if (mmu->format < MMU_FORMAT_PAE || !(walk->upper_all & PTE_A))
        return;
    TableCacheEntry *cached = &mmu->table_cache[(gva >> 21) & (TABLE_CACHE_SIZE - 1)];
    const uint64_t *table = walk->leaf_at - ((gva >> PAGE_SHIFT) & 511);
    if (walk->page_bits == PAGE_SHIFT && (uintptr_t)table & PAGE_OFFSET_MASK)
        return; /* no memory behind the table */
    cached->tag = gva >> 21 | mmu->table_epoch;
    cached->table = walk->page_bits == PAGE_SHIFT ? table : NULL;
    cached->leaf = walk->leaf;
    cached->upper_bits = (uint32_t)(walk->upper_all & (PTE_RW | PTE_US));
    cached->upper_nx = (uint16_t)(walk->upper_any >> 63);
    cached->page_bits = (uint16_t)walk->page_bits;
}

static void journal_add(Mmu *mmu, MmuIndex index, unsigned i)
{
    uint32_t n = mmu->njournal[index];
    if (n < TLB_JOURNAL)
        mmu->journal[index][n] = (uint16_t)i;
    if (n <= TLB_JOURNAL)
        mmu->njournal[index] = n + 1;
}

/* fill_fault: a fault makes a CPU forget what it had cached for the page.  Source: SDM 3A 4.10.4.1. */
static __attribute__((noinline)) MmuOutcome fill_fault(Mmu *mmu, Gva gva, unsigned error_code, MmuFill *out)
{
    mmu->stat_faults++;
    tlb_drop_page(mmu, page_of(gva));
    mmu->table_cache[(gva >> 21) & (TABLE_CACHE_SIZE - 1)].tag = 0;
    out->error_code = error_code;
    return MMU_FAULT;
}

/* Where a walk ended. */
typedef struct Place {
    uint8_t *host; /* of the byte, NULL: no memory there */
    uint16_t *write_at; /* the code map's note on the page, or NULL */
    bool is_code, is_rom;
    bool is_watched; /* the first write must miss: it is to be noted */
} Place;

WALK_INLINE Place place_find(const Mmu *mmu, Gpa gpa)
{
    Place place = { 0 };
    const uint32_t *has_code;
    uint64_t offset = gpa - mmu->main_start;
    if (__builtin_expect(offset < mmu->main_size, 1)) {
        place.host = mmu->main_host + offset;
        has_code = mmu->main_code;
        place.write_at = mmu->main_write_at;
    } else {
        const RamSlot *slot = ram_find(mmu->ram, gpa);
        if (!slot)
            return place;
        offset = gpa - slot->start;
        place.host = slot->host + offset;
        place.is_rom = slot->is_rom;
        has_code = mmu->code ? mmu->code->users[slot - mmu->ram->slot] : NULL;
        place.write_at = mmu->code ? mmu->code->write_at[slot - mmu->ram->slot] : NULL;
    }
    if (place.write_at)
        place.write_at += offset >> PAGE_SHIFT;
    place.is_code = has_code && __atomic_load_n(&has_code[offset >> PAGE_SHIFT], __ATOMIC_ACQUIRE);
    return place;
}

WALK_INLINE void miss_count(Mmu *mmu, const TlbEntry *entry, Gva page)
{
    bool is_same = entry->tag_read == page || entry->tag_write == page;
    uint64_t *count = !tlb_is_valid(entry) ? &mmu->stat_empty : is_same ? &mmu->stat_upgrades : &mmu->stat_conflicts;
    *count += 1;
}

WALK_INLINE void entry_fill(Mmu *mmu, Gva gva, MmuIndex index, const Walk *walk, const Place *place)
{
    unsigned i = TLB_INDEX(gva);
    TlbEntry *entry = &mmu->tlb[index][i];
    /* The journal names every entry with a non-global page; it does already when such a page was in it. */
    if (!walk->is_global && (!tlb_is_valid(entry) || tlb_info_of(mmu, entry) & TLB_INFO_GLOBAL))
        journal_add(mmu, index, i);

    Gva page = page_of(gva);
    uint64_t invalid = tlb_invalid_tag(i);
    bool may_write = walk->rights & MMU_RIGHT_WRITE && walk->is_dirty && !place->is_code && !place->is_rom && !place->is_watched;
    uint64_t info = page_of(walk->gpa) | (walk->is_global ? TLB_INFO_GLOBAL : 0) | (walk->rights & MMU_RIGHT_FETCH);
    _Static_assert(MMU_RIGHT_FETCH == TLB_INFO_FETCH, "the same bit");
    if (__builtin_expect(mmu->has_keys, 0)) {
        info |= (uint64_t)key_of(walk->leaf) << TLB_INFO_KEY_SHIFT;
        mmu->keys_seen |= (uint16_t)(1u << key_of(walk->leaf));
        if (key_of(walk->leaf) && mmu->nkeyed <= MMU_KEYED) {
            if (mmu->nkeyed < MMU_KEYED)
                mmu->keyed[mmu->nkeyed] = (uint16_t)(index * TLB_SIZE + i);
            mmu->nkeyed++;
        }
    }
    if (walk->page_bits != PAGE_SHIFT) {
        info |= TLB_INFO_LARGE;
        if (walk->page_bits == 30)
            mmu->large_seen[walk->is_global][large_word(gva)] |= large_bit(gva);
        else
            mmu->large_2m_seen[walk->is_global][large_2m_word(gva)] |= large_2m_bit(gva);
    }
    if (may_write && place->write_at && *place->write_at != i + 1)
        *place->write_at = (uint16_t)(*place->write_at == 0 ? i + 1 : CODE_MAP_ANYWHERE);
    entry->tag_read = walk->rights & MMU_RIGHT_READ ? page : invalid;
    entry->tag_write = may_write ? page : invalid;
    entry->host = place->host - page_offset(walk->gpa);
    entry->addend = (uint64_t)(uintptr_t)entry->host - page;
    *tlb_info(mmu, entry) = info;
}

MmuOutcome mmu_fill(Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, MmuFill *out)
{
    Walk walk;
    mmu->stat_fills++;
    if (!walk_cached(mmu, gva, access, index, &walk)) {
        mmu->stat_walks++;
        walk = walk_any(mmu, gva, access, index, true);
        if (__builtin_expect(!(walk.rights >> access & 1), 0))
            return fill_fault(mmu, gva, walk.error_code, out);
        table_cache_add(mmu, gva, &walk);
    }

    Place place = place_find(mmu, walk.gpa);
    out->gpa = walk.gpa;
    if (__builtin_expect(!place.host, 0)) {
        tlb_drop_page(mmu, page_of(gva));
        return MMU_MMIO;
    }
    out->host = place.host;
    if (__builtin_expect(mmu->ram->dirty != NULL, 0)) {
        place.is_watched = access != MMU_WRITE;
        if (access == MMU_WRITE)
            dirty_log_mark(mmu->ram->dirty, walk.gpa);
    }
    miss_count(mmu, &mmu->tlb[index][TLB_INDEX(gva)], page_of(gva));
    entry_fill(mmu, gva, index, &walk, &place);
    if (access == MMU_WRITE && __builtin_expect(place.is_code || place.is_rom, 0))
        return place.is_rom ? MMU_ROM : MMU_CODE;
    return MMU_RAM;
}

bool mmu_prefill(Mmu *mmu, Gva gva, MmuIndex index)
{
    Walk walk;
    if (!walk_cached(mmu, gva, MMU_READ, index, &walk)) {
        walk = walk_any(mmu, gva, MMU_READ, index, false);
        if (!(walk.rights & MMU_RIGHT_READ) || !(walk.leaf & walk.upper_all & PTE_A))
            return false;
        table_cache_add(mmu, gva, &walk);
    }
    Place place = place_find(mmu, walk.gpa);
    if (!place.host)
        return false;
    place.is_watched = mmu->ram->dirty != NULL;
    entry_fill(mmu, gva, index, &walk, &place);
    return true;
}
