/* Shared by the translate-*.c files only: the state of one translation. */
#pragma once

#include "bt/decode.h"
#include "bt/exec.h"
#include "bt/insn-table.h"
#include "bt/translate.h"

/* Where the guest's status flags are at a point of the host code. */
typedef enum FlagsAt {
    FLAGS_HOST, /* in the host's RFLAGS only */
    FLAGS_SLOT, /* in status_of/status_ah only */
    FLAGS_BOTH,
    FLAGS_NONE, /* nowhere: proven dead */
} FlagsAt;

/* A memory access whose slow path is still to be written, after the block's main line. */
typedef struct SlowPath {
    uint8_t *jump[2];  /* rel32 fields of jumps that lead here; jump[1]: from the segment check, with T0 = offset */
    uint8_t *resume_check; /* where a segment check that turned out well goes on */
    uint8_t *body, *body_end;
    uint32_t desc;
    int32_t tag_offset;
    uint32_t map_template; /* index of the BtMap entry to repeat */
    bool always;           /* no fast path: T0 is already the whole address */
} SlowPath;

#define EDGES_MAX 3
typedef struct Tr {
    Emit e;
    Bt *bt;
    BtCpu *cpu;
    BtBlock *block;
    uint32_t mode;
    MmuIndex index;
    unsigned word; /* bytes of a full GPR operation: 8 in 64-bit code, else 4 */

    Insn *insns;
    unsigned ninsns;
    uint16_t live_out[BLOCK_INSNS_MAX + 1]; /* status flags needed after instruction i */
    uint16_t live_in[BLOCK_INSNS_MAX + 1];
    unsigned i;       /* current */
    FlagsAt flags;

    SlowPath slow[BLOCK_INSNS_MAX * 2 + 4];
    unsigned nslow;
    SlowPath *open; /* access between its check and tr_access_end() */

    struct {
        uint8_t *jump; /* rel32 to the stub or, same page, what is patched */
        uint64_t target;
        bool flags_in_host, is_backward;
    } edge[EDGES_MAX];
    unsigned nedges;
    uint8_t *poll_jump, *host_poll_jump;
    bool ended; /* the main line has left the block */
} Tr;

static inline bool reg_is_spilled(unsigned guest) { return guest >= 13; }
static inline unsigned reg_host(unsigned guest) { return guest == X86_RSP ? H_GUEST_RSP : guest; }
static inline bool tr_is64(const Tr *t) { return t->mode & MODE_CODE64; }
static inline bool tr_is_flat(const Tr *t) { return t->mode & (MODE_CODE64 | MODE_FLAT); }

/* flags (translate-flags.c) */
void tr_flags_clobber(Tr *t);            /* before code that destroys the host's flags */
void tr_flags_to_host(Tr *t);            /* make FLAGS_HOST or BOTH */
void tr_flags_to_slot(Tr *t);            /* make FLAGS_SLOT or BOTH */
void tr_flags_before(Tr *t, const Insn *insn); /* what the native instruction needs */
void tr_flags_after(Tr *t, const Insn *insn);
void tr_flags_analyse(Tr *t);

/* memory (translate-mem.c) */
void tr_address(Tr *t, const Insn *insn); /* T0 = effective address, before segmentation; clobbers T1 */
void tr_access_begin(Tr *t, unsigned segment, unsigned size, uint32_t access, bool is_stack);
void tr_access_map(Tr *t, const Insn *insn); /* the body begins: a fault in it, here or on the slow path, is @insn's */
void tr_access_end(Tr *t);
void tr_slow_paths(Tr *t);

/* map */
void tr_map(Tr *t, const Insn *insn, bool flags_in_host);

/* leaving (translate-flow.c) */
void tr_edge(Tr *t, uint64_t target_rip, int cc); /* direct edge; cc < 0: always */
void tr_indirect(Tr *t);                          /* to the RIP in T0 */
void tr_exec(Tr *t, const Insn *insn, void (*fn)(BtCpu *, const Insn *), bool ends);
void tr_edges_finish(Tr *t);

bool tr_emit(Tr *t, const Insn *insn); /* HOW_EMIT rows */
void tr_same(Tr *t, const Insn *insn); /* HOW_SAME rows (translate-same.c) */
uint64_t tr_next_rip(const Tr *t, const Insn *insn);
