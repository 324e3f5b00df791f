/* Protection keys: rights by PKRU and IA32_PKRS, error codes, and what a new value drops from the TLB.  Source: SDM 3A 4.6.2, 4.7. */
#include <check.h>
#include <stdlib.h>

#include "../../lib/guest-tables.h"

#define P PTE_P
#define W PTE_RW
#define U PTE_US
#define GVA ((Gva)0x00007f1234567abc)
#define KEY 5u
#define AD (1u << 2 * KEY)
#define WD (2u << 2 * KEY)
#define PKE X86_CR4_PKE
#define PKS X86_CR4_PKS
#define WP X86_CR0_WP
#define PK (X86_PF_P | X86_PF_PK)
#define OK_WALK 0x1000u /* not an error code */

static const struct {
    const char *name;
    uint32_t cr0, cr4, pkru, pkrs;
    uint64_t leaf;
    MmuAccess access;
    MmuIndex index;
    uint32_t expected;
} rows[] = {
    { "user read, AD", WP, PKE, AD, 0, P | U | W, MMU_READ, MMU_USER, PK | X86_PF_USER },
    { "user write, AD", WP, PKE, AD, 0, P | U | W, MMU_WRITE, MMU_USER, PK | X86_PF_USER | X86_PF_WRITE },
    { "user fetch, AD", WP, PKE, AD | WD, 0, P | U | W, MMU_FETCH, MMU_USER, OK_WALK },
    { "user read, WD", WP, PKE, WD, 0, P | U | W, MMU_READ, MMU_USER, OK_WALK },
    { "user write, WD", 0, PKE, WD, 0, P | U | W, MMU_WRITE, MMU_USER, PK | X86_PF_USER | X86_PF_WRITE },
    { "user write, WD, read-only as well", 0, PKE, WD, 0, P | U, MMU_WRITE, MMU_USER, PK | X86_PF_USER | X86_PF_WRITE },
    { "user write, other keys", WP, PKE, ~(AD | WD), 0, P | U | W, MMU_WRITE, MMU_USER, OK_WALK },
    { "user write, PKE off", WP, 0, AD | WD, 0, P | U | W, MMU_WRITE, MMU_USER, OK_WALK },
    { "user write, PKS only", WP, PKS, AD | WD, AD | WD, P | U | W, MMU_WRITE, MMU_USER, OK_WALK },
    { "kernel read of user page, AD", WP, PKE, AD, 0, P | U | W, MMU_READ, MMU_KERNEL, PK },
    { "kernel write of user page, WD, WP", WP, PKE, WD, 0, P | U | W, MMU_WRITE, MMU_KERNEL_AC, PK | X86_PF_WRITE },
    { "kernel write of user page, WD, no WP", 0, PKE, WD, 0, P | U | W, MMU_WRITE, MMU_KERNEL, OK_WALK },
    { "kernel page heeds no PKRU", WP, PKE, AD | WD, 0, P | W, MMU_WRITE, MMU_KERNEL, OK_WALK },
    { "kernel read, PKRS AD", WP, PKS, 0, AD, P | W, MMU_READ, MMU_KERNEL, PK },
    { "kernel write, PKRS WD, WP", WP, PKE | PKS, 0, WD, P | W, MMU_WRITE, MMU_KERNEL, PK | X86_PF_WRITE },
    { "kernel write, PKRS WD, no WP", 0, PKS, 0, WD, P | W, MMU_WRITE, MMU_KERNEL, OK_WALK },
    { "kernel fetch, PKRS AD", WP, PKS, 0, AD, P | W, MMU_FETCH, MMU_KERNEL, OK_WALK },
};

static uint64_t *begin(Guest *guest, uint32_t cr0, uint32_t cr4, uint64_t leaf)
{
    *guest = guest_new();
    Gpa root = guest_table(guest);
    uint64_t *at = guest_map8(guest, root, 4, GVA, 0x123000 | leaf | (uint64_t)KEY << PTE_KEY_SHIFT, 0, P | W | U);
    mmu_set_cr3(guest->mmu, root);
    mmu_set_paging(guest->mmu, X86_CR0_PE | X86_CR0_PG | cr0, X86_CR4_PAE | cr4, X86_EFER_LME | X86_EFER_LMA);
    return at;
}

START_TEST(rights_by_key)
{
    Guest guest;
    Gva bad;
    MmuWalk walk = { 0 };
    MmuFill fill = { 0 };
    begin(&guest, rows[_i].cr0, rows[_i].cr4, rows[_i].leaf);
    mmu_set_keys(guest.mmu, rows[_i].pkru, rows[_i].pkrs);
    for (unsigned again = 0; again < 2; again++) { /* by the walk, then by the table cache */
        MmuOutcome filled = mmu_fill(guest.mmu, GVA, rows[_i].access, rows[_i].index, &fill);
        MmuWalkOutcome outcome = mmu_probe(guest.mmu, GVA, rows[_i].access, rows[_i].index, &walk);
        if (rows[_i].expected == OK_WALK) {
            ck_assert_msg(filled == MMU_RAM && outcome == MMU_WALK_OK, "%s: error %x", rows[_i].name, fill.error_code);
        } else {
            ck_assert_msg(filled == MMU_FAULT && fill.error_code == rows[_i].expected, "%s: error %x", rows[_i].name, fill.error_code);
            ck_assert_msg(outcome == MMU_WALK_FAULT && walk.error_code == rows[_i].expected, "%s: probe", rows[_i].name);
        }
        ck_assert_uint_eq(mmu_audit(guest.mmu, &bad), 0);
    }
    guest_free(&guest);
}
END_TEST

/* More pages with keys than the MMU notes one by one, in turns of two keys. */
START_TEST(many_pages_with_keys)
{
    Guest guest;
    MmuFill fill;
    Gva bad;
    begin(&guest, WP, PKE, P | U | W);
    unsigned npages = (unsigned)_i;
    for (unsigned i = 1; i <= npages; i++)
        guest_map8(&guest, guest.mmu->cr3, 4, GVA + i * PAGE_SIZE, 0x124000 | P | U | W | (uint64_t)(i % 2 ? 2 : KEY) << PTE_KEY_SHIFT, 0, P | W | U);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 1; i <= npages; i++)
            ck_assert(mmu_fill(guest.mmu, GVA + i * PAGE_SIZE, MMU_WRITE, MMU_USER, &fill) == MMU_RAM);
        mmu_set_keys(guest.mmu, WD, 0);
        for (unsigned i = 1; i <= npages; i++) {
            const TlbEntry *entry = &guest.mmu->tlb[MMU_USER][((GVA >> 12) + i) % TLB_SIZE];
            ck_assert((entry->tag_write == page_of(GVA) + i * PAGE_SIZE) == (i % 2 == 1));
        }
        ck_assert_uint_eq(mmu_audit(guest.mmu, &bad), 0);
        mmu_set_keys(guest.mmu, 0, 0);
    }
    guest_free(&guest);
}
END_TEST

/* The inline TLB must not remember what a new PKRU takes away, and keeps pages of other keys. */
START_TEST(new_keys_drop_entries)
{
    Guest guest;
    MmuFill fill;
    begin(&guest, WP, PKE, P | U | W);
    Gva other = GVA + PAGE_SIZE, bad;
    guest_map8(&guest, guest.mmu->cr3, 4, other, 0x124000 | P | U | W | (uint64_t)2 << PTE_KEY_SHIFT, 0, P | W | U);
    const TlbEntry *entry = &guest.mmu->tlb[MMU_USER][(GVA >> 12) % TLB_SIZE], *kept = &guest.mmu->tlb[MMU_USER][(other >> 12) % TLB_SIZE];
    ck_assert(mmu_fill(guest.mmu, GVA, MMU_WRITE, MMU_USER, &fill) == MMU_RAM);
    ck_assert(mmu_fill(guest.mmu, other, MMU_WRITE, MMU_USER, &fill) == MMU_RAM);
    ck_assert_uint_eq(page_of(tlb_info_of(guest.mmu, entry)), 0x123000);
    ck_assert(entry->tag_write == page_of(GVA) && kept->tag_write == page_of(other));
    mmu_set_keys(guest.mmu, WD, 0);
    ck_assert(entry->tag_write != page_of(GVA) && entry->tag_read != page_of(GVA));
    ck_assert(kept->tag_write == page_of(other));
    ck_assert_uint_eq(mmu_audit(guest.mmu, &bad), 0);
    ck_assert(mmu_fill(guest.mmu, GVA, MMU_READ, MMU_USER, &fill) == MMU_RAM);
    ck_assert(entry->tag_read == page_of(GVA) && entry->tag_write != page_of(GVA));
    mmu_set_keys(guest.mmu, AD, 0);
    ck_assert(entry->tag_read != page_of(GVA));
    mmu_set_keys(guest.mmu, 0, 0);
    ck_assert(mmu_fill(guest.mmu, GVA, MMU_WRITE, MMU_USER, &fill) == MMU_RAM);

    /* A new CR4 as well. */
    mmu_set_paging(guest.mmu, guest.mmu->cr0, guest.mmu->cr4 & ~(uint64_t)PKE, guest.mmu->efer);
    mmu_set_keys(guest.mmu, AD, 0);
    ck_assert(mmu_fill(guest.mmu, GVA, MMU_WRITE, MMU_USER, &fill) == MMU_RAM);
    mmu_set_paging(guest.mmu, guest.mmu->cr0, guest.mmu->cr4 | PKE, guest.mmu->efer);
    ck_assert(mmu_fill(guest.mmu, GVA, MMU_READ, MMU_USER, &fill) == MMU_FAULT);
    guest_free(&guest);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keys");
    TCase *tcase = tcase_create("keys");
    tcase_add_loop_test(tcase, rights_by_key, 0, G_N_ELEMENTS(rows));
    tcase_add_test(tcase, new_keys_drop_entries);
    tcase_add_loop_test(tcase, many_pages_with_keys, MMU_KEYED - 2, MMU_KEYED + 3);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
