/*
 * The translator: decode a block, find out where flags are needed, emit.
 *
 * Registers.  Guest RAX RCX RDX RBX RBP RSI RDI R12–R15 are in the host registers of the same number, guest RSP in host R8.
 * Guest R8–R11 live in the vCPU block.  Host R9 and R10 are T0 and T1, free between instructions; R11 is T2.  Host RSP is ours; GS
 * points to the vCPU block (BtCpu).  In 32-bit guests every register is kept zero-extended.
 *
 * Block layout:
 *
 *     slot:       poll; leave if asked to
 *                 slot → flags              (only when the block may read the flags it is entered with)
 *     host_poll:  poll without flags        (likewise; else the same as slot)
 *     main:       instructions, edges
 *                 (in some blocks, carry_entries(): as host_poll and main, for edges that bring a TLB entry in T1)
 *                 slow paths, edge stubs
 *
 * Loops cannot run for ever without a poll: backward edges and all indirect ones enter at host_poll or slot.
 */
#include "bt/debugger.h"
#include "bt/peers.h"
#include "bt/trace.h"
#include "bt/translate-priv.h"
#include "bt/verify.h"
#include "core/log.h"

void tr_map(Tr *t, const Insn *in, bool flags_in_host)
{
    Bt *bt = t->bt;
    BtMap m = {.host_at = (uint32_t)(t->e.p - bt->code_p) & 0x7fff, .guest_at = (uint32_t)(in->ip - t->block->rip) & 0x3ff,
               .length = in->length & 15u, .flags_in_host = flags_in_host};
    m.flags_in_host_after = in->row && in->row->flags_written ? 1 : flags_in_host;
    if (bt->nmap > t->block->map_first) {
        BtMap *last = &bt->map[bt->nmap - 1], same = *last;
        same.host_at = m.host_at;
        if (memcmp(&same, &m, sizeof m) == 0)
            return; /* the one before is still good */
        if (last->host_at == m.host_at) {
            *last = m;
            return;
        }
    }
    bt->map[bt->nmap++] = m;
}

/* Guest bytes at @ip up to the end of the page, and when needed the next one. */
typedef struct Fetch {
    const uint8_t *host;
    unsigned nbytes;
} Fetch;

static bool fetch_page(BtCpu *cpu, Gva gva, const uint8_t **out_host, Gpa *out_gpa)
{
    MmuFill fill;
    MmuOutcome outcome = mmu_fill(&cpu->mmu, gva, MMU_FETCH, bt_mmu_index(cpu), &fill);
    switch (outcome) {
    case MMU_RAM:
    case MMU_CODE:
    case MMU_ROM:
        *out_host = fill.host;
        *out_gpa = fill.gpa;
        return true;
    case MMU_MMIO:
        /* Nothing to fetch from there: the bus reads as ones. */
        cpu->exception = (BtException){.vector = X86_EXC_GP, .has_code = true};
        cpu->exception_pending = true;
        return false;
    case MMU_FAULT:
        cpu->exception = (BtException){.vector = X86_EXC_PF, .has_code = true, .code = fill.error_code, .cr2 = gva};
        cpu->exception_pending = true;
        return false;
    }
    return false;
}

/* Whether the block shall go on behind the conditional branch @in, at @ip: forward, in flat code, and nothing has been translated there. */
static bool goes_on_behind(const BtCpu *cpu, const BtBlock *block, uint32_t mode, const Insn *in, uint64_t ip, unsigned at,
                           unsigned room, unsigned n)
{
    bool flat = mode & MODE_CODE64 ? in->opsize == 8 : mode & MODE_CODE32 && mode & MODE_FLAT && in->opsize == 4;
    return flat && at < room && n < BLOCK_INSNS_MAX / 2 && (int64_t)in->imm > 0 &&
           !cache_find(cpu->bt, block->gpa + at, ip, block->cs_base, mode);
}

/* Decodes the instructions of a block into insns[].  0: nothing could be fetched, exception set. */
static unsigned decode_block(BtCpu *cpu, BtBlock *block, uint32_t mode, Insn *insns, unsigned max, bool *out_undefined)
{
    unsigned code_size = mode & MODE_CODE64 ? 8 : mode & MODE_CODE32 ? 4 : 2;
    uint64_t ip = block->rip;
    Gva gva = ip + block->cs_base;
    if (!(mode & MODE_CODE64))
        gva = (uint32_t)gva;
    const uint8_t *host;
    if (!fetch_page(cpu, gva, &host, &block->gpa))
        return 0;
    bt_peers_claim(cpu, page_of(block->gpa));
    unsigned room = (unsigned)(PAGE_SIZE - page_offset(gva)), n = 0, at = 0, nsides = 0;
    *out_undefined = false;
    while (n < max) {
        Insn *in = &insns[n];
        InsnDecode result = insn_decode(in, host + at, room - at < 15 ? room - at : 15, code_size, ip, block->cs_base);
        if (result == INSN_TRUNCATED) {
            if (n > 0)
                break;
            uint8_t bytes[15];
            const uint8_t *host2;
            Gpa gpa2;
            unsigned first = room - at;
            if (!fetch_page(cpu, page_of(gva) + PAGE_SIZE, &host2, &gpa2))
                return 0;
            bt_peers_claim(cpu, page_of(gpa2));
            memcpy(bytes, host + at, first);
            memcpy(bytes + first, host2, 15 - first);
            result = insn_decode(in, bytes, 15, code_size, ip, block->cs_base);
            block->crosses_page = true;
            block->second_page = (uint32_t)(gpa2 >> PAGE_SHIFT);
            max = 1;
        }
        n++;
        at += in->length;
        if (result != INSN_OK) {
            if (result == INSN_TOO_LONG && n == 1) {
                cpu->exception = (BtException){.vector = X86_EXC_GP, .has_code = true};
                cpu->exception_pending = true;
                return 0;
            }
            if (result == INSN_TOO_LONG) {
                n--;
                at -= in->length;
            } else {
                *out_undefined = true;
            }
            break;
        }
        ip = mode_ip(mode, ip + in->length);
        if (cpu->debugger && bt_debugger_is_fence(cpu, mode & MODE_CODE64 ? ip : (uint32_t)(ip + block->cs_base)))
            break;
        if (in->row->attr & A_ENDS) {
            if (!insn_is_jcc(in) || nsides == SIDE_EXITS_MAX || !goes_on_behind(cpu, block, mode, in, ip, at, room, n))
                break;
            nsides++;
        }
        if (in->row->how == HOW_EMIT && in->row->tr == TR_STI && max > n + 1)
            max = n + 1; /* one more: the interrupt shadow */
        if (at >= room)
            break;
    }
    block->guest_size = (uint16_t)at;
    return n;
}

static void ex_gp0(BtCpu *cpu, const Insn *insn) { bt_raise_code(cpu, X86_EXC_GP, 0); }

/* Conditions of the row that the mode does not meet: the function that raises, or NULL. */
static void (*row_refusal(const Tr *t, const Insn *in))(BtCpu *, const Insn *)
{
    uint32_t attr = in->row->attr, mode = t->mode;
    if (attr & A_PM && !(mode & MODE_PM))
        return ex_ud;
    if (in->encoding != ENC_LEGACY && !(mode & MODE_PM))
        return ex_ud;
    if (attr & A_CPL0 && !(mode & MODE_CPL0))
        return ex_gp0;
    bool vex = in->encoding != ENC_LEGACY && attr & A_AVX;
    if (attr & (A_X87 | A_MMX | A_SSE | A_AVX) && mode & MODE_NO_FPU)
        return ex_fpu_check;
    if (attr & A_SSE && in->encoding == ENC_LEGACY && mode & MODE_NO_SSE)
        return ex_fpu_check;
    if (vex && (mode & MODE_NO_AVX || (attr & A_AVX512 && mode & MODE_NO_AVX512)))
        return ex_fpu_check;
    return NULL;
}

static void tr_insn(Tr *t, const Insn *in)
{
    const InsnRow *row = in->row;
    if (!row) {
        t->bt->stat_undefined++;
        if (log_on(LOG_UNIMP))
            trace_undefined(in);
        tr_exec(t, in, ex_ud, true);
        return;
    }
    void (*refusal)(BtCpu *, const Insn *) = row_refusal(t, in);
    if (refusal) {
        tr_exec(t, in, refusal, true);
        return;
    }
    switch ((InsnHow)row->how) {
    case HOW_SAME:
        tr_same(t, in);
        break;
    case HOW_CALL:
        tr_exec(t, in, row->exec, row->attr & A_ENDS);
        break;
    case HOW_EMIT:
        if (!tr_emit(t, in))
            tr_exec(t, in, ex_ud, true);
        break;
    case HOW_NOP:
        break;
    }
}

/* The poll of an entry whose flags are in the host's and needed: JRCXZ tests without touching them.  Keeps T1.  Returns the way out. */
static uint8_t *host_poll(Tr *t)
{
    Emit *e = &t->e;
    e_mov_rr(e, true, H_T2, H_RCX);
    e_gs(e, false, XO_MOV_RM, H_RCX, CPU_OFF(poll));
    e8(e, 0xe3); /* jrcxz */
    e8(e, 0);
    uint8_t *rel8 = e->p - 1;
    e_mov_rr(e, true, H_RCX, H_T2);
    e_flags_save(e);
    uint8_t *jump = e_jmp_later(e);
    *rel8 = (uint8_t)(e->p - (rel8 + 1));
    e_mov_rr(e, true, H_RCX, H_T2);
    return jump;
}

/*
 * A loop of two blocks follows a pointer in one and uses it again in the other: when the edge that this block is made for goes backward and
 * carries the base register of the first access, that access shall guess.
 */
static int carried_base(const Tr *t)
{
    const BtExit *from = t->bt->link_from;
    if (!from || !from->is_backward || !from->carries || !t->has_values || !t->bt->has_bmi2)
        return -1;
    for (unsigned i = 0; i < t->ninsns; i++) {
        for (unsigned k = 0; k < 2; k++) {
            const TrMember *m = &t->member[i][k];
            if (m->base == TR_NO_SYMBOL)
                continue;
            for (int r = 0; r < X86_NGPRS; r++)
                if (from->carries >> r & 1 && t->value[0][r].symbol == m->base)
                    return r;
            return -1;
        }
    }
    return -1;
}

static uint8_t *jmp_short_later(Emit *e)
{
    e8(e, 0xeb);
    e8(e, 0);
    return e->p - 1;
}

static uint16_t entry_here(const Tr *t) { return (uint16_t)(t->e.p - t->bt->code_p); }

/* The entries for edges that carry @base, and what the others have to do before they meet. */
static void carry_entries(Tr *t, int base, bool polls)
{
    Emit *e = &t->e;
    BtBlock *b = t->block;
    b->carry_base = (int8_t)base;
    e_mov_imm(e, H_T1, 0); /* an entry, so that the guess is safe; mostly the wrong one */
    uint8_t *rel8 = jmp_short_later(e);
    b->carry_poll_in = entry_here(t);
    if (polls && b->flags_live_in) {
        t->host_poll_jump[1] = host_poll(t);
    } else if (polls) {
        e_gs_cmp0(e, CPU_OFF(poll));
        t->carry_poll_jump = e_jcc_later(e, CC_NE);
    }
    b->carry_in = entry_here(t);
    *rel8 = (uint8_t)(e->p - (rel8 + 1));
    t->t1_symbol = t->value[0][base].symbol;
    e->t1_lost = false;
}

static void block_entries(Tr *t, bool polls)
{
    Emit *e = &t->e;
    BtBlock *b = t->block;
    int base = carried_base(t);
    b->flags_live_in = t->live_in[0] != 0;
    b->carry_base = -1;
    t->flags = b->flags_live_in ? FLAGS_HOST : FLAGS_NONE;
    b->entries_are_cold = polls && base < 0 && b->flags_live_in;
    if (b->entries_are_cold)
        return; /* cold_entries() */
    if (polls) {
        e_gs_cmp0(e, CPU_OFF(poll));
        t->poll_jump = e_jcc_later(e, CC_NE);
    }
    if (t->mode & MODE_TF)
        e_gs_mov8(e, CPU_OFF(step), 1);
    if (b->flags_live_in)
        e_flags_restore(e);
    if (b->flags_live_in && polls) {
        uint8_t *rel8 = jmp_short_later(e);
        b->host_poll_in = entry_here(t);
        t->host_poll_jump[0] = host_poll(t);
        *rel8 = (uint8_t)(e->p - (rel8 + 1));
    } else {
        b->host_poll_in = 0;
    }
    b->main_in = entry_here(t);
    if (base >= 0)
        carry_entries(t, base, polls);
}

/* The entries of a block that wants flags, and mostly gets them by an edge: what brings them back is long, and stands away from the main line. */
static void cold_entries(Tr *t)
{
    Emit *e = &t->e;
    BtBlock *b = t->block;
    b->slot_in = (uint16_t)(e->p - t->bt->cold_p);
    e_gs_cmp0(e, CPU_OFF(poll));
    t->poll_jump = e_jcc_later(e, CC_NE);
    e_flags_restore(e);
    e_jmp(e, t->bt->code_p);
    b->host_poll_in = (uint16_t)(e->p - t->bt->cold_p);
    t->host_poll_jump[0] = host_poll(t);
    e_jmp(e, t->bt->code_p);
}

/* Goes to @rip through the dispatcher, flags wherever they are. */
static void leave_to_dispatcher(Tr *t, uint64_t rip)
{
    tr_flags_to_slot(t);
    e_mov_imm(&t->e, H_T0, rip);
    e_store_gs(&t->e, H_T0, CPU_OFF(rip));
    e_jmp(&t->e, t->bt->stub_save_dispatch_rw);
}

BtBlock *bt_translate(BtCpu *cpu, uint64_t rip, uint32_t mode)
{
    static __thread Insn insns[BLOCK_INSNS_MAX];
    static __thread Tr tr;
    Bt *bt = cpu->bt;
    BtBlock *block = &bt->blocks[bt->nblocks];
    bool undefined, single = mode & (MODE_ONE | MODE_TF | MODE_DEBUG);
    memset(block, 0, sizeof *block);
    block->rip = rip;
    block->cs_base = mode & MODE_CODE64 ? 0 : cpu->seg[X86_CS].base;
    block->mode = mode;
    unsigned n = decode_block(cpu, block, mode, insns, single ? 1 : BLOCK_INSNS_MAX, &undefined);
    if (n == 0)
        return NULL;

    Tr *t = &tr;
    memset(t, 0, offsetof(Tr, slow));
    t->nslow = t->nedges = 0;
    t->open = NULL;
    t->indirect_miss = t->call_refused = NULL;
    t->poll_jump = t->host_poll_jump[0] = t->host_poll_jump[1] = t->carry_poll_jump = NULL;
    t->ended = false;
    t->e = (Emit){.p = bt->code_p, .to_exec = bt->rx - bt->rw, .cpu_at = bt->cpu_at};
    t->bt = bt;
    t->cpu = cpu;
    t->block = block;
    t->mode = mode;
    t->index = mode & MODE_USER ? MMU_USER : mode & MODE_AC ? MMU_KERNEL_AC : MMU_KERNEL;
    t->word = mode & MODE_CODE64 ? 8 : 4;
    t->insns = insns;
    t->ninsns = n;
    tr_flags_analyse(t);
    tr_groups_find(t);
    block->code_at = (uint32_t)(bt->code_p - bt->rw);
    block->map_first = bt->nmap;
    block->exit_first = bt->nexits;
    block->exec_first = bt->nexecs;
    tr_map(t, &insns[0], true);
    block_entries(t, !single);

    for (t->i = 0; t->i < n && !t->ended; t->i++) {
        tr_map(t, &insns[t->i], t->flags == FLAGS_HOST || t->flags == FLAGS_BOTH);
        tr_insn(t, &insns[t->i]);
    }
    uint64_t next = mode_ip(mode, insns[n - 1].ip + insns[n - 1].length);
    if (single && !t->ended) {
        leave_to_dispatcher(t, next);
    } else if (!t->ended) {
        tr_edge(t, next, -1);
    }
    uint8_t *main_end = t->e.p;
    t->e.p = bt->cold_p;
    tr_slow_paths(t);
    tr_leads_finish(t);
    tr_indirect_finish(t);
    if (block->entries_are_cold)
        cold_entries(t);
    if (t->poll_jump) {
        e_patch32(t->poll_jump, t->e.p);
        for (unsigned k = 0; k < 2; k++)
            if (t->host_poll_jump[k])
                e_patch32(t->host_poll_jump[k], t->e.p);
        if (t->carry_poll_jump)
            e_patch32(t->carry_poll_jump, t->e.p);
        e_mov_imm(&t->e, H_T0, rip);
        e_store_gs(&t->e, H_T0, CPU_OFF(rip));
        e_jmp(&t->e, bt->stub_save_dispatch_rw);
    }
    tr_edges_finish(t);
    g_assert(main_end <= bt->code_p + CACHE_BLOCK_MAX && t->e.p <= bt->cold_p + CACHE_BLOCK_MAX);
    block->code_size = (uint16_t)(main_end - bt->code_p);
    block->cold_at = (uint32_t)(bt->cold_p - bt->rw);
    block->cold_size = (uint16_t)(t->e.p - bt->cold_p);
    block->map_count = (uint16_t)(bt->nmap - block->map_first);
    bt->code_p = main_end + (-(uintptr_t)main_end & 15);
    bt->cold_p = t->e.p;
    cache_grown(bt);
    bt->nblocks++;
    bt->stat_blocks++;
    bt->stat_insns += n;
    cache_insert(bt, block);
    *cache_code_page(bt, rip + block->cs_base) = 1;
    if (block->crosses_page)
        *cache_code_page(bt, page_of(rip + block->cs_base) + PAGE_SIZE) = 1;
    if (log_on(LOG_BT))
        trace_block(cpu, block);
    if (log_on(LOG_VERIFY))
        verify_block(bt, block, block->exit_first, block->exec_first);
    return block;
}
