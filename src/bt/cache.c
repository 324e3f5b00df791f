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

#include "bt/translate.h"
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

/* MADV_COLLAPSE (Linux 6.1) gives huge pages to a memfd whatever /sys says of them; by itself shared memory has small ones.  A large program
 * jumps all over its translations: with small pages the host's instruction TLB misses on much of that.  A chunk is taken when a little of it is in
 * use, so that small guests do not wait for what they never fill. */
#define HUGE_CHUNK ((size_t)2 << 20)
#define HUGE_WORTH ((size_t)128 << 10)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

void cache_grown(Bt *bt)
{
    const uint8_t *used[3] = {bt->code_p, bt->cold_p, (uint8_t *)(bt->cells + bt->ncells)};
    for (unsigned k = 0; k < 3; k++) {
        if (__builtin_expect(used[k] < bt->huge_end[k] + HUGE_WORTH, 1))
            continue;
        madvise(bt->huge_end[k], HUGE_CHUNK, MADV_COLLAPSE); /* refused: small pages */
        bt->huge_end[k] += HUGE_CHUNK;
    }
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
    bt->cold_p = bt->code_end = bt->rw + CACHE_MAIN_SIZE;
    bt->cold_end = bt->rw + CACHE_CODE_SIZE;
    bt->huge_end[0] = bt->code_p;
    bt->huge_end[1] = bt->cold_p;
    bt->huge_end[2] = (uint8_t *)bt->cells;
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
    bt->global_cells = arena_new(CACHE_CELLS * sizeof(uint32_t));
    for (unsigned i = 0; i < ram->nslots; i++)
        bt->page_blocks[i] = arena_new((ram->slot[i].size >> PAGE_SHIFT) * sizeof(uint32_t));
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
    munmap(bt->global_cells, CACHE_CELLS * sizeof(uint32_t));
    for (unsigned i = 0; i < RAM_MAX_SLOTS; i++) {
        size_t npages = bt->code_map->ram->slot[i].size >> PAGE_SHIFT;
        if (bt->page_blocks[i])
            munmap(bt->page_blocks[i], npages * sizeof(uint32_t));
        if (bt->page_writes[i])
            munmap(bt->page_writes[i], npages);
    }
    g_free(bt);
}

bool cache_has_room(const Bt *bt)
{
    return bt->code_p + CACHE_BLOCK_MAX <= bt->code_end && bt->cold_p + CACHE_BLOCK_MAX <= bt->cold_end &&
           bt->nblocks + 1 < CACHE_BLOCKS && bt->nexits + 32 < CACHE_EXITS && bt->nmap + 8 * BLOCK_INSNS_MAX < CACHE_MAP &&
           bt->nhash < (7u << CACHE_HASH_BITS) / 8 && bt->nexecs + BLOCK_INSNS_MAX + 2 < CACHE_EXECS && bt->ncells + 16 < CACHE_CELLS;
}

static uint32_t *page_list(Bt *bt, Gpa gpa)
{
    const Ram *ram = bt->code_map->ram;
    for (unsigned i = 0; i < ram->nslots; i++)
        if (gpa - ram->slot[i].start < ram->slot[i].size)
            return bt->page_blocks[i] ? &bt->page_blocks[i][(gpa - ram->slot[i].start) >> PAGE_SHIFT] : NULL;
    return NULL;
}

#define HASH_SHIFT (64 - CACHE_HASH_BITS)
#define HASH_GRAIN_BITS 3 /* so many bytes of code share a slot (its logarithm) */

/*
 * Where a search begins: the page's hash says where the page's stretch of the table is, the offset where in it, so that what a program looks for
 * next mostly stands in a line that it has just read.  With the RIP's page: shared libraries are at another address in every process.
 */
static uint64_t hash_of(Gpa gpa, uint64_t rip, uint32_t mode)
{
    return (page_of(gpa) ^ (uint64_t)mode << 40 ^ page_of(rip) << 8) * 0x9e3779b97f4a7c15u + ((uint64_t)page_offset(gpa) << (HASH_SHIFT - HASH_GRAIN_BITS));
}

#define HASH_END 0u  /* BtHashSlot.block */
#define HASH_GONE 1u
#define HASH_FIRST 2u

static uint32_t hash_start(uint64_t hash) { return (uint32_t)(hash >> HASH_SHIFT); }
static uint32_t hash_tag(uint64_t hash) { return (uint32_t)(hash >> 20); } /* of the page as well as of the offset */
static uint32_t hash_after(uint32_t at) { return (at + 1) & ((1u << CACHE_HASH_BITS) - 1); }

void cache_flush(Bt *bt, BtCpu *cpu)
{
    for (uint32_t i = 0; i < bt->nblocks; i++) {
        BtBlock *b = &bt->blocks[i];
        for (unsigned k = 0; k < 1u + b->crosses_page; k++) {
            uint32_t *list = page_list(bt, block_page(b, k));
            if (list && *list) {
                *list = BLOCK_NONE;
                code_map_set(bt->code_map, block_page(b, k), false);
            }
        }
    }
    madvise(bt->hash, sizeof *bt->hash << CACHE_HASH_BITS, MADV_DONTNEED);
    bt->nblocks = bt->nexits = bt->nmap = bt->nexecs = bt->ncells = 0;
    bt->nglobal_cells = bt->nhash = 0;
    memset(bt->cells_of_page, 0, sizeof bt->cells_of_page);
    bt->ncell_lists = 0;
    bt->code_p = bt->code_start;
    bt->cold_p = bt->rw + CACHE_MAIN_SIZE;
    bt->link_from = NULL;
    bt->stat_flushes++;
    jump_cache_flush(cpu, true);
}

BtBlock *cache_find(Bt *bt, Gpa gpa, uint64_t rip, uint64_t cs_base, uint32_t mode)
{
    uint64_t hash = hash_of(gpa, rip, mode);
    for (uint32_t at = hash_start(hash);; at = hash_after(at)) {
        BtHashSlot slot = bt->hash[at];
        if (slot.block == HASH_END)
            return NULL;
        if (slot.block < HASH_FIRST || slot.tag != hash_tag(hash))
            continue;
        BtBlock *b = &bt->blocks[slot.block - HASH_FIRST];
        if (b->gpa == gpa && b->rip == rip && b->mode == mode && b->cs_base == cs_base && b->is_valid)
            return b;
    }
}

static void hash_insert(Bt *bt, const BtBlock *block)
{
    uint64_t hash = hash_of(block->gpa, block->rip, block->mode);
    uint32_t at = hash_start(hash);
    while (bt->hash[at].block >= HASH_FIRST)
        at = hash_after(at);
    bt->nhash += bt->hash[at].block == HASH_END;
    bt->hash[at] = (BtHashSlot){.tag = hash_tag(hash), .block = HASH_FIRST + (uint32_t)(block - bt->blocks)};
}

static void hash_remove(Bt *bt, const BtBlock *block)
{
    uint32_t number = HASH_FIRST + (uint32_t)(block - bt->blocks), at = hash_start(hash_of(block->gpa, block->rip, block->mode));
    while (bt->hash[at].block != HASH_END && bt->hash[at].block != number)
        at = hash_after(at);
    if (bt->hash[at].block != number)
        return;
    bt->hash[at].block = bt->hash[hash_after(at)].block == HASH_END ? HASH_END : HASH_GONE;
    bt->nhash -= bt->hash[at].block == HASH_END;
}

void cache_insert(Bt *bt, BtBlock *block)
{
    hash_insert(bt, block);
    for (unsigned k = 0; k < 1u + block->crosses_page; k++) {
        uint32_t *list = page_list(bt, block_page(block, k));
        if (list) {
            block->page_next[k] = *list;
            *list = block_number(bt, block);
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
    const TlbEntry *tlb = cpu->mmu.tlb[bt_mmu_index(cpu)], *e = &tlb[(gva >> PAGE_SHIFT) % TLB_SIZE];
    if (gva - e->tag_read >= PAGE_SIZE || !(tlb_info_of(&cpu->mmu, e) & TLB_INFO_GLOBAL))
        return false;
    if (!block->crosses_page)
        return true;
    gva = page_of(gva) + PAGE_SIZE;
    e = &tlb[(gva >> PAGE_SHIFT) % TLB_SIZE];
    return e->tag_read == gva && tlb_info_of(&cpu->mmu, e) & TLB_INFO_GLOBAL;
}

static uint32_t *cell_list(Bt *bt, Gva page) { return &bt->cells_of_page[(page >> PAGE_SHIFT) % CACHE_CELL_LISTS]; }

static void cell_list_note(Bt *bt, unsigned list)
{
    if (bt->ncell_lists < CACHE_CELL_LISTS)
        bt->cell_lists[bt->ncell_lists] = (uint16_t)list;
    bt->ncell_lists += bt->ncell_lists <= CACHE_CELL_LISTS;
}

static uint32_t *cell_list_of(Bt *bt, const BtExit *exit) { return cell_list(bt, exit->target_rip + block_of(bt, exit->from)->cs_base); }

/* MODE_* of the code that @exit leads to. */
static uint32_t exit_mode(const Bt *bt, const BtExit *exit)
{
    uint32_t mode = block_of(bt, exit->from)->mode & ~(MODE_ONE | MODE_PLAIN | MODE_AC);
    return mode | (exit->is_plain ? MODE_PLAIN : 0) | (exit->is_ac ? MODE_AC : 0) | (exit->is_single ? MODE_ONE : 0);
}

void cache_link(Bt *bt, BtCpu *cpu, BtExit *exit, BtBlock *block)
{
    const BtBlock *from = block_of(bt, exit->from);
    if (exit->has_bare && !block->flags_live_in)
        exit--;
    uint32_t mode = exit_mode(bt, exit);
    if (mode & (MODE_TF | MODE_DEBUG) || exit->to || !from->is_valid || !block->is_valid || mode != block->mode ||
        exit->target_rip != block->rip || from->cs_base != block->cs_base)
        return;
    if (!exit->uses_cell && (page_of(from->gpa) != page_of(block->gpa) || block->crosses_page))
        return;
    if (exit->uses_cell) {
        uint32_t number = exit_number(bt, exit), *list = cell_list_of(bt, exit);
        if (cache_is_global(cpu, block) && cache_is_kernel_half(cpu, block->rip)) {
            if (bt->nglobal_cells >= CACHE_CELLS)
                return;
            bt->global_cells[bt->nglobal_cells++] = number;
        } else if (!exit->is_listed) {
            if (!*list)
                cell_list_note(bt, (unsigned)(list - bt->cells_of_page));
            exit->is_listed = true;
            exit->next_listed = *list;
            *list = number;
        }
    }
    exit->to = block_number(bt, block);
    exit->next_in = block->in;
    block->in = exit_number(bt, exit);
    uint32_t at = exit->is_backward ? block_host_poll_at(block) : block_main_at(block);
    if (!exit->flags_in_host && block->flags_live_in)
        at = block_slot_at(block);
    else if (block->carry_base >= 0 && exit->carries >> block->carry_base & 1)
        at = block->code_at + (exit->is_backward ? block->carry_poll_in : block->carry_in);
    exit_point_at(bt, exit, at);
    bt->stat_links++;
}

static void exit_unlink(Bt *bt, BtExit *exit)
{
    exit_point_at(bt, exit, exit->stub_at);
    exit->to = BLOCK_NONE;
}

/* Takes @exit out of the list of those that lead where it does. */
static void list_remove_exit(Bt *bt, const BtExit *exit)
{
    uint32_t number = exit_number(bt, exit);
    for (uint32_t *p = &block_of(bt, exit->to)->in; *p; p = &exit_of(bt, *p)->next_in) {
        if (*p == number) {
            *p = exit->next_in;
            return;
        }
    }
}

static void list_remove_cell(Bt *bt, BtExit *exit)
{
    uint32_t number = exit_number(bt, exit), *p = cell_list_of(bt, exit);
    while (*p && *p != number)
        p = &exit_of(bt, *p)->next_listed;
    if (*p)
        *p = exit->next_listed;
    exit->is_listed = false;
}

void cache_reclaim(Bt *bt)
{
    while (bt->nblocks > 0 && !bt->blocks[bt->nblocks - 1].is_valid) {
        BtBlock *block = &bt->blocks[--bt->nblocks];
        for (uint32_t i = block->exit_first; i < bt->nexits; i++) {
            if (bt->exits[i].to)
                list_remove_exit(bt, &bt->exits[i]);
            bt->exits[i].to = BLOCK_NONE;
            if (bt->exits[i].is_listed)
                list_remove_cell(bt, &bt->exits[i]);
        }
        bt->nexits = block->exit_first;
        bt->nexecs = block->exec_first;
        bt->nmap = block->map_first;
        bt->code_p = bt->rw + block->code_at;
        bt->cold_p = bt->rw + block->cold_at;
    }
}

static void cell_reset(Bt *bt, BtExit *exit)
{
    if (!exit->to)
        return;
    list_remove_exit(bt, exit);
    exit_unlink(bt, exit);
    bt->stat_cell_resets++;
}

void cache_reset_cells(Bt *bt, bool global)
{
    for (uint32_t i = 0; global && i < bt->nglobal_cells; i++)
        cell_reset(bt, exit_of(bt, bt->global_cells[i]));
    if (global)
        bt->nglobal_cells = 0;
    bool any = bt->ncell_lists > CACHE_CELL_LISTS;
    for (unsigned i = 0; i < (any ? CACHE_CELL_LISTS : bt->ncell_lists); i++) {
        uint32_t *list = &bt->cells_of_page[any ? i : bt->cell_lists[i]];
        for (uint32_t number = *list; number; number = exit_of(bt, number)->next_listed) {
            cell_reset(bt, exit_of(bt, number));
            exit_of(bt, number)->is_listed = false;
        }
        *list = EXIT_NONE;
    }
    bt->ncell_lists = 0;
    bt->link_from = NULL;
}

/* Whether a block at @start, with bytes on the next page if it @crosses, depends on the linear page @page. */
static bool uses_page(Gva start, bool crosses, Gva page)
{
    return page_of(start) == page || (crosses && page_of(start) + PAGE_SIZE == page);
}

static void jump_cache_reset(BtCpu *cpu, unsigned class, unsigned slot, Gva page)
{
    uint64_t rip = jump_cache_rip(cpu->jump_cache[class][slot].key);
    if (uses_page(rip, cache_may_cross(rip), page))
        cpu->jump_cache[class][slot].key = jump_cache_empty(slot);
}

static void jump_cache_reset_page(BtCpu *cpu, unsigned class, Gva page)
{
    uint32_t nlocal = cpu->njump_cache_local[class];
    if (nlocal > JUMP_CACHE_LIST) {
        for (unsigned i = 0; i < JUMP_CACHE_SIZE; i++)
            jump_cache_reset(cpu, class, i, page);
        return;
    }
    for (uint32_t i = 0; i < nlocal; i++)
        jump_cache_reset(cpu, class, cpu->jump_cache_local[class][i], page);
}

void cache_reset_page(Bt *bt, BtCpu *cpu, Gva page)
{
    for (Gva first = page - PAGE_SIZE, i = 0; i < 2; i++, first += PAGE_SIZE) {
        for (uint32_t number = *cell_list(bt, first); number; number = exit_of(bt, number)->next_listed) {
            BtExit *exit = exit_of(bt, number);
            if (exit->to && uses_page(exit->target_rip + block_of(bt, exit->from)->cs_base, block_of(bt, exit->to)->crosses_page, page))
                cell_reset(bt, exit);
        }
    }
    for (unsigned class = 0; class < 2; class++)
        jump_cache_reset_page(cpu, class, page);
    bt->link_from = NULL;
}

static void block_drop(Bt *bt, BtCpu *cpu, BtBlock *block)
{
    block->is_valid = false;
    for (uint32_t number = block->in, next; number; number = next) {
        next = exit_of(bt, number)->next_in;
        exit_unlink(bt, exit_of(bt, number));
    }
    block->in = EXIT_NONE;
    hash_remove(bt, block);
    for (unsigned k = 0; k < 1u + block->crosses_page; k++) {
        Gpa page = block_page(block, k);
        uint32_t *list = page_list(bt, page);
        if (!list)
            continue;
        for (uint32_t *q = list; *q;) {
            BtBlock *b = block_of(bt, *q);
            unsigned side = block_page(b, 0) == page ? 0 : 1;
            if (b == block) {
                *q = block->page_next[side];
                break;
            }
            q = &b->page_next[side];
        }
        if (!*list)
            code_map_set(bt->code_map, page, false);
    }
    unsigned slot = block->rip & (JUMP_CACHE_SIZE - 1);
    JumpCacheEntry *entry = &cpu->jump_cache[block->mode & MODE_USER ? 1 : 0][slot];
    if (entry->host == cache_exec_address(bt, block_slot_at(block)))
        entry->key = jump_cache_empty(slot);
    if (bt->link_from && block_of(bt, bt->link_from->from) == block)
        bt->link_from = NULL;
    bt->stat_invalidated++;
}

/* Whether the bytes that @block has on the page @page, by its first or its second page, overlap [gpa, end). */
static bool block_overlaps(const BtBlock *block, Gpa page, Gpa gpa, Gpa end)
{
    unsigned first = (unsigned)(PAGE_SIZE - page_offset(block->gpa));
    if (block_page(block, 0) == page && gpa < block->gpa + (block->crosses_page ? first : block->guest_size) && block->gpa < end)
        return true;
    return block->crosses_page && block_page(block, 1) == page && gpa < page + (block->guest_size - first) && page < end;
}

bool cache_invalidate(Bt *bt, BtCpu *cpu, Gpa gpa, uint64_t size)
{
    bool found = false;
    for (Gpa page = page_of(gpa); page < gpa + size; page += PAGE_SIZE) {
        uint32_t *list = page_list(bt, page), next;
        for (uint32_t number = list ? *list : BLOCK_NONE; number; number = next) {
            BtBlock *b = block_of(bt, number);
            next = b->page_next[block_page(b, 0) == page ? 0 : 1];
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
    bool is_cold = at >= CACHE_MAIN_SIZE;
    uint32_t low = 0, high = bt->nblocks; /* last block that begins at @at or before */
    while (high - low > 1) {
        uint32_t mid = (low + high) / 2;
        if ((is_cold ? bt->blocks[mid].cold_at : bt->blocks[mid].code_at) <= at)
            low = mid;
        else
            high = mid;
    }
    const BtBlock *b = &bt->blocks[low];
    if (at - b->code_at >= b->code_size && at - b->cold_at >= b->cold_size)
        return NULL;
    const BtMap *found = NULL;
    for (uint32_t i = 0; i < b->map_count; i++) {
        const BtMap *m = &bt->map[b->map_first + i];
        if (map_host_at(b, m) > at && m->is_cold == is_cold)
            break;
        if (m->is_cold == is_cold)
            found = m;
    }
    *out_block = b;
    return found;
}

static void jump_cache_list(uint16_t *list, uint32_t *n, unsigned slot)
{
    if (*n < JUMP_CACHE_LIST)
        list[*n] = (uint16_t)slot;
    *n += *n <= JUMP_CACHE_LIST;
}

void jump_cache_fill(BtCpu *cpu, const BtBlock *block)
{
    unsigned class = cpu->mode & MODE_USER ? 1 : 0;
    if (cpu->jump_cache_mode[class] != block->mode)
        return;
    unsigned slot = block->rip & (JUMP_CACHE_SIZE - 1);
    JumpCacheEntry *e = &cpu->jump_cache[class][slot];
    e->key = jump_cache_key(block->rip, block->flags_live_in);
    e->host = cpu->bt->rx + block_slot_at(block);
    if (cache_is_global(cpu, block) && cache_is_kernel_half(cpu, block->rip))
        jump_cache_list(cpu->jump_cache_global[class], &cpu->njump_cache_global[class], slot);
    else
        jump_cache_list(cpu->jump_cache_local[class], &cpu->njump_cache_local[class], slot);
}

/* Empties the entries listed.  Returns whether those are all. */
static bool jump_cache_drop(JumpCacheEntry *entries, const uint16_t *list, uint32_t *n)
{
    uint32_t nlisted = *n;
    *n = 0;
    if (nlisted > JUMP_CACHE_LIST)
        return false;
    for (uint32_t i = 0; i < nlisted; i++)
        entries[list[i]].key = jump_cache_empty(list[i]);
    return true;
}

void jump_cache_empty_class(BtCpu *cpu, unsigned class)
{
    for (unsigned i = 0; i < JUMP_CACHE_SIZE; i++)
        cpu->jump_cache[class][i].key = jump_cache_empty(i);
    cpu->njump_cache_local[class] = cpu->njump_cache_global[class] = 0;
}

void jump_cache_flush(BtCpu *cpu, bool global)
{
    for (unsigned class = 0; class < 2; class++) {
        JumpCacheEntry *entries = cpu->jump_cache[class];
        bool is_all = jump_cache_drop(entries, cpu->jump_cache_local[class], &cpu->njump_cache_local[class]);
        if (global)
            is_all &= jump_cache_drop(entries, cpu->jump_cache_global[class], &cpu->njump_cache_global[class]);
        if (!is_all)
            jump_cache_empty_class(cpu, class);
    }
}
