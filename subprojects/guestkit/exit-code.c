/* Ends with isa-debug-exit value 0x15: the monitor's exit status must be 43. */
#include "guest.h"

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    return 0x15;
}
