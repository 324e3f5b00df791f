/* Shared by the verify*.c files only: what is known of the registers, and the state of one verification. */
#pragma once

#include <glib.h>

#include "bt/decode.h"
#include "bt/insn-table.h"
#include "bt/translate.h"
#include "bt/verify.h"

/* What is known of a register. */
typedef enum Kind {
    KIND_ANY,
    KIND_CONST,      /* number */
    KIND_TLB,        /* offset of some TLB entry in its array */
    KIND_JUMP_MASK,  /* number of a jump cache entry */
    KIND_JUMP,       /* offset of one */
    KIND_BITS,       /* less than number */
    KIND_DIFFERENCE, /* address minus a tag of the entry in T1; number: the class, is_write: which tag */
    KIND_OFFSET,     /* so, and in the page with @room bytes behind it */
    KIND_HOST,       /* plus @disp: host address of @room bytes, may be written when is_write */
    KIND_MAYBE_HOST, /* or zero */
    KIND_COPY,       /* of another value */
    KIND_PAGE,       /* a page whose tag is in the known entry @number; is_write: which tag */
    /* By an address made of registers of the guest, base + index * scale + disp, while these do not change: */
    KIND_ADDRESS,    /* the address */
    KIND_ADDEND,     /* plus the address, as KIND_HOST */
    KIND_BASE,       /* plus index * scale + disp, as KIND_HOST */
    KIND_NEGATIVE,   /* index * scale + disp minus a KIND_BASE */
} Kind;
typedef struct Value {
    uint64_t number;
    uint32_t room;
    int32_t disp;
    uint8_t kind;
    bool is_write;
    uint8_t base, index; /* 1 + host register, 0: none; also of the address that a difference or an offset is of */
    uint8_t scale;
    uint8_t copied; /* KIND_COPY, and differences and offsets of one: 1 + the value that it is a copy of, which has not changed */
    uint8_t unused[2];
} Value;

enum { T0, T1, T2, SLOT, NVALUES }; /* SLOT: cpu->scratch[2] */
typedef struct State {
    Value value[NVALUES];
    int8_t compared; /* the register that the instruction before has compared, -1: none */
    uint32_t limit;  /* with this */
    uint32_t entry;  /* or with a tag of this entry of the TLB: its offset there */
    bool is_reached;
} State;

typedef struct Verify {
    const Bt *bt;
    const VerifyCode *code;
    uint32_t *insn_at;  /* by byte, place_of(): 1 + number of the instruction that begins there */
    Insn *insns;
    State *states;      /* before each instruction */
    unsigned ninsns;
    uint8_t *is_queued;
    unsigned *queue, nqueue;
    const char *error;
    unsigned error_at;
} Verify;

static inline bool verify_fail(Verify *v, const char *what)
{
    if (!v->error)
        v->error = what;
    return false;
}

static inline int verify_scratch(unsigned reg) { return reg == H_T0 ? T0 : reg == H_T1 ? T1 : reg == H_T2 ? T2 : -1; }
static inline bool row_is(const Insn *in, const char *name) { return strcmp(in->row->name, name) == 0; }
static inline bool is_emit(const Insn *in, InsnTr tr) { return in->row->how == HOW_EMIT && in->row->tr == (int)tr; }

/* values (verify-value.c) */
int verify_operand_gpr(const Insn *in, unsigned k); /* the host GPR that operand @k names, or -1 */
void verify_kill(State *s, int n);                  /* nothing is known of value @n any more */
void verify_set(State *s, int n, Value value);
void verify_forget_guests(State *s);                /* registers of the guest may have changed */
void verify_apply(const Insn *in, State *s);        /* what @in, no branch, leaves in the registers that are followed */

/* operands (verify-operand.c): true, or false with v->error */
bool verify_memory(Verify *v, const Insn *in, const State *s);
bool verify_allowed(Verify *v, const Insn *in);
