/*
 * String instructions and port I/O.
 *
 * A repeated instruction works in runs: as many elements as fit in the rest of both pages, and of pages that follow them in host memory as well,
 * carried out by the host's own instruction on the host addresses, so overlap, direction and flags come out exactly.  Elements that cross a page or reach a
 * device go one by one.  Source: SDM 2A/2B MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, REP; 1 chapter 19 (I/O).
 */
#include "bt/exec.h"
#include "bt/insn-table.h"
#include "core/vmware.h"

#define STRING_RUN_MAX (64u << 10) /* bytes: interrupts wait for the end of a run */

typedef struct String {
    BtCpu *cpu;
    const Insn *insn;
    unsigned size, addrsize;
    uint64_t mask;     /* of addresses and count */
    uint64_t count;    /* elements left */
    bool is_repeated, is_down;
    unsigned segment;  /* of rSI */
} String;

static String string_begin(BtCpu *cpu, const Insn *insn)
{
    String s = {
        .cpu = cpu,
        .insn = insn,
        .size = insn->opcode & 1 ? insn->opsize : 1u,
        .addrsize = insn->addrsize,
        .mask = insn->addrsize == 8 ? ~(uint64_t)0 : insn->addrsize == 4 ? 0xffffffffu : 0xffffu,
        .is_repeated = insn->rep || insn->repne,
        .is_down = cpu->eflags & X86_FLAG_DF,
        .segment = insn->has_segment_prefix ? insn->segment : X86_DS,
    };
    cpu->eflags &= ~X86_FLAG_RF; /* string_pauses() */
    s.count = s.is_repeated ? cpu->gpr[X86_RCX] & s.mask : 1;
    return s;
}

static inline uint64_t string_offset(const String *s, unsigned reg) { return s->cpu->gpr[reg] & s->mask; }

static Gva string_linear(const String *s, unsigned reg, MmuAccess access)
{
    return bt_linear(s->cpu, reg == X86_RDI ? X86_ES : s->segment, string_offset(s, reg), s->size, access);
}

static void string_advance(const String *s, unsigned reg, uint64_t n)
{
    uint64_t bytes = n * s->size;
    bt_set_reg(s->cpu, reg, s->addrsize, s->cpu->gpr[reg] + (s->is_down ? 0 - bytes : bytes));
}

static void string_done(String *s, uint64_t n)
{
    s->count -= n;
    if (s->is_repeated)
        bt_set_reg(s->cpu, X86_RCX, s->addrsize, s->count);
}

/* Between runs: when the dispatcher is wanted, or a debug trap due after each element, leave; the instruction then goes on from its
 * registers.  RF is set while it is under way (SDM 3B 17.3.1.1), but a single step shows it clear (Zen 5). */
static bool string_pauses(const String *s)
{
    bool is_debugged = s->cpu->mode & (MODE_TF | MODE_DEBUG);
    if (s->count == 0 || __builtin_expect(!__atomic_load_n(&s->cpu->poll, __ATOMIC_RELAXED) && !is_debugged, 1))
        return false;
    s->cpu->next_rip = s->cpu->rip;
    if (!(s->cpu->mode & MODE_TF))
        s->cpu->eflags |= X86_FLAG_RF;
    return true;
}

/* How many elements from the one at @reg on lie in its page and segment.  0: the first one does not, or would fault. */
static uint64_t string_run(const String *s, unsigned reg, Gva gva, MmuAccess access)
{
    uint64_t at = page_offset(gva), bytes;
    if (PAGE_SIZE - at < s->size || (s->cpu->mode & MODE_ALIGN && gva & (s->size - 1)))
        return 0;
    bytes = s->is_down ? at + s->size : PAGE_SIZE - at;
    uint64_t n = bytes / s->size;
    if (n > s->count)
        n = s->count;
    if (n > 1 && s->cpu->mode & (MODE_TF | MODE_DEBUG))
        n = 1;
    if (bt_code64(s->cpu) && s->addrsize == 8)
        return n;
    /* Offsets must neither wrap nor leave the segment. */
    uint64_t offset = string_offset(s, reg), span = n * s->size;
    uint64_t first = s->is_down ? offset + s->size - span : offset;
    if (first > offset || first + span - 1 > s->mask)
        return 0;
    if (!bt_code64(s->cpu) &&
        !bt_segment_allows(s->cpu, reg == X86_RDI ? X86_ES : s->segment, (uint32_t)first, span, access))
        return 0;
    return n;
}

/* The host's string instruction, by size and direction.  Registers as the instruction wants them. */
#define HOST_STRING(op) \
    do { \
        if (s->is_down) { \
            switch (s->size) { \
            case 1: __asm__ volatile("std; " op "b; cld" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            case 2: __asm__ volatile("std; " op "w; cld" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            case 4: __asm__ volatile("std; " op "l; cld" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            default: __asm__ volatile("std; " op "q; cld" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            } \
        } else { \
            switch (s->size) { \
            case 1: __asm__ volatile(op "b" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            case 2: __asm__ volatile(op "w" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            case 4: __asm__ volatile(op "l" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            default: __asm__ volatile(op "q" : "+D"(di), "+S"(si), "+c"(n) : "a"(acc) : "memory", "cc"); break; \
            } \
        } \
    } while (0)

static void host_movs(const String *s, uint8_t *di, const uint8_t *si, uint64_t n)
{
    uint64_t acc = 0;
    HOST_STRING("rep movs");
}

static void host_stos(const String *s, uint8_t *di, uint64_t n, uint64_t acc)
{
    const uint8_t *si = di;
    HOST_STRING("rep stos");
}

/* How many bytes from @gva on, which is at @host, are one piece of memory there too, by what the TLB holds: at least the rest of the page. */
static uint64_t string_contiguous(const BtCpu *cpu, Gva gva, const uint8_t *host, MmuAccess access)
{
    const TlbEntry *tlb = cpu->mmu.tlb[bt_mmu_index(cpu)];
    uint64_t addend = (uint64_t)(uintptr_t)host - gva, bytes = PAGE_SIZE - page_offset(gva);
    for (; bytes < STRING_RUN_MAX; bytes += PAGE_SIZE) {
        const TlbEntry *e = &tlb[((gva + bytes) >> PAGE_SHIFT) % TLB_SIZE];
        if ((access == MMU_WRITE ? e->tag_write : e->tag_read) != gva + bytes || e->addend != addend)
            break;
    }
    return bytes;
}

/* Elements for one run of the host's instruction, of which @n stay in their pages: large pages, and pages that a kernel took in a row, make longer
 * runs.  @source: NULL for STOS. */
static uint64_t string_longer(const String *s, Gva from, const uint8_t *source, Gva to, const uint8_t *target, uint64_t n)
{
    if (n == s->count || s->is_down || !bt_code64(s->cpu) || s->addrsize != 8 || s->cpu->mode & (MODE_TF | MODE_DEBUG | MODE_ALIGN))
        return n;
    uint64_t bytes = string_contiguous(s->cpu, to, target, MMU_WRITE);
    uint64_t readable = source ? string_contiguous(s->cpu, from, source, MMU_READ) : bytes;
    uint64_t longer = (bytes < readable ? bytes : readable) / s->size;
    return longer < s->count ? longer : s->count;
}

/* MOVS, CMPS: an element at rSI that faults comes before one at rDI that segmentation refuses. */
static void string_refused(const String *s, Gva from, MmuAccess access)
{
    uint64_t to = string_offset(s, X86_RDI);
    bool is_allowed = bt_code64(s->cpu) ? gva_is_canonical(to) && gva_is_canonical(to + s->size - 1)
                                        : bt_segment_allows(s->cpu, X86_ES, (uint32_t)to, s->size, access);
    if (__builtin_expect(is_allowed, 1))
        return;
    bt_check_alignment(s->cpu, from, s->size);
    bt_probe(s->cpu, from, s->size, MMU_READ, bt_mmu_index(s->cpu));
}

void ex_movs(BtCpu *cpu, const Insn *insn)
{
    String s = string_begin(cpu, insn);
    while (s.count > 0) {
        Gva from = string_linear(&s, X86_RSI, MMU_READ);
        string_refused(&s, from, MMU_WRITE);
        Gva to = string_linear(&s, X86_RDI, MMU_WRITE);
        uint64_t n = string_run(&s, X86_RSI, from, MMU_READ), n2 = string_run(&s, X86_RDI, to, MMU_WRITE);
        n = n < n2 ? n : n2;
        const uint8_t *source = n ? bt_host_page(cpu, from, MMU_READ) : NULL;
        uint8_t *target = source ? bt_host_page(cpu, to, MMU_WRITE) : NULL;
        if (target) {
            n = string_longer(&s, from, source, to, target, n);
            host_movs(&s, target, source, n);
        } else {
            bt_store(cpu, to, s.size, bt_load(cpu, from, s.size));
            n = 1;
        }
        string_advance(&s, X86_RSI, n);
        string_advance(&s, X86_RDI, n);
        string_done(&s, n);
        if (string_pauses(&s))
            return;
    }
}

void ex_stos(BtCpu *cpu, const Insn *insn)
{
    String s = string_begin(cpu, insn);
    while (s.count > 0) {
        Gva to = string_linear(&s, X86_RDI, MMU_WRITE);
        uint64_t n = string_run(&s, X86_RDI, to, MMU_WRITE);
        uint8_t *target = n ? bt_host_page(cpu, to, MMU_WRITE) : NULL;
        if (target) {
            n = string_longer(&s, 0, NULL, to, target, n);
            host_stos(&s, target, n, cpu->gpr[X86_RAX]);
        } else {
            bt_store(cpu, to, s.size, cpu->gpr[X86_RAX]);
            n = 1;
        }
        string_advance(&s, X86_RDI, n);
        string_done(&s, n);
        if (string_pauses(&s))
            return;
    }
}

void ex_lods(BtCpu *cpu, const Insn *insn)
{
    String s = string_begin(cpu, insn);
    while (s.count > 0) {
        uint64_t value = bt_load(cpu, string_linear(&s, X86_RSI, MMU_READ), s.size);
        bt_set_reg(cpu, X86_RAX, s.size, value);
        string_advance(&s, X86_RSI, 1);
        string_done(&s, 1);
        if (string_pauses(&s))
            return;
    }
}

/* The status flags of a - b. */
static void set_compare_flags(BtCpu *cpu, uint64_t a, uint64_t b, unsigned size)
{
    uint64_t ah;
    uint8_t of;
    unsigned shift = 64 - 8 * size;
    /* At the top of the register every flag but AF and PF comes out as for the narrow operation; those two look at the low byte. */
    uint64_t top_a = a << shift, top_b = b << shift;
    __asm__("cmp %3, %2; lahf; seto %1; movzbl %%ah, %%eax" : "=&a"(ah), "=&q"(of) : "r"(top_a), "r"(top_b) : "cc");
    uint8_t low = (uint8_t)(a - b);
    bool af = ((a ^ b ^ (a - b)) & 0x10) != 0;
    ah = (ah & 0xc1) | 2 | (af ? 0x10 : 0) | (__builtin_parity(low) ? 0 : 4);
    cpu->status_ah = (uint8_t)ah;
    cpu->status_of = of;
}

/* Elements to compare in this run until the loop ends by ZF: all but the last are known to let it go on. */
static uint64_t compare_run(const String *s, const uint8_t *a, const uint8_t *b, uint64_t n, uint64_t acc)
{
    int64_t step = s->is_down ? -(int64_t)s->size : (int64_t)s->size;
    bool stop_if_equal = s->insn->repne;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = a ? host_load(a, s->size) : acc, y = host_load(b, s->size);
        if ((x == y) == stop_if_equal)
            return i + 1;
        a = a ? a + step : a;
        b += step;
    }
    return n;
}

static uint64_t cut(uint64_t value, unsigned size) { return size == 8 ? value : value & (((uint64_t)1 << (8 * size)) - 1); }

/* CMPS: rSI against rDI. SCAS: accumulator against rDI. */
static void compare(BtCpu *cpu, const Insn *insn, bool is_scas)
{
    String s = string_begin(cpu, insn);
    uint64_t acc = cut(cpu->gpr[X86_RAX], s.size);
    while (s.count > 0) {
        uint64_t x = acc, y, n2;
        Gva left = is_scas ? 0 : string_linear(&s, X86_RSI, MMU_READ);
        if (!is_scas)
            string_refused(&s, left, MMU_READ);
        Gva right = string_linear(&s, X86_RDI, MMU_READ);
        uint64_t n = string_run(&s, X86_RDI, right, MMU_READ);
        if (!is_scas && (n2 = string_run(&s, X86_RSI, left, MMU_READ)) < n)
            n = n2;
        const uint8_t *a = !is_scas && n ? bt_host_page(cpu, left, MMU_READ) : NULL;
        const uint8_t *b = n && (is_scas || a) ? bt_host_page(cpu, right, MMU_READ) : NULL;
        if (b) {
            n = s.is_repeated ? compare_run(&s, a, b, n, acc) : 1;
            int64_t last = (int64_t)((n - 1) * s.size) * (s.is_down ? -1 : 1);
            x = a ? host_load(a + last, s.size) : acc;
            y = host_load(b + last, s.size);
        } else {
            x = is_scas ? acc : bt_load(cpu, left, s.size);
            y = bt_load(cpu, right, s.size);
            n = 1;
        }
        set_compare_flags(cpu, x, y, s.size);
        if (!is_scas)
            string_advance(&s, X86_RSI, n);
        string_advance(&s, X86_RDI, n);
        string_done(&s, n);
        if (s.is_repeated && (x == y) == insn->repne)
            return;
        if (string_pauses(&s))
            return;
    }
}

void ex_cmps(BtCpu *cpu, const Insn *insn) { compare(cpu, insn, false); }
void ex_scas(BtCpu *cpu, const Insn *insn) { compare(cpu, insn, true); }

/* May the current program touch @port?  IOPL, else the TSS's permission bitmap (SDM 1 19.5). */
static void check_port(BtCpu *cpu, unsigned port, unsigned size)
{
    if (bt_is_real(cpu) || (!bt_is_v86(cpu) && cpu->cpl <= bt_iopl(cpu)))
        return;
    const X86Segment *tr = &cpu->seg[X86_TR];
    if (tr->attr & X86_SEG_UNUSABLE || !(tr->attr & 8) || tr->limit < 103)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    unsigned at = (unsigned)bt_load_sys(cpu, tr->base + 102, 2) + port / 8;
    if (at + 1 > tr->limit)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    unsigned bits = (unsigned)bt_load_sys(cpu, tr->base + at, 2) >> (port & 7);
    if (bits & ((1u << size) - 1))
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

static void use_port(BtCpu *cpu, unsigned port, unsigned size)
{
    check_port(cpu, port, size);
    if (cpu->mode & MODE_DEBUG)
        bt_debug_port(cpu, port, size);
}

/* Port instructions take 1, 2 or 4 bytes: REX.W does not widen them. */
static unsigned port_size(const Insn *insn) { return !(insn->opcode & 1) ? 1 : insn->opsize == 2 ? 2 : 4; }

/* E4–E7: port in imm8; EC–EF: in DX. */
static unsigned port_number(const BtCpu *cpu, const Insn *insn)
{
    return insn->opcode & 8 ? cpu->gpr[X86_RDX] & 0xffff : (uint8_t)insn->imm;
}

void ex_in(BtCpu *cpu, const Insn *insn)
{
    unsigned port = port_number(cpu, insn), size = port_size(insn);
    if (size == 4 && port == VMWARE_PORT && vmware_port_in(cpu->cpuid, cpu->gpr))
        return;
    use_port(cpu, port, size);
    bt_set_reg(cpu, X86_RAX, size, bt_host_call(cpu, host_port_read, port, size, 0));
}

void ex_out(BtCpu *cpu, const Insn *insn)
{
    unsigned port = port_number(cpu, insn), size = port_size(insn);
    use_port(cpu, port, size);
    bt_host_call(cpu, host_port_write, port, size, bt_get_reg(cpu, X86_RAX, size));
}

void ex_ins(BtCpu *cpu, const Insn *insn)
{
    String s = string_begin(cpu, insn);
    unsigned port = cpu->gpr[X86_RDX] & 0xffff;
    s.size = port_size(insn);
    use_port(cpu, port, s.size);
    while (s.count > 0) {
        Gva to = string_linear(&s, X86_RDI, MMU_WRITE);
        bt_probe(cpu, to, s.size, MMU_WRITE, bt_mmu_index(cpu));
        bt_store_as(cpu, to, s.size, bt_host_call(cpu, host_port_read, port, s.size, 0), bt_mmu_index(cpu));
        string_advance(&s, X86_RDI, 1);
        string_done(&s, 1);
        if (string_pauses(&s))
            return;
    }
}

void ex_outs(BtCpu *cpu, const Insn *insn)
{
    String s = string_begin(cpu, insn);
    unsigned port = cpu->gpr[X86_RDX] & 0xffff;
    s.size = port_size(insn);
    use_port(cpu, port, s.size);
    while (s.count > 0) {
        uint64_t value = bt_load(cpu, string_linear(&s, X86_RSI, MMU_READ), s.size);
        bt_host_call(cpu, host_port_write, port, s.size, value);
        string_advance(&s, X86_RSI, 1);
        string_done(&s, 1);
        if (string_pauses(&s))
            return;
    }
}
