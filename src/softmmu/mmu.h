/*
 * The software MMU of one vCPU: paging registers, the inline TLB, and what happens on a TLB miss.
 *
 * Translated code (src/bt) looks up TlbEntry inline: with i = (gva >> 12) % TLB_SIZE and e = &mmu->tlb[index][i], an access of
 * `size` bytes hits when gva - e->tag_read (or tag_write) <= 4096 - size, unsigned; the bytes are then at e->host + (gva -
 * tag).  Anything else, pages without RAM behind them, and stores to pages that hold translations, misses by tag alone.
 *
 * Everything in this folder is compiled with -mgeneral-regs-only and calls no libc: it runs while the guest's vector
 * registers are live in the host's.  Thread: the vCPU's own, except where said.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/ram.h"
#include "x86/bits.h"

#define TLB_BITS 12
#define TLB_SIZE (1u << TLB_BITS)

/* Privilege classes.  Each has its own TLB, so that a change of CPL or EFLAGS.AC flushes nothing. */
typedef enum MmuIndex {
    MMU_KERNEL,    /* CPL 0–2, SMAP in force (EFLAGS.AC = 0), or implicit supervisor access */
    MMU_USER,      /* CPL 3 */
    MMU_KERNEL_AC, /* CPL 0–2 with EFLAGS.AC = 1 */
    MMU_NINDEXES
} MmuIndex;

typedef enum MmuAccess { MMU_READ, MMU_WRITE, MMU_FETCH } MmuAccess;

/* Rights of a translation in a privilege class: 1 << MmuAccess. */
#define MMU_RIGHT_READ  1u
#define MMU_RIGHT_WRITE 2u
#define MMU_RIGHT_FETCH 4u

typedef enum MmuFormat { MMU_FORMAT_NONE, MMU_FORMAT_32, MMU_FORMAT_PAE, MMU_FORMAT_4LEVEL } MmuFormat;

typedef struct TlbEntry {
    uint64_t tag_read;  /* page-aligned gva; a page of another index (tlb_invalid_tag) where the access must miss */
    uint64_t tag_write; /* likewise; set only when the page is writable, dirty, RAM, and holds no translations */
    uint8_t *host;      /* host page, NULL in an empty entry */
    uint64_t addend;    /* host address minus gva, in the page */
} TlbEntry;

/* What only C asks of an entry, in an array of its own, tlb_info(): gpa page | TLB_INFO_*. */

#define TLB_INFO_GLOBAL 1u /* survives a CR3 load */
#define TLB_INFO_LARGE  2u /* piece of a 2 MiB, 4 MiB or 1 GiB page */
#define TLB_INFO_FETCH  4u /* executable */
#define TLB_INFO_KEY_SHIFT 8 /* bits 11:8: protection key, where these are on */

/* tlb_invalid_tag: a tag that no address with TLB index @i can match. */
static inline uint64_t tlb_invalid_tag(unsigned i) { return i == 0 ? PAGE_SIZE : 0; }

/*
 * The walk's upper levels, cached like a CPU's paging-structure caches (SDM 3A 4.10.3): a fill finds the page table, or the large page, of
 * a 2 MiB region at once.
 */
#define TABLE_CACHE_SIZE 64u
#define TABLE_CACHE_EPOCH_SHIFT 43
typedef struct TableCacheEntry {
    uint64_t tag;          /* gva >> 21 | epoch */
    const uint64_t *table; /* host address of the page table, NULL: a large page, which leaf maps */
    uint64_t leaf;
    uint32_t upper_bits;   /* PTE_RW and PTE_US of all levels above the leaf */
    uint16_t upper_nx;     /* 1: one of them has NX */
    uint16_t page_bits;
} TableCacheEntry;

/*
 * An address space seen lately and the pages that were in the TLB when the guest left it.  When it comes back they are walked
 * again, all at once: recall.c.
 */
#define MMU_SPACES 16u
#define MMU_SPACE_PAGES 96u
typedef struct MmuSpace {
    uint64_t cr3;
    uint32_t last_use; /* Mmu.space_clock, 0: never used */
    uint16_t npages;
    uint16_t nstays;
    uint64_t page[MMU_SPACE_PAGES]; /* gva of the page | MmuIndex */
} MmuSpace;

/* Which pages of guest RAM hold translated code: one word a page, a bit for each vCPU.  The words are shared by all vCPUs of a machine. */
typedef struct CodeMarks CodeMarks;
typedef struct CodeMap {
    Ram *ram;
    CodeMarks *marks;
    uint32_t user; /* the bit of the vCPU that this map belongs to */
    uint32_t *users[RAM_MAX_SLOTS]; /* by slot, then page within the slot; nonzero: stores take the slow path */
    /* Likewise, the vCPU's own: where its TLB may hold the page writable.  0: nowhere; i + 1: only at index i; CODE_MAP_ANYWHERE: at several. */
    uint16_t *write_at[RAM_MAX_SLOTS];
} CodeMap;
#define CODE_MAP_ANYWHERE 0xffffu
#define CODE_MAP_MAX_USERS 32u

typedef struct Mmu {
    TlbEntry tlb[MMU_NINDEXES][TLB_SIZE]; /* first: translated code addresses it at a constant offset */
    /* Indexes of entries that a non-global page was filled into since the last flush, so that a CR3 load touches only those.
     * count > capacity: overflow, look at all. */
#define TLB_JOURNAL 1024
    uint16_t journal[MMU_NINDEXES][TLB_JOURNAL];
    uint32_t njournal[MMU_NINDEXES];
    uint64_t tlb_info[MMU_NINDEXES * TLB_SIZE];
    /* Which gigabytes (gva >> 30, modulo 512) had pieces of large pages filled since the last flush: [0] non-global, [1] global.
     * INVLPG elsewhere need not look for pieces. */
    uint64_t large_seen[2][8];
    /* The same for pieces of 2 MiB and 4 MiB pages, by gva >> 21, modulo 4096; the words above then tell of 1 GiB pages only. */
    uint64_t large_2m_seen[2][64];

    Ram *ram;
    CodeMap *code;
    /* Paging registers of record; bt/ writes them through mmu_set_*(). */
    uint64_t cr0, cr3, cr4, efer;
    uint64_t pdptr[4];      /* PAE paging: loaded by mmu_load_pdptrs() */
    uint64_t physical_mask; /* bits a physical address may have: (1 << MAXPHYADDR) - 1 */
    uint64_t a20_mask;      /* ~0, or ~(1 << 20) while A20 is masked; see mmu_set_a20() */

    /* Derived from the registers by mmu_set_paging(). */
    MmuFormat format;
    uint64_t reserved;                /* bits that must be 0 in an 8-byte entry of any level */
    uint32_t reserved_4m;             /* bits that must be 0 in the PDE of a 4 MiB page */
    uint8_t rights[MMU_NINDEXES][8];  /* by R/W | U/S << 1 | NX << 2 of all levels together: MMU_RIGHT_* */
    /* Protection keys: 4-level paging with CR4.PKE or CR4.PKS.  Of a page whose key and U/S << 4 this is: what is denied, MMU_RIGHT_*. */
    bool has_keys;
    uint8_t key_denied[MMU_NINDEXES][32];
    uint16_t keys_seen; /* by key: TLB entries with it may exist */
    /* Where entries with keys other than 0 were filled: MmuIndex * TLB_SIZE + index.  nkeyed > capacity: anywhere. */
#define MMU_KEYED 64u
    uint16_t keyed[MMU_KEYED];
    uint32_t nkeyed;
    uint32_t pkru, pkrs; /* registers of record; mmu_set_keys() */
    /* The slot with most of the RAM, looked at first.  Size 0 while A20 is masked. */
    Gpa main_start;
    uint64_t main_size;
    uint8_t *main_host;
    uint32_t *main_code; /* its code map */
    uint16_t *main_write_at;

    /* Dropped whole, by a new epoch, on INVLPG and every flush. */
    TableCacheEntry table_cache[TABLE_CACHE_SIZE];
    uint64_t table_epoch; /* 1 or more, << TABLE_CACHE_EPOCH_SHIFT */

    bool recalls; /* refill after CR3 loads what was in the TLB before; may be changed at any time */
    uint8_t space_current;
    uint32_t space_clock;
    MmuSpace space[MMU_SPACES];

    /* Called after translations were dropped: all of them, or those of one page.  bt/ drops its jump cache here.  @global tells
     * whether global pages went too.  May be NULL.  Same rules as this folder's code. */
    void (*flushed)(void *opaque, bool global);
    void (*flushed_page)(void *opaque, Gva page);
    void *flushed_opaque;

    uint64_t stat_fills, stat_walks, stat_faults, stat_flushes, stat_invlpg, stat_recalls;
    /* stat_fills that succeeded, by what the entry held: nothing; another page; this page, without the right that is wanted. */
    uint64_t stat_empty, stat_conflicts, stat_upgrades, stat_cr3_loads;
} Mmu;

/* tlb_info: of @entry, which is one of @mmu's. */
static inline uint64_t *tlb_info(Mmu *mmu, const TlbEntry *entry) { return &mmu->tlb_info[entry - mmu->tlb[0]]; }
static inline uint64_t tlb_info_of(const Mmu *mmu, const TlbEntry *entry) { return mmu->tlb_info[entry - mmu->tlb[0]]; }

typedef enum MmuWalkOutcome { MMU_WALK_OK, MMU_WALK_FAULT } MmuWalkOutcome;

typedef struct MmuWalk {
    Gpa gpa;             /* MMU_WALK_OK: physical address of the byte at gva */
    bool is_writable;    /* OK: a write at this privilege is allowed and the dirty bit is already set */
    bool is_executable;  /* OK: a fetch at this privilege is allowed */
    bool is_global;      /* OK */
    uint8_t page_bits;   /* OK: log2 of the page size: 12, 21, 22 or 30 */
    uint32_t error_code; /* MMU_WALK_FAULT: X86_PF_* for the #PF */
} MmuWalk;

/**
 * mmu_walk: walks the guest's own tables (none when CR0.PG = 0).
 *
 * Sets accessed bits, and the dirty bit when @access is MMU_WRITE, in guest RAM as a CPU would (locked compare-exchange);
 * touches no TLB.  Canonicality of @gva is the caller's business.  Source: SDM 3A 4.3 (32-bit), 4.4 (PAE), 4.5 (4-level), 4.6
 * (rights), 4.7 (error code), 4.8 (A/D).  With CR0.PG = 0 the result is writable, executable, 4 GiB identity.
 */
MmuWalkOutcome mmu_walk(Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, MmuWalk *out);

/* mmu_probe: the same without setting A/D bits: for the debugger, the audit and logs. */
MmuWalkOutcome mmu_probe(const Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, MmuWalk *out);

typedef enum MmuOutcome {
    MMU_RAM,   /* host points at the byte; the TLB holds the page for this access */
    MMU_CODE,  /* a store to a page with translations: host points at the byte, nothing cached for writes; caller must tell bt/ */
    MMU_ROM,   /* a store to ROM: drop it */
    MMU_MMIO,  /* no memory there: gpa says where */
    MMU_FAULT, /* inject #PF(error_code), CR2 = gva */
} MmuOutcome;

typedef struct MmuFill {
    uint8_t *host;
    Gpa gpa;
    uint32_t error_code;
} MmuFill;

/**
 * mmu_fill: the TLB miss path.  Walks, then fills the entry for @gva in class @index (a fetch fills it too, with tag_read only if
 * readable; reads of ROM fill like RAM with no write tag).  Only the page of @gva; the caller splits accesses that cross a page.
 */
MmuOutcome mmu_fill(Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, MmuFill *out);

/* mmu_init: empty TLBs, paging off, MAXPHYADDR 40, A20 enabled, recalls on.  Callbacks and physical_mask may be set afterwards; a new
 * physical_mask takes effect with the next mmu_set_paging() that changes something. */
void mmu_init(Mmu *mmu, Ram *ram, CodeMap *code);

/* mmu_set_paging: new CR0, CR4 and EFER; flushes what the change obsoletes (everything when a paging bit changed). */
void mmu_set_paging(Mmu *mmu, uint64_t cr0, uint64_t cr4, uint64_t efer);
/* mmu_set_keys: new PKRU and IA32_PKRS; drops the entries of pages whose key's rights changed.  Source: SDM 3A 4.6.2. */
void mmu_set_keys(Mmu *mmu, uint32_t pkru, uint32_t pkrs);
/* mmu_set_a20: masks or unmasks address line 20; flushes everything when that is a change. */
void mmu_set_a20(Mmu *mmu, bool enabled);
/* mmu_set_cr3: MOV to CR3.  Non-global translations go unless bit 63 (with CR4.PCIDE) asks to keep them; PAE
 * PDPTEs are loaded separately, before, because they can fault. */
void mmu_set_cr3(Mmu *mmu, uint64_t cr3);
/* mmu_load_pdptrs: reads the four PDPTEs for @cr3.  False, nothing changed, when a present one has reserved bits set (#GP). */
bool mmu_load_pdptrs(Mmu *mmu, uint64_t cr3);
void mmu_flush(Mmu *mmu, bool global); /* global: also translations marked global */
void mmu_invlpg(Mmu *mmu, Gva gva);
/* mmu_invpcid: types 0–3 (SDM 2A INVPCID); operands were checked by the caller. */
void mmu_invpcid(Mmu *mmu, unsigned type, unsigned pcid, Gva gva);

/* code_map: marks.  code_map_set() is followed by mmu_drop_writes() on every vCPU before the new translation runs. */
CodeMap *code_map_new(Ram *ram);
/* code_map_share: for another vCPU of the same machine, number @user below CODE_MAP_MAX_USERS; code_map_new() makes number 0. */
CodeMap *code_map_share(CodeMap *map, unsigned user);
void code_map_free(CodeMap *map);
bool code_map_test(const CodeMap *map, Gpa gpa);      /* of this vCPU */
uint32_t code_map_users(const CodeMap *map, Gpa gpa); /* of all */
/* Returns: who had code there before.  A full memory barrier. */
uint32_t code_map_set(CodeMap *map, Gpa gpa, bool has_code);
/* mmu_drop_writes: removes the write tags of every TLB entry that maps the physical page of @gpa. */
void mmu_drop_writes(Mmu *mmu, Gpa gpa);

/* mmu_log_writes: the next write to any page misses the TLB, so that it is noted in Ram.dirty. */
void mmu_log_writes(Mmu *mmu);

/* mmu_audit: checks every valid TLB entry against mmu_probe().  Returns the number of entries that grant more than the guest's tables
 * do (0 = sound); @out_gva receives the first. */
unsigned mmu_audit(const Mmu *mmu, Gva *out_gva);
