/* What the inline caches of indirect branches forget: by lists while these hold all, else all; never less than they must. */
#include "exec-fixture.h"

#include "bt/cache.h"

#define KERNEL ((uint64_t)0xffffffff81000000)
#define USER   ((uint64_t)0x0000555500000000)

static Bt bt; /* without memory: only the executable base is used here */

static void setup(void)
{
    fx_setup();
    fx->bt = &bt;
    fx->mmu.efer = X86_EFER_LMA;
    for (unsigned class = 0; class < 2; class++) {
        jump_cache_empty_class(fx, class);
        fx->jump_cache_mode[class] = MODE_CODE64 | (class ? MODE_USER : 0);
    }
}

static void teardown(void)
{
    mmu_flush(&fx->mmu, true); /* entries made by hand */
    fx_teardown();
}

static void page_is_global(uint64_t rip, bool is_global)
{
    TlbEntry *entry = &fx->mmu.tlb[bt_mmu_index(fx)][(rip >> PAGE_SHIFT) % TLB_SIZE];
    entry->tag_read = page_of(rip);
    *tlb_info(&fx->mmu, entry) = is_global ? TLB_INFO_GLOBAL : 0;
}

/* Notes @n blocks, 2 bytes from another, from @rip on. */
static void fill(uint64_t rip, unsigned n, bool is_global)
{
    for (unsigned i = 0; i < n; i++) {
        BtBlock block = { .rip = rip + 2 * i, .mode = MODE_CODE64 };
        page_is_global(block.rip, is_global);
        jump_cache_fill(fx, &block);
    }
}

static unsigned count(uint64_t rip, unsigned n)
{
    unsigned nfound = 0;
    for (unsigned i = 0; i < n; i++)
        nfound += jump_cache_rip(fx->jump_cache[0][(rip + 2 * i) & (JUMP_CACHE_SIZE - 1)].key) == rip + 2 * i;
    return nfound;
}

static const unsigned counts[] = { 1, JUMP_CACHE_LIST - 1, JUMP_CACHE_LIST, JUMP_CACHE_LIST + 1, 2 * JUMP_CACHE_LIST };

START_TEST(local_go_first)
{
    unsigned n = counts[_i];
    fill(USER, n, false);
    fill(KERNEL + 2 * n, 10, true);
    ck_assert_uint_eq(count(USER, n), n);
    jump_cache_flush(fx, false);
    ck_assert_uint_eq(count(USER, n), 0);
    ck_assert_uint_eq(count(KERNEL + 2 * n, 10), n > JUMP_CACHE_LIST ? 0 : 10);
}
END_TEST

START_TEST(global_go_when_asked)
{
    unsigned n = counts[_i];
    fill(KERNEL, n, true);
    fill(USER + 2 * n, 10, false);
    jump_cache_flush(fx, false);
    ck_assert_uint_eq(count(KERNEL, n), n);
    for (unsigned round = 0; round < 2; round++) {
        jump_cache_flush(fx, true);
        ck_assert_uint_eq(count(KERNEL, n), 0);
        fill(KERNEL, n, true); /* the lists began anew */
    }
}
END_TEST

/* A slot that changes hands is in both lists: it goes with whichever comes first. */
START_TEST(slot_changes_hands)
{
    fill(KERNEL, 10, true);
    fill(USER, 10, false);
    jump_cache_flush(fx, false);
    ck_assert_uint_eq(count(USER, 10), 0);
    fill(USER, 10, false);
    fill(KERNEL, 10, true);
    jump_cache_flush(fx, true);
    ck_assert_uint_eq(count(KERNEL, 10), 0);
}
END_TEST

START_TEST(class_is_emptied)
{
    fill(KERNEL, 3 * JUMP_CACHE_LIST, true);
    jump_cache_empty_class(fx, 0);
    ck_assert_uint_eq(count(KERNEL, 3 * JUMP_CACHE_LIST), 0);
    ck_assert_uint_eq(fx->njump_cache_global[0], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bt-jump-cache");
    TCase *tests = tcase_create("flush");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, local_go_first, 0, 5);
    tcase_add_loop_test(tests, global_go_when_asked, 0, 5);
    tcase_add_test(tests, slot_changes_hands);
    tcase_add_test(tests, class_is_emptied);
    suite_add_tcase(suite, tests);
    return fx_main(suite);
}
