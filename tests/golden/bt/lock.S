#include "golden.inc"
/* LOCK: CMPXCHG, XADD, CMPXCHG16B. */
GOLDEN lock, 64
    lock cmpxchg [rdi], ecx
    jne 1f
    lock xadd [rdi + 8], r13
1: lock cmpxchg16b [rsi]
    hlt
GOLDEN_END lock
