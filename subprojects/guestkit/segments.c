/*
 * Segmentation that flat kernels never use: bases and limits, expand-down and read-only data, selectors that must fault,
 * 16-bit code in protected mode, call gates, ring 3, virtual-8086 mode, a hardware task switch.
 * QEMU TCG fails the first three: it checks neither limits nor rights on access.
 */
#include "guest.h"

enum {
    SEL_WINDOW = 0x30,      /* base = window, limit 15 bytes */
    SEL_DOWN = 0x38,        /* expand-down: offsets above 0xfff */
    SEL_READ_ONLY = 0x40,
    SEL_CODE16_BASED = 0x48,
    SEL_ABSENT = 0x50,
    SEL_CODE_USER = 0x5b,
    SEL_DATA_USER = 0x63,
    SEL_TSS = 0x68,
    SEL_GATE = 0x73,
    SEL_TASK = 0x78,
};

typedef struct {
    uint32_t back_link, esp0, ss0, unused[4], cr3, eip, eflags, gpr[8], es, cs, ss, ds, fs, gs, ldt, io_map;
} Tss;

extern const uint64_t guest_gdt[6];

static uint64_t gdt[16];
static uint32_t window[8] = {0x11111111, 0x22222222, 0x33333333, 0x44444444, 0x55555555, 0x66666666, 0x77777777, 0x88888888};
static uint8_t code16[16] = {0xb8, 0x34, 0x12, 0x83, 0xc0, 0x01, 0x66, 0xcb}; /* mov ax; add ax, 1; 32-bit far return */
static uint8_t kernel_stack[4096] __attribute__((aligned(16)));
static uint8_t user_stack[4096] __attribute__((aligned(16)));
static uint8_t task_stack[4096] __attribute__((aligned(16)));
static Tss tss = {.io_map = 104 << 16}, task = {.io_map = 104 << 16};

static uint64_t
descriptor(uint32_t base, uint32_t limit, uint32_t access, uint32_t flags)
{
    return (uint64_t) (base & 0xff000000u) << 32 | (uint64_t) flags << 52 | (uint64_t) (limit >> 16 & 15) << 48 |
           (uint64_t) access << 40 | (uint64_t) (base & 0xffffffu) << 16 | (limit & 0xffffu);
}

/* Runs one instruction that may fault: its outcome is the vector, or 255 when it does not. */
#define OUTCOME(vector, instruction, ...)                                                                              \
    ({                                                                                                                 \
        uint32_t before = trap_counts[vector], outcome;                                                                \
        trap_error = 0xdead;                                                                                           \
        __asm__ volatile("pushl $1f\n\tpushl %0\n\tcall trap_skip\n\taddl $8, %%esp\n\t" instruction                   \
                         "\n\tpushl $-1\n\tpushl $-1\n\tcall trap_skip\n\taddl $8, %%esp\n\t1:"                        \
                         : : "i"(vector), ##__VA_ARGS__ : "eax", "ecx", "edx", "memory", "cc");                        \
        outcome = trap_counts[vector] == before + 1 ? vector : 255u;                                                   \
        outcome;                                                                                                       \
    })

static uint32_t
base_and_limit(void)
{
    uint32_t value, ok;
    __asm__ volatile("mov %1, %%fs\n\tmovl %%fs:4, %0" : "=r"(value) : "r"(SEL_WINDOW));
    ok = value == 0x22222222;
    __asm__ volatile("movl $0xabcd, %%fs:(%1)\n\tmovl %%fs:12, %0" : "=r"(value) : "r"(12) : "memory");
    ok &= value == 0xabcd && window[3] == 0xabcd;
    ok &= OUTCOME(13, "movl %%fs:13, %%eax") == 13 && trap_error == 0;
    ok &= OUTCOME(13, "movb $1, %%fs:16") == 13;
    ok &= OUTCOME(13, "movl %%fs:-2, %%eax") == 13;
    ok &= OUTCOME(13, "movb %%fs:15, %%al") == 255;
    ok &= OUTCOME(13, "xorl %%eax, %%eax\n\tmovl %%eax, %%fs\n\tmovl %%fs:0, %%eax") == 13 && trap_error == 0;
    return ok;
}

static uint32_t
expand_down(void)
{
    uint32_t value, ok;
    __asm__ volatile("mov %1, %%gs\n\tmovl %%gs:0x1008, %0" : "=r"(value) : "r"(SEL_DOWN));
    ok = value == 0x33333333;
    ok &= OUTCOME(13, "movl %%gs:0xffc, %%eax") == 13;
    ok &= OUTCOME(13, "movl %%gs:0xfff, %%eax") == 13;
    ok &= OUTCOME(13, "movl %%gs:0x1000, %%eax") == 255;
    return ok;
}

static uint32_t
read_only(void)
{
    uint32_t value, ok;
    __asm__ volatile("mov %1, %%fs\n\tmovl %%fs:0, %0" : "=r"(value) : "r"(SEL_READ_ONLY));
    ok = value == 0x11111111;
    ok &= OUTCOME(13, "movl $1, %%fs:0") == 13 && window[0] == 0x11111111;
    return ok;
}

static uint32_t
bad_selectors(void)
{
    uint32_t ok = 1;
    ok &= OUTCOME(13, "movl $0xf8, %%eax\n\tmovl %%eax, %%fs") == 13 && trap_error == 0xf8;
    ok &= OUTCOME(11, "movl $0x50, %%eax\n\tmovl %%eax, %%fs") == 11 && trap_error == 0x50;
    ok &= OUTCOME(13, "movl $0x40, %%eax\n\tmovl %%eax, %%ss") == 13 && trap_error == 0x40;
    ok &= OUTCOME(13, "ljmp $0x10, $0") == 13 && trap_error == 0x10;
    return ok;
}

static uint32_t
code_16_bit(void)
{
    uint32_t value = 0xffff0000u;
    __asm__ volatile("lcall $0x48, $0" : "+a"(value) : : "memory", "cc");
    return value == 0xffff1235u;
}

volatile uint32_t user_seen[2]; /* named in assembly, hence global */
uint32_t escape_stack;

/* Ring 3: reads, calls the gate back into ring 0 (counts there), then executes CLI, which must fault. */
__asm__("user_code:\n\t"
        "movw %ss, user_seen\n\t"
        "lcall $0x73, $0\n\t"
        "lcall $0x73, $0\n\t"
        "cli\n\t"
        "ud2\n"
        "gate_entry:\n\t"
        "movl %cs, %eax\n\t"
        "addl %eax, user_seen + 4\n\t"
        "lret\n");
extern const uint8_t user_code[], gate_entry[];

static uint32_t
ring_3_and_call_gate(void)
{
    uint32_t before = trap_counts[13];
    user_seen[0] = user_seen[1] = 0;
    __asm__ volatile("pushl %%ebp\n\t"
                     "movl %%esp, escape_stack\n\t"
                     "pushl escape_stack\n\t"
                     "pushl $1f\n\t"
                     "pushl $13\n\t"
                     "call trap_escape\n\t"
                     "addl $12, %%esp\n\t"
                     "pushl $0x63\n\t"
                     "pushl %0\n\t"
                     "pushl $0x202\n\t"
                     "pushl $0x5b\n\t"
                     "pushl $user_code\n\t"
                     "movl $0x63, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "iretl\n"
                     "1:\n\t"
                     "movl $0x10, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "popl %%ebp"
                     : : "r"(user_stack + sizeof user_stack)
                     : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc");
    return trap_counts[13] == before + 1 && (user_seen[0] & 0xffff) == SEL_DATA_USER && user_seen[1] == 2 * GUEST_CODE32;
}

/* Virtual-8086: segment arithmetic at IOPL 3, then HLT, which is #GP(0) there. Results at 0x7000. */
static uint32_t
virtual_8086(void)
{
    static const uint8_t code[] = {
        0xb8, 0x34, 0x12,       /* mov ax, 0x1234 */
        0x8e, 0xd8,             /* mov ds, ax */
        0xc7, 0x06, 0x08, 0x00, 0xfe, 0xca, /* mov word [8], 0xcafe: linear 0x12348 */
        0x9c,                   /* pushf */
        0x58,                   /* pop ax */
        0xa3, 0x0a, 0x00,       /* mov [10], ax */
        0xfa,                   /* cli: allowed at IOPL 3 */
        0xf4,                   /* hlt */
    };
    uint32_t before = trap_counts[13];
    volatile uint16_t *seen = (volatile uint16_t *) 0x12348;
    __asm__("" : "+r"(seen));
    seen[0] = seen[1] = 0;
    memcpy((void *) 0x8000, code, sizeof code);
    __asm__ volatile("pushl %%ebp\n\t"
                     "movl %%esp, escape_stack\n\t"
                     "pushl escape_stack\n\t"
                     "pushl $1f\n\t"
                     "pushl $13\n\t"
                     "call trap_escape\n\t"
                     "addl $12, %%esp\n\t"
                     "pushl $0x1000\n\t" /* gs fs ds es */
                     "pushl $0x1000\n\t"
                     "pushl $0x1000\n\t"
                     "pushl $0x1000\n\t"
                     "pushl $0x600\n\t"  /* ss:sp = 0x600:0xff0 */
                     "pushl $0xff0\n\t"
                     "pushl $0x23202\n\t" /* VM, IOPL 3, IF */
                     "pushl $0x800\n\t"
                     "pushl $0\n\t"
                     "iretl\n"
                     "1:\n\t"
                     "movl $0x10, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "popl %%ebp"
                     : : : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc");
    return trap_counts[13] == before + 1 && trap_error == 0 && seen[0] == 0xcafe && (seen[1] & 0x3200) == 0x3200;
}

volatile uint32_t task_ran;

__asm__("task_code:\n\t"
        "incl task_ran\n\t"
        "addl $5, %ecx\n\t"
        "iretl\n\t"
        "jmp task_code\n");
extern const uint8_t task_code[];

static uint32_t
task_switch(void)
{
    uint32_t marker = 0x5a5a;
    task = (Tss) {
        .eip = (uint32_t) task_code, .eflags = 2, .gpr = {[1] = 37, [4] = (uint32_t) (task_stack + sizeof task_stack)},
        .es = GUEST_DATA32, .cs = GUEST_CODE32, .ss = GUEST_DATA32, .ds = GUEST_DATA32, .fs = GUEST_DATA32,
        .gs = GUEST_DATA32, .io_map = 104 << 16,
    };
    __asm__ volatile("lcall $0x78, $0" : "+r"(marker) : : "memory", "cc");
    __asm__ volatile("lcall $0x78, $0" : "+r"(marker) : : "memory", "cc");
    return task_ran == 2 && marker == 0x5a5a && task.gpr[1] == 47 && task.back_link == SEL_TSS;
}

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    static const struct {
        const char *name;
        uint32_t (*run)(void);
    } tests[] = {
        {"base and limit", base_and_limit},   {"expand-down", expand_down},
        {"read-only data", read_only},        {"selectors that fault", bad_selectors},
        {"16-bit code segment", code_16_bit}, {"ring 3 and call gate", ring_3_and_call_gate},
        {"virtual-8086", virtual_8086},       {"task switch", task_switch},
    };
    uint32_t failed = 0;
    serial_open();
    trap_open();
    memcpy(gdt, guest_gdt, sizeof guest_gdt);
    gdt[SEL_WINDOW / 8] = descriptor((uint32_t) window, 15, 0x93, 4);
    gdt[SEL_DOWN / 8] = descriptor((uint32_t) window - 0x1000, 0xfff, 0x97, 4);
    gdt[SEL_READ_ONLY / 8] = descriptor((uint32_t) window, 31, 0x91, 4);
    gdt[SEL_CODE16_BASED / 8] = descriptor((uint32_t) code16, sizeof code16 - 1, 0x9b, 0);
    gdt[SEL_ABSENT / 8] = descriptor(0, 0xfffff, 0x13, 12);
    gdt[SEL_CODE_USER / 8] = descriptor(0, 0xfffff, 0xfb, 12);
    gdt[SEL_DATA_USER / 8] = descriptor(0, 0xfffff, 0xf3, 12);
    gdt[SEL_TSS / 8] = descriptor((uint32_t) &tss, 103, 0x89, 0);
    gdt[SEL_TASK / 8] = descriptor((uint32_t) &task, 103, 0x89, 0);
    uint32_t entry = (uint32_t) gate_entry;
    gdt[SEL_GATE / 8] = (uint64_t) (entry & 0xffff0000u) << 32 | (uint64_t) 0xec00 << 32 | GUEST_CODE32 << 16 | (entry & 0xffff);
    tss.ss0 = GUEST_DATA32;
    tss.esp0 = (uint32_t) (kernel_stack + sizeof kernel_stack);
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } pointer = {sizeof gdt - 1, (uint32_t) gdt};
    __asm__ volatile("lgdt %0\n\tltr %w1" : : "m"(pointer), "r"(SEL_TSS));
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        uint32_t ok = tests[i].run();
        print("%s: %s\n", tests[i].name, ok ? "ok" : "WRONG");
        failed += !ok;
    }
    return failed;
}
