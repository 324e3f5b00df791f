#include "golden.inc"
/* The supervisor's access to user pages. */
GOLDEN stac-clac, 64
    stac
    mov rax, [rbx]
    clac
    mov rdx, [rbx]
    hlt
GOLDEN_END stac-clac
