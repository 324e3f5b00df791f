/*
 * BtCpu: the vCPU block of the translator.  Translated code reaches it through GS; exec functions and the dispatcher through a pointer.
 *
 * In translated code the guest's GPRs are in host registers.  In C, they are in gpr[], RFLAGS' status bits in status_of/status_ah, and
 * the vector and x87 registers are still live in the host's registers (fpu_live), which is why src/bt/exec-*.c and src/softmmu are
 * compiled with -mgeneral-regs-only and call no libc.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bt/insn.h"
#include "core/cpu.h"
#include "softmmu/mmu.h"
#include "x86/state.h"

/* What a translation depends on besides its bytes and address.  BtCpu.mode holds the current value. */
#define MODE_CODE64   0x001u /* CS.L in long mode */
#define MODE_CODE32   0x002u /* CS.D; neither: 16-bit code */
#define MODE_STACK32  0x004u /* SS.B (64-bit code: always 64-bit stack) */
#define MODE_USER     0x008u /* CPL 3 */
#define MODE_CPL0     0x010u /* CPL 0 */
#define MODE_AC       0x020u /* CPL < 3 and EFLAGS.AC: class MMU_KERNEL_AC */
#define MODE_FLAT     0x040u /* CS, DS, ES, SS have base 0 and limit 4 GiB - 1, and are usable and writable where data */
#define MODE_TF       0x080u /* single step: one instruction a block */
#define MODE_NO_FPU   0x100u /* CR0.EM or CR0.TS: x87/MMX/SSE go through ex_fpu_check */
#define MODE_NO_SSE   0x200u /* CR4.OSFXSR = 0 */
#define MODE_NO_AVX   0x400u /* CR4.OSXSAVE = 0 or XCR0[2:1] != 3 */
#define MODE_PM       0x800u /* protected mode, not virtual-8086 */
#define MODE_V86      0x1000u
#define MODE_ALIGN    0x2000u /* CPL 3, CR0.AM and EFLAGS.AC: #AC checks */
#define MODE_NO_AVX512 0x4000u /* XCR0[7:5] != 7 */
#define MODE_DEBUG    0x8000u /* DR7 enables breakpoints: one instruction a block, accesses take the slow path */

#define JUMP_CACHE_BITS 15
#define JUMP_CACHE_SIZE (1u << JUMP_CACHE_BITS)
typedef struct JumpCacheEntry {
    uint64_t key; /* jump_cache_key() of the RIP; jump_cache_empty() of its slot when empty */
    void *host;   /* where to go on in the code cache */
} JumpCacheEntry;

/* jump_cache_key: what stands for @rip, by whether the block there wants the status flags in the slot when it is entered. */
#define JUMP_CACHE_FLAGS_BIT 62
static inline uint64_t jump_cache_key(uint64_t rip, bool flags_live_in)
{
    return rip ^ (uint64_t)flags_live_in << JUMP_CACHE_FLAGS_BIT;
}
/* jump_cache_rip: the RIP of a key: canonical addresses have bits 63 and 62 alike. */
static inline uint64_t jump_cache_rip(uint64_t key) { return jump_cache_key(key, (key ^ key << 1) >> 63); }

/* jump_cache_empty: a RIP that belongs to another slot than @i, so that no branch target matches it. */
static inline uint64_t jump_cache_empty(unsigned i) { return ~(uint64_t)i; }

typedef struct BtException {
    uint8_t vector;
    bool has_code;
    uint32_t code;
    uint64_t cr2; /* #PF only */
} BtException;

#define BT_KICK         1u /* run() is to return */
#define BT_KICK_FOREIGN 2u /* there are writes by others: bt/foreign.h */

#define BT_FOREIGN_RANGES 32
typedef struct BtForeignRange {
    Gpa start;
    uint64_t size;
} BtForeignRange;
typedef struct BtForeign {
    RamListener listener;
    GMutex lock; /* taken last; guards what follows */
    unsigned nranges;
    bool is_everything; /* they were too many */
    BtForeignRange range[BT_FOREIGN_RANGES];
    unsigned nclaimed;  /* pages that another vCPU translates: no longer writable here; more than BT_FOREIGN_RANGES: all pages */
    Gpa claimed[BT_FOREIGN_RANGES];
    uint64_t turn, done; /* so often has it been taken from here; and acted upon: atomic */
} BtForeign;

typedef struct BtPeers BtPeers;

struct BtCpu {
    Cpu base;
    BtCpu *self;      /* translated code loads it as the first C argument */
    uint64_t gpr[X86_NGPRS];
    uint64_t rip;      /* of the instruction being executed, while in an exec function */
    uint64_t next_rip; /* where to go on; preset to the following instruction, branches change it */

    /* RFLAGS in two parts.  Use bt_flags() and bt_set_flags(). */
    uint8_t status_of; /* 0 or 1 */
    uint8_t status_ah; /* as LAHF stores: SF ZF 0 AF 0 PF 1 CF */
    uint32_t eflags;   /* all others: TF IF DF IOPL NT RF VM AC VIF VIP ID; status bits zero here, bit 1 set */

    /* Poll word: translated code leaves for the dispatcher when it is not zero.  Byte 0: asked from outside (atomic); byte 1: interrupt
     * window opened by the vCPU itself. */
    union {
        uint32_t poll;
        struct {
            uint8_t poll_kick, poll_window;
        };
    };
    uint32_t irq_line; /* INTR input, 0 or 1; atomic, written from outside */
    uint32_t nmi_line; /* NMIs to take: one at once and one latched behind it; atomic.  bt_nmi_unmask() */

    uint32_t mode;   /* MODE_* */
    uint8_t cpl;     /* 0–3; 3 in virtual-8086 mode, 0 in real mode */
    bool mode_dirty; /* something that MODE_* depends on changed: dispatcher recomputes.  Set by the bt_set_* functions */
    bool interrupt_shadow; /* no interrupt before the next instruction has completed */
    bool fpu_live;   /* guest x87/vector state is in the host's registers, not in xsave[] */
    bool halted;
    bool nmi_masked;
    bool exception_pending; /* exception below waits for delivery */
    BtException exception;
    /* bt_deliver() is at work: a fault that comes up meanwhile combines with what it was delivering (exec-deliver.c). */
    bool delivering, delivery_external, delivery_interrupt;
    uint8_t delivery_class;

    X86Segment seg[X86_NSEGS];
    X86Table gdtr, idtr;
    uint64_t cr2, dr[8];
    uint64_t xcr0, spec_ctrl;
#define BT_MSR_FIELD(name, number) uint64_t name;
    X86_MSR_ROWS(BT_MSR_FIELD)
#undef BT_MSR_FIELD
    int64_t tsc_offset;

    /* Leaves the exec function for the dispatcher: never returns.  Set by bt.c; tests set their own. */
    struct BtProfile *profile; /* NULL: off */
    struct BtDebugger *debugger; /* NULL: none */
    void (*unwind)(BtCpu *cpu) __attribute__((noreturn));

    const CpuHost *host;
    void *host_opaque;
    const CpuidModel *cpuid;
    uint16_t xsave_at[10]; /* places of the XSAVE components beyond the legacy area in the standard format, the host's and so the guest's;
                            * [9], PKRU: not in the host's registers, where the CPU model says */
    bool has_xsaveopt;    /* the host */
    /* What exec functions ask CPUID often, looked up once for the model (bt_has()). */
    const CpuidModel *features_of;
    uint32_t features;
    uint64_t cr4_allowed;
    Ram *ram;
    unsigned index;
    struct Bt *bt; /* the translator's own: code cache, blocks, statistics */
    bool shutdown; /* triple fault */
    const char *shutdown_reason;
    bool store_hit_code; /* a store by an exec function hit a page with translations: dispatcher must look again */

    /* Limits for inline segment checks outside 64-bit code: an access of n bytes at offset o is plainly allowed when o + n <= limit.
     * 0: ask bt_linear() each time (null, expand-down, wrong type).  Kept by bt_update_segments(). */
    uint64_t seg_read_limit[X86_NSEGS], seg_write_limit[X86_NSEGS];

    /* Store whose operand lies in bounce[] or on a page with translations: what bt_commit() will do. */
    uint8_t commit_kind;
    uint8_t commit_size;
    uint8_t commit_bounce_at; /* operand's offset in bounce[] */
    uint32_t commit_desc; /* COMMIT_MASKED */
    Gva commit_gva;
    Gpa commit_gpa[2];

    uint8_t kicked; /* BT_KICK_*: the dispatcher leaves for run(); atomic, written from outside */
    bool stops_at_long_mode, long_mode_entered; /* LMA becoming 1 is an exit; it became 1 */
    bool one_insn; /* every block has one instruction and comes back to the dispatcher */
    uint8_t step;  /* a block with MODE_TF has begun: #DB when it is through */
    uint8_t debug_hits; /* breakpoints that matched in the instruction: bits as in DR6; #DB when it is through */
    bool is_partial;    /* a gather or scatter is done with some of its elements: a fault of the next lets a debug trap go first */
    bool debug_shadow;  /* the instruction loaded SS: debug traps wait until the next is through, single steps are lost */

    uint64_t host_rsp;      /* of the frame that entered translated code */
    uint64_t scratch[4];    /* translated code's own */
    uint64_t t1, t2;        /* host T1 and T2 after calls of slow paths */
    uint8_t bounce[192] __attribute__((aligned(64))); /* operand of an access that crosses a page or reaches a device */

    JumpCacheEntry jump_cache[2][JUMP_CACHE_SIZE]; /* by CPL < 3 / CPL 3 */
    uint32_t jump_cache_mode[2];                    /* MODE_* its entries are valid for */
    /* Entries filled for pages that are not global since the last flush; more than the list holds: any. */
#define JUMP_CACHE_LIST 2048u
    uint16_t jump_cache_local[2][JUMP_CACHE_LIST];
    uint32_t njump_cache_local[2];

    uint8_t xsave[X86_XSAVE_SIZE] __attribute__((aligned(64))); /* guest's x87/vector state when !fpu_live */
    uint8_t host_xsave[X86_XSAVE_SIZE] __attribute__((aligned(64)));

    BtForeign foreign;
    BtPeers *peers; /* the machine's vCPUs: bt/peers.h */
    bool in_guest;  /* atomic */
    uint8_t exclusive; /* EXCLUSIVE_* */
    uint32_t npauses;

    Mmu mmu; /* holds CR0, CR3, CR4 and EFER */
    uint64_t stat_ports, stat_mmio, stat_cr8, stat_interrupts; /* accesses and deliveries through CpuHost */

    uint16_t jump_cache_global[2][JUMP_CACHE_LIST]; /* as jump_cache_local, for global pages, since the last flush of these */
    uint32_t njump_cache_global[2];
};

/* An instruction that must run alone: wanted; the others stand, and it is the next; it has begun. */
enum { EXCLUSIVE_NO, EXCLUSIVE_WANTED, EXCLUSIVE_NEXT, EXCLUSIVE_BEGUN };

/* mode_ip: @ip cut to the width that instruction pointers have in @mode. */
static inline uint64_t mode_ip(uint32_t mode, uint64_t ip)
{
    return mode & MODE_CODE64 ? ip : mode & MODE_CODE32 ? (uint32_t)ip : (uint16_t)ip;
}

static inline MmuIndex bt_mmu_index(const BtCpu *cpu)
{
    if (cpu->cpl == 3)
        return MMU_USER;
    return cpu->eflags & X86_FLAG_AC ? MMU_KERNEL_AC : MMU_KERNEL;
}

/* bt_flags: the whole RFLAGS.  bt_set_flags: all of them, unchecked; marks the mode dirty where TF, VM or AC changed. */
static inline uint32_t bt_flags(const BtCpu *cpu)
{
    return cpu->eflags | X86_FLAG_FIXED | (cpu->status_ah & 0xd5u) | (cpu->status_of ? X86_FLAG_OF : 0);
}

static inline void bt_set_flags(BtCpu *cpu, uint32_t value)
{
    uint32_t system = (value & ~X86_FLAGS_STATUS) | X86_FLAG_FIXED;
    if ((system ^ cpu->eflags) & (X86_FLAG_TF | X86_FLAG_VM | X86_FLAG_AC))
        cpu->mode_dirty = true;
    cpu->eflags = system;
    cpu->status_ah = (uint8_t)((value & 0xd5u) | 2u);
    cpu->status_of = (value & X86_FLAG_OF) != 0;
    if (system & X86_FLAG_IF && cpu->irq_line)
        cpu->poll_window = 1;
}

/* bt_raise: abandons the current instruction and delivers the exception at cpu->rip.  Never returns. */
void bt_raise(BtCpu *cpu, unsigned vector) __attribute__((noreturn));
void bt_raise_code(BtCpu *cpu, unsigned vector, uint32_t code) __attribute__((noreturn));
void bt_raise_pf(BtCpu *cpu, Gva gva, uint32_t code) __attribute__((noreturn));
