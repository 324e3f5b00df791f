/* An empty IDT and an undefined instruction: #UD, #DF, shutdown. */
#include "guest.h"

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } pointer = {0, 0};
    serial_open();
    print("triple fault next\n");
    __asm__ volatile("lidt %0; ud2" : : "m"(pointer));
    return 0;
}
