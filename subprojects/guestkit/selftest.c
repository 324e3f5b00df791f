/*
 * The guest scripts/run boots when no Linux kernel can be had: checks memory, timer interrupts, paging and exceptions,
 * then echoes what is typed on the serial console until 'q', and powers the machine off. On the command line of the
 * kernel the word "batch" leaves the echo console out.
 */
#include "guest.h"

typedef struct {
    uint32_t flags, mem_lower, mem_upper, boot_device, command_line;
} MultibootInfo;

static uint32_t page_directory[1024] __attribute__((aligned(4096)));
static uint32_t page_table[1024] __attribute__((aligned(4096)));
static uint32_t frames[2][1024] __attribute__((aligned(4096)));

static uint32_t
memory_check(void)
{
    volatile uint32_t *at = (volatile uint32_t *) 0x400000;
    for (uint32_t i = 0; i < 1 << 20; i++) {
        at[i] = i * 2654435761u;
    }
    for (uint32_t i = 0; i < 1 << 20; i++) {
        if (at[i] != i * 2654435761u) {
            return 0;
        }
    }
    return 1;
}

static uint32_t
timer_check(void)
{
    uint32_t divisor = 11932; /* 100 Hz */
    port_write8(0x43, 0x34);
    port_write8(0x40, (uint8_t) divisor);
    port_write8(0x40, (uint8_t) (divisor >> 8));
    port_write8(0x21, 0xfe);
    uint32_t start = trap_counts[32];
    __asm__ volatile("sti");
    while (trap_counts[32] - start < 20) {
        __asm__ volatile("hlt");
    }
    __asm__ volatile("cli");
    port_write8(0x21, 0xff);
    return 1;
}

/* Maps one virtual page to two frames in turn, with INVLPG; then reads a page that is not there. */
static uint32_t
paging_check(void)
{
    volatile uint32_t *window = (volatile uint32_t *) 0xc0000000u;
    for (uint32_t i = 0; i < 1024; i++) {
        page_directory[i] = i < 512 ? i << 22 | 0x83 : 0;
    }
    page_directory[0xc0000000u >> 22] = (uint32_t) page_table | 3;
    page_table[0] = (uint32_t) frames[0] | 3;
    uint32_t cr4, cr0, ok = 1;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | 0x10)); /* PSE */
    __asm__ volatile("mov %0, %%cr3" : : "r"(page_directory));
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" : : "r"(cr0 | 0x80010000u) : "memory"); /* PG, WP */
    for (uint32_t i = 0; i < 100; i++) {
        page_table[0] = (uint32_t) frames[i & 1] | 3;
        __asm__ volatile("invlpg %0" : : "m"(*window) : "memory");
        window[i] = i;
        ok &= frames[i & 1][i] == i;
    }
    ok &= (page_table[0] & 0x60) == 0x60; /* accessed and dirty */

    uint32_t faults = trap_counts[14], cr2;
    __asm__ volatile("pushl $1f\n\t"
                     "pushl $14\n\t"
                     "call trap_skip\n\t"
                     "addl $8, %%esp\n\t"
                     "movl 0xc0001234, %%eax\n\t"
                     "1:" : : : "eax", "ecx", "edx", "memory", "cc");
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    ok &= trap_counts[14] == faults + 1 && trap_error == 0 && cr2 == 0xc0001234u;

    page_table[0] = (uint32_t) frames[0] | 1; /* read-only: WP makes it so for us too */
    __asm__ volatile("invlpg %0" : : "m"(*window) : "memory");
    __asm__ volatile("pushl $1f\n\t"
                     "pushl $14\n\t"
                     "call trap_skip\n\t"
                     "addl $8, %%esp\n\t"
                     "movl $1, 0xc0000008\n\t"
                     "1:" : : : "eax", "ecx", "edx", "memory", "cc");
    ok &= trap_counts[14] == faults + 2 && trap_error == 3;
    __asm__ volatile("mov %0, %%cr0" : : "r"(cr0) : "memory");
    return ok;
}

static uint32_t
exception_check(void)
{
    __asm__ volatile("pushl $1f\n\t"
                     "pushl $0\n\t"
                     "call trap_skip\n\t"
                     "addl $8, %%esp\n\t"
                     "xorl %%ecx, %%ecx\n\t"
                     "movl $1, %%eax\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "divl %%ecx\n\t"
                     "1:" : : : "eax", "ecx", "edx", "memory", "cc");
    return trap_counts[0] == 1;
}

static bool
word_given(const MultibootInfo *info, const char *word)
{
    if (!(info->flags & 4)) {
        return false;
    }
    for (const char *at = (const char *) info->command_line; *at; at++) {
        size_t i = 0;
        while (word[i] && at[i] == word[i]) {
            i++;
        }
        if (!word[i]) {
            return true;
        }
    }
    return false;
}

static void
console_run(void)
{
    print("\nEcho console. Type something; 'q' powers off (so does Ctrl-A x, from outside).\n> ");
    for (;;) {
        int c = serial_get();
        switch (c) {
        case -1:
            __asm__ volatile("sti; hlt; cli"); /* the timer wakes us */
            break;
        case 'q':
            print("\npower off\n");
            return;
        case '\r':
        case '\n':
            print("\n> ");
            break;
        default:
            serial_put((char) c);
            break;
        }
    }
}

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    static const struct {
        const char *name;
        uint32_t (*run)(void);
    } checks[] = {
        {"memory", memory_check}, {"exceptions", exception_check}, {"timer interrupts", timer_check}, {"paging", paging_check},
    };
    const MultibootInfo *info = multiboot_info;
    uint32_t failed = 0;
    serial_open();
    trap_open();
    print("\nSegue's own small guest. %u KiB of memory above 1 MiB.\n", info->flags & 1 ? info->mem_upper : 0);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        uint32_t ok = checks[i].run();
        print("  %s: %s\n", checks[i].name, ok ? "ok" : "WRONG");
        failed += !ok;
    }
    print("SELFTEST %s\n", failed ? "FAILED" : "OK");
    if (!word_given(info, "batch")) {
        port_write8(0x21, 0xfe);
        console_run();
    }
    if (failed == 0) {
        port_write16(PORT_PM1A_CNT, 0x2000);
    }
    return failed;
}
