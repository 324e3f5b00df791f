/*
 * The code cache of one translator: blocks, the edges between them, and how they are found again and dropped.
 *
 * Translated code lives in one memfd mapped twice: written through `rw`, executed through `rx`; no page is ever both.  A block's main line
 * stands among main lines, its slow paths and ways out among those of others, so that what runs is dense.  Both parts fill linearly, and the cache
 * is emptied whole when any of its arenas is full.
 *
 * A block is valid for (physical address, RIP, CS base, mode).  Edges to a block on the same guest page are patched jumps: they hold as
 * long as both blocks do.  Edges to another page, and to an instruction that crosses into another, go through a *cell*, one pointer in memory, that is reset whenever the
 * address translation it relies on may have changed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bt/cpu.h"

/* Room for the blocks of a compiler and all it calls.  Only what is used gets memory. */
#define CACHE_MAIN_SIZE  (72u << 20) /* bytes of host code: stubs and main lines */
#define CACHE_COLD_SIZE  (88u << 20) /* and what they seldom need: slow paths, edges that are not linked */
#define CACHE_CODE_SIZE  (CACHE_MAIN_SIZE + CACHE_COLD_SIZE)
#define CACHE_CELLS      (1u << 20)
#define CACHE_CELL_LISTS 1024u
#define CACHE_BLOCKS     (768u << 10)
#define CACHE_EXITS      (1536u << 10)
#define CACHE_MAP        (12u << 20)
#define CACHE_EXECS      (256u << 10)
#define CACHE_HASH_BITS  20
#define CACHE_BLOCK_MAX  (32u << 10) /* room that must be free before a block is translated */
#define BLOCK_INSNS_MAX  48

typedef struct BtBlock BtBlock;
typedef struct BtExit BtExit;

/*
 * The tables below are filled by every program that runs for the first time, and memory that a host has not touched yet is dear: numbers instead
 * of pointers, offsets within the block, fields of bits.  BLOCK_NONE and EXIT_NONE are 0: numbers of blocks and edges in them count from 1.
 */
#define BLOCK_NONE 0u
#define EXIT_NONE  0u

/* An edge that leaves a block for a RIP known at translation time. */
struct BtExit {
    uint64_t target_rip;
    uint32_t from, to;    /* numbers of blocks; to: BLOCK_NONE while not linked */
    uint32_t next_in;     /* number of the next edge into `to` */
    uint32_t patch_at;    /* offset of the rel32 in the cache; or of the cell */
    uint32_t stub_at;     /* offset of the code that asks the dispatcher */
    uint32_t next_listed; /* number of the next edge in the list of Bt.cells_of_page */
    uint16_t carries;     /* guest registers (bits) such that T1 names the TLB entry of an access with that base */
    bool uses_cell : 1, flags_in_host : 1, is_backward : 1;
    bool is_listed : 1;   /* in Bt.cells_of_page */
    bool has_bare : 1;    /* the edge before this one is the same without flags: taken when the target needs none */
    bool is_plain : 1, is_ac : 1, is_single : 1; /* MODE_PLAIN, MODE_AC, MODE_ONE at the edge; else it has the block's mode */
};

/* What looking for a block reads comes first, in one line of the host's cache. */
struct BtBlock {
    uint64_t rip, cs_base;
    Gpa gpa;
    uint32_t mode;
    uint16_t guest_size;  /* bytes */
    bool is_valid : 1, crosses_page : 1;
    bool flags_live_in : 1;   /* entry needs the status flags in the host's */
    bool next_in_scratch : 1; /* behind the store of the last instruction it goes on at cpu->scratch[1], not at the following instruction */
    bool next_is_edge : 1;    /* or at the target of the first edge */
    int8_t carry_base;    /* guest register; the entries carry_… are for edges that carry it; -1: none */
    bool entries_are_cold; /* those that poll stand in the rest */
    uint32_t code_at, cold_at;     /* offsets in the cache: of the main line, of the rest */
    uint16_t code_size, cold_size;
    /* Entries, from code_at, those that poll from cold_at if entries_are_cold: */
    uint16_t main_in;      /* flags in the host's, no poll */
    uint16_t slot_in;      /* flags in status_of/status_ah; polls */
    uint16_t host_poll_in; /* flags in the host's; polls */
    uint16_t carry_in;     /* as main_in, T1 names the entry of carry_base; always from code_at */
    uint16_t carry_poll_in; /* as host_poll_in, likewise */
    uint16_t map_count;
    uint32_t map_first;
    uint32_t exit_first;   /* index of the first edge */
    uint32_t exec_first;   /* and of the first BtExec */
    uint32_t page_next[2]; /* number of the next block in the list of each guest page it has bytes on */
    uint32_t second_page;  /* number of the guest page of its last bytes when it crosses */
    uint32_t in;           /* number of the first edge that leads here */
} __attribute__((aligned(32)));

/* A slot of the table that cache_find() looks in; slots in use follow each other from where the key's hash says. */
typedef struct BtHashSlot {
    uint32_t tag;   /* the hash's other bits */
    uint32_t block; /* 2 + index; 0: never used; 1: no longer */
} BtHashSlot;

/* Host code to guest instruction: entries in order of the code, each good until the next. */
typedef struct BtMap {
    uint32_t host_at : 15; /* offset in its part of the block */
    uint32_t is_cold : 1;  /* which is the rest, not the main line */
    uint32_t guest_at : 10; /* offset of the instruction from the block's RIP */
    uint32_t length : 4;   /* of the instruction */
    uint32_t flags_in_host : 1;       /* where the status flags are while the instruction itself executes */
    uint32_t flags_in_host_after : 1; /* and when it has completed */
} BtMap;
_Static_assert(sizeof(BtExit) == 40 && sizeof(BtBlock) == 96 && sizeof(BtMap) == 4, "see above");

typedef struct BtExec {
    void (*fn)(BtCpu *cpu, const Insn *insn);
    bool ends_block;
    Insn insn;
} BtExec;

typedef struct Bt {
    uint8_t *rw;       /* code, then cells */
    uint8_t *rx;       /* the executable view */
    uint32_t cpu_at;   /* Emit.cpu_at */
    uint8_t *code_p;   /* next free byte for main lines (rw) */
    uint8_t *cold_p;   /* and for the rest */
    uint8_t *code_end, *cold_end; /* where both have to stop */
    uint8_t *code_start; /* after the stubs */
    uint8_t *huge_end[3]; /* cache_grown(): of main lines, the rest, cells: what lies before has huge pages, or was refused them */
    uint64_t *cells;   /* rw view */
    uint32_t ncells;
    BtBlock *blocks;
    uint32_t nblocks;
    BtExit *exits;
    uint32_t nexits;
    BtMap *map;
    uint32_t nmap;
    BtExec *execs;
    uint32_t nexecs;
    BtHashSlot *hash;          /* 1 << CACHE_HASH_BITS */
    uint32_t nhash;            /* slots that are in use or were: some must stay that never were, where searches end */
    uint32_t *page_blocks[RAM_MAX_SLOTS]; /* by slot and page: number of the first block with bytes there */
    uint8_t *page_writes[RAM_MAX_SLOTS];  /* likewise: stores that hit no block, saturating; see cache_note_write() */
    CodeMap *code_map;
    /* Edges whose cells are in use, for reset.  Those to global pages: their indexes; others: lists by the linear page they lead to. */
    uint32_t *global_cells;
    uint32_t nglobal_cells;
    uint32_t cells_of_page[CACHE_CELL_LISTS]; /* number of the first */
    uint16_t cell_lists[CACHE_CELL_LISTS];    /* those that an edge came into since the last reset; count > capacity: any */
    uint32_t ncell_lists;

    /* Stubs, executable addresses unless _rw. */
    void (*enter)(BtCpu *cpu);
    uint8_t *stub_dispatch_rw, *stub_save_dispatch_rw, *stub_mem_slow_rw, *stub_group_slow_rw, *stub_commit_rw, *stub_exec_rw, *stub_exec_end_rw;
    uint8_t *stub_link_host_rw, *stub_link_slot_rw, *stub_indirect_rw, *stub_seg_slow_rw;

    bool has_bmi2, has_xsaveopt;
    uint64_t xsave_mask;
    BtExit *link_from;  /* the edge that led to the dispatcher; linked when its target is found */
    uint32_t want_mode; /* what bt_dispatch() left for: translate rip for this mode */
    bool wants_translation;
    uint8_t code_pages[4096]; /* by hash of the linear page: nonzero where blocks may have been translated */

    uint64_t stat_blocks, stat_insns, stat_flushes, stat_invalidated, stat_dispatch, stat_mem_slow, stat_group_slow, stat_exec, stat_links,
        stat_undefined, stat_code_writes, stat_cell_resets, stat_jump_misses, stat_leaves, stat_verified;
} Bt;

static inline uint32_t block_number(const Bt *bt, const BtBlock *block) { return (uint32_t)(block - bt->blocks) + 1; }
static inline BtBlock *block_of(const Bt *bt, uint32_t number) { return &bt->blocks[number - 1]; }
static inline uint32_t exit_number(const Bt *bt, const BtExit *exit) { return (uint32_t)(exit - bt->exits) + 1; }
static inline BtExit *exit_of(const Bt *bt, uint32_t number) { return &bt->exits[number - 1]; }
/* The guest page (address) of @block's first bytes, 0, or last ones, 1. */
static inline Gpa block_page(const BtBlock *block, unsigned side) { return side ? (Gpa)block->second_page << PAGE_SHIFT : page_of(block->gpa); }
/* Offsets in the cache of the entries of @block. */
static inline uint32_t block_main_at(const BtBlock *block) { return block->code_at + block->main_in; }
static inline uint32_t block_slot_at(const BtBlock *block) { return (block->entries_are_cold ? block->cold_at : block->code_at) + block->slot_in; }
static inline uint32_t block_host_poll_at(const BtBlock *block)
{
    return (block->entries_are_cold ? block->cold_at : block->code_at) + block->host_poll_in;
}
/* Where @map, one of @block's, begins in the cache. */
static inline uint32_t map_host_at(const BtBlock *block, const BtMap *map) { return (map->is_cold ? block->cold_at : block->code_at) + map->host_at; }
/* cache_new: maps the cache for one vCPU over @ram.  NULL with VMM_ERROR_HOST. */
Bt *cache_new(Ram *ram, CodeMap *code_map, GError **error);
void cache_free(Bt *bt);

/* cache_has_room: false: call cache_flush() before translating. */
bool cache_has_room(const Bt *bt);
/* cache_flush: drops everything; the caller also flushes jump caches and TLB (cpu's). */
void cache_flush(Bt *bt, BtCpu *cpu);

/* cache_grown: to be called when a block has been added: asks the host for huge pages where the cache has begun to fill. */
void cache_grown(Bt *bt);

/* cache_reclaim: gives back the space of the last blocks when they have been dropped, so that code rewritten over and over does not
 * eat the cache.  Only while no translated code is running. */
void cache_reclaim(Bt *bt);

/* cache_find: the valid block for this key, or NULL.  No libc, general registers only. */
BtBlock *cache_find(Bt *bt, Gpa gpa, uint64_t rip, uint64_t cs_base, uint32_t mode);
void cache_insert(Bt *bt, BtBlock *block);

/* cache_link: makes @exit go to @block directly, when the rules above allow. */
void cache_link(Bt *bt, BtCpu *cpu, BtExit *exit, BtBlock *block);
/* cache_reset_cells: forgets cross-page edges; @global: those to global pages too. */
void cache_reset_cells(Bt *bt, bool global);
/* cache_reset_page: forgets the edges and the jump cache's entries that lead to the linear page @page, which is outside the kernel half. */
void cache_reset_page(Bt *bt, BtCpu *cpu, Gva page);
/* cache_is_kernel_half: where operating systems keep global pages; edges to global pages elsewhere are treated as the others. */
static inline bool cache_is_kernel_half(const BtCpu *cpu, Gva gva)
{
    return cpu->mmu.efer & X86_EFER_LMA ? (int64_t)gva < 0 : gva >= 0x80000000u;
}
/* cache_invalidate: drops the blocks with bytes in [@gpa, @gpa + @size).  True when there was one. */
bool cache_invalidate(Bt *bt, BtCpu *cpu, Gpa gpa, uint64_t size);

/* cache_note_write: a store hit the page of @gpa, which has blocks, but none of them.  After some of these the page's blocks are dropped, as
 * code that has become data; a page that keeps mixing both keeps its blocks from then on.  True when blocks were dropped. */
bool cache_note_write(Bt *bt, BtCpu *cpu, Gpa gpa);

/* cache_map_find: the entry for an executable address inside a block; NULL when it is in none. */
const BtMap *cache_map_find(const Bt *bt, const uint8_t *pc, const BtBlock **out_block);

static inline bool cache_contains(const Bt *bt, const uint8_t *pc) { return pc >= bt->rx && pc < bt->rx + CACHE_CODE_SIZE; }

/* cache_may_cross: an instruction at @gva may have bytes on the next page. */
static inline bool cache_may_cross(Gva gva) { return page_offset(gva) > PAGE_SIZE - 15; }

static inline uint8_t *cache_code_page(Bt *bt, Gva gva) { return &bt->code_pages[gva >> PAGE_SHIFT & 4095]; }

/* cache_is_global: the page of @block, which the vCPU is about to enter, survives a CR3 load. */
bool cache_is_global(const BtCpu *cpu, const BtBlock *block);

/* jump_cache_fill: the branches that come next to the RIP of @block, which was found in the current mode, find it without C. */
void jump_cache_fill(BtCpu *cpu, const BtBlock *block);
/* jump_cache_flush: empties the inline caches of indirect branches; those with nothing but global pages only for @global. */
void jump_cache_flush(BtCpu *cpu, bool global);
/* jump_cache_empty_class: empties every entry of a class (0: CPL < 3, 1: CPL 3), listed or not. */
void jump_cache_empty_class(BtCpu *cpu, unsigned class);
