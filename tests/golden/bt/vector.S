#include "golden.inc"
/* SSE and AVX, aligned and not. */
GOLDEN vector, 64
    movaps xmm0, [rbx]
    movups [rbx + 16], xmm1
    vmovdqu ymm2, [rsi]
    vpaddd ymm3, ymm2, [rsi + 32]
    movq rax, xmm3
    addsd xmm4, [rbx + 8]
    hlt
GOLDEN_END vector
