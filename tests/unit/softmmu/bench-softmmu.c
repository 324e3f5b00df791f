/* What the primitives of the software MMU cost here.  docs/softmmu.md quotes the results.  Run: meson test --benchmark softmmu */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../lib/guest-tables.h"

#define P PTE_P
#define W PTE_RW
#define U PTE_US
#define AD (PTE_A | PTE_D)
#define BASE ((Gva)0x00005555aaa00000)
#define KERNEL ((Gva)0xffff888000000000)

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static Guest guest;
static Gpa root;
static volatile uint64_t sink;

/* rnd: 64 bits, cheap. */
static uint64_t rnd(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

#define REPORT(what, n, body)                                                     \
    do {                                                                          \
        double best = 1e18;                                                       \
        for (unsigned run = 0; run < 5; run++) {                                  \
            double start = now_ns();                                              \
            for (unsigned i = 0; i < (n); i++) {                                  \
                body;                                                             \
            }                                                                     \
            double each = (now_ns() - start) / (n);                               \
            best = each < best ? each : best;                                     \
        }                                                                         \
        printf("%-64s %8.1f ns\n", what, best);                                   \
    } while (0)

static void bench_fill(unsigned npages, const char *what)
{
    unsigned n = 1000000;
    uint32_t *order = g_new(uint32_t, n);
    for (unsigned i = 0; i < n; i++)
        order[i] = (uint32_t)(rnd() % npages);
    MmuFill out;
    REPORT(what, n, sink += mmu_fill(guest.mmu, BASE + order[i] * PAGE_SIZE, MMU_READ, MMU_USER, &out));
    g_free(order);
}

static void bench_switch(unsigned npages, bool recalls)
{
    char what[80];
    MmuFill out;
    guest.mmu->recalls = recalls;
    mmu_set_cr3(guest.mmu, root);
    for (unsigned at = 0; at < npages; at++)
        sink += mmu_fill(guest.mmu, BASE + at * 3 * PAGE_SIZE, MMU_READ, MMU_USER, &out);
    if (recalls)
        snprintf(what, sizeof(what), "CR3 load that recalls %u pages", npages);
    else
        snprintf(what, sizeof(what), "CR3 load, then %u calls of mmu_fill", npages);
    REPORT(what, 20000, {
        mmu_set_cr3(guest.mmu, root);
        for (unsigned at = 0; at < npages && !recalls; at++)
            sink += mmu_fill(guest.mmu, BASE + at * 3 * PAGE_SIZE, MMU_READ, MMU_USER, &out);
        guest.mmu->space[guest.mmu->space_current].nstays = 0; /* never learn: it would recall nothing */
    });
}

/*
 * What a lookup in shadow tables would cost at least: 64 Ki translations in an open hash by page and address space, then the same filling
 * of the TLB entry.  No x86 rule is looked at, nothing is traced; docs/softmmu.md compares it with mmu_fill().
 */
typedef struct ShadowModel {
    uint64_t tag, host, info;
    uint64_t rights;
} ShadowModel;

static void bench_shadow_model(unsigned npages, const char *what)
{
    enum { BITS = 16 };
    ShadowModel *shadow = g_new0(ShadowModel, 1u << BITS);
    for (unsigned i = 0; i < npages; i++) {
        Gva page = BASE + i * PAGE_SIZE;
        shadow[(page >> 12) * 0x9e3779b97f4a7c15u >> (64 - BITS)] = (ShadowModel){ page | 5, (uintptr_t)guest.memory, i * PAGE_SIZE, 3 };
    }
    unsigned n = 1000000;
    uint32_t *order = g_new(uint32_t, n);
    for (unsigned i = 0; i < n; i++)
        order[i] = (uint32_t)(rnd() % npages);
    Mmu *mmu = guest.mmu;
    REPORT(what, n, {
        Gva page = BASE + order[i] * PAGE_SIZE;
        ShadowModel *at = &shadow[(page >> 12) * 0x9e3779b97f4a7c15u >> (64 - BITS)];
        TlbEntry *entry = &mmu->tlb[MMU_USER][(page >> 12) % TLB_SIZE];
        if (at->tag == (page | 5)) {
            entry->tag_read = at->rights & 1 ? page : 0;
            entry->tag_write = at->rights & 2 ? page : 0;
            entry->host = (uint8_t *)at->host;
            *tlb_info(mmu, entry) = at->info;
            mmu->stat_fills++;
        }
        sink += (uintptr_t)entry->host;
    });
    mmu_flush(mmu, true);
    g_free(order);
    g_free(shadow);
}

int main(void)
{
    guest = guest_new();
    root = guest_table(&guest);
    for (unsigned i = 0; i < 65536; i++)
        guest_map8(&guest, root, 4, BASE + i * PAGE_SIZE, (i * PAGE_SIZE % (4 << 20)) | P | W | U | AD, 0, P | W | U | PTE_A);
    for (unsigned i = 0; i < 8; i++)
        guest_map8(&guest, root, 4, KERNEL + ((uint64_t)i << 21), ((uint64_t)i << 21) | P | W | PTE_PS | PTE_G | AD, 1, P | W | PTE_A);
    Mmu *mmu = guest.mmu;
    mmu_set_cr3(mmu, root);
    mmu_set_paging(mmu, X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, X86_CR4_PAE | X86_CR4_PGE, X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE);

    bench_fill(64, "mmu_fill, 4-level, 64 pages at random (tables in L1)");
    bench_fill(4096, "mmu_fill, 4-level, 4096 pages at random");
    bench_fill(65536, "mmu_fill, 4-level, 65536 pages at random (tables in L2)");
    MmuFill out;
    REPORT("mmu_fill, 2 MiB page", 1000000, sink += mmu_fill(mmu, KERNEL + (i * 0x5000 & 0xffffff), MMU_READ, MMU_KERNEL, &out));
    REPORT("mmu_fill that faults", 1000000, sink += mmu_fill(mmu, KERNEL + i * PAGE_SIZE % 4096, MMU_READ, MMU_USER, &out));
    REPORT("mmu_flush, nothing cached, non-global", 1000000, mmu_flush(mmu, false));
    REPORT("mmu_flush, global", 100000, mmu_flush(mmu, true));
    REPORT("mmu_invlpg, small page", 1000000, mmu_invlpg(mmu, BASE));
    sink += mmu_fill(mmu, KERNEL, MMU_READ, MMU_KERNEL, &out);
    REPORT("mmu_invlpg, gigabyte with large pages", 100000, mmu_invlpg(mmu, KERNEL));
    REPORT("mmu_drop_writes", 100000, mmu_drop_writes(mmu, 0x3000));
    bench_switch(20, false);
    bench_switch(20, true);
    bench_switch(90, false);
    bench_switch(90, true);
    bench_shadow_model(64, "model of a shadow lookup, 64 pages");
    bench_shadow_model(4096, "model of a shadow lookup, 4096 pages");
    bench_shadow_model(32768, "model of a shadow lookup, 32768 pages");

    /* A traced store, as for a page with code: the fill that says MMU_CODE, and the store. */
    code_map_set(guest.code, 0x3000, true);
    REPORT("store to a page that takes the slow path (call not included)", 1000000, {
        if (mmu_fill(mmu, BASE + 0x3000 + i * 8 % 4096, MMU_WRITE, MMU_USER, &out) == MMU_CODE)
            *(volatile uint64_t *)out.host = i;
    });
    guest_free(&guest);
    return 0;
}
