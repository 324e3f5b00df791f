/*
 * DirtyLog: which pages of guest RAM have been written since it was asked last, whoever wrote them: engines note what the guest
 * writes (CpuOps.log_writes), ram_wrote() what the monitor does.
 *
 * While there is one it hangs in Ram.dirty.  It is hung in and taken out while all vCPUs stand still.
 */
#pragma once

#include "core/ram.h"

/* PageSet: a bit a page of each slot of a Ram; page 0 is bit 0 of word 0. */
typedef struct PageSet {
    unsigned nslots;
    uint64_t nwords[RAM_MAX_SLOTS];
    uint64_t *bits[RAM_MAX_SLOTS];
} PageSet;

typedef struct DirtyLog {
    Ram *ram;
    PageSet pages; /* words are atomic */
    RamListener listener;
} DirtyLog;

PageSet *page_set_new(const Ram *ram); /* empty */
void page_set_free(PageSet *pages);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageSet, page_set_free)
void page_set_clear(PageSet *pages);
uint64_t page_set_count(const PageSet *pages);

/* dirty_log_new: hangs in @ram; there is one at a time.   dirty_log_free: takes it out.  The vCPUs stand still. */
DirtyLog *dirty_log_new(Ram *ram);
void dirty_log_free(DirtyLog *log);

/* dirty_log_take: moves what has been noted into @pages, to what is there.  Any thread.  Returns: how many pages @pages has now. */
uint64_t dirty_log_take(DirtyLog *log, PageSet *pages);

/* dirty_log_mark: the page of @gpa has been, or is about to be, written.  Any thread; calls no libc. */
static inline void dirty_log_mark(DirtyLog *log, Gpa gpa)
{
    const RamSlot *slot = ram_find(log->ram, gpa);
    if (!slot)
        return;
    uint64_t page = (gpa - slot->start) >> PAGE_SHIFT, bit = (uint64_t)1 << (page % 64);
    uint64_t *word = &log->pages.bits[slot - log->ram->slot][page / 64];
    if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
        __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
}
