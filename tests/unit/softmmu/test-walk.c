#include <check.h>
#include <stdlib.h>

#include "../../lib/guest-tables.h"

#define P  PTE_P
#define W  PTE_RW
#define U  PTE_US
#define A  PTE_A
#define D  PTE_D
#define G  PTE_G
#define NX PTE_NX
#define PS PTE_PS
#define PFP X86_PF_P
#define PFW X86_PF_WRITE
#define PFU X86_PF_USER
#define PFR X86_PF_RSVD
#define PFF X86_PF_FETCH
#define OK_WALK 0x1000u /* not an error code */

#define WP X86_CR0_WP
#define NXE X86_EFER_NXE
#define SMEP X86_CR4_SMEP
#define SMAP X86_CR4_SMAP

/* 4-level paging, gva GVA → page 0x123000 with these bits. */
#define GVA ((Gva)0x00007f1234567abc)

static const struct {
    const char *name;
    uint32_t cr0, cr4, efer;
    uint64_t upper, leaf; /* bits in the three upper entries and the leaf */
    MmuAccess access;
    MmuIndex index;
    uint32_t expected; /* error code or OK_WALK */
} rights[] = {
    { "user read", WP, 0, 0, P | U, P | U, MMU_READ, MMU_USER, OK_WALK },
    { "user read of kernel leaf", WP, 0, 0, P | U, P, MMU_READ, MMU_USER, PFP | PFU },
    { "user read below kernel table", WP, 0, 0, P, P | U, MMU_READ, MMU_USER, PFP | PFU },
    { "user write", WP, 0, 0, P | U | W, P | U | W, MMU_WRITE, MMU_USER, OK_WALK },
    { "user write read-only", WP, 0, 0, P | U | W, P | U, MMU_WRITE, MMU_USER, PFP | PFU | PFW },
    { "user write below read-only table", 0, 0, 0, P | U, P | U | W, MMU_WRITE, MMU_USER, PFP | PFU | PFW },
    { "kernel write read-only, WP", WP, 0, 0, P | W, P, MMU_WRITE, MMU_KERNEL, PFP | PFW },
    { "kernel write read-only, no WP", 0, 0, 0, P, P, MMU_WRITE, MMU_KERNEL, OK_WALK },
    { "kernel write user read-only, no WP", 0, 0, 0, P | U, P | U, MMU_WRITE, MMU_KERNEL, OK_WALK },
    { "kernel read user", WP, 0, 0, P | U, P | U, MMU_READ, MMU_KERNEL, OK_WALK },
    { "kernel read user, SMAP", WP, SMAP, 0, P | U, P | U, MMU_READ, MMU_KERNEL, PFP },
    { "kernel write user, SMAP, no WP", 0, SMAP, 0, P | U | W, P | U | W, MMU_WRITE, MMU_KERNEL, PFP | PFW },
    { "kernel read user, SMAP, AC", WP, SMAP, 0, P | U, P | U, MMU_READ, MMU_KERNEL_AC, OK_WALK },
    { "kernel write user, SMAP, AC", WP, SMAP, 0, P | U, P | U, MMU_WRITE, MMU_KERNEL_AC, PFP | PFW },
    { "kernel fetch user, SMAP", WP, SMAP, 0, P | U, P | U, MMU_FETCH, MMU_KERNEL, OK_WALK },
    { "kernel fetch user, SMEP", WP, SMEP, 0, P | U, P | U, MMU_FETCH, MMU_KERNEL, PFP | PFF },
    { "kernel fetch user, SMEP, AC", WP, SMEP, 0, P | U, P | U, MMU_FETCH, MMU_KERNEL_AC, PFP | PFF },
    { "kernel fetch kernel, SMEP", WP, SMEP, 0, P, P | U, MMU_FETCH, MMU_KERNEL, OK_WALK },
    { "user read, SMAP", WP, SMAP | SMEP, 0, P | U, P | U, MMU_READ, MMU_USER, OK_WALK },
    { "user fetch", WP, 0, 0, P | U, P | U, MMU_FETCH, MMU_USER, OK_WALK },
    { "user fetch NX", WP, 0, NXE, P | U, P | U | NX, MMU_FETCH, MMU_USER, PFP | PFU | PFF },
    { "user fetch NX table", WP, 0, NXE, P | U | NX, P | U, MMU_FETCH, MMU_USER, PFP | PFU | PFF },
    { "user read NX", WP, 0, NXE, P | U, P | U | NX, MMU_READ, MMU_USER, OK_WALK },
    { "NX without NXE", WP, 0, 0, P | U, P | U | NX, MMU_READ, MMU_USER, PFP | PFU | PFR },
    { "NX without NXE in a table", WP, 0, 0, P | U | NX, P | U, MMU_READ, MMU_KERNEL, PFP | PFR },
    { "fetch not present, no NXE", WP, 0, 0, P | U, 0, MMU_FETCH, MMU_USER, PFU },
    { "fetch not present, NXE", WP, 0, NXE, P | U, 0, MMU_FETCH, MMU_USER, PFU | PFF },
    { "not present with reserved bits", WP, 0, 0, P | U, (uint64_t)1 << 45, MMU_READ, MMU_USER, PFU },
    { "upper not present", WP, 0, 0, 0, 0, MMU_WRITE, MMU_KERNEL, PFW },
    { "address too wide", WP, 0, 0, P | U, P | U | (uint64_t)1 << 40, MMU_READ, MMU_USER, PFP | PFU | PFR },
    { "table too wide", WP, 0, 0, P | U | (uint64_t)1 << 51, P | U, MMU_READ, MMU_USER, PFP | PFU | PFR },
    { "ignored bits", WP, 0, 0, P | U | (uint64_t)0x7ff << 52 | 0xe00, P | U | (uint64_t)0x7ff << 52 | 0xe00, MMU_READ, MMU_USER,
      OK_WALK },
    { "reserved beats rights", WP, 0, 0, P | U, P | (uint64_t)1 << 50, MMU_WRITE, MMU_USER, PFP | PFW | PFU | PFR },
};

static void paging_4level(Guest *guest, uint32_t cr0, uint32_t cr4, uint32_t efer, Gpa root)
{
    mmu_set_cr3(guest->mmu, root);
    mmu_set_paging(guest->mmu, X86_CR0_PE | X86_CR0_PG | cr0, X86_CR4_PAE | cr4, X86_EFER_LME | X86_EFER_LMA | efer);
}

START_TEST(rights_4level)
{
    Guest guest = guest_new();
    Gpa root = guest_table(&guest);
    uint64_t *leaf = guest_map8(&guest, root, 4, GVA, 0x123000 | rights[_i].leaf, 0, rights[_i].upper | P);
    uint64_t *top = guest_entry8(&guest, root, GVA, 3);
    if (!(rights[_i].upper & P))
        *top &= ~P;
    paging_4level(&guest, rights[_i].cr0, rights[_i].cr4, rights[_i].efer, root);
    MmuAccess access = rights[_i].access;
    MmuIndex index = rights[_i].index;

    /* The probe agrees and changes nothing. */
    uint64_t top_before = *top, leaf_before = *leaf;
    MmuWalk walk = { 0 }, probe = { 0 };
    MmuWalkOutcome probed = mmu_probe(guest.mmu, GVA, access, index, &probe);
    ck_assert(*top == top_before && *leaf == leaf_before);
    MmuWalkOutcome outcome = mmu_walk(guest.mmu, GVA, access, index, &walk);
    ck_assert_msg(outcome == probed, "%s", rights[_i].name);
    MmuFill fill = { 0 };
    MmuOutcome filled = mmu_fill(guest.mmu, GVA, access, index, &fill);
    Gva bad;

    if (rights[_i].expected == OK_WALK) {
        ck_assert_msg(outcome == MMU_WALK_OK, "%s: error %x", rights[_i].name, walk.error_code);
        ck_assert_uint_eq(walk.gpa, 0x123abc);
        ck_assert_uint_eq(walk.page_bits, 12);
        ck_assert_msg((*top & A) && (*leaf & A), "%s: accessed", rights[_i].name);
        ck_assert_msg(!(*leaf & D) == (access != MMU_WRITE), "%s: dirty", rights[_i].name);
        ck_assert_msg(!(*top & D), "%s: dirty table", rights[_i].name);
        ck_assert_msg(filled == MMU_RAM && fill.host == guest.memory + 0x123abc, "%s: fill", rights[_i].name);
        TlbEntry *entry = &guest.mmu->tlb[index][(GVA >> 12) % TLB_SIZE];
        ck_assert_msg((entry->tag_read == page_of(GVA)) ==
                          (mmu_probe(guest.mmu, GVA, MMU_READ, index, &probe) == MMU_WALK_OK), "%s: read tag", rights[_i].name);
        ck_assert_msg((entry->tag_write == page_of(GVA)) == (access == MMU_WRITE), "%s: write tag", rights[_i].name);
        ck_assert_msg(!(tlb_info_of(guest.mmu, entry) & TLB_INFO_FETCH) ==
                          (mmu_probe(guest.mmu, GVA, MMU_FETCH, index, &probe) != MMU_WALK_OK), "%s: fetch", rights[_i].name);
    } else {
        ck_assert_msg(outcome == MMU_WALK_FAULT, "%s: no fault", rights[_i].name);
        ck_assert_msg(walk.error_code == rights[_i].expected, "%s: error %x", rights[_i].name, walk.error_code);
        ck_assert_msg(filled == MMU_FAULT && fill.error_code == rights[_i].expected, "%s: fill", rights[_i].name);
        ck_assert_msg(*leaf == leaf_before, "%s: leaf changed", rights[_i].name);
    }
    ck_assert_uint_eq(mmu_audit(guest.mmu, &bad), 0);
    guest_free(&guest);
}
END_TEST

typedef enum Format { F_32, F_PAE, F_4LEVEL } Format;

static const struct {
    const char *name;
    Format format;
    uint32_t cr4;
    Gva gva;
    unsigned level;
    uint64_t leaf;
    Gpa gpa;            /* expected */
    unsigned page_bits; /* expected, 0: reserved-bit fault */
} pages[] = {
    { "4-level 4K", F_4LEVEL, 0, 0xffff888000123456, 0, 0x345000 | P | W, 0x345456, 12 },
    { "4-level 4K, PAT bit", F_4LEVEL, 0, 0x123456, 0, 0x345000 | P | W | PS, 0x345456, 12 },
    { "4-level 2M", F_4LEVEL, 0, 0xffff888000723456, 1, 0x400000 | P | W | PS, 0x523456, 21 },
    { "4-level 2M, PAT bit", F_4LEVEL, 0, 0x723456, 1, 0x401000 | P | W | PS, 0x523456, 21 },
    { "4-level 2M, reserved", F_4LEVEL, 0, 0x723456, 1, 0x402000 | P | W | PS, 0, 0 },
    { "4-level 1G", F_4LEVEL, 0, 0x40345678, 2, P | W | PS, 0x345678, 30 },
    { "4-level 1G, reserved", F_4LEVEL, 0, 0x40345678, 2, 0x200000 | P | W | PS, 0, 0 },
    { "4-level PML4E with PS", F_4LEVEL, 0, 0x40345678, 3, P | W | PS, 0, 0 },
    { "PAE 4K", F_PAE, 0, 0xc0123456, 0, 0x345000 | P | W, 0x345456, 12 },
    { "PAE 2M", F_PAE, 0, 0xc0723456, 1, 0x400000 | P | W | PS, 0x523456, 21 },
    { "PAE 2M, reserved", F_PAE, 0, 0xc0723456, 1, 0x420000 | P | W | PS, 0, 0 },
    { "PAE bit 52", F_PAE, 0, 0xc0123456, 0, 0x345000 | P | W | (uint64_t)1 << 52, 0, 0 },
    { "32-bit 4K", F_32, 0, 0xc0123456, 0, 0x345000 | P | W, 0x345456, 12 },
    { "32-bit 4M", F_32, X86_CR4_PSE, 0xc0723456, 1, 0x400000 | P | W | PS, 0x723456, 22 },
    { "32-bit 4M, PSE-36", F_32, X86_CR4_PSE, 0xc0723456, 1, 0x41e000 | P | W | PS, 0xf00723456, 22 },
    { "32-bit 4M, reserved", F_32, X86_CR4_PSE, 0xc0723456, 1, 0x600000 | P | W | PS, 0, 0 },
    { "32-bit PS without PSE", F_32, 0, 0xc0123456, 1, 0x200000 | P | W | PS, 0x345456, 12 },
};

static uint64_t map_page(Guest *guest, Gpa root, unsigned row)
{
    if (pages[row].format == F_32) {
        guest_map4(guest, root, pages[row].gva, (uint32_t)pages[row].leaf, pages[row].level == 1, P | W);
        return root;
    }
    if (pages[row].format == F_PAE) {
        uint64_t *pdpt = (uint64_t *)(guest->memory + root);
        pdpt[3] = guest_table(guest) | P;
        guest_map8(guest, pdpt[3], 2, pages[row].gva, pages[row].leaf, pages[row].level, P | W);
        return root;
    }
    guest_map8(guest, root, 4, pages[row].gva, pages[row].leaf, pages[row].level, P | W);
    return root;
}

static void set_format(Guest *guest, Format format, uint32_t cr4, Gpa root)
{
    uint32_t cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    if (format == F_PAE)
        ck_assert(mmu_load_pdptrs(guest->mmu, root));
    mmu_set_cr3(guest->mmu, root);
    mmu_set_paging(guest->mmu, cr0, cr4 | (format == F_32 ? 0 : X86_CR4_PAE),
                   format == F_4LEVEL ? X86_EFER_LME | X86_EFER_LMA : 0);
}

START_TEST(page_sizes)
{
    Guest guest = guest_new();
    Gpa root = map_page(&guest, guest_table(&guest), _i);
    *(uint32_t *)(guest.memory + 0x200000 + 0x123 * 4) = 0x345000 | P | W; /* "PS without PSE" */
    set_format(&guest, pages[_i].format, pages[_i].cr4, root);
    MmuWalk walk = { 0 };
    MmuWalkOutcome outcome = mmu_walk(guest.mmu, pages[_i].gva, MMU_WRITE, MMU_KERNEL, &walk);
    if (pages[_i].page_bits) {
        ck_assert_msg(outcome == MMU_WALK_OK, "%s: error %x", pages[_i].name, walk.error_code);
        ck_assert_msg(walk.gpa == pages[_i].gpa, "%s: gpa %lx", pages[_i].name, walk.gpa);
        ck_assert_msg(walk.page_bits == pages[_i].page_bits, "%s: %u bits", pages[_i].name, walk.page_bits);
        ck_assert_msg(walk.is_writable, "%s: not dirty", pages[_i].name);
    } else {
        ck_assert_msg(outcome == MMU_WALK_FAULT && walk.error_code == (PFP | PFR | PFW), "%s", pages[_i].name);
    }
    guest_free(&guest);
}
END_TEST

START_TEST(paging_off)
{
    Guest guest = guest_new();
    MmuWalk walk = { 0 };
    ck_assert(mmu_walk(guest.mmu, 0xfff01234, MMU_WRITE, MMU_KERNEL, &walk) == MMU_WALK_OK);
    ck_assert_uint_eq(walk.gpa, 0xfff01234);
    ck_assert(walk.is_writable && walk.is_executable && !walk.is_global);
    mmu_set_a20(guest.mmu, false);
    ck_assert(mmu_walk(guest.mmu, 0x101234, MMU_READ, MMU_KERNEL, &walk) == MMU_WALK_OK);
    ck_assert_uint_eq(walk.gpa, 0x1234);
    guest_free(&guest);
}
END_TEST

/* Tables outside RAM read as ones: a reserved-bit fault, or another such table; never a crash. */
START_TEST(tables_nowhere)
{
    Guest guest = guest_new();
    Gpa root = guest_table(&guest);
    MmuWalk walk = { 0 };
    guest_map8(&guest, root, 4, 0, 0x700000000 | P | W, 2, P | W);
    paging_4level(&guest, WP, 0, NXE, root);
    ck_assert(mmu_walk(guest.mmu, 0x1000, MMU_WRITE, MMU_KERNEL, &walk) == MMU_WALK_FAULT);
    ck_assert_uint_eq(walk.error_code, PFP | PFW | PFR);
    mmu_set_cr3(guest.mmu, 0x000ffffffffff000);
    ck_assert(mmu_walk(guest.mmu, 0x1000, MMU_READ, MMU_USER, &walk) == MMU_WALK_FAULT);
    ck_assert_uint_eq(walk.error_code, PFP | PFR | PFU);
    ck_assert(!mmu_load_pdptrs(guest.mmu, 0xe0000000));

    mmu_set_paging(guest.mmu, X86_CR0_PE | X86_CR0_PG, 0, 0);
    mmu_set_cr3(guest.mmu, 0xe0000000);
    /* The page table is now at 0xfffff000, in ROM; its second entry at least says something. */
    ck_assert(mmu_walk(guest.mmu, 0x1234, MMU_WRITE, MMU_USER, &walk) == MMU_WALK_FAULT);
    ck_assert_uint_eq(walk.error_code, PFW | PFU);
    ((uint32_t *)ram_slice(guest.ram, 0xfffff000, 4096))[1] = 0xe0001000 | P | W | U;
    ck_assert(mmu_walk(guest.mmu, 0x1234, MMU_WRITE, MMU_USER, &walk) == MMU_WALK_OK);
    ck_assert_uint_eq(walk.gpa, 0xe0001234);
    guest_free(&guest);
}
END_TEST

/* Tables in ROM: A and D cannot be set, and the walk succeeds all the same. */
START_TEST(tables_in_rom)
{
    Guest guest = guest_new();
    uint32_t *rom = (uint32_t *)ram_find(guest.ram, 0xfffc0000)->host;
    rom[0] = 0xfffc1000 | P | W;
    rom[1024 + 1] = 0x5000 | P | W;
    mmu_set_paging(guest.mmu, X86_CR0_PE | X86_CR0_PG, 0, 0);
    mmu_set_cr3(guest.mmu, 0xfffc0000);
    MmuWalk walk = { 0 };
    ck_assert(mmu_walk(guest.mmu, 0x1234, MMU_WRITE, MMU_KERNEL, &walk) == MMU_WALK_OK);
    ck_assert_uint_eq(walk.gpa, 0x5234);
    ck_assert_uint_eq(rom[1024 + 1], 0x5000 | P | W);
    guest_free(&guest);
}
END_TEST

START_TEST(pdptrs)
{
    Guest guest = guest_new();
    uint64_t *pdpt = (uint64_t *)(guest.memory + 0x2020);
    pdpt[0] = 0x3000 | P;
    pdpt[1] = 0xfff; /* present with reserved bits */
    ck_assert(!mmu_load_pdptrs(guest.mmu, 0x2020));
    ck_assert_uint_eq(guest.mmu->pdptr[0], 0);
    pdpt[1] = 0xffe; /* not present: no matter */
    ck_assert(mmu_load_pdptrs(guest.mmu, 0x2020));
    ck_assert_uint_eq(guest.mmu->pdptr[0], 0x3000 | P);
    pdpt[1] = 0x4000 | P | (uint64_t)1 << 40;
    ck_assert(!mmu_load_pdptrs(guest.mmu, 0x2020));

    /* The loaded values count, not memory. */
    mmu_set_cr3(guest.mmu, 0x2020);
    mmu_set_paging(guest.mmu, X86_CR0_PE | X86_CR0_PG, X86_CR4_PAE, 0);
    pdpt[0] = 0;
    guest_map8(&guest, 0x3000, 2, 0x123000, 0x456000 | P, 0, P);
    MmuWalk walk = { 0 };
    ck_assert(mmu_walk(guest.mmu, 0x123000, MMU_READ, MMU_KERNEL, &walk) == MMU_WALK_OK);
    ck_assert_uint_eq(walk.gpa, 0x456000);
    ck_assert(mmu_walk(guest.mmu, 0x40123000, MMU_READ, MMU_KERNEL, &walk) == MMU_WALK_FAULT);
    ck_assert_uint_eq(walk.error_code, 0);
    guest_free(&guest);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("walk");
    TCase *tcase = tcase_create("walk");
    tcase_add_loop_test(tcase, rights_4level, 0, G_N_ELEMENTS(rights));
    tcase_add_loop_test(tcase, page_sizes, 0, G_N_ELEMENTS(pages));
    tcase_add_test(tcase, paging_off);
    tcase_add_test(tcase, tables_nowhere);
    tcase_add_test(tcase, tables_in_rom);
    tcase_add_test(tcase, pdptrs);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
