#include "softmmu/tlb.h"

#include "x86/pte.h"

static void derive_rights(Mmu *mmu)
{
    bool wp = (mmu->cr0 & X86_CR0_WP) != 0;
    bool smep = (mmu->cr4 & X86_CR4_SMEP) != 0;
    bool smap = (mmu->cr4 & X86_CR4_SMAP) != 0;
    /* Source: SDM 3A 4.6.1. */
    for (unsigned key = 0; key < 8; key++) {
        bool rw = key & 1, us = key & 2, nx = key & 4;
        unsigned user = 0, kernel_ac = MMU_RIGHT_READ;
        if (us)
            user = MMU_RIGHT_READ | (rw ? MMU_RIGHT_WRITE : 0) | (nx ? 0 : MMU_RIGHT_FETCH);
        if (rw || !wp)
            kernel_ac |= MMU_RIGHT_WRITE;
        if (!nx && !(us && smep))
            kernel_ac |= MMU_RIGHT_FETCH;
        unsigned kernel = us && smap ? kernel_ac & MMU_RIGHT_FETCH : kernel_ac;
        mmu->rights[MMU_USER][key] = (uint8_t)user;
        mmu->rights[MMU_KERNEL_AC][key] = (uint8_t)kernel_ac;
        mmu->rights[MMU_KERNEL][key] = (uint8_t)kernel;
    }
}

/* What PKRU denies of user pages and IA32_PKRS of supervisor pages: data accesses only. */
static void derive_keys(Mmu *mmu)
{
    mmu->has_keys = mmu->format == MMU_FORMAT_4LEVEL && mmu->cr4 & (X86_CR4_PKE | X86_CR4_PKS);
    for (unsigned index = 0; index < MMU_NINDEXES && mmu->has_keys; index++) {
        bool heeds_wd = index == MMU_USER || mmu->cr0 & X86_CR0_WP;
        for (unsigned us = 0; us < 2; us++) {
            uint32_t keys = us ? (mmu->cr4 & X86_CR4_PKE ? mmu->pkru : 0) : mmu->cr4 & X86_CR4_PKS ? mmu->pkrs : 0;
            for (unsigned key = 0; key < 16; key++, keys >>= 2)
                mmu->key_denied[index][us << 4 | key] = keys & 1 ? MMU_RIGHT_READ | MMU_RIGHT_WRITE : keys & 2 && heeds_wd ? MMU_RIGHT_WRITE : 0;
        }
    }
}

static void derive_paging(Mmu *mmu)
{
    if (!(mmu->cr0 & X86_CR0_PG))
        mmu->format = MMU_FORMAT_NONE;
    else if (mmu->efer & (X86_EFER_LMA | X86_EFER_LME))
        mmu->format = MMU_FORMAT_4LEVEL;
    else if (mmu->cr4 & X86_CR4_PAE)
        mmu->format = MMU_FORMAT_PAE;
    else
        mmu->format = MMU_FORMAT_32;

    mmu->reserved = PTE_ADDR_MASK & ~mmu->physical_mask;
    if (!(mmu->efer & X86_EFER_NXE))
        mmu->reserved |= PTE_NX;
    if (mmu->format == MMU_FORMAT_PAE)
        mmu->reserved |= (uint64_t)0x7ff << 52; /* bits 62:52 */

    /* PSE-36: PDE bits 20:13 are address bits 39:32, as far as they exist; bit 21 is always reserved.  Source: SDM 3A table 4-4. */
    mmu->reserved_4m = (uint32_t)1 << 21 | (uint32_t)((~mmu->physical_mask >> 32) & 0xff) << 13;
    derive_rights(mmu);
    derive_keys(mmu);
}

static void tlb_reset(Mmu *mmu)
{
    for (unsigned index = 0; index < MMU_NINDEXES; index++) {
        for (unsigned i = 0; i < TLB_SIZE; i++)
            tlb_drop(mmu, &mmu->tlb[index][i], i);
        mmu->njournal[index] = 0;
    }
    mmu->keys_seen = 0;
    mmu->nkeyed = 0;
    for (unsigned word = 0; word < 8; word++)
        mmu->large_seen[0][word] = mmu->large_seen[1][word] = 0;
    for (unsigned word = 0; word < 64; word++)
        mmu->large_2m_seen[0][word] = mmu->large_2m_seen[1][word] = 0;
}

static void derive_main_slot(Mmu *mmu)
{
    mmu->main_size = 0;
    if (mmu->a20_mask != ~(uint64_t)0)
        return;
    for (unsigned i = 0; i < mmu->ram->nslots; i++) {
        const RamSlot *slot = &mmu->ram->slot[i];
        if (!slot->is_rom && slot->size > mmu->main_size) {
            mmu->main_start = slot->start;
            mmu->main_size = slot->size;
            mmu->main_host = slot->host;
            mmu->main_code = mmu->code ? mmu->code->users[i] : NULL;
            mmu->main_write_at = mmu->code ? mmu->code->write_at[i] : NULL;
        }
    }
}

void mmu_init(Mmu *mmu, Ram *ram, CodeMap *code)
{
    *mmu = (Mmu){ .ram = ram, .code = code };
    mmu->physical_mask = ((uint64_t)1 << 40) - 1;
    mmu->a20_mask = ~(uint64_t)0;
    mmu->recalls = true;
    mmu->table_epoch = (uint64_t)1 << TABLE_CACHE_EPOCH_SHIFT;
    derive_main_slot(mmu);
    derive_paging(mmu);
    tlb_reset(mmu);
}

/* drop_nonglobal: the entries in the journal, or all when it overflowed. */
static void drop_nonglobal(Mmu *mmu)
{
    for (unsigned index = 0; index < MMU_NINDEXES; index++) {
        TlbEntry *tlb = mmu->tlb[index];
        uint32_t n = mmu->njournal[index];
        if (n > TLB_JOURNAL) {
            for (unsigned i = 0; i < TLB_SIZE; i++)
                if (!(tlb_info_of(mmu, &tlb[i]) & TLB_INFO_GLOBAL))
                    tlb_drop(mmu, &tlb[i], i);
        } else {
            for (uint32_t at = 0; at < n; at++) {
                unsigned i = mmu->journal[index][at];
                if (!(tlb_info_of(mmu, &tlb[i]) & TLB_INFO_GLOBAL))
                    tlb_drop(mmu, &tlb[i], i);
            }
        }
        mmu->njournal[index] = 0;
    }
    for (unsigned word = 0; word < 8; word++)
        mmu->large_seen[0][word] = 0;
    for (unsigned word = 0; word < 64; word++)
        mmu->large_2m_seen[0][word] = 0;
}

void mmu_flush(Mmu *mmu, bool global)
{
    mmu->stat_flushes++;
    table_cache_drop(mmu);
    if (global)
        tlb_reset(mmu);
    else
        drop_nonglobal(mmu);
    if (mmu->flushed)
        mmu->flushed(mmu->flushed_opaque, global);
}

void mmu_set_paging(Mmu *mmu, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    const uint64_t cr0_bits = X86_CR0_PG | X86_CR0_WP;
    const uint64_t cr4_bits = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP | X86_CR4_SMAP |
                              X86_CR4_PKE | X86_CR4_PKS;
    const uint64_t efer_bits = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    uint64_t changed = ((mmu->cr0 ^ cr0) & cr0_bits) | ((mmu->cr4 ^ cr4) & cr4_bits) | ((mmu->efer ^ efer) & efer_bits);
    mmu->cr0 = cr0;
    mmu->cr4 = cr4;
    mmu->efer = efer;
    if (!changed)
        return;
    derive_paging(mmu);
    mmu_flush(mmu, true);
}

/* Drops the entry at place @at if its key is among @changed. */
static bool drop_keyed(Mmu *mmu, unsigned at, unsigned changed)
{
    TlbEntry *entry = &mmu->tlb[at / TLB_SIZE][at % TLB_SIZE];
    bool is_it = tlb_is_valid(entry) && changed >> (tlb_info_of(mmu, entry) >> TLB_INFO_KEY_SHIFT & 15) & 1;
    if (is_it)
        tlb_drop(mmu, entry, at % TLB_SIZE);
    return is_it;
}

void mmu_set_keys(Mmu *mmu, uint32_t pkru, uint32_t pkrs)
{
    uint32_t bits = (mmu->pkru ^ pkru) | (mmu->pkrs ^ pkrs);
    mmu->pkru = pkru;
    mmu->pkrs = pkrs;
    if (!bits || !mmu->has_keys)
        return;
    derive_keys(mmu);
    unsigned changed = 0;
    for (unsigned key = 0; key < 16; key++)
        changed |= (bits >> 2 * key & 3 ? 1u : 0) << key;
    if (!(changed & mmu->keys_seen))
        return;
    mmu->keys_seen &= (uint16_t)~changed;
    if (changed & 1 || mmu->nkeyed > MMU_KEYED) {
        for (unsigned at = 0; at < MMU_NINDEXES * TLB_SIZE; at++)
            drop_keyed(mmu, at, changed);
        mmu->nkeyed = mmu->keys_seen & ~1u ? MMU_KEYED + 1 : 0;
        return;
    }
    unsigned nleft = 0;
    for (unsigned k = 0; k < mmu->nkeyed; k++)
        if (!drop_keyed(mmu, mmu->keyed[k], changed))
            mmu->keyed[nleft++] = mmu->keyed[k];
    mmu->nkeyed = nleft;
}

void mmu_set_a20(Mmu *mmu, bool enabled)
{
    uint64_t mask = enabled ? ~(uint64_t)0 : ~((uint64_t)1 << 20);
    if (mask == mmu->a20_mask)
        return;
    mmu->a20_mask = mask;
    derive_main_slot(mmu);
    mmu_flush(mmu, true);
}

void mmu_set_cr3(Mmu *mmu, uint64_t cr3)
{
    bool has_pcid = (mmu->cr4 & X86_CR4_PCIDE) != 0;
    mmu->stat_cr3_loads++;
    /* One PCID's translations are held at a time: asked to keep those of another, there are none to keep. */
    bool keeps = has_pcid && cr3 & CR3_NO_FLUSH && !((cr3 ^ mmu->cr3) & CR3_PCID_MASK);
    if (!keeps)
        recall_leave(mmu);
    mmu->cr3 = has_pcid ? cr3 & ~CR3_NO_FLUSH : cr3;
    if (keeps) {
        table_cache_drop(mmu);
        return;
    }
    mmu_flush(mmu, false);
    recall_enter(mmu);
}

static void drop_piece(Mmu *mmu, unsigned index, unsigned i, Gva start, uint64_t size)
{
    TlbEntry *entry = &mmu->tlb[index][i];
    if (!(tlb_info_of(mmu, entry) & TLB_INFO_LARGE))
        return;
    bool names_page = entry->tag_read != tlb_invalid_tag(i);
    if (!names_page || (entry->tag_read & ~(size - 1)) == start)
        tlb_drop(mmu, entry, i);
}

/* drop_pieces: every piece of a large page within @size bytes (a power of two) around @gva; if none is @global the journals name them all. */
static void drop_pieces(Mmu *mmu, Gva gva, uint64_t size, bool global)
{
    Gva start = gva & ~(size - 1);
    unsigned npages = size >> PAGE_SHIFT < TLB_SIZE ? (unsigned)(size >> PAGE_SHIFT) : TLB_SIZE, first = TLB_INDEX(start);
    for (unsigned index = 0; index < MMU_NINDEXES; index++) {
        uint16_t *journal = mmu->journal[index];
        uint32_t n = mmu->njournal[index], nleft = 0;
        if (global || n > TLB_JOURNAL) {
            for (unsigned k = 0; k < npages; k++)
                drop_piece(mmu, index, (first + k) & (TLB_SIZE - 1), start, size);
            continue;
        }
        for (uint32_t at = 0; at < n; at++) {
            drop_piece(mmu, index, journal[at], start, size);
            if (tlb_is_valid(&mmu->tlb[index][journal[at]]))
                journal[nleft++] = journal[at];
        }
        mmu->njournal[index] = nleft;
    }
}

void mmu_invlpg(Mmu *mmu, Gva gva)
{
    Gva page = page_of(gva);
    mmu->stat_invlpg++;
    table_cache_drop(mmu); /* INVLPG drops a CPU's paging-structure caches for every address.  Source: SDM 3A 4.10.4.1 */
    tlb_drop_page(mmu, page);
    bool huge[2], large[2]; /* [0] non-global, [1] global */
    unsigned word = large_2m_word(gva);
    uint64_t pair = large_2m_bit(gva) | large_2m_bit(gva ^ 1u << 21); /* a 4 MiB page has two halves */
    for (unsigned g = 0; g < 2; g++) {
        huge[g] = mmu->large_seen[g][large_word(gva)] & large_bit(gva);
        large[g] = mmu->large_2m_seen[g][word] & pair;
    }
    bool is_huge = huge[0] || huge[1], is_global = huge[1] || large[1];
    if (__builtin_expect(!is_huge && !large[0] && !large[1], 1)) {
        if (mmu->flushed_page)
            mmu->flushed_page(mmu->flushed_opaque, page);
        return;
    }
    drop_pieces(mmu, gva, is_huge ? (uint64_t)1 << 30 : (uint64_t)1 << 22, is_global);
    if (mmu->flushed)
        mmu->flushed(mmu->flushed_opaque, true);
}

void mmu_invpcid(Mmu *mmu, unsigned type, unsigned pcid, Gva gva)
{
    unsigned current = mmu->cr4 & X86_CR4_PCIDE ? mmu->cr3 & CR3_PCID_MASK : 0;
    switch (type) {
    case 0: /* one address of one PCID */
        if (pcid == current)
            mmu_invlpg(mmu, gva);
        break;
    case 1: /* one PCID, global translations stay */
        if (pcid == current)
            mmu_flush(mmu, false);
        break;
    case 2: /* everything */
        mmu_flush(mmu, true);
        break;
    case 3: /* every PCID, global translations stay */
        mmu_flush(mmu, false);
        break;
    }
}

static uint16_t *write_at_find(const Mmu *mmu, Gpa gpa)
{
    const RamSlot *slot = mmu->code ? ram_find(mmu->ram, gpa) : NULL;
    uint16_t *notes = slot ? mmu->code->write_at[slot - mmu->ram->slot] : NULL;
    return notes ? &notes[(gpa - slot->start) >> PAGE_SHIFT] : NULL;
}

void mmu_drop_writes(Mmu *mmu, Gpa gpa)
{
    Gpa page = page_of(gpa);
    uint16_t *note = write_at_find(mmu, gpa);
    unsigned first = 0, last = TLB_SIZE - 1;
    if (note && *note != CODE_MAP_ANYWHERE) {
        if (*note == 0)
            return;
        first = last = *note - 1u;
    }
    if (note)
        *note = 0;
    for (unsigned index = 0; index < MMU_NINDEXES; index++) {
        TlbEntry *tlb = mmu->tlb[index];
        for (unsigned i = first; i <= last; i++)
            if (page_of(tlb_info_of(mmu, &tlb[i])) == page)
                tlb[i].tag_write = tlb_invalid_tag(i);
    }
}

void mmu_log_writes(Mmu *mmu)
{
    for (unsigned index = 0; index < MMU_NINDEXES; index++)
        for (unsigned i = 0; i < TLB_SIZE; i++)
            mmu->tlb[index][i].tag_write = tlb_invalid_tag(i);
}
