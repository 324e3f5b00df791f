/* Undefined instructions reach the guest as #UD with the right EIP, and the guest goes on. */
#include "guest.h"

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    serial_open();
    trap_open();
    for (int i = 0; i < 1000; i++) {
        __asm__ volatile("pushl $1f\n\t"
                         "pushl $6\n\t"
                         "call trap_skip\n\t"
                         "addl $8, %%esp\n\t"
                         "ud2\n\t"
                         "1:" : : : "eax", "ecx", "edx", "memory", "cc");
    }
    __asm__ volatile("pushl $1f\n\t"
                     "pushl $6\n\t"
                     "call trap_skip\n\t"
                     "addl $8, %%esp\n\t"
                     ".byte 0x0f, 0x04\n\t" /* never defined */
                     "1:" : : : "eax", "ecx", "edx", "memory", "cc");
    print("undefined instructions seen: %u\n", trap_counts[6]);
    return trap_counts[6] == 1001 ? 0 : 1;
}
