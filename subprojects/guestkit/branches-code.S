/*
 * branches_run(cr3): in 64-bit code, a jump, a call and a return to a non-canonical address. Each is #GP at the branch, with
 * RSP as before it; the differences to that go to branches_results. Comes back in 32-bit protected mode without paging.
 */
    .text
    .code32
    .globl branches_run
branches_run:
    pushal
    movl 36(%esp), %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax                 /* PAE */
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax                /* LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmp $0x18, $long_code

back:
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $0xfffffeff, %eax
    wrmsr
    popal
    ret

    .code64
/* Where the fault was (rax) minus the branch at 1, plus RSP there (rbx) minus that of before (r12). */
    .macro note at
    leaq 1b(%rip), %rcx
    subq %rcx, %rax
    subq %r12, %rbx
    addq %rbx, %rax
    movq %rax, \at(%rdi)
    .endm

long_code:
    leaq branches_results(%rip), %rdi
    leaq gp_handler(%rip), %rax
    leaq idt(%rip), %rcx
    movw %ax, 13 * 16(%rcx)
    movl $0x8e000018, 13 * 16 + 2(%rcx) /* 64-bit code; present interrupt gate, no IST */
    shrq $16, %rax
    movw %ax, 13 * 16 + 6(%rcx)
    shrq $16, %rax
    movl %eax, 13 * 16 + 8(%rcx)
    lidt idt_pointer(%rip)
    movabsq $0xaaaaaaaaaaaaaaaa, %r11

    movq %rsp, %r12
    leaq 2f(%rip), %r10
1:  jmpq *%r11
2:  note 0

    leaq 2f(%rip), %r10
1:  callq *%r11
2:  note 8

    pushq %r11
    movq %rsp, %r12
    leaq 2f(%rip), %r10
1:  ret $16
2:  note 16
    popq %r11

    leaq 1f(%rip), %rax
    pushq $0x08
    pushq %rax
    lretq
    .code32
1:  jmp back

    .code64
gp_handler:                         /* rax = RIP of the fault, rbx = RSP there; goes on at r10 */
    movq 8(%rsp), %rax
    movq 32(%rsp), %rbx
    movq %r10, 8(%rsp)
    addq $8, %rsp
    iretq

    .data
    .align 16
idt:
    .skip 32 * 16
idt_pointer:
    .word 32 * 16 - 1
    .long idt, 0
    .align 8
    .globl branches_results
branches_results:
    .skip 24, 0xff
