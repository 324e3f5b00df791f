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

static void bench_switch(unsigned npages)
{
    char what[80];
    MmuFill out;
    snprintf(what, sizeof(what), "CR3 load, then fill of the same %u pages", npages);
    REPORT(what, 20000, {
        mmu_set_cr3(guest.mmu, root);
        for (unsigned at = 0; at < npages; at++)
            sink += mmu_fill(guest.mmu, BASE + at * 3 * PAGE_SIZE, MMU_READ, MMU_USER, &out);
    });
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
    bench_switch(20);
    bench_switch(100);

    /* A traced store, as for a page with code: the fill that says MMU_CODE, and the store. */
    code_map_set(guest.code, 0x3000, true);
    REPORT("store to a page that takes the slow path (call not included)", 1000000, {
        if (mmu_fill(mmu, BASE + 0x3000 + i * 8 % 4096, MMU_WRITE, MMU_USER, &out) == MMU_CODE)
            *(volatile uint64_t *)out.host = i;
    });
    guest_free(&guest);
    return 0;
}
