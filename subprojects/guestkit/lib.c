#include "guest.h"

#include <stdarg.h>

void *
memset(void *to, int value, size_t size)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}

void *
memcpy(void *to, const void *from, size_t size)
{
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
    return to;
}

_Noreturn void
guest_exit(uint32_t result)
{
    port_write8(PORT_DEBUG_EXIT, (uint8_t) result);
    port_write16(PORT_PM1A_CNT, 0x2000);
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

void
serial_open(void)
{
    port_write8(PORT_SERIAL + 1, 0);    /* no interrupts */
    port_write8(PORT_SERIAL + 3, 0x80); /* divisor latch */
    port_write8(PORT_SERIAL + 0, 1);    /* 115200 baud */
    port_write8(PORT_SERIAL + 1, 0);
    port_write8(PORT_SERIAL + 3, 3);    /* 8 bits, no parity, one stop bit */
    port_write8(PORT_SERIAL + 2, 7);    /* FIFOs on and empty */
    port_write8(PORT_SERIAL + 4, 3);    /* DTR, RTS */
}

void
serial_put(char c)
{
    if (c == '\n') {
        serial_put('\r');
    }
    for (int patience = 100000; patience > 0 && !(port_read8(PORT_SERIAL + 5) & 0x20); patience--) {
    }
    port_write8(PORT_SERIAL, (uint8_t) c);
}

int
serial_get(void)
{
    return port_read8(PORT_SERIAL + 5) & 1 ? port_read8(PORT_SERIAL) : -1;
}

static void
print_number(uint32_t value, uint32_t base)
{
    char digits[12];
    int count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (count) {
        serial_put(digits[--count]);
    }
}

void
print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    for (; *format; format++) {
        if (*format != '%') {
            serial_put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            for (const char *text = va_arg(args, const char *); *text; text++) {
                serial_put(*text);
            }
            break;
        case 'u':
            print_number(va_arg(args, uint32_t), 10);
            break;
        case 'x':
            print_number(va_arg(args, uint32_t), 16);
            break;
        case 'c':
            serial_put((char) va_arg(args, int));
            break;
        case '\0':
            format--;
            break;
        default:
            serial_put(*format);
            break;
        }
    }
    va_end(args);
}
