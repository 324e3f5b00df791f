#include <check.h>
#include <stdlib.h>

#include "../../lib/guest-tables.h"
#include "core/dirty.h"
#include "softmmu/tlb.h"

#define P PTE_P
#define W PTE_RW
#define U PTE_US
#define USER_GVA ((Gva)0x00005555aaaa0000)
#define KERNEL_GVA ((Gva)0xffffffff81000000)
#define DIRECT_GVA ((Gva)0xffff888000000000)

typedef struct Calls {
    unsigned nflushed, nglobal, npages;
    Gva page;
} Calls;

static void on_flushed(void *opaque, bool global)
{
    Calls *calls = opaque;
    calls->nflushed++;
    calls->nglobal += global;
}

static void on_flushed_page(void *opaque, Gva page)
{
    Calls *calls = opaque;
    calls->npages++;
    calls->page = page;
}

/* A small Linux: 256 user pages, 256 global kernel pages, a direct map of 2 MiB pages, a device and ROM. */
typedef struct Fixture {
    Guest guest;
    Gpa root;
    Calls calls;
} Fixture;

static Fixture fixture;

static void setup(void)
{
    fixture = (Fixture){ .guest = guest_new() };
    Guest *guest = &fixture.guest;
    fixture.root = guest_table(guest);
    for (unsigned i = 0; i < 256; i++) {
        guest_map8(guest, fixture.root, 4, USER_GVA + i * PAGE_SIZE, (0x100000 + i * PAGE_SIZE) | P | W | U, 0, P | W | U);
        guest_map8(guest, fixture.root, 4, KERNEL_GVA + i * PAGE_SIZE, (0x300000 + i * PAGE_SIZE) | P | W | PTE_G, 0, P | W);
    }
    for (unsigned i = 0; i < 8; i++)
        guest_map8(guest, fixture.root, 4, DIRECT_GVA + ((uint64_t)i << 21), ((uint64_t)i << 21) | P | W | PTE_PS | PTE_G, 1, P | W);
    guest_map8(guest, fixture.root, 4, 0xffffffffff5fb000, 0xfee00000 | P | W, 0, P | W);
    guest_map8(guest, fixture.root, 4, 0xffffffffff5fc000, 0xfffff000 | P | W, 0, P | W);
    Mmu *mmu = guest->mmu;
    mmu->flushed = on_flushed;
    mmu->flushed_page = on_flushed_page;
    mmu->flushed_opaque = &fixture.calls;
    mmu->recalls = false; /* test-recall.c */
    mmu_set_cr3(mmu, fixture.root);
    mmu_set_paging(mmu, X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, X86_CR4_PAE | X86_CR4_PGE, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE);
    fixture.calls = (Calls){ 0 };
}

static void teardown(void)
{
    Gva bad;
    ck_assert_uint_eq(mmu_audit(fixture.guest.mmu, &bad), 0);
    guest_free(&fixture.guest);
}

static MmuOutcome fill(Gva gva, MmuAccess access, MmuIndex index)
{
    MmuFill out;
    return mmu_fill(fixture.guest.mmu, gva, access, index, &out);
}

/* What translated code does. */
static bool hits(Gva gva, MmuAccess access, MmuIndex index)
{
    const TlbEntry *entry = &fixture.guest.mmu->tlb[index][(gva >> 12) % TLB_SIZE];
    return gva - (access == MMU_WRITE ? entry->tag_write : entry->tag_read) <= PAGE_SIZE - 1;
}

START_TEST(empty_misses)
{
    for (Gva gva = 0; gva < 2048 * PAGE_SIZE; gva += PAGE_SIZE)
        for (unsigned index = 0; index < MMU_NINDEXES; index++)
            ck_assert(!hits(gva, MMU_READ, index) && !hits(gva, MMU_WRITE, index));
}
END_TEST

START_TEST(misses_by_cause)
{
    const Mmu *mmu = fixture.guest.mmu;
    Gva other = DIRECT_GVA + (USER_GVA & (TLB_SIZE - 1) << PAGE_SHIFT);
    uint64_t empty = mmu->stat_empty, conflicts = mmu->stat_conflicts, upgrades = mmu->stat_upgrades;
    ck_assert(fill(USER_GVA, MMU_READ, MMU_KERNEL) == MMU_RAM);
    ck_assert_uint_eq(mmu->stat_empty, empty + 1);
    ck_assert(fill(USER_GVA, MMU_WRITE, MMU_KERNEL) == MMU_RAM);
    ck_assert_uint_eq(mmu->stat_upgrades, upgrades + 1);
    ck_assert(fill(other, MMU_READ, MMU_KERNEL) == MMU_RAM);
    ck_assert_uint_eq(mmu->stat_conflicts, conflicts + 1);
    ck_assert(fill(0x1000, MMU_READ, MMU_KERNEL) == MMU_FAULT);
    ck_assert_uint_eq(mmu->stat_empty + mmu->stat_conflicts + mmu->stat_upgrades, empty + conflicts + upgrades + 3);
}
END_TEST

START_TEST(dirty_before_write)
{
    ck_assert(fill(USER_GVA + 5, MMU_READ, MMU_USER) == MMU_RAM);
    ck_assert(hits(USER_GVA + 5, MMU_READ, MMU_USER));
    ck_assert(!hits(USER_GVA + 5, MMU_WRITE, MMU_USER));
    ck_assert(!hits(USER_GVA + 5, MMU_READ, MMU_KERNEL));
    ck_assert(fill(USER_GVA + 9, MMU_WRITE, MMU_USER) == MMU_RAM);
    ck_assert(hits(USER_GVA + 5, MMU_WRITE, MMU_USER));
    /* A page that shares the slot takes everything over. */
    ck_assert(fill(DIRECT_GVA + (USER_GVA & (TLB_SIZE - 1) << PAGE_SHIFT), MMU_READ, MMU_USER) == MMU_FAULT);
    ck_assert(hits(USER_GVA, MMU_READ, MMU_USER));
    ck_assert(fill(USER_GVA, MMU_WRITE, MMU_KERNEL) == MMU_RAM);
    Gva other = DIRECT_GVA + (USER_GVA & (TLB_SIZE - 1) << PAGE_SHIFT);
    ck_assert(fill(other, MMU_READ, MMU_KERNEL) == MMU_RAM);
    ck_assert(!hits(USER_GVA, MMU_READ, MMU_KERNEL) && !hits(USER_GVA, MMU_WRITE, MMU_KERNEL));
    ck_assert(hits(other, MMU_READ, MMU_KERNEL) && !hits(other, MMU_WRITE, MMU_KERNEL));
}
END_TEST

START_TEST(devices_and_rom)
{
    MmuFill out = { 0 };
    ck_assert(mmu_fill(fixture.guest.mmu, 0xffffffffff5fb0b0, MMU_WRITE, MMU_KERNEL, &out) == MMU_MMIO);
    ck_assert_uint_eq(out.gpa, 0xfee000b0);
    ck_assert(!hits(0xffffffffff5fb0b0, MMU_READ, MMU_KERNEL));
    ck_assert(fill(0xffffffffff5fc000, MMU_WRITE, MMU_KERNEL) == MMU_ROM);
    ck_assert(hits(0xffffffffff5fc000, MMU_READ, MMU_KERNEL));
    ck_assert(!hits(0xffffffffff5fc000, MMU_WRITE, MMU_KERNEL));
}
END_TEST

START_TEST(code_pages)
{
    Mmu *mmu = fixture.guest.mmu;
    Gva alias = DIRECT_GVA + 0x303000; /* the same page through the direct map */
    ck_assert(fill(KERNEL_GVA + 0x3000, MMU_WRITE, MMU_KERNEL) == MMU_RAM);
    ck_assert(fill(alias, MMU_WRITE, MMU_KERNEL) == MMU_RAM);
    ck_assert(fill(alias + 0x1000, MMU_WRITE, MMU_KERNEL) == MMU_RAM);
    code_map_set(fixture.guest.code, 0x303123, true);
    mmu_drop_writes(mmu, 0x303123);
    ck_assert(hits(KERNEL_GVA + 0x3000, MMU_READ, MMU_KERNEL) && !hits(KERNEL_GVA + 0x3000, MMU_WRITE, MMU_KERNEL));
    ck_assert(hits(alias, MMU_READ, MMU_KERNEL) && !hits(alias, MMU_WRITE, MMU_KERNEL));
    ck_assert(hits(alias + 0x1000, MMU_WRITE, MMU_KERNEL));
    MmuFill out = { 0 };
    ck_assert(mmu_fill(mmu, alias + 7, MMU_WRITE, MMU_KERNEL, &out) == MMU_CODE);
    ck_assert_ptr_eq(out.host, fixture.guest.memory + 0x303007);
    ck_assert_uint_eq(out.gpa, 0x303007);
    ck_assert(!hits(alias, MMU_WRITE, MMU_KERNEL));
    code_map_set(fixture.guest.code, 0x303000, false);
    ck_assert(fill(alias, MMU_WRITE, MMU_KERNEL) == MMU_RAM);
    ck_assert(hits(alias, MMU_WRITE, MMU_KERNEL));
    code_map_set(fixture.guest.code, 0xfee00000, true);
    ck_assert(!code_map_test(fixture.guest.code, 0xfee00000));
}
END_TEST

/* @overflow: as if more pages had been filled than the journal holds, which looks at everything; the result is the same. */
static void cr3_load(unsigned npages, bool overflow)
{
    for (unsigned i = 0; i < npages; i++) {
        ck_assert(fill(USER_GVA + i * PAGE_SIZE, MMU_READ, MMU_USER) == MMU_RAM);
        ck_assert(fill(KERNEL_GVA + i * PAGE_SIZE, MMU_READ, MMU_KERNEL) == MMU_RAM);
        ck_assert(fill(USER_GVA + ((i + 256 * (i & 1)) % 256) * PAGE_SIZE, MMU_READ, MMU_KERNEL_AC) == MMU_RAM);
    }
    for (unsigned index = 0; overflow && index < MMU_NINDEXES; index++) {
        fixture.guest.mmu->njournal[index] = TLB_JOURNAL + 1;
        for (unsigned i = 0; i < TLB_JOURNAL; i++)
            fixture.guest.mmu->journal[index][i] = 0;
    }
    mmu_set_cr3(fixture.guest.mmu, fixture.root);
    ck_assert_uint_eq(fixture.calls.nflushed, 1);
    ck_assert_uint_eq(fixture.calls.nglobal, 0);
    unsigned nkernel = 0;
    for (unsigned i = 0; i < npages; i++) {
        ck_assert(!hits(USER_GVA + i * PAGE_SIZE, MMU_READ, MMU_USER));
        ck_assert(!hits(USER_GVA + i * PAGE_SIZE, MMU_READ, MMU_KERNEL_AC));
        nkernel += hits(KERNEL_GVA + i * PAGE_SIZE, MMU_READ, MMU_KERNEL);
    }
    ck_assert_uint_eq(nkernel, npages);
    mmu_flush(fixture.guest.mmu, true);
    ck_assert_uint_eq(fixture.calls.nglobal, 1);
    for (unsigned i = 0; i < npages; i++)
        ck_assert(!hits(KERNEL_GVA + i * PAGE_SIZE, MMU_READ, MMU_KERNEL));
}

START_TEST(cr3_load_keeps_global) { cr3_load(100, false); }
END_TEST
START_TEST(cr3_load_many) { cr3_load(256, false); }
END_TEST
START_TEST(cr3_load_journal_overflow) { cr3_load(256, true); }
END_TEST

/* A slot that goes non-global, global, non-global must still be flushed. */
START_TEST(journal_follows_replacement)
{
    Gva user = USER_GVA, kernel = KERNEL_GVA + (USER_GVA & 0xff000);
    ck_assert_uint_eq((user >> 12) % 256, (kernel >> 12) % 256);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(fill(user, MMU_READ, MMU_KERNEL) == MMU_RAM);
        ck_assert(fill(DIRECT_GVA + (user & 0x1ff000), MMU_READ, MMU_KERNEL) == MMU_RAM);
    }
    ck_assert(fill(user, MMU_READ, MMU_KERNEL) == MMU_RAM);
    mmu_set_cr3(fixture.guest.mmu, fixture.root);
    ck_assert(!hits(user, MMU_READ, MMU_KERNEL));
}
END_TEST

START_TEST(invlpg)
{
    Mmu *mmu = fixture.guest.mmu;
    fill(USER_GVA, MMU_WRITE, MMU_USER);
    fill(USER_GVA, MMU_WRITE, MMU_KERNEL_AC);
    fill(USER_GVA + 0x1000, MMU_WRITE, MMU_USER);
    fill(KERNEL_GVA, MMU_READ, MMU_KERNEL);
    mmu_invlpg(mmu, USER_GVA + 0x123);
    ck_assert(!hits(USER_GVA, MMU_READ, MMU_USER) && !hits(USER_GVA, MMU_WRITE, MMU_KERNEL_AC));
    ck_assert(hits(USER_GVA + 0x1000, MMU_WRITE, MMU_USER));
    ck_assert_uint_eq(fixture.calls.npages, 1);
    ck_assert_uint_eq(fixture.calls.page, USER_GVA);
    mmu_invlpg(mmu, KERNEL_GVA); /* global or not */
    ck_assert(!hits(KERNEL_GVA, MMU_READ, MMU_KERNEL));
    ck_assert_uint_eq(fixture.calls.nflushed, 0);
}
END_TEST

START_TEST(invlpg_large)
{
    Mmu *mmu = fixture.guest.mmu;
    for (unsigned i = 0; i < 16; i++)
        fill(DIRECT_GVA + 0x400000 + i * 0x3000, MMU_WRITE, MMU_KERNEL);
    fill(KERNEL_GVA + 0x80000, MMU_READ, MMU_KERNEL);
    mmu_invlpg(mmu, DIRECT_GVA + 0x5ff000);
    for (unsigned i = 0; i < 16; i++)
        ck_assert(!hits(DIRECT_GVA + 0x400000 + i * 0x3000, MMU_READ, MMU_KERNEL));
    ck_assert(hits(KERNEL_GVA + 0x80000, MMU_READ, MMU_KERNEL));
    ck_assert_uint_eq(fixture.calls.nflushed, 1);
}
END_TEST

#define LARGE_GVA ((Gva)0x0000123400000000)

/* Pieces of a non-global 2 MiB page go by the journal, whether it holds them all or not, and a global one beside it by search. */
START_TEST(invlpg_large_local)
{
    Mmu *mmu = fixture.guest.mmu;
    bool is_full = _i & 1, is_global = _i & 2;
    guest_map8(&fixture.guest, fixture.root, 4, LARGE_GVA, 0x400000 | P | W | U | PTE_PS | (is_global ? PTE_G : 0), 1, P | W | U);
    for (unsigned i = 1; i < 4; i++)
        guest_map8(&fixture.guest, fixture.root, 4, LARGE_GVA + i * 0x200000, 0x600000 | P | W | U | PTE_PS, 1, P | W | U);
    for (unsigned round = 0; round < 3; round++) {
        fill(USER_GVA, MMU_WRITE, MMU_USER);
        for (unsigned i = 0; i < 8; i++)
            fill(LARGE_GVA + i * 0x7000, i & 1 ? MMU_WRITE : MMU_READ, (MmuIndex)(i % MMU_NINDEXES));
        for (unsigned i = 0; is_full && i < 3 * 512; i++)
            for (unsigned index = 0; index < MMU_NINDEXES; index++)
                fill(LARGE_GVA + 0x200000 + i * PAGE_SIZE, MMU_READ, (MmuIndex)index);
        ck_assert(!is_full || mmu->njournal[MMU_USER] > TLB_JOURNAL);
        mmu_invlpg(mmu, LARGE_GVA + 0x1ff000);
        for (unsigned i = 0; i < 8; i++)
            ck_assert(!hits(LARGE_GVA + i * 0x7000, i & 1 ? MMU_WRITE : MMU_READ, (MmuIndex)(i % MMU_NINDEXES)));
        ck_assert(hits(USER_GVA, MMU_WRITE, MMU_USER));
    }
    ck_assert_uint_eq(fixture.calls.nglobal, 3);
    mmu_flush(mmu, false);
    ck_assert(!hits(USER_GVA, MMU_WRITE, MMU_USER)); /* what was left in the journal is still found */
    ck_assert(!hits(LARGE_GVA + 0x200000, MMU_READ, MMU_USER));
}
END_TEST

/* A guest that uses one large page and invalidates it, over and over, keeps the journal short: it names no entry that is gone. */
START_TEST(invlpg_large_journal)
{
    Mmu *mmu = fixture.guest.mmu;
    guest_map8(&fixture.guest, fixture.root, 4, LARGE_GVA, 0x400000 | P | W | U | PTE_PS, 1, P | W | U);
    for (unsigned round = 0; round < 2 * TLB_JOURNAL; round++) {
        fill(LARGE_GVA + (round % 512) * PAGE_SIZE, MMU_WRITE, MMU_USER);
        mmu_invlpg(mmu, LARGE_GVA);
        ck_assert(!hits(LARGE_GVA + (round % 512) * PAGE_SIZE, MMU_WRITE, MMU_USER));
    }
    ck_assert_uint_eq(mmu->njournal[MMU_USER], 0);
}
END_TEST

START_TEST(fault_drops_page)
{
    uint64_t *leaf = guest_map8(&fixture.guest, fixture.root, 4, USER_GVA, 0x100000 | P | U, 0, 0);
    ck_assert(fill(USER_GVA, MMU_READ, MMU_USER) == MMU_RAM);
    ck_assert(fill(USER_GVA, MMU_WRITE, MMU_USER) == MMU_FAULT);
    ck_assert(!hits(USER_GVA, MMU_READ, MMU_USER));
    *leaf |= W; /* no INVLPG needed to grant more */
    ck_assert(fill(USER_GVA, MMU_WRITE, MMU_USER) == MMU_RAM);
    ck_assert(hits(USER_GVA, MMU_WRITE, MMU_USER));
}
END_TEST

START_TEST(paging_registers)
{
    Mmu *mmu = fixture.guest.mmu;
    fill(KERNEL_GVA, MMU_WRITE, MMU_KERNEL);
    mmu_set_paging(mmu, mmu->cr0 | X86_CR0_TS, mmu->cr4 | X86_CR4_OSFXSR, mmu->efer | X86_EFER_SCE);
    ck_assert(hits(KERNEL_GVA, MMU_WRITE, MMU_KERNEL));
    ck_assert_uint_eq(fixture.calls.nflushed, 0);
    mmu_set_paging(mmu, mmu->cr0, mmu->cr4 & ~(uint64_t)X86_CR4_PGE, mmu->efer);
    ck_assert(!hits(KERNEL_GVA, MMU_WRITE, MMU_KERNEL));
    ck_assert_uint_eq(fixture.calls.nglobal, 1);
    fill(KERNEL_GVA, MMU_WRITE, MMU_KERNEL); /* not global any more */
    mmu_set_cr3(mmu, fixture.root);
    ck_assert(!hits(KERNEL_GVA, MMU_WRITE, MMU_KERNEL));
}
END_TEST

START_TEST(pcid)
{
    Mmu *mmu = fixture.guest.mmu;
    mmu_set_paging(mmu, mmu->cr0, mmu->cr4 | X86_CR4_PCIDE, mmu->efer);
    mmu_set_cr3(mmu, fixture.root | 1);
    fill(USER_GVA, MMU_READ, MMU_USER);
    mmu_set_cr3(mmu, fixture.root | 1 | CR3_NO_FLUSH);
    ck_assert_uint_eq(mmu->cr3, fixture.root | 1);
    ck_assert(hits(USER_GVA, MMU_READ, MMU_USER));
    mmu_invpcid(mmu, 0, 2, USER_GVA);
    mmu_invpcid(mmu, 1, 2, 0);
    ck_assert(hits(USER_GVA, MMU_READ, MMU_USER));
    mmu_invpcid(mmu, 0, 1, USER_GVA);
    ck_assert(!hits(USER_GVA, MMU_READ, MMU_USER));
    fill(USER_GVA, MMU_READ, MMU_USER);
    fill(KERNEL_GVA, MMU_READ, MMU_KERNEL);
    mmu_invpcid(mmu, 1, 1, 0);
    ck_assert(!hits(USER_GVA, MMU_READ, MMU_USER) && hits(KERNEL_GVA, MMU_READ, MMU_KERNEL));
    fill(USER_GVA, MMU_READ, MMU_USER);
    mmu_set_cr3(mmu, fixture.root | 2 | CR3_NO_FLUSH);
    ck_assert(!hits(USER_GVA, MMU_READ, MMU_USER) && hits(KERNEL_GVA, MMU_READ, MMU_KERNEL));
    mmu_invpcid(mmu, 2, 0, 0);
    ck_assert(!hits(KERNEL_GVA, MMU_READ, MMU_KERNEL));
}
END_TEST

/* Upper entries are cached; whatever a guest does to them is seen after INVLPG of any address. */
START_TEST(table_cache)
{
    Guest *guest = &fixture.guest;
    Mmu *mmu = guest->mmu;
    uint64_t walks = mmu->stat_walks;
    MmuFill out = { 0 };
    for (unsigned i = 0; i < 8; i++)
        ck_assert(fill(KERNEL_GVA + i * PAGE_SIZE, MMU_READ, MMU_KERNEL) == MMU_RAM);
    /* One walk for the table, one for each A bit. */
    ck_assert_uint_eq(mmu->stat_walks, walks + 8);
    for (unsigned i = 0; i < 8; i++)
        ck_assert(fill(KERNEL_GVA + i * PAGE_SIZE, MMU_READ, MMU_KERNEL) == MMU_RAM);
    ck_assert_uint_eq(mmu->stat_walks, walks + 8);

    /* Another page table behind the same PDE. */
    uint64_t *pde = guest_map8(guest, fixture.root, 4, DIRECT_GVA + 0x40000000, guest_table(guest) | P | W, 1, P | W);
    uint64_t *pte = guest_entry8(guest, *pde, DIRECT_GVA + 0x40000000, 0);
    *pte = 0x111000 | P | W | PTE_A;
    ck_assert(mmu_fill(mmu, DIRECT_GVA + 0x40000000, MMU_READ, MMU_KERNEL, &out) == MMU_RAM);
    ck_assert_uint_eq(out.gpa, 0x111000);
    *pde = guest_table(guest) | P | W;
    *guest_entry8(guest, *pde, DIRECT_GVA + 0x40000000, 0) = 0x222000 | P | W | PTE_A;
    mmu_invlpg(mmu, 0x1234000);
    ck_assert(mmu_fill(mmu, DIRECT_GVA + 0x40000000, MMU_READ, MMU_KERNEL, &out) == MMU_RAM);
    ck_assert_uint_eq(out.gpa, 0x222000);

    /* Rights taken away in an upper entry; rights given need no INVLPG. */
    *pde &= ~W;
    mmu_invlpg(mmu, DIRECT_GVA + 0x40000000);
    ck_assert(mmu_fill(mmu, DIRECT_GVA + 0x40000000, MMU_READ, MMU_KERNEL, &out) == MMU_RAM);
    ck_assert(mmu_fill(mmu, DIRECT_GVA + 0x40000000, MMU_WRITE, MMU_KERNEL, &out) == MMU_FAULT);
    ck_assert(mmu_fill(mmu, DIRECT_GVA + 0x40000000, MMU_READ, MMU_KERNEL, &out) == MMU_RAM);
    *pde |= W;
    ck_assert(mmu_fill(mmu, DIRECT_GVA + 0x40000000, MMU_WRITE, MMU_KERNEL, &out) == MMU_RAM);

    /* The epoch's number space ends: old entries must not come back to life. */
    mmu->table_epoch = ~(uint64_t)0 << TABLE_CACHE_EPOCH_SHIFT;
    ck_assert(fill(KERNEL_GVA, MMU_READ, MMU_KERNEL) == MMU_RAM);
    mmu_invlpg(mmu, KERNEL_GVA);
    ck_assert_uint_eq(mmu->table_epoch, (uint64_t)1 << TABLE_CACHE_EPOCH_SHIFT);
    for (unsigned i = 0; i < TABLE_CACHE_SIZE; i++)
        ck_assert_uint_eq(mmu->table_cache[i].tag, 0);
}
END_TEST

/* The audit must see an entry that grants more than the tables. */
START_TEST(audit_sees_stale_entries)
{
    Mmu *mmu = fixture.guest.mmu;
    uint64_t *leaf = guest_map8(&fixture.guest, fixture.root, 4, USER_GVA, 0x100000 | P | W | U, 0, 0);
    fill(USER_GVA, MMU_WRITE, MMU_USER);
    Gva bad = 0;
    ck_assert_uint_eq(mmu_audit(mmu, &bad), 0);
    *leaf &= ~W;
    ck_assert_uint_eq(mmu_audit(mmu, &bad), 1);
    ck_assert_uint_eq(bad, USER_GVA);
    *leaf = 0x101000 | P | U;
    ck_assert_uint_eq(mmu_audit(mmu, &bad), 1);
    mmu_invlpg(mmu, USER_GVA);
    ck_assert_uint_eq(mmu_audit(mmu, &bad), 0);
}
END_TEST

/* Random accesses, mapping changes and flushes, with the invalidations a correct guest makes: never an unsound entry. */
START_TEST(random_guest)
{
    Mmu *mmu = fixture.guest.mmu;
    GRand *random = g_rand_new_with_seed(11);
    for (unsigned step = 0; step < 200000; step++) {
        unsigned n = g_rand_int(random) % 256;
        Gva gva = g_rand_boolean(random) ? USER_GVA + n * PAGE_SIZE : KERNEL_GVA + n * PAGE_SIZE;
        unsigned what = g_rand_int(random) % 100;
        if (what < 90) {
            MmuOutcome outcome = fill(gva, what % 3, g_rand_int(random) % MMU_NINDEXES);
            ck_assert(outcome == MMU_RAM || outcome == MMU_FAULT || outcome == MMU_CODE);
        } else if (what < 97) {
            uint64_t bits = g_rand_int(random) & (P | W | U | PTE_A | PTE_D | PTE_G);
            Gpa gpa = 0x100000 + (g_rand_int(random) % 512) * PAGE_SIZE;
            guest_map8(&fixture.guest, fixture.root, 4, gva, gpa | bits | (what == 96 ? PTE_NX : 0), 0, 0);
            mmu_invlpg(mmu, gva);
        } else if (what == 97) {
            Gpa gpa = 0x100000 + (g_rand_int(random) % 512) * PAGE_SIZE;
            bool set = g_rand_boolean(random);
            code_map_set(fixture.guest.code, gpa, set);
            mmu_drop_writes(mmu, gpa);
        } else if (what == 98) {
            mmu_set_cr3(mmu, fixture.root);
        } else if (step % 7 == 0) {
            mmu_set_paging(mmu, mmu->cr0 ^ X86_CR0_WP, mmu->cr4 ^ X86_CR4_SMAP, mmu->efer);
        }
        if (step % 500 == 0) {
            Gva bad = 0;
            ck_assert_msg(mmu_audit(mmu, &bad) == 0, "step %u: gva %lx", step, bad);
        }
    }
    g_rand_free(random);
}
END_TEST

/* A write is noted before it happens; the page tables' own A and D bits are writes, too. */
START_TEST(written_pages_are_noted)
{
    Mmu *mmu = fixture.guest.mmu;
    Ram *ram = mmu->ram;
    MmuFill fill;
    Gva gva = USER_GVA + 3 * PAGE_SIZE;
    unsigned i = TLB_INDEX(gva);
    const TlbEntry *entry = &mmu->tlb[MMU_USER][i];
    ck_assert_int_eq(mmu_fill(mmu, gva, MMU_WRITE, MMU_USER, &fill), MMU_RAM);
    ck_assert_uint_eq(entry->tag_write, gva);
    DirtyLog *log = dirty_log_new(ram);
    g_autoptr(PageSet) pages = page_set_new(ram);
    mmu_log_writes(mmu);
    ck_assert_uint_eq(entry->tag_read, gva);
    ck_assert_uint_ne(entry->tag_write, gva);
    ck_assert_int_eq(mmu_fill(mmu, gva, MMU_READ, MMU_USER, &fill), MMU_RAM);
    ck_assert_uint_ne(entry->tag_write, gva);
    ck_assert_uint_eq(dirty_log_take(log, pages), 0);
    ck_assert_int_eq(mmu_fill(mmu, gva, MMU_WRITE, MMU_USER, &fill), MMU_RAM);
    ck_assert_uint_eq(entry->tag_write, gva);
    ck_assert_uint_eq(dirty_log_take(log, pages), 1);
    /* A page with translations never gets a write tag: each store is noted. */
    page_set_clear(pages);
    code_map_set(mmu->code, fill.gpa, true);
    mmu_drop_writes(mmu, fill.gpa);
    ck_assert_int_eq(mmu_fill(mmu, gva, MMU_WRITE, MMU_USER, &fill), MMU_CODE);
    ck_assert_uint_eq(dirty_log_take(log, pages), 1);
    code_map_set(mmu->code, fill.gpa, false);
    /* Never accessed before: the walk writes the entry. */
    page_set_clear(pages);
    ck_assert_int_eq(mmu_fill(mmu, USER_GVA + 9 * PAGE_SIZE, MMU_READ, MMU_USER, &fill), MMU_RAM);
    ck_assert_uint_ge(dirty_log_take(log, pages), 1);
    dirty_log_free(log);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tlb");
    TCase *tcase = tcase_create("tlb");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, written_pages_are_noted);
    tcase_add_test(tcase, empty_misses);
    tcase_add_test(tcase, misses_by_cause);
    tcase_add_test(tcase, dirty_before_write);
    tcase_add_test(tcase, devices_and_rom);
    tcase_add_test(tcase, code_pages);
    tcase_add_test(tcase, cr3_load_keeps_global);
    tcase_add_test(tcase, cr3_load_many);
    tcase_add_test(tcase, cr3_load_journal_overflow);
    tcase_add_test(tcase, journal_follows_replacement);
    tcase_add_test(tcase, invlpg);
    tcase_add_test(tcase, invlpg_large);
    tcase_add_loop_test(tcase, invlpg_large_local, 0, 4);
    tcase_add_test(tcase, invlpg_large_journal);
    tcase_add_test(tcase, fault_drops_page);
    tcase_add_test(tcase, paging_registers);
    tcase_add_test(tcase, pcid);
    tcase_add_test(tcase, table_cache);
    tcase_add_test(tcase, audit_sees_stale_entries);
    tcase_add_test(tcase, random_guest);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
