/* Prints one line and ends with status (0 << 1) | 1 by isa-debug-exit, or by power-off without that device. */
#include "guest.h"

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    serial_open();
    print("hello from the guest, multiboot magic %x\n", magic);
    return 0;
}
