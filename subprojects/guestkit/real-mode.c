/* 16-bit real mode: interrupts, segments, address wrap, far calls, strings, divide error. */
#include "guest.h"

extern const uint8_t real_mode_code[], real_mode_code_end[];
void real_mode_run(void);

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    static const struct {
        const char *name;
        uint16_t expected;
    } results[] = {
        {"software interrupt", 0x3333}, {"segment arithmetic", 0xbeef}, {"16-bit address wrap", 0xcafe},
        {"far call in a loop", 600},    {"string move", 600},           {"divide error", 1},
        {"decimal adjust", 0x0a04},
    };
    volatile uint16_t *seen = (volatile uint16_t *) 0x7000;
    uint32_t failed = 0;
    serial_open();
    __asm__("" : "+r"(seen));
    for (size_t i = 0; i < 16; i++) {
        seen[i] = 0;
    }
    memcpy((void *) 0x8000, real_mode_code, (size_t) (real_mode_code_end - real_mode_code));
    real_mode_run();
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        uint32_t ok = seen[i] == results[i].expected;
        print("%s: %s (%x)\n", results[i].name, ok ? "ok" : "WRONG", seen[i]);
        failed += !ok;
    }
    return failed;
}
