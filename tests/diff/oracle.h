/*
 * The native oracle: random instructions run on the bare host CPU and in the translator, and must leave the same registers, flags, vector state and
 * memory.
 *
 * Three processes share one mapping: the parent generates cases and compares; the native child executes them under signal handlers;
 * the guest child executes them in a BtCpu with the same linear addresses.  A case is a few instructions that end in INT3; the
 * state in which it stops (INT3 or any exception) is the result.
 *
 * 32-bit code needs no 32-bit code segment on the host: it is compared with its equivalent in 64-bit code, which is the same bytes
 * behind an address-size prefix where the guest's have a DS prefix.  Rows without such an equivalent take no part.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bt/insn-table.h"

#undef M_E /* <math.h> has its own */

#define WINDOW        0x10000000u /* data: 8 pages */
#define WINDOW_PAGES  8u
#define WINDOW_RO     4u /* page that cannot be written */
#define WINDOW_HOLE   5u /* page that is not there */
#define WINDOW_SIZE   (WINDOW_PAGES * 4096u)
#define CODE          0x20000000u /* 64 pages, INT3 where there is no case; not writable */
#define CODE_SIZE     0x40000u
#define CODE_CASES    0x10000u /* offset of the first case */
#define CASE_STRIDE   512u
#define ORACLE_GS     0x2000u /* base of GS on both sides */
#define BATCH         256u
#define CASE_INSNS    10u

typedef struct OracleState {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    uint8_t fx[512];   /* FXSAVE layout */
    uint8_t ymm_high[256];
    /* AVX-512, where the host has it: components 5 to 7 of XSAVE. */
    uint64_t mask[8];
    uint8_t zmm_high[512], zmm[1024];
    uint64_t components; /* before a case: XSTATE_BV; what is not in it is in its initial state */
} OracleState;

typedef struct Plant { uint32_t address; uint64_t value; } Plant; /* eight bytes of the window set before the case */

typedef struct Case {
    OracleState in;
    uint32_t seed;
    uint32_t code_size; /* of the guest: 8 or 4 */
    uint8_t code[CASE_INSNS * 16 + 1];        /* guest */
    uint8_t native_code[CASE_INSNS * 16 + 1]; /* as long */
    uint32_t ncode, ninsns;
    uint8_t insn_at[CASE_INSNS + 1];
    uint16_t row[CASE_INSNS];
    uint8_t jump_to[CASE_INSNS]; /* instruction a short jump leads to, counted from 1; 0: no jump inside the case */
    uint16_t undefined; /* status flags nobody may look at */
    uint32_t nplants;
    Plant plant[10];
} Case;

/* oracle_xsave: where component @i of the standard XSAVE format is, 0 when the host does not have it. */
unsigned oracle_xsave(unsigned i);

#define VECTOR_NOT_RUN 0xffu /* no result */
#define VECTOR_EXIT    0xfeu /* the engine left for another reason; error holds CpuExitKind */

typedef struct Result {
    OracleState out;
    uint32_t vector, error;
    uint64_t cr2; /* #PF */
    uint8_t window[WINDOW_SIZE];
} Result;

typedef struct Shared {
    volatile uint32_t ncases;
    volatile uint32_t at; /* case being run */
    uint8_t template[WINDOW_SIZE]; /* the window's contents before each case */
    uint8_t code[CODE_SIZE], native_code[CODE_SIZE];
    Case cases[BATCH];
    Result native[BATCH], guest[BATCH];
} Shared;

/* generate.c */
typedef struct Rng { uint64_t s; } Rng;
uint64_t rng_next(Rng *rng);
static inline unsigned rng_below(Rng *rng, unsigned n) { return (unsigned)((rng_next(rng) >> 11) % n); }
void generate_template(Rng *rng, uint8_t *window);
/* generate_skip_reason: why a row takes no part in code of this size, NULL when it does. */
const char *generate_skip_reason(const InsnRow *row, unsigned code_size);
/* generate_case: @rows are the indexes to choose from; the case will stand at @rip. */
void generate_case(Rng *rng, Case *c, uint64_t rip, const uint16_t *rows, unsigned nrows, unsigned ninsns,
                   unsigned code_size);
static inline uint64_t case_rip(unsigned i) { return CODE + CODE_CASES + 256u + (uint64_t)i * CASE_STRIDE; }

/* native.c, guest.c: run shared->cases[shared->at … ncases), in a child process. */
void native_init(Shared *shared);
void native_run(Shared *shared);
void guest_init(Shared *shared);
void guest_run(Shared *shared);
/* guest_listing: translated code of the last case run, in this process. */
void guest_dump(Shared *shared);
