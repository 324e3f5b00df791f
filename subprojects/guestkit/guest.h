#pragma once

/*
 * What every bare-metal guest shares: port access, the serial console, ways to end. Freestanding, 32-bit, no libc.
 * A guest defines guest_main(); its result becomes the exit status through isa-debug-exit, or the machine is powered
 * off through ACPI when that device is not there.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GUEST_CODE32 = 0x08,
    GUEST_DATA32 = 0x10,
    GUEST_CODE64 = 0x18,
    GUEST_CODE16 = 0x20,
    GUEST_DATA16 = 0x28,
};

enum {
    PORT_DEBUG_EXIT = 0xf4,  /* isa-debug-exit's usual place: status (value << 1) | 1 */
    PORT_PM1A_CNT = 0x604,   /* ACPI PM1a control; 0x2000 = SLP_EN with SLP_TYP 0 = soft off */
    PORT_SERIAL = 0x3f8,
};

/** guest_main: @magic: 0x2badb002 from a multiboot loader   Returns: 0 when all is well */
uint32_t guest_main(uint32_t magic, const void *multiboot_info);

/** guest_exit: ends the machine with @result. */
_Noreturn void guest_exit(uint32_t result);

void serial_open(void);
void serial_put(char c);

/** serial_get: Returns: the next received byte, or -1 when there is none */
int serial_get(void);

/** print: a tiny printf: %s %u %x (both 32-bit) and %c. */
void print(const char *format, ...);

static inline void
port_write8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void
port_write16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t
port_read8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/** trap_open: loads an IDT where vectors 0–47 count in trap_counts, IRQs at 32–47 are acknowledged at the 8259s. */
void trap_open(void);

/** trap_skip: after a fault of @vector continue at @resume, once; without it a fault ends the guest. */
void trap_skip(uint8_t vector, const void *resume);

/** trap_escape: the same, but goes on in ring 0 with @stack; what the fault interrupted (ring 3, virtual-8086) is left. */
void trap_escape(uint8_t vector, const void *resume, void *stack);

extern volatile uint32_t trap_counts[48];
extern volatile uint32_t trap_error;

void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
