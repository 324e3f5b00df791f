#include "core/dirty.h"

#include <string.h>

static void pages_init(PageSet *pages, const Ram *ram)
{
    pages->nslots = ram->nslots;
    for (unsigned i = 0; i < ram->nslots; i++) {
        pages->nwords[i] = ((ram->slot[i].size >> PAGE_SHIFT) + 63) / 64;
        pages->bits[i] = g_new0(uint64_t, pages->nwords[i]);
    }
}

static void pages_finish(PageSet *pages)
{
    for (unsigned i = 0; i < pages->nslots; i++)
        g_free(pages->bits[i]);
}

PageSet *page_set_new(const Ram *ram)
{
    PageSet *pages = g_new0(PageSet, 1);
    pages_init(pages, ram);
    return pages;
}

void page_set_free(PageSet *pages)
{
    if (!pages)
        return;
    pages_finish(pages);
    g_free(pages);
}

void page_set_clear(PageSet *pages)
{
    for (unsigned i = 0; i < pages->nslots; i++)
        memset(pages->bits[i], 0, pages->nwords[i] * sizeof(uint64_t));
}

uint64_t page_set_count(const PageSet *pages)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < pages->nslots; i++)
        for (uint64_t word = 0; word < pages->nwords[i]; word++)
            count += (unsigned)__builtin_popcountll(pages->bits[i][word]);
    return count;
}

static void on_written(void *opaque, Gpa start, uint64_t size)
{
    for (Gpa page = page_of(start); page < start + size; page += PAGE_SIZE)
        dirty_log_mark(opaque, page);
}

DirtyLog *dirty_log_new(Ram *ram)
{
    g_assert(!ram->dirty);
    DirtyLog *log = g_new0(DirtyLog, 1);
    log->ram = ram;
    pages_init(&log->pages, ram);
    log->listener = (RamListener){ .written = on_written, .opaque = log };
    ram_listen(ram, &log->listener);
    ram->dirty = log;
    return log;
}

void dirty_log_free(DirtyLog *log)
{
    if (!log)
        return;
    log->ram->dirty = NULL;
    ram_unlisten(log->ram, &log->listener);
    pages_finish(&log->pages);
    g_free(log);
}

uint64_t dirty_log_take(DirtyLog *log, PageSet *pages)
{
    for (unsigned i = 0; i < pages->nslots; i++)
        for (uint64_t word = 0; word < pages->nwords[i]; word++)
            if (__atomic_load_n(&log->pages.bits[i][word], __ATOMIC_RELAXED))
                pages->bits[i][word] |= __atomic_exchange_n(&log->pages.bits[i][word], 0, __ATOMIC_SEQ_CST);
    return page_set_count(pages);
}
