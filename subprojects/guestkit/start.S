/*
 * Entry of every guest: multiboot 1 hands over in flat 32-bit protected mode without paging. Loads a GDT of our own
 * (the loader's need not be in memory any more) and calls guest_main(). Selectors are in guest.h.
 */
    .section .multiboot, "a"
    .align 4
    .long 0x1BADB002, 0x00000003, -(0x1BADB002 + 0x00000003)

    .text
    .globl guest_entry
guest_entry:
    cli
    cld
    movl $guest_stack_top, %esp
    lgdt guest_gdt_pointer
    ljmp $0x08, $1f
1:
    movl $0x10, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %fs
    movl %ecx, %gs
    movl %ecx, %ss
    pushl %ebx
    pushl %eax
    call guest_main
    movl %eax, guest_result
    pushl %eax
    call guest_exit

    .data
    .align 8
    .globl guest_gdt, guest_gdt_pointer
guest_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        /* 0x08 code32 */
    .quad 0x00cf93000000ffff        /* 0x10 data32 */
    .quad 0x00af9b000000ffff        /* 0x18 code64 */
    .quad 0x00009b000000ffff        /* 0x20 code16, base 0 */
    .quad 0x000093000000ffff        /* 0x28 data16, base 0 */
guest_gdt_end:
guest_gdt_pointer:
    .word guest_gdt_end - guest_gdt - 1
    .long guest_gdt
    .globl guest_result
guest_result:
    .long 0

    .bss
    .align 16
    .skip 16384
guest_stack_top:
