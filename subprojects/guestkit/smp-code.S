/*
 * How the other processors come from a start-up IPI to smp_cpu(): the code between smp_start and smp_start_end is copied to 0x8000 by smp.c
 * and begins in real mode with CS 0x800.
 */
    .section .rodata
    .globl smp_start, smp_start_end
    .code16
smp_start:
    cli
    movw %cs, %ax
    movw %ax, %ds
    lgdtl smp_gdt_pointer - smp_start
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $smp_protected
    .align 4
smp_gdt_pointer:
    .word 0x2f
    .long guest_gdt
smp_start_end:

    .text
    .code32
smp_protected:
    movl $0x10, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %fs
    movl %ecx, %gs
    movl %ecx, %ss
    movl $1, %eax
    lock xaddl %eax, smp_started
    incl %eax                       /* 1 is the first that comes here */
    movl %eax, %esp
    incl %esp
    shll $12, %esp
    addl $smp_stacks, %esp
    pushl %eax
    call smp_cpu
1:  hlt
    jmp 1b
