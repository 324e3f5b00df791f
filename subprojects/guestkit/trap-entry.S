/*
 * Vectors 0–47. Each stub leaves (vector, error code) on the stack, the error code 0 where the CPU pushes none, and
 * calls trap_enter(vector, error, &eip).
 */
    .altmacro
    .text
    .macro stub vector
trap_stub_\vector:
    .if (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21)
    .else
    pushl $0
    .endif
    pushl $\vector
    jmp trap_common
    .endm
    .set number, 0
    .rept 48
    stub %number
    .set number, number + 1
    .endr

trap_common:
    pushal
    pushl %ds                       /* a fault out of virtual-8086 mode or ring 3 brings segments we cannot use */
    pushl %es
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    cld
    leal 48(%esp), %eax             /* &eip */
    pushl %eax
    pushl 48(%esp)                  /* error code */
    pushl 48(%esp)                  /* vector */
    call trap_enter
    addl $12, %esp
    popl %es
    popl %ds
    popal
    addl $8, %esp
    iretl

    .macro address vector
    .long trap_stub_\vector
    .endm
    .section .rodata
    .align 4
    .globl trap_stubs
trap_stubs:
    .set number, 0
    .rept 48
    address %number
    .set number, number + 1
    .endr
