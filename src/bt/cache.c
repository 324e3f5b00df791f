/*
 * The code cache.  See cache.h for the rules of validity.
 *
 * cache_find, cache_link, cache_reset_cells, cache_invalidate and jump_cache_flush run while the guest's vector registers are live.
 */
#include "bt/cache.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "core/guard.h"

#define CELLS_SIZE (CACHE_CELLS * sizeof(uint64_t))

static void *arena_new(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (size >= 8u << 20)
        madvise(p, size, MADV_HUGEPAGE); /* filled from the start: few faults, little waste */
    return p;
}

static gboolean cache_map_code(Bt *bt, GError **error)
{
    size_t size = CACHE_CODE_SIZE + CELLS_SIZE;
    int fd = memfd_create("segue-code", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "code cache: memfd: %s", g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    void *rw = guard_map(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    void *rx = guard_map(size, PROT_READ | PROT_EXEC, MAP_SHARED, fd);
    int saved = errno;
    close(fd);
    if (rw == MAP_FAILED || rx == MAP_FAILED) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "code cache: cannot map %zu MiB executable: %s", size >> 20,
                    g_strerror(saved));
        return FALSE;
    }
    bt->rw = rw;
    bt->rx = rx;
    bt->cells = (uint64_t *)(bt->rw + CACHE_CODE_SIZE);
    bt->code_p = bt->rw;
    return TRUE;
}

Bt *cache_new(Ram *ram, CodeMap *code_map, GError **error)
{
    g_autofree Bt *bt = g_new0(Bt, 1);
    bt->code_map = code_map;
    if (!cache_map_code(bt, error))
        return NULL;
    bt->blocks = arena_new(CACHE_BLOCKS * sizeof *bt->blocks);
    bt->exits = arena_new(CACHE_EXITS * sizeof *bt->exits);
    bt->map = arena_new(CACHE_MAP * sizeof *bt->map);
    bt->execs = arena_new(CACHE_EXECS * sizeof *bt->execs);
    bt->hash = arena_new(sizeof *bt->hash << CACHE_HASH_BITS);
    for (unsigned i = 0; i < 2; i++)
        bt->linked_cells[i] = arena_new(CACHE_CELLS * sizeof(uint32_t));
    for (unsigned i = 0; i < ram->nslots; i++)
        bt->page_blocks[i] = arena_new((ram->slot[i].size >> PAGE_SHIFT) * sizeof(BtBlock *));
    for (unsigned i = 0; i < ram->nslots; i++)
        bt->page_writes[i] = arena_new(ram->slot[i].size >> PAGE_SHIFT);
    return g_steal_pointer(&bt);
}

void cache_free(Bt *bt)
{
    if (!bt)
        return;
    guard_unmap(bt->rw, CACHE_CODE_SIZE + CELLS_SIZE);
    guard_unmap(bt->rx, CACHE_CODE_SIZE + CELLS_SIZE);
    munmap(bt->blocks, CACHE_BLOCKS * sizeof *bt->blocks);
    munmap(bt->exits, CACHE_EXITS * sizeof *bt->exits);
    munmap(bt->map, CACHE_MAP * sizeof *bt->map);
    munmap(bt->execs, CACHE_EXECS * sizeof *bt->execs);
    munmap(bt->hash, sizeof *bt->hash << CACHE_HASH_BITS);
    for (unsigned i = 0; i < 2; i++)
        munmap(bt->linked_cells[i], CACHE_CELLS * sizeof(uint32_t));
    for (unsigned i = 0; i < RAM_MAX_SLOTS; i++) {
        size_t npages = bt->code_map->ram->slot[i].size >> PAGE_SHIFT;
        if (bt->page_blocks[i])
            munmap(bt->page_blocks[i], npages * sizeof(BtBlock *));
        if (bt->page_writes[i])
            munmap(bt->page_writes[i], npages);
    }
    g_free(bt);
}

bool cache_has_room(const Bt *bt)
{
    return bt->code_p + CACHE_BLOCK_MAX <= bt->rw + CACHE_CODE_SIZE && bt->nblocks + 1 < CACHE_BLOCKS &&
           bt->nexits + 32 < CACHE_EXITS && bt->nmap + 8 * BLOCK_INSNS_MAX < CACHE_MAP &&
           bt->nexecs + BLOCK_INSNS_MAX + 2 < CACHE_EXECS && bt->ncells + 16 < CACHE_CELLS;
}

static BtBlock **page_list(Bt *bt, Gpa gpa)
{
    const Ram *ram = bt->code_map->ram;
    for (unsigned i = 0; i < ram->nslots; i++)
        if (gpa - ram->slot[i].start < ram->slot[i].size)
            return bt->page_blocks[i] ? &bt->page_blocks[i][(gpa - ram->slot[i].start) >> PAGE_SHIFT] : NULL;
    return NULL;
}

static uint32_t hash_of(Gpa gpa, uint32_t mode)
{
    uint64_t h = (gpa ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> (64 - CACHE_HASH_BITS));
}

void cache_flush(Bt *bt, BtCpu *cpu)
{
    for (uint32_t i = 0; i < bt->nblocks; i++) {
        BtBlock *b = &bt->blocks[i];
        for (unsigned k = 0; k < 1u + b->crosses_page; k++) {
            BtBlock **list = page_list(bt, b->page[k]);
            if (list && *list) {
                *list = NULL;
                code_map_set(bt->code_map, b->page[k], false);
            }
        }
    }
    madvise(bt->hash, sizeof *bt->hash << CACHE_HASH_BITS, MADV_DONTNEED);
    bt->nblocks = bt->nexits = bt->nmap = bt->nexecs = bt->ncells = 0;
    bt->nlinked_cells[0] = bt->nlinked_cells[1] = 0;
    bt->code_p = bt->code_start;
    bt->link_from = NULL;
    bt->stat_flushes++;
    jump_cache_flush(cpu, true);
}

BtBlock *cache_find(Bt *bt, Gpa gpa, uint64_t rip, uint64_t cs_base, uint32_t mode)
{
    for (BtBlock *b = bt->hash[hash_of(gpa, mode)]; b; b = b->hash_next)
        if (b->gpa == gpa && b->rip == rip && b->mode == mode && b->cs_base == cs_base && b->is_valid)
            return b;
    return NULL;
}

void cache_insert(Bt *bt, BtBlock *block)
{
    uint32_t h = hash_of(block->gpa, block->mode);
    block->hash_next = bt->hash[h];
    bt->hash[h] = block;
    for (unsigned k = 0; k < 1u + block->crosses_page; k++) {
        BtBlock **list = page_list(bt, block->page[k]);
        if (list) {
            block->page_next[k] = *list;
            *list = block;
        }
    }
    block->is_valid = true;
}

static const uint8_t *cache_exec_address(const Bt *bt, uint32_t at) { return bt->rx + at; }

static void exit_point_at(Bt *bt, BtExit *exit, uint32_t at)
{
    if (exit->uses_cell) {
        bt->cells[exit->patch_at] = (uint64_t)(uintptr_t)cache_exec_address(bt, at);
    } else {
        int32_t rel = (int32_t)(at - (exit->patch_at + 4));
        __atomic_store_n((int32_t *)(void *)(bt->rw + exit->patch_at), rel, __ATOMIC_RELAXED);
    }
}

bool cache_is_global(const BtCpu *cpu, const BtBlock *block)
{
    Gva gva = block->rip + block->cs_base;
    if (!(block->mode & MODE_CODE64))
        gva = (uint32_t)gva;
    const TlbEntry *e = &cpu->mmu.tlb[bt_mmu_index(cpu)][(gva >> PAGE_SHIFT) % TLB_SIZE];
    return gva - e->tag_read < PAGE_SIZE && e->info & TLB_INFO_GLOBAL;
}

void cache_link(Bt *bt, BtCpu *cpu, BtExit *exit, BtBlock *block)
{
    if (exit->bare && !block->flags_live_in)
        exit = exit->bare;
    if (exit->mode & (MODE_TF | MODE_DEBUG) || exit->to || !exit->from->is_valid || !block->is_valid || block->crosses_page || exit->mode != block->mode ||
        exit->target_rip != block->rip || exit->from->cs_base != block->cs_base)
        return;
    if (!exit->uses_cell && page_of(exit->from->gpa) != page_of(block->gpa))
        return;
    if (exit->uses_cell) {
        unsigned class = cache_is_global(cpu, block) && cache_is_kernel_half(cpu, block->rip) ? 0 : 1;
        if (bt->nlinked_cells[class] >= CACHE_CELLS)
            return;
        bt->linked_cells[class][bt->nlinked_cells[class]++] = (uint32_t)(exit - bt->exits);
    }
    exit->to = block;
    exit->next_in = block->in;
    block->in = exit;
    uint32_t at = exit->is_backward ? block->host_poll_at : block->main_at;
    if (!exit->flags_in_host && block->flags_live_in)
        at = block->slot_at;
    else if (block->carry_base >= 0 && exit->carries >> block->carry_base & 1)
        at = exit->is_backward ? block->carry_poll_at : block->carry_at;
    exit_point_at(bt, exit, at);
    bt->stat_links++;
}

static void exit_unlink(Bt *bt, BtExit *exit)
{
    exit_point_at(bt, exit, exit->stub_at);
    exit->to = NULL;
}

static void list_remove_exit(BtBlock *block, BtExit *exit)
{
    for (BtExit **p = &block->in; *p; p = &(*p)->next_in) {
        if (*p == exit) {
            *p = exit->next_in;
            return;
        }
    }
}

void cache_reclaim(Bt *bt)
{
    while (bt->nblocks > 0 && !bt->blocks[bt->nblocks - 1].is_valid) {
        BtBlock *block = &bt->blocks[--bt->nblocks];
        for (uint32_t i = block->exit_first; i < bt->nexits; i++) {
            if (bt->exits[i].to)
                list_remove_exit(bt->exits[i].to, &bt->exits[i]);
            bt->exits[i].to = NULL;
        }
        bt->nexits = block->exit_first;
        bt->nexecs = block->exec_first;
        bt->nmap = block->map_first;
        bt->code_p = bt->rw + block->code_at;
    }
}

void cache_reset_cells(Bt *bt, bool global)
{
    for (unsigned class = global ? 0 : 1; class < 2; class++) {
        for (uint32_t i = 0; i < bt->nlinked_cells[class]; i++) {
            BtExit *exit = &bt->exits[bt->linked_cells[class][i]];
            if (exit->to) {
                list_remove_exit(exit->to, exit);
                exit_unlink(bt, exit);
                bt->stat_cell_resets++;
            }
        }
        bt->nlinked_cells[class] = 0;
    }
    bt->link_from = NULL;
}

void cache_reset_page(Bt *bt, BtCpu *cpu, Gva page)
{
    for (uint32_t i = 0; i < bt->nlinked_cells[1]; i++) {
        BtExit *exit = &bt->exits[bt->linked_cells[1][i]];
        if (exit->to && page_of(exit->target_rip + exit->from->cs_base) == page) {
            list_remove_exit(exit->to, exit);
            exit_unlink(bt, exit);
            bt->stat_cell_resets++;
        }
    }
    for (unsigned class = 0; class < 2; class++)
        for (unsigned i = 0; i < JUMP_CACHE_SIZE; i++)
            if (page_of(jump_cache_rip(cpu->jump_cache[class][i].key)) == page)
                cpu->jump_cache[class][i].key = jump_cache_empty(i);
    bt->link_from = NULL;
}

static void block_drop(Bt *bt, BtCpu *cpu, BtBlock *block)
{
    block->is_valid = false;
    for (BtExit *exit = block->in, *next; exit; exit = next) {
        next = exit->next_in;
        exit_unlink(bt, exit);
    }
    block->in = NULL;
    BtBlock **p = &bt->hash[hash_of(block->gpa, block->mode)];
    while (*p && *p != block)
        p = &(*p)->hash_next;
    if (*p)
        *p = block->hash_next;
    for (unsigned k = 0; k < 1u + block->crosses_page; k++) {
        BtBlock **list = page_list(bt, block->page[k]);
        if (!list)
            continue;
        for (BtBlock **q = list; *q;) {
            unsigned side = (*q)->page[0] == block->page[k] ? 0 : 1;
            if (*q == block) {
                *q = block->page_next[side];
                break;
            }
            q = &(*q)->page_next[side];
        }
        if (!*list)
            code_map_set(bt->code_map, block->page[k], false);
    }
    unsigned slot = block->rip & (JUMP_CACHE_SIZE - 1);
    JumpCacheEntry *entry = &cpu->jump_cache[block->mode & MODE_USER ? 1 : 0][slot];
    if (entry->host == cache_exec_address(bt, block->slot_at))
        entry->key = jump_cache_empty(slot);
    if (bt->link_from && bt->link_from->from == block)
        bt->link_from = NULL;
    bt->stat_invalidated++;
}

/* Whether the bytes that @block has on the page @page, by its first or its second page, overlap [gpa, end). */
static bool block_overlaps(const BtBlock *block, Gpa page, Gpa gpa, Gpa end)
{
    unsigned first = (unsigned)(PAGE_SIZE - page_offset(block->gpa));
    if (block->page[0] == page && gpa < block->gpa + (block->crosses_page ? first : block->guest_size) && block->gpa < end)
        return true;
    return block->crosses_page && block->page[1] == page && gpa < page + (block->guest_size - first) && page < end;
}

bool cache_invalidate(Bt *bt, BtCpu *cpu, Gpa gpa, uint64_t size)
{
    bool found = false;
    for (Gpa page = page_of(gpa); page < gpa + size; page += PAGE_SIZE) {
        BtBlock **list = page_list(bt, page);
        BtBlock *next;
        for (BtBlock *b = list ? *list : NULL; b; b = next) {
            unsigned side = b->page[0] == page ? 0 : 1;
            next = b->page_next[side];
            if (block_overlaps(b, page, gpa, gpa + size)) {
                block_drop(bt, cpu, b);
                found = true;
            }
        }
    }
    return found;
}

#define WRITES_BEFORE_DROP 16u
#define WRITES_DROPS_END 128u

bool cache_note_write(Bt *bt, BtCpu *cpu, Gpa gpa)
{
    const RamSlot *slot = ram_find(bt->code_map->ram, gpa);
    uint8_t *writes = slot ? bt->page_writes[slot - bt->code_map->ram->slot] : NULL;
    if (!writes)
        return false;
    writes += (gpa - slot->start) >> PAGE_SHIFT;
    if (*writes >= WRITES_DROPS_END)
        return false;
    if (++*writes % WRITES_BEFORE_DROP)
        return false;
    return cache_invalidate(bt, cpu, page_of(gpa), PAGE_SIZE);
}

const BtMap *cache_map_find(const Bt *bt, const uint8_t *pc, const BtBlock **out_block)
{
    if (!cache_contains(bt, pc) || bt->nblocks == 0)
        return NULL;
    uint32_t at = (uint32_t)(pc - bt->rx);
    uint32_t low = 0, high = bt->nblocks; /* last block with code_at <= at */
    while (high - low > 1) {
        uint32_t mid = (low + high) / 2;
        if (bt->blocks[mid].code_at <= at)
            low = mid;
        else
            high = mid;
    }
    const BtBlock *b = &bt->blocks[low];
    if (at < b->code_at || at >= b->code_at + b->code_size)
        return NULL;
    const BtMap *found = NULL;
    for (uint32_t i = 0; i < b->map_count; i++) {
        const BtMap *m = &bt->map[b->map_first + i];
        if (m->host_at > at)
            break;
        found = m;
    }
    *out_block = b;
    return found;
}

void jump_cache_fill(BtCpu *cpu, const BtBlock *block)
{
    unsigned class = cpu->mode & MODE_USER ? 1 : 0;
    if (block->crosses_page || cpu->jump_cache_mode[class] != block->mode)
        return;
    unsigned slot = block->rip & (JUMP_CACHE_SIZE - 1);
    JumpCacheEntry *e = &cpu->jump_cache[class][slot];
    e->key = jump_cache_key(block->rip, block->flags_live_in);
    e->host = cpu->bt->rx + block->slot_at;
    if (cache_is_global(cpu, block))
        return;
    if (cpu->njump_cache_local[class] < JUMP_CACHE_LOCAL)
        cpu->jump_cache_local[class][cpu->njump_cache_local[class]] = (uint16_t)slot;
    cpu->njump_cache_local[class] += cpu->njump_cache_local[class] <= JUMP_CACHE_LOCAL;
}

void jump_cache_flush(BtCpu *cpu, bool global)
{
    for (unsigned class = 0; class < 2; class++) {
        JumpCacheEntry *entries = cpu->jump_cache[class];
        uint32_t nlocal = cpu->njump_cache_local[class];
        cpu->njump_cache_local[class] = 0;
        if (global || nlocal > JUMP_CACHE_LOCAL) {
            for (unsigned i = 0; i < JUMP_CACHE_SIZE; i++)
                entries[i].key = jump_cache_empty(i);
            continue;
        }
        for (uint32_t i = 0; i < nlocal; i++) {
            unsigned slot = cpu->jump_cache_local[class][i];
            entries[slot].key = jump_cache_empty(slot);
        }
    }
}
