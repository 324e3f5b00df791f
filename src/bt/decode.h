/*
 * Bytes to Insn, driven by the rows of insn-table.def.  Pure: no memory but its arguments and the row index built once.
 *
 * Capstone is not used here: at 0.26 µs an instruction it would be a quarter of translation time, and its operand lists lack what a row must say
 * anyway.  It is the second opinion in the tests (test-decode.c) and the printer in dump.c.
 */
#pragma once

#include "bt/insn.h"

typedef enum InsnDecode {
    INSN_OK,        /* row set, length final */
    INSN_UNDEFINED, /* no row, or a row that is invalid with these prefixes or in this mode: #UD; length is that of the bytes looked at */
    INSN_TOO_LONG,  /* more than 15 bytes: #GP(0) */
    INSN_TRUNCATED, /* @nbytes ended first: give more bytes (the next page) */
} InsnDecode;

/**
 * insn_decode:
 * @bytes: @nbytes of guest code; 15 always suffice
 * @code_size: 2, 4 or 8 for a 16-, 32- or 64-bit code segment
 * @ip: RIP of the first byte     @cs_base: base of CS (0 in 64-bit code)
 *
 * Checks prefixes, LOCK and 64-bit validity; privilege and CR bits are the translator's business.
 * Thread: any, after insn_decode_init().  Source: SDM 2A chapter 2.
 */
InsnDecode insn_decode(Insn *out, const uint8_t *bytes, unsigned nbytes, unsigned code_size, uint64_t ip,
                       uint64_t cs_base);

/* insn_decode_init: builds the index from opcodes to rows.  Idempotent; call before any thread decodes. */
void insn_decode_init(void);
