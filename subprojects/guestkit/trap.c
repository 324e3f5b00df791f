#include "guest.h"

typedef struct {
    uint16_t offset_low, selector, type, offset_high;
} IdtGate;

extern const uint32_t trap_stubs[48];
void trap_enter(uint32_t vector, uint32_t error, uint32_t *eip);

volatile uint32_t trap_counts[48];
volatile uint32_t trap_error;
static IdtGate idt[48];
static struct {
    int vector;
    const void *resume;
    void *stack; /* not NULL: leave the interrupted context for good, at resume with this stack */
} skip = {.vector = -1};

void
trap_enter(uint32_t vector, uint32_t error, uint32_t *eip)
{
    trap_counts[vector]++;
    if (vector >= 32) {
        if (vector >= 40) {
            port_write8(0xa0, 0x20);
        }
        port_write8(0x20, 0x20);
        return;
    }
    trap_error = error;
    if (skip.vector != (int) vector) {
        uint32_t cr2;
        __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
        print("unexpected exception %u, error %x, eip %x, cr2 %x\n", vector, error, *eip, cr2);
        guest_exit(0x3f);
    }
    skip.vector = -1;
    if (skip.stack) {
        __asm__ volatile("mov %0, %%esp\n\tjmp *%1" : : "r"(skip.stack), "r"(skip.resume) : "memory");
    }
    *eip = (uint32_t) skip.resume;
}

void
trap_skip(uint8_t vector, const void *resume)
{
    trap_escape(vector, resume, NULL);
}

void
trap_escape(uint8_t vector, const void *resume, void *stack)
{
    skip.resume = resume;
    skip.stack = stack;
    skip.vector = vector;
}

void
trap_open(void)
{
    for (int i = 0; i < 48; i++) {
        idt[i] = (IdtGate) {
            .offset_low = (uint16_t) trap_stubs[i],
            .selector = GUEST_CODE32,
            .type = 0x8e00,
            .offset_high = (uint16_t) (trap_stubs[i] >> 16),
        };
    }
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } pointer = {sizeof idt - 1, (uint32_t) idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));

    port_write8(0x20, 0x11); /* both 8259s: ICW1..4, vectors 32 and 40, everything masked */
    port_write8(0xa0, 0x11);
    port_write8(0x21, 32);
    port_write8(0xa1, 40);
    port_write8(0x21, 4);
    port_write8(0xa1, 2);
    port_write8(0x21, 1);
    port_write8(0xa1, 1);
    port_write8(0x21, 0xff);
    port_write8(0xa1, 0xff);
}
