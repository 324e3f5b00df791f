#include "bt/foreign.h"

#include <string.h>

#include "bt/cache.h"

/* A write as long as this makes data of a page: no use to look which blocks it left. */
#define LONG_WRITE 64u

void bt_foreign_kick(BtCpu *cpu)
{
    __atomic_fetch_or(&cpu->kicked, BT_KICK_FOREIGN, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->poll_kick, 1, __ATOMIC_SEQ_CST);
}

void bt_foreign_written(BtCpu *cpu, Gpa start, uint64_t size)
{
    BtForeign *foreign = &cpu->foreign;
    g_mutex_lock(&foreign->lock);
    BtForeignRange *last = foreign->nranges ? &foreign->range[foreign->nranges - 1] : NULL;
    if (last && start >= last->start && start <= last->start + last->size)
        last->size = MAX(last->size, start + size - last->start);
    else if (foreign->nranges < BT_FOREIGN_RANGES)
        foreign->range[foreign->nranges++] = (BtForeignRange){ start, size };
    else
        foreign->is_everything = true;
    g_mutex_unlock(&foreign->lock);
    bt_foreign_kick(cpu);
}

uint64_t bt_foreign_drop_writes(BtCpu *cpu, Gpa gpa)
{
    BtForeign *foreign = &cpu->foreign;
    g_mutex_lock(&foreign->lock);
    if (foreign->nclaimed < BT_FOREIGN_RANGES)
        foreign->claimed[foreign->nclaimed] = gpa;
    if (foreign->nclaimed <= BT_FOREIGN_RANGES)
        foreign->nclaimed++;
    uint64_t turn = foreign->turn + 1;
    g_mutex_unlock(&foreign->lock);
    bt_foreign_kick(cpu);
    return turn;
}

/* A device's write; any thread. */
static void on_written(void *opaque, Gpa start, uint64_t size)
{
    BtCpu *cpu = opaque;
    bool is_code = false;
    for (Gpa page = page_of(start); page < start + size && !is_code; page += PAGE_SIZE)
        is_code = code_map_test(cpu->mmu.code, page);
    if (is_code)
        bt_foreign_written(cpu, start, size);
}

void bt_foreign_init(BtCpu *cpu) { g_mutex_init(&cpu->foreign.lock); }

void bt_foreign_listen(BtCpu *cpu)
{
    BtForeign *foreign = &cpu->foreign;
    foreign->listener = (RamListener){ .written = on_written, .opaque = cpu };
    ram_listen(cpu->ram, &foreign->listener);
}

void bt_foreign_clear(BtCpu *cpu)
{
    ram_unlisten(cpu->ram, &cpu->foreign.listener);
    g_mutex_clear(&cpu->foreign.lock);
}

static void range_drop(BtCpu *cpu, const BtForeignRange *range)
{
    if (range->size < LONG_WRITE) {
        if (!cache_invalidate(cpu->bt, cpu, range->start, range->size))
            cache_note_write(cpu->bt, cpu, range->start);
        return;
    }
    Gpa first = page_of(range->start), end = page_of(range->start + range->size + PAGE_SIZE - 1);
    cache_invalidate(cpu->bt, cpu, first, end - first);
}

void bt_foreign_apply(BtCpu *cpu)
{
    BtForeign *foreign = &cpu->foreign;
    BtForeignRange range[BT_FOREIGN_RANGES];
    Gpa claimed[BT_FOREIGN_RANGES];
    g_mutex_lock(&foreign->lock);
    unsigned nranges = foreign->nranges, nclaimed = foreign->nclaimed;
    memcpy(range, foreign->range, nranges * sizeof range[0]);
    memcpy(claimed, foreign->claimed, MIN(nclaimed, BT_FOREIGN_RANGES) * sizeof claimed[0]);
    bool is_everything = foreign->is_everything;
    foreign->nranges = foreign->nclaimed = 0;
    foreign->is_everything = false;
    uint64_t turn = ++foreign->turn;
    g_mutex_unlock(&foreign->lock);
    if (nclaimed > BT_FOREIGN_RANGES)
        mmu_flush(&cpu->mmu, true);
    for (unsigned i = 0; i < nclaimed && nclaimed <= BT_FOREIGN_RANGES; i++)
        mmu_drop_writes(&cpu->mmu, claimed[i]);
    if (nranges || is_everything)
        cpu->bt->link_from = NULL; /* its block may be among them */
    if (is_everything)
        cache_flush(cpu->bt, cpu);
    for (unsigned i = 0; i < nranges && !is_everything; i++)
        range_drop(cpu, &range[i]);
    __atomic_store_n(&foreign->done, turn, __ATOMIC_SEQ_CST);
}
