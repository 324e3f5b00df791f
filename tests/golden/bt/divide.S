#include "golden.inc"
/* DIV may fault in translated code. */
GOLDEN divide, 64
    xor edx, edx
    div ecx
    div qword ptr [rbx]
    idiv r13
    hlt
GOLDEN_END divide
