/* Branches that cannot be: they fault where they are, not where they lead. */
#include "guest.h"

extern volatile uint32_t branches_results[6];
void branches_run(uint32_t cr3);

static uint64_t pml4[512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pd[512] __attribute__((aligned(4096)));

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    static const char *const names[] = {"jump", "call", "return"};
    uint32_t failed = 0;
    serial_open();
    pml4[0] = (uint32_t) pdpt | 3;
    pdpt[0] = (uint32_t) pd | 3;
    for (uint32_t i = 0; i < 512; i++) {
        pd[i] = (uint64_t) i << 21 | 0x83;
    }
    branches_run((uint32_t) pml4);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint32_t low = branches_results[2 * i], high = branches_results[2 * i + 1];
        uint32_t ok = low == 0 && high == 0;
        print("%s to a non-canonical address: %s (%x:%x)\n", names[i], ok ? "ok" : "WRONG", high, low);
        failed += !ok;
    }
    return failed;
}
