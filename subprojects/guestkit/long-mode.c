/* Enters long mode, 64-bit and compatibility segments, and leaves it again. */
#include "guest.h"

extern volatile uint32_t long_mode_results[12];
void long_mode_run(uint32_t cr3);

static uint64_t pml4[512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pd[512] __attribute__((aligned(4096)));

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    static const struct {
        const char *name;
        uint32_t low, high;
    } results[] = {
        {"64-bit multiply", 0x6d269bcd, 0xdca72d6f},
        {"32-bit write, 64-bit rotate", 0x00000017, 0x00000001},
        {"upper half alias", 0x6d269bcd, 0xdca72d6f},
        {"EFER.LMA clear after leaving", 0x00000100, 0},
        {"SSE2 in xmm9", 0xffc00000, 0x43efffff},
        {"compatibility mode", 5, 0},
    };
    uint32_t failed = 0;
    serial_open();
    pml4[0] = pml4[256] = (uint32_t) pdpt | 3;
    pdpt[0] = (uint32_t) pd | 3;
    for (uint32_t i = 0; i < 512; i++) {
        pd[i] = (uint64_t) i << 21 | 0x83;
    }
    long_mode_run((uint32_t) pml4);
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        uint32_t low = long_mode_results[2 * i], high = long_mode_results[2 * i + 1];
        uint32_t ok = low == results[i].low && high == results[i].high;
        print("%s: %s (%x:%x)\n", results[i].name, ok ? "ok" : "WRONG", high, low);
        failed += !ok;
    }
    return failed;
}
