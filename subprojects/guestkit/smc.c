/*
 * Self-modifying code, from easy to nasty: an immediate rewritten before each call; an instruction that overwrites the
 * one right behind it; a loop that rewrites its own body; code copied over older code; a write through an alias.
 */
#include "guest.h"

static uint8_t code_page[4096] __attribute__((aligned(4096)));

static uint32_t
call_page(uint32_t argument)
{
    uint32_t result;
    __asm__ volatile("call *%1" : "=a"(result) : "r"(code_page), "0"(argument) : "memory", "cc");
    return result;
}

static uint32_t
immediate_rewritten(void)
{
    static const uint8_t code[] = {0x05, 0, 0, 0, 0, 0xc3}; /* add eax, imm32; ret */
    uint32_t sum = 0, expected = 0;
    memcpy(code_page, code, sizeof code);
    for (uint32_t i = 0; i < 20000; i++) {
        *(volatile uint32_t *) (code_page + 1) = i * 7;
        sum = call_page(sum);
        expected += i * 7;
    }
    return sum == expected;
}

static uint32_t
next_instruction_rewritten(void)
{
    /* mov byte [rel32 of the inc below], 0x90; inc eax; ret — the increment must not happen */
    uint8_t code[] = {0xc6, 0x05, 0, 0, 0, 0, 0x90, 0x40, 0xc3};
    uint32_t target = (uint32_t) code_page + 7;
    memcpy(code + 2, &target, 4);
    memcpy(code_page, code, sizeof code);
    if (call_page(5) != 5) {
        return 0;
    }
    code_page[7] = 0x48; /* dec eax, overwritten again at once */
    return call_page(9) == 9;
}

static uint32_t
loop_rewrites_itself(void)
{
    /* 0: add eax, 1 (imm8 at 2); 3: inc byte [page + 2]; 9: dec ecx; 10: jnz 0; 12: ret */
    uint8_t code[] = {0x83, 0xc0, 1, 0xfe, 0x05, 0, 0, 0, 0, 0x49, 0x75, 0xf4, 0xc3};
    uint32_t target = (uint32_t) code_page + 2, result, count = 100;
    memcpy(code + 5, &target, 4);
    memcpy(code_page, code, sizeof code);
    __asm__ volatile("call *%2" : "=a"(result), "+c"(count) : "r"(code_page), "0"(0) : "memory", "cc");
    return result == 5050;
}

static uint32_t
code_replaced(void)
{
    static const uint8_t first[] = {0xb8, 1, 0, 0, 0, 0xc3}, second[] = {0x31, 0xc0, 0x40, 0x40, 0x90, 0xc3};
    uint32_t sum = 0;
    for (int i = 0; i < 3000; i++) {
        memcpy(code_page + 256, i & 1 ? second : first, sizeof first);
        uint32_t result;
        __asm__ volatile("call *%1" : "=a"(result) : "r"(code_page + 256) : "memory", "cc");
        sum += result;
    }
    return sum == 4500;
}

static uint32_t
string_store_into_code(void)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        memset(code_page, 0x40, 64); /* inc eax */
        code_page[i % 64] = 0xc3;
        sum += call_page(0);
    }
    uint32_t expected = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        expected += i % 64;
    }
    return sum == expected;
}

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    static const struct {
        const char *name;
        uint32_t (*run)(void);
    } tests[] = {
        {"immediate rewritten before each call", immediate_rewritten},
        {"next instruction rewritten", next_instruction_rewritten},
        {"loop rewrites itself", loop_rewrites_itself},
        {"code replaced", code_replaced},
        {"string store into code", string_store_into_code},
    };
    uint32_t failed = 0;
    serial_open();
    trap_open();
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        uint32_t ok = tests[i].run();
        print("%s: %s\n", tests[i].name, ok ? "ok" : "WRONG");
        failed += !ok;
    }
    return failed;
}
