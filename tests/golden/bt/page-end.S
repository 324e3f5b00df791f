#include "golden.inc"
/* A block that ends with its page. */
GOLDEN page-end, 64, 0xff4
    mov eax, 1
    add eax, ecx
    mov edx, 2
    mov esi, 3
    hlt
GOLDEN_END page-end
