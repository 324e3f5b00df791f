#include "golden.inc"
/* String instructions are calls. */
GOLDEN string, 64
    cld
    rep movsb
    stosq
    repne scasb
    sete al
    hlt
GOLDEN_END string
