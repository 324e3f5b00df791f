#include <check.h>
#include <stdlib.h>

#include "../../lib/guest-tables.h"

#define P PTE_P
#define W PTE_RW
#define U PTE_US
#define USER_GVA ((Gva)0x00005555aaaa0000)
#define NPAGES 64
#define NSPACES 20 /* more than MMU_SPACES */

typedef struct Fixture {
    Guest guest;
    Gpa root[NSPACES];
} Fixture;

static Fixture fixture;

static uint64_t *map(unsigned space, unsigned page, uint64_t bits)
{
    Gpa gpa = 0x100000 + (space * NPAGES + page) * PAGE_SIZE;
    return guest_map8(&fixture.guest, fixture.root[space], 4, USER_GVA + page * PAGE_SIZE, gpa | bits, 0, P | W | U);
}

static void setup(void)
{
    fixture = (Fixture){ .guest = guest_new() };
    for (unsigned space = 0; space < NSPACES; space++) {
        fixture.root[space] = guest_table(&fixture.guest);
        for (unsigned page = 0; page < NPAGES; page++)
            map(space, page, P | W | U);
    }
    Mmu *mmu = fixture.guest.mmu;
    ck_assert(mmu->recalls);
    mmu_set_paging(mmu, X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, X86_CR4_PAE | X86_CR4_PGE, X86_EFER_LME | X86_EFER_LMA);
}

static void teardown(void)
{
    Gva bad;
    ck_assert_uint_eq(mmu_audit(fixture.guest.mmu, &bad), 0);
    guest_free(&fixture.guest);
}

static void enter(unsigned space)
{
    mmu_set_cr3(fixture.guest.mmu, fixture.root[space]);
}

static void touch(unsigned npages, MmuAccess access)
{
    MmuFill out;
    for (unsigned page = 0; page < npages; page++)
        ck_assert(mmu_fill(fixture.guest.mmu, USER_GVA + page * PAGE_SIZE, access, MMU_USER, &out) == MMU_RAM);
}

static const TlbEntry *entry(unsigned page)
{
    return &fixture.guest.mmu->tlb[MMU_USER][((USER_GVA >> 12) + page) % TLB_SIZE];
}

static bool reads(unsigned space, unsigned page)
{
    Gpa gpa = 0x100000 + (space * NPAGES + page) * PAGE_SIZE;
    return entry(page)->tag_read == USER_GVA + page * PAGE_SIZE && page_of(tlb_info_of(fixture.guest.mmu, entry(page))) == gpa;
}

static bool writes(unsigned page)
{
    return entry(page)->tag_write == USER_GVA + page * PAGE_SIZE;
}

START_TEST(pages_come_back)
{
    enter(0);
    touch(10, MMU_WRITE);
    enter(1);
    ck_assert(!reads(0, 0) && !reads(1, 0));
    touch(5, MMU_READ);
    enter(0);
    for (unsigned page = 0; page < 10; page++)
        ck_assert(reads(0, page) && writes(page));
    ck_assert(!reads(0, 10));
    enter(1);
    for (unsigned page = 0; page < 5; page++)
        ck_assert(reads(1, page) && !writes(page));
    ck_assert(!reads(1, 5) && !reads(0, 5));
    ck_assert_uint_eq(fixture.guest.mmu->stat_recalls, 15);
}
END_TEST

/* What the guest changed meanwhile counts, INVLPG or not. */
START_TEST(tables_as_they_are_now)
{
    enter(0);
    touch(6, MMU_WRITE);
    enter(1);
    uint64_t *gone = map(0, 0, 0), *readonly = map(0, 1, P | U | PTE_A | PTE_D), *clean = map(0, 2, P | U | W | PTE_A);
    uint64_t *kernel = map(0, 3, P | W | PTE_A | PTE_D), *old = map(0, 4, P | U | W);
    code_map_set(fixture.guest.code, 0x100000 + 5 * PAGE_SIZE, true);
    enter(0);
    ck_assert(!reads(0, 0) && !writes(0) && *gone == 0x100000);
    ck_assert(reads(0, 1) && !writes(1) && !(*readonly & W));
    ck_assert(reads(0, 2) && !writes(2) && !(*clean & PTE_D));
    ck_assert(!reads(0, 3) && !(*kernel & U));
    ck_assert(!reads(0, 4) && !(*old & PTE_A)); /* nobody asked for it: no A bit */
    ck_assert(reads(0, 5) && !writes(5));
}
END_TEST

START_TEST(least_recently_used_goes)
{
    for (unsigned space = 0; space < NSPACES; space++) {
        enter(space);
        touch(2, MMU_READ);
    }
    enter(NSPACES - MMU_SPACES + 1);
    ck_assert(reads(NSPACES - MMU_SPACES + 1, 0));
    enter(0);
    ck_assert(!reads(0, 0));
}
END_TEST

START_TEST(list_does_not_only_grow)
{
    enter(0);
    touch(NPAGES, MMU_READ);
    for (unsigned i = 0; i < 10; i++) {
        enter(1);
        enter(0);
        touch(3, MMU_READ);
    }
    ck_assert(reads(0, 2) && !reads(0, 3));
}
END_TEST

START_TEST(switched_off)
{
    fixture.guest.mmu->recalls = false;
    enter(0);
    touch(4, MMU_READ);
    enter(1);
    enter(0);
    ck_assert(!reads(0, 0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recall");
    TCase *tcase = tcase_create("recall");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, pages_come_back);
    tcase_add_test(tcase, tables_as_they_are_now);
    tcase_add_test(tcase, least_recently_used_goes);
    tcase_add_test(tcase, list_does_not_only_grow);
    tcase_add_test(tcase, switched_off);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
