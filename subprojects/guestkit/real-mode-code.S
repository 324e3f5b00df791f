/*
 * real_mode_run(): leaves protected mode, runs 16-bit code at 0x8000, comes back. The code is copied there by
 * real-mode.c, from real_mode_code to real_mode_code_end; results stand at 0x7000.
 */
    .text
    .code32
    .globl real_mode_run
real_mode_run:
    pushal
    sidt saved_idt
    movl %esp, saved_esp
    lidt real_idt
    ljmp $0x20, $0x8000             /* code16, base 0 */

    .globl real_mode_return
real_mode_return:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl saved_esp, %esp
    lidt saved_idt
    popal
    ret

    .section .rodata
    .globl real_mode_code, real_mode_code_end
    .code16
#define HERE(label) (0x8000 + label - real_mode_code)
real_mode_code:
    movw $0x28, %ax                 /* 64 KiB limits before leaving */
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movl %cr0, %eax
    andl $0xfffffffe, %eax
    movl %eax, %cr0
    ljmp $0, $HERE(1f)
1:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x6ff0, %sp

    /* result 0: a software interrupt through the vector table, flags and return address on a 16-bit stack */
    movw $HERE(handler), 4 * 0x60
    movw $0, 4 * 0x60 + 2
    movw $0x1111, %ax
    int $0x60
    movw %ax, 0x7000

    /* result 1: segment arithmetic, 0x1234:0x0010 is linear 0x12350 */
    movw $0x1234, %ax
    movw %ax, %es
    movw $0xbeef, %es:0x10
    movw $0x1235, %ax
    movw %ax, %fs
    movw %fs:0, %ax
    movw %ax, 0x7002

    /* result 2: 16-bit wrap of an address, [bx + si] with bx = 0xfff0, si = 0x7014 is 0x7004 */
    movw $0xfff0, %bx
    movw $0x7014, %si
    movw $0xcafe, (%bx,%si)

    /* result 3: loop and a far call */
    xorw %dx, %dx
    movw $200, %cx
2:  lcall $0x0800, $far_add - real_mode_code    /* 0x0800:offset is the same place */
    loop 2b
    movw %dx, 0x7006

    /* result 4: string move with a direction, es:di and ds:si */
    movw $0x7000, %si
    movw $0x7100, %di
    xorw %ax, %ax
    movw %ax, %es
    movw $4, %cx
    rep movsw
    movw 0x7106, %ax
    movw %ax, 0x7008

    /* result 5: divide error through the vector table; the handler steps over the two-byte div */
    movw $HERE(divide), 0
    movw $0, 2
    movw $0, 0x700a
    xorw %bx, %bx
    movw $1, %ax
    xorw %dx, %dx
    divw %bx

    /* result 6: bcd, pushf, xlat */
    movw $0x0905, %ax
    addb $0x09, %al
    aaa
    movw %ax, 0x700c

    lgdtl HERE(gdt_again)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $real_mode_return

handler:
    addw $0x2222, %ax
    iret
divide:
    incw 0x700a
    movw %sp, %bp
    addw $2, (%bp)
    iret
far_add:
    addw $3, %dx
    lret
gdt_again:
    .word 47
    .long guest_gdt
real_mode_code_end:

    .data
saved_esp:
    .long 0
saved_idt:
    .quad 0
real_idt:
    .word 0x3ff
    .long 0
