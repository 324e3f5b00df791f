#include "bt/foreign.h"

#include "bt/cache.h"

/* Any thread. */
static void on_written(void *opaque, Gpa start, uint64_t size)
{
    BtCpu *cpu = opaque;
    BtForeign *foreign = &cpu->foreign;
    bool is_code = false;
    for (Gpa page = page_of(start); page < start + size && !is_code; page += PAGE_SIZE)
        is_code = code_map_test(cpu->mmu.code, page);
    if (!is_code)
        return;
    g_mutex_lock(&foreign->lock);
    if (foreign->nranges < BT_FOREIGN_RANGES)
        foreign->range[foreign->nranges++] = (BtForeignRange){ start, size };
    else
        foreign->is_everything = true;
    g_mutex_unlock(&foreign->lock);
    __atomic_fetch_or(&cpu->kicked, BT_KICK_FOREIGN, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->poll_kick, 1, __ATOMIC_SEQ_CST);
}

void bt_foreign_init(BtCpu *cpu)
{
    BtForeign *foreign = &cpu->foreign;
    g_mutex_init(&foreign->lock);
    foreign->listener = (RamListener){ .written = on_written, .opaque = cpu };
    ram_listen(cpu->ram, &foreign->listener);
}

void bt_foreign_clear(BtCpu *cpu)
{
    ram_unlisten(cpu->ram, &cpu->foreign.listener);
    g_mutex_clear(&cpu->foreign.lock);
}

void bt_foreign_apply(BtCpu *cpu)
{
    BtForeign *foreign = &cpu->foreign;
    g_mutex_lock(&foreign->lock);
    unsigned n = foreign->nranges;
    BtForeignRange range[BT_FOREIGN_RANGES];
    for (unsigned i = 0; i < n; i++)
        range[i] = foreign->range[i];
    bool is_everything = foreign->is_everything;
    foreign->nranges = 0;
    foreign->is_everything = false;
    g_mutex_unlock(&foreign->lock);
    cpu->bt->link_from = NULL; /* its block may be among them */
    if (is_everything)
        cache_flush(cpu->bt, cpu);
    for (unsigned i = 0; i < n && !is_everything; i++)
        cache_invalidate(cpu->bt, cpu, range[i].start, range[i].size);
}
