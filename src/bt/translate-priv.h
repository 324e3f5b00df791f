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
    FLAGS_AGAIN, /* nowhere, but the instruction that made them can be done again: Tr.again */
} FlagsAt;

/* A GPR's value: a symbol, different for every unknown value, plus a constant. */
typedef struct TrValue {
    uint16_t symbol;
    int32_t delta;
} TrValue;

/* The last instruction that wrote all status flags, if nothing but registers goes into them. */
typedef enum AgainKind { AGAIN_NOT, AGAIN_TEST, AGAIN_CMP, AGAIN_ADD, AGAIN_SUB } AgainKind;
typedef struct TrAgain {
    AgainKind kind;
    uint8_t size;      /* 1, 4 or 8 bytes */
    int8_t reg, reg2;  /* guest registers; reg2 -1: imm */
    int32_t imm;
    TrValue value, value2; /* of the registers, after the instruction */
} TrAgain;

/* How the body of an access names its operand; see translate-mem.c. */
typedef enum TrForm {
    FORM_HOST,  /* [T0]: the host address */
    FORM_BASE,  /* [base + T0 + disp]: T0 is the page's addend */
    FORM_INDEX, /* [T0 + index * scale + disp]: T0 is the base's host address */
    FORM_CONST, /* [T0 + offset in the page]: T0 is the host page */
} TrForm;

/* A memory access whose slow path is still to be written, after the block's main line. */
typedef struct SlowPath {
    uint8_t *jump[2];  /* rel32 fields of jumps that lead here; jump[1]: from the segment check, with T0 = offset */
    uint8_t *resume_check; /* where a segment check that turned out well goes on */
    uint8_t *body, *body_end;
    uint32_t desc;
    int32_t tag_offset, host_offset; /* in the TLB of the class in force at the access */
    uint32_t map_template; /* index of the BtMap entry to repeat */
    bool guessed;          /* the check took the entry of an earlier access */
    bool again;            /* the flags are FLAGS_AGAIN */
    uint8_t insn;          /* index */
    TrAgain recipe;
    bool always;           /* no fast path: T0 is already the whole address */
    uint8_t form;          /* TrForm: what the body's operand is made of */
    uint64_t address;      /* FORM_CONST: the operand's */
    int8_t base, index;    /* host registers in the operand beside T0; -1: none */
    uint8_t scale;
    int32_t disp;
} SlowPath;

#define TR_NEAR_BASE 256 /* bytes: an operand that near its base is seldom on another page */

/* A set of accesses at constant distances from each other; see translate-group.c. */
#define TR_GROUPS_MAX 24
#define TR_LEADS_MAX  12
#define TR_NO_SEGMENT 0xffu
enum { TR_MEMBER_MEM, TR_MEMBER_STACK }; /* which access of an instruction */
typedef struct TrGroup {
    uint16_t base, index, epoch; /* symbols */
    uint8_t scale, segment;
    uint8_t left;     /* members not emitted yet */
    int64_t low, end; /* bytes touched, relative to the symbols */
} TrGroup;
#define TR_NO_SYMBOL 0xffffu
typedef struct TrMember {
    int8_t group; /* -1: none */
    uint16_t base; /* symbol of the base register, TR_NO_SYMBOL: absolute or unknown */
    bool is_indexed;
    uint8_t size;
    bool is_write;
    int64_t at;
} TrMember;
/* The check of a group, and what stands after the block for it. */
typedef struct TrLead {
    uint8_t *fail, *resume, *jump; /* jump: rel32 field of the edge */
    int32_t tag_offset, addend_offset;
    bool guessed; /* the entry was looked for by the base alone */
    uint16_t span;
    bool is_write, needs_write;
    uint64_t ip;
    uint32_t mode;
    bool again;     /* the flags are FLAGS_AGAIN */
    uint8_t insn;   /* index */
    TrAgain recipe;
} TrLead;

#define SIDE_EXITS_MAX 3 /* conditional branches that a block goes on behind */
#define EDGES_MAX (3 + SIDE_EXITS_MAX)
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
    bool has_values;
    unsigned i;       /* current */
    FlagsAt flags;
    TrAgain again;

    /* From here on not cleared for each block. */
    SlowPath slow[BLOCK_INSNS_MAX * 2 + 4];
    TrValue value[BLOCK_INSNS_MAX + 1][X86_NGPRS]; /* before instruction i; translate-group.c */
    unsigned nslow;
    SlowPath *open; /* access between its check and tr_access_end() */
    uint8_t mem_base;  /* operand of the access that has begun: [base + index * scale + disp], host registers; index -1: none */
    int8_t mem_index;
    uint8_t mem_scale;
    int32_t mem_disp;

    TrGroup group[TR_GROUPS_MAX];
    unsigned ngroups;
    TrMember member[BLOCK_INSNS_MAX][2];
    const TrMember *current; /* of the access being emitted; NULL: an access that is in no list */
    TrLead lead[TR_LEADS_MAX];
    unsigned nleads;
    int t2_group; /* the group whose address is in T2, -1: none */
    int64_t t2_low, t2_end; /* what of it was checked */
    bool t2_writable;
    uint16_t t1_symbol; /* T1 is the TLB entry of an access with this base, unless e.t1_lost; TR_NO_SYMBOL: of another */

    struct {
        uint8_t *jump; /* rel32 to the stub or, same page, what is patched */
        uint64_t target;
        bool flags_in_host, is_backward;
        uint16_t carries;     /* BtExit.carries */
        bool again;           /* FLAGS_AGAIN: two ways out, see tr_edges_finish() */
        uint32_t cell;        /* without a jump: the main line goes through this cell */
        uint8_t at;           /* registers are as before this instruction */
        TrAgain recipe;
    } edge[EDGES_MAX];
    unsigned nedges;
    uint8_t *indirect_miss; /* rel32 of the jump taken when the jump cache does not have a target; NULL: none */
    uint64_t indirect_site;
    uint8_t *call_refused; /* rel32 of the jump taken when a call's target, in scratch[1], is not canonical; NULL: none */
    bool refused_again;    /* the flags are FLAGS_AGAIN there */
    uint8_t *poll_jump, *host_poll_jump[2], *carry_poll_jump;
    bool ended; /* the main line has left the block */
} Tr;

static inline bool reg_is_spilled(unsigned guest) { return guest >= X86_R8 && guest <= X86_R11; }
static inline unsigned reg_host(unsigned guest) { return guest == X86_RSP ? H_GUEST_RSP : guest; }
static inline bool insn_is_jcc(const Insn *in) { return in->row && in->row->how == HOW_EMIT && in->row->tr == TR_JCC; }
static inline bool tr_is64(const Tr *t) { return t->mode & MODE_CODE64; }
static inline bool tr_is_flat(const Tr *t) { return t->mode & (MODE_CODE64 | MODE_FLAT); }

/* flags (translate-flags.c) */
void tr_flags_clobber(Tr *t);            /* before code that destroys the host's flags */
void tr_flags_clobber_at_end(Tr *t);     /* the same at the end of a block, where all are live */
void tr_flags_to_host(Tr *t);            /* make FLAGS_HOST or BOTH */
void tr_flags_to_slot(Tr *t);            /* make FLAGS_SLOT or BOTH */
bool tr_flags_before_emits(const Tr *t, const Insn *insn); /* whether tr_flags_before() will write code, once flags have been clobbered */
void tr_flags_before(Tr *t, const Insn *insn); /* what the native instruction needs */
void tr_flags_after(Tr *t, const Insn *insn);
void tr_flags_analyse(Tr *t);
/* tr_flags_again: emits code that makes the flags of @recipe in the host's, where the registers are as before instruction @at.  Clobbers T1. */
void tr_flags_again(Tr *t, const TrAgain *recipe, unsigned at);

/* memory (translate-mem.c) */
void tr_address_to(Tr *t, const Insn *insn, unsigned to); /* @to, T0 or T2 = effective address, before segmentation; clobbers T1 */
static inline void tr_address(Tr *t, const Insn *insn) { tr_address_to(t, insn, H_T0); }
void tr_tlb_index(Tr *t, unsigned address); /* T1 = offset of the TLB entry for the register @address; clobbers flags */
#define TLB_OFF(t, field) ((int32_t)(offsetof(BtCpu, mmu) + offsetof(Mmu, tlb) + \
                                     (t)->index * sizeof(TlbEntry) * TLB_SIZE + offsetof(TlbEntry, field)))
/* tr_mem_begin: the check of @insn's ModRM operand, alone or by its group; mem_base, mem_index, mem_scale and mem_disp say where it then is.
 * @guests_stay: until the operand has been accessed no guest register changes and no flags are made, so that it may be made of guest registers. */
void tr_mem_begin(Tr *t, const Insn *insn, unsigned size, uint32_t access, bool guests_stay);
void tr_access_begin(Tr *t, unsigned segment, unsigned size, uint32_t access, bool is_stack);
void tr_access_map(Tr *t, const Insn *insn); /* the body begins: a fault in it, here or on the slow path, is @insn's */
void tr_access_end(Tr *t);
void tr_slow_paths(Tr *t);

/* groups of accesses (translate-group.c) */
void tr_groups_find(Tr *t);
/* tr_group_begin: true when the access is a group's: mem_base and mem_disp are set, and neither check nor address is needed.
 * Called once for each access that tr_groups_find() counted, in order. */
bool tr_group_begin(Tr *t, const Insn *insn, unsigned which);
void tr_leads_finish(Tr *t);

/* map */
void tr_map(Tr *t, const Insn *insn, bool flags_in_host);

/* leaving (translate-edge.c) */
void tr_edge(Tr *t, uint64_t target_rip, int cc); /* direct edge; cc < 0: always */
void tr_indirect(Tr *t);                          /* to the RIP in T0 */
void tr_exec(Tr *t, const Insn *insn, void (*fn)(BtCpu *, const Insn *), bool ends);
void tr_edges_finish(Tr *t);
void tr_indirect_finish(Tr *t);                   /* the rest of tr_indirect(), away from the main line */

bool tr_emit(Tr *t, const Insn *insn); /* HOW_EMIT rows */
void tr_same(Tr *t, const Insn *insn); /* HOW_SAME rows (translate-same.c) */
uint64_t tr_next_rip(const Tr *t, const Insn *insn);
