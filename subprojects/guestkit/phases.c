/*
 * Phases that favour different modes: computing, page tables that change, and the APIC's TPR.
 * Command line: words "compute=N", "tables=N", "tpr=N" and "rounds=N"; N is in units of about 20 ms on hardware where the phase is at home, and
 * each round has all of them in this order. Prints each phase's cycles of the TSC, in units of 2^20.
 */
#include "guest.h"

enum { PAGE = 4096, PTE_PRESENT_WRITE = 3, PDE_LARGE = 0x80, PDE_UNCACHED = 0x10, CR4_PSE = 0x10 };
#define CR0_PG     0x80000000u
#define LAPIC_TPR  0xfee00080u
#define WINDOW     0x40000000u /* whose table the phase "tables" writes */
#define TARGETS    0x01000000u /* the memory that it maps there */

static uint32_t directory[1024] __attribute__((aligned(PAGE)));
static uint32_t table[1024] __attribute__((aligned(PAGE)));

static void paging_begin(void)
{
    for (uint32_t i = 0; i < 1024; i++) {
        directory[i] = i << 22 | PDE_LARGE | PTE_PRESENT_WRITE | (i >= 0x300 ? PDE_UNCACHED : 0);
    }
    directory[WINDOW >> 22] = (uint32_t) table | PTE_PRESENT_WRITE;
    uint32_t value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(value));
    __asm__ volatile("mov %0, %%cr4" : : "r"(value | CR4_PSE));
    __asm__ volatile("mov %0, %%cr3" : : "r"(directory) : "memory");
    __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    __asm__ volatile("mov %0, %%cr0" : : "r"(value | CR0_PG) : "memory");
}

static uint32_t compute(uint32_t units)
{
    uint32_t x = 2463534242u;
    for (uint32_t i = 0; i < units * 10000000u; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
    }
    return x;
}

/* Each page of the window moves to another place, and is written there. */
static uint32_t tables(uint32_t units)
{
    for (uint32_t i = 0; i < units * 20000u; i++) {
        uint32_t page = i % 1024;
        volatile uint32_t *at = (volatile uint32_t *) (WINDOW + page * PAGE);
        table[page] = (TARGETS + (i * 7 % 1024) * PAGE) | PTE_PRESENT_WRITE;
        __asm__ volatile("invlpg %0" : : "m"(*(const char *) (uintptr_t) at) : "memory");
        *at = i;
    }
    return *(volatile uint32_t *) WINDOW;
}

static uint32_t tpr(uint32_t units)
{
    volatile uint32_t *at = (volatile uint32_t *) (uintptr_t) LAPIC_TPR;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < units * 20000u; i++) {
        *at = i & 0xf0;
        sum += *at;
    }
    return sum;
}

static uint64_t cycles(void)
{
    uint64_t value;
    __asm__ volatile("lfence; rdtsc" : "=A"(value) : : "memory");
    return value;
}

/* The number behind @word in @line, or @otherwise. */
static uint32_t number_of(const char *line, const char *word, uint32_t otherwise)
{
    for (; *line; line++) {
        const char *a = line, *b = word;
        while (*b && *a == *b) {
            a++;
            b++;
        }
        if (!*b) {
            uint32_t value = 0;
            for (; *a >= '0' && *a <= '9'; a++) {
                value = value * 10 + (uint32_t) (*a - '0');
            }
            return value;
        }
    }
    return otherwise;
}

uint32_t guest_main(uint32_t magic, const void *multiboot_info)
{
    static const struct {
        const char *name, *word;
        uint32_t (*run)(uint32_t units);
    } phases[] = { { "compute", "compute=", compute }, { "tables", "tables=", tables }, { "tpr", "tpr=", tpr } };
    const uint32_t *info = multiboot_info;
    const char *line = info[0] & 4 ? (const char *) info[4] : "";
    uint32_t rounds = number_of(line, "rounds=", 1), units[3];
    serial_open();
    for (uint32_t i = 0; i < 3; i++) {
        units[i] = number_of(line, phases[i].word, 1);
    }
    paging_begin();
    for (uint32_t round = 1; round <= rounds; round++) {
        for (uint32_t i = 0; i < 3; i++) {
            uint64_t start = cycles();
            uint32_t result = units[i] ? phases[i].run(units[i]) : 0;
            print("phase %u %s %u (%x)\n", round, phases[i].name, (uint32_t) ((cycles() - start) >> 20), result);
        }
    }
    print("phases done\n");
    return 0;
}
