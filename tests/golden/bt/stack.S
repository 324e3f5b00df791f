#include "golden.inc"
/* The stack: PUSH, POP, CALL, RET. */
GOLDEN stack, 64
    push rax
    push r14
    push -2
    pop rcx
    pop rsp
    call 1f
    hlt
1: leave
    ret 16
GOLDEN_END stack
