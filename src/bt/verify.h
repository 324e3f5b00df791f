/*
 * The verifier: proves of a block's host code, decoded again, that it stays inside what it was given.  `-d verify` has every new block looked at.
 *
 * Accepted is code in which
 *   - each memory operand is a field of the vCPU block (GS, constant offset; stores only to the fields that translated code owns), or an
 *     entry of the software TLB of a privilege class that the block's mode allows or of the jump cache, by an index that was masked, or
 *     [T0 + disp] or [T2 + disp] within the bytes that a check of that register on the way there, or a slow path, made safe, or the block's cell;
 *     T0 with a register of the guest beside it, when that check was of the address made of this register, which has not changed since;
 *   - each branch goes to an instruction of the block or to a stub, with the stub's arguments in place; nothing falls out of the end;
 *   - host RSP, GS and segment registers are never named, and no instruction is one that C must carry out (system calls, ports, strings, …).
 *
 * It follows T0, T1, T2 and the slot of bit offsets through all paths of the block.  It trusts the decoder's idea of operand sizes, which
 * test-decode.c compares with Capstone's, the stubs, and the C code behind them.
 */
#pragma once

#include "bt/cache.h"

/* What is looked at; offsets in the cache. */
typedef struct VerifyCode {
    uint32_t start, size;
    uint32_t cold_start, cold_size; /* the part that stands elsewhere */
    uint32_t entry[3];           /* where it is entered */
    uint32_t carry_entry[2];     /* where, with the offset of a TLB entry in T1 */
    unsigned ncarry_entries;
    uint32_t mode;               /* MODE_* */
    uint32_t exit_first, exit_end; /* edges and BtExecs that are its own */
    uint32_t exec_first, exec_end;
} VerifyCode;

/* verify_code: NULL, or what is wrong and where, one sentence; (transfer full).  Thread: the vCPU's own; the code may not be linked yet. */
char *verify_code(const Bt *bt, const VerifyCode *code);
/* verify_block: the block made last; ends the process with a listing when the code is wrong: that is our mistake, whatever the guest did. */
void verify_block(Bt *bt, const BtBlock *block, uint32_t exit_first, uint32_t exec_first);
/* verify_summary: the number of blocks looked at, for the end of the log. */
void verify_summary(const Bt *bt);
