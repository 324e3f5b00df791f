/*
 * long_mode_run(cr3): turns on PAE, long mode and paging, runs 64-bit code, then code in a compatibility segment, and
 * goes back to 32-bit protected mode without paging. Results in long_mode_results.
 */
    .text
    .code32
    .globl long_mode_run
long_mode_run:
    pushal
    movl 36(%esp), %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x620, %eax                /* PAE, OSFXSR, OSXMMEXCPT */
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
    movl %eax, long_mode_results + 24
    andl $0xfffffeff, %eax
    wrmsr
    popal
    ret

    .code64
long_code:
    leaq long_mode_results(%rip), %rdi
    movabsq $0x0123456789abcdef, %rax
    movq %rax, %r8
    mulq %r8
    addq %rdx, %rax
    movq %rax, (%rdi)               /* result 0: low + high half of the square */

    movl $-1, %r9d                  /* result 1: a 32-bit write clears the upper half; 64-bit rotate */
    movabsq $0x8000000000000001, %r10
    rolq $4, %r10
    addq %r9, %r10
    movq %r10, 8(%rdi)

    movabsq $0xffff800000000000, %rbx   /* result 2: the alias of low memory in the upper half */
    leaq long_mode_results(%rip), %rcx
    movq (%rbx,%rcx), %rdx
    movq %rdx, 16(%rdi)

    cvtsi2sdq %r9, %xmm9            /* result 4: SSE2 in registers that only long mode has */
    mulsd %xmm9, %xmm9
    movsd %xmm9, 32(%rdi)

    leaq 1f(%rip), %rax             /* result 5: compatibility mode by far return, eax wraps at 32 bits */
    pushq $0x08
    pushq %rax
    lretq
    .code32
1:
    movl $0xffffffff, %eax
    incl %eax
    adcl $5, %eax
    movl %eax, long_mode_results + 40
    jmp back

    .data
    .align 8
    .globl long_mode_results
long_mode_results:
    .skip 48
