/*
 * What translated code calls: the dispatcher, slow memory accesses, instructions done in C.
 *
 * All of it runs while the guest's vector registers are live (see cpu.h), and leaves by returning or by cpu->unwind, which is the
 * dispatcher's stub.
 */
#include "bt/debugger.h"
#include "bt/exec-mask.h"
#include "bt/exec.h"
#include "bt/trace.h"
#include "bt/translate.h"
#include "core/log.h"

static uint64_t next_ip(const BtCpu *cpu, const Insn *in)
{
    uint64_t next = in->ip + in->length;
    return mode_ip(cpu->mode, next);
}

/* Inline limits of the segments, from their descriptors. */
static void update_segments(BtCpu *cpu)
{
    for (unsigned s = 0; s < 6; s++) {
        const X86Segment *seg = &cpu->seg[s];
        uint64_t end = (uint64_t)seg->limit + 1;
        bool expand_down = (seg->attr & (X86_SEG_CODE | X86_SEG_EXPAND_DOWN)) == X86_SEG_EXPAND_DOWN;
        cpu->seg_read_limit[s] = !expand_down && bt_segment_allows(cpu, s, 0, 1, MMU_READ) ? end : 0;
        cpu->seg_write_limit[s] = !expand_down && bt_segment_allows(cpu, s, 0, 1, MMU_WRITE) ? end : 0;
    }
}

static void refresh_mode(BtCpu *cpu)
{
    bt_update_mode(cpu);
    if (!(cpu->mode & MODE_CODE64))
        update_segments(cpu);
}

/* Physical address of the byte at linear @gva for fetching.  False: exception set. */
static bool fetch_gpa(BtCpu *cpu, Gva gva, Gpa *out_gpa)
{
    MmuIndex index = bt_mmu_index(cpu);
    const TlbEntry *e = &cpu->mmu.tlb[index][(gva >> PAGE_SHIFT) % TLB_SIZE];
    if (gva - e->tag_read < PAGE_SIZE && tlb_info_of(&cpu->mmu, e) & TLB_INFO_FETCH) {
        *out_gpa = page_of(tlb_info_of(&cpu->mmu, e)) | page_offset(gva);
        return true;
    }
    MmuFill fill;
    switch (mmu_fill(&cpu->mmu, gva, MMU_FETCH, index, &fill)) {
    case MMU_RAM:
    case MMU_CODE:
    case MMU_ROM:
    case MMU_MMIO:
        *out_gpa = fill.gpa;
        return true;
    case MMU_FAULT:
        cpu->exception = (BtException){.vector = X86_EXC_PF, .has_code = true, .code = fill.error_code, .cr2 = gva};
        cpu->exception_pending = true;
        return false;
    }
    return false;
}

/* The block at cpu->rip.  NULL with an exception pending, or with *out_missing set. */
static BtBlock *find_block(BtCpu *cpu, uint32_t mode, bool *out_missing)
{
    uint64_t base = mode & MODE_CODE64 ? 0 : cpu->seg[X86_CS].base;
    Gva gva = cpu->rip + base;
    Gpa gpa, gpa2;
    if (mode & MODE_CODE64) {
        if (!gva_is_canonical(gva)) {
            cpu->exception = (BtException){.vector = X86_EXC_GP, .has_code = true};
            cpu->exception_pending = true;
            return NULL;
        }
    } else {
        gva = (uint32_t)gva;
    }
    if (!fetch_gpa(cpu, gva, &gpa))
        return NULL;
    BtBlock *block = cache_find(cpu->bt, gpa, cpu->rip, base, mode);
    if (block && block->crosses_page) {
        if (!fetch_gpa(cpu, page_of(gva) + PAGE_SIZE, &gpa2))
            return NULL;
        if (page_of(gpa2) != block_page(block, 1)) {
            cache_invalidate(cpu->bt, cpu, block->gpa, 1);
            block = NULL;
        }
    }
    *out_missing = !block;
    return block;
}

static void use_jump_cache_mode(BtCpu *cpu, uint32_t mode)
{
    unsigned class = mode & MODE_USER ? 1 : 0;
    if (mode & (MODE_AC | MODE_ONE | MODE_PLAIN | MODE_TF | MODE_DEBUG) || cpu->jump_cache_mode[class] == mode)
        return;
    jump_cache_empty_class(cpu, class);
    cpu->jump_cache_mode[class] = mode;
}

static void deliver_interrupts(BtCpu *cpu)
{
    __atomic_store_n(&cpu->poll_kick, 0, __ATOMIC_SEQ_CST);
    cpu->poll_window = 0;
    if (cpu->interrupt_shadow)
        return;
    if (__atomic_load_n(&cpu->nmi_line, __ATOMIC_ACQUIRE) && !cpu->nmi_masked) {
        __atomic_sub_fetch(&cpu->nmi_line, 1, __ATOMIC_SEQ_CST);
        cpu->halted = false;
        bt_nmi_deliver(cpu);
        return;
    }
    if (__atomic_load_n(&cpu->irq_line, __ATOMIC_ACQUIRE) && cpu->eflags & X86_FLAG_IF) {
        int64_t vector = (int64_t)bt_host_call(cpu, host_irq_acknowledge, 0, 0, 0);
        if (vector >= 0) {
            cpu->halted = false;
            bt_interrupt_deliver(cpu, (unsigned)vector & 255);
        }
    }
}

static bool has_event(const BtCpu *cpu)
{
    return cpu->poll ||
           (!cpu->interrupt_shadow &&
            ((__atomic_load_n(&cpu->irq_line, __ATOMIC_RELAXED) && cpu->eflags & X86_FLAG_IF) ||
             (__atomic_load_n(&cpu->nmi_line, __ATOMIC_RELAXED) && !cpu->nmi_masked)));
}

/* The jump cache's entry for cpu->rip, NULL where code in this mode does not use the cache. */
static JumpCacheEntry *jump_cache_entry(BtCpu *cpu, uint32_t mode)
{
    unsigned class = mode & MODE_USER ? 1 : 0;
    if (cpu->jump_cache_mode[class] != mode || !(mode & (MODE_CODE64 | MODE_FLAT)) ||
        mode & (MODE_AC | MODE_ONE | MODE_TF | MODE_DEBUG))
        return NULL;
    return &cpu->jump_cache[class][cpu->rip & (JUMP_CACHE_SIZE - 1)];
}

void *bt_dispatch(BtCpu *cpu)
{
    Bt *bt = cpu->bt;
    bt->stat_dispatch++;
    bt->wants_translation = false;
    cpu->store_hit_code = false;
    cpu->commit_kind = COMMIT_NONE;
    for (;;) {
        if (cpu->shutdown)
            return NULL;
        if (cpu->exception_pending) {
            bool is_step = cpu->step, traps_first = cpu->is_partial && (is_step || cpu->debug_hits) && !cpu->debug_shadow;
            cpu->is_partial = false;
            bt->link_from = NULL;
            if (traps_first) {
                cpu->step = 0;
                cpu->exception_pending = false;
                bt_debug_trap(cpu, is_step);
            }
            cpu->step = cpu->debug_hits = 0;
            bt_deliver_pending(cpu);
            continue;
        }
        if ((cpu->step || cpu->debug_hits) && !cpu->debug_shadow) {
            bool is_step = cpu->step;
            cpu->step = 0;
            bt->link_from = NULL;
            bt_debug_trap(cpu, is_step);
        }
        if (has_event(cpu) && !bt_debugger_masks(cpu)) {
            bt->link_from = NULL;
            deliver_interrupts(cpu);
            if (cpu->exception_pending)
                continue;
        }
        if (__atomic_load_n(&cpu->kicked, __ATOMIC_ACQUIRE) || cpu->halted)
            return NULL;
        if (cpu->exclusive == EXCLUSIVE_WANTED || cpu->exclusive == EXCLUSIVE_BEGUN)
            return NULL;
        if (cpu->mode_dirty)
            refresh_mode(cpu);
        if (cpu->mode & MODE_DEBUG)
            bt_debug_fetch(cpu);
        uint32_t mode = cpu->mode | (cpu->interrupt_shadow || cpu->one_insn || cpu->exclusive ? MODE_ONE : 0);
        if (__builtin_expect(cpu->debugger != NULL, 0)) {
            if (bt_debugger_stops(cpu))
                return NULL;
            if (cpu->debugger->steps || bt_debugger_is_fence(cpu, bt_debugger_here(cpu))) {
                mode |= MODE_ONE;
                bt->link_from = NULL;
            }
        }
        if (bt->link_from)
            mode |= bt->link_from->is_plain ? MODE_PLAIN : 0;
        JumpCacheEntry *cached = jump_cache_entry(cpu, mode);
        if (cached && jump_cache_rip(cached->key) == cpu->rip && !bt->link_from && !cpu->debug_shadow && !log_on(LOG_EXEC | LOG_CPU))
            return cached->host;
        bool missing = false;
        BtBlock *block = find_block(cpu, mode, &missing);
        if (!block) {
            if (!missing)
                continue;
            bt->want_mode = mode;
            bt->wants_translation = true;
            return NULL;
        }
        cpu->interrupt_shadow = false;
        if (__builtin_expect(cpu->debugger != NULL, 0))
            cpu->debugger->has_stepped = true;
        if (cpu->exclusive == EXCLUSIVE_NEXT)
            cpu->exclusive = EXCLUSIVE_BEGUN;
        if (cpu->debug_shadow) {
            cpu->debug_shadow = false;
            cpu->step = 0;
        }
        if (cpu->mode & MODE_DEBUG)
            cpu->eflags &= ~X86_FLAG_RF; /* it was for this instruction */
        use_jump_cache_mode(cpu, mode);
        if (log_on(LOG_EXEC | LOG_CPU)) {
            bt_host_call(cpu, trace_enter, block->rip, mode, 0);
            bt->link_from = NULL; /* so that the next one comes here too */
        }
        if (bt->link_from) {
            cache_link(bt, cpu, bt->link_from, block);
            bt->link_from = NULL;
        } else if (cached) {
            jump_cache_fill(cpu, block);
        }
        return bt->rx + block_slot_at(block);
    }
}

void bt_follow(BtCpu *cpu, uint32_t exit_index)
{
    BtExit *exit = &cpu->bt->exits[exit_index];
    cpu->rip = exit->target_rip;
    cpu->bt->link_from = exit;
}

uint32_t bt_exec(BtCpu *cpu, uint32_t index)
{
    const BtExec *x = &cpu->bt->execs[index];
    uint64_t next = next_ip(cpu, &x->insn);
    cpu->bt->stat_exec++;
    cpu->rip = x->insn.ip;
    cpu->next_rip = next;
    x->fn(cpu, &x->insn);
    cpu->rip = cpu->next_rip;
    /* Kicked: what others wrote must be seen behind an instruction that serializes. */
    return cpu->mode_dirty || cpu->store_hit_code || cpu->halted || cpu->next_rip != next || __atomic_load_n(&cpu->kicked, __ATOMIC_RELAXED);
}

void bt_exec_end(BtCpu *cpu, uint32_t index)
{
    bt_exec(cpu, index);
}

/* Sets rip to the instruction that made the access at @pc (a return address). */
static const BtMap *locate(BtCpu *cpu, const uint8_t *pc, const BtBlock **out_block)
{
    const BtBlock *block = NULL;
    const BtMap *m = cache_map_find(cpu->bt, pc - 1, &block);
    if (m) {
        uint64_t ip = block->rip + m->guest_at;
        cpu->rip = mode_ip(block->mode, ip);
    }
    if (out_block)
        *out_block = block;
    return m;
}

void *bt_indirect(BtCpu *cpu, uint64_t rip, uint64_t site)
{
    Bt *bt = cpu->bt;
    cpu->rip = rip;
    bt->stat_jump_misses++;
    bt->link_from = NULL;
    if (cpu->mode & MODE_CODE64 && !gva_is_canonical(rip)) {
        cpu->gpr[X86_RSP] -= site >> 32;
        locate(cpu, bt->rx + ((uint32_t)site & ~INDIRECT_DISPATCH) + 1, NULL);
        bt_raise_code(cpu, X86_EXC_GP, 0);
    }
    if (site & INDIRECT_DISPATCH || cpu->poll || cpu->mode_dirty || cpu->interrupt_shadow || cpu->debugger || log_on(LOG_EXEC | LOG_CPU))
        return NULL;
    bool missing = false;
    BtBlock *block = find_block(cpu, cpu->mode, &missing);
    if (!block)
        return NULL;
    jump_cache_fill(cpu, block);
    return bt->rx + block_slot_at(block);
}

typedef struct Piece {
    MmuOutcome outcome;
    MmuFill fill;
    Gva gva;
    unsigned size;
} Piece;

/* Splits [gva, gva + size) at the page and translates both; returns false with the fault in *fault. */
static unsigned pieces_of(BtCpu *cpu, Gva gva, unsigned size, MmuAccess access, Piece pieces[2], bool *out_fault)
{
    unsigned first = (unsigned)(PAGE_SIZE - page_offset(gva)), n = 0;
    if (first > size)
        first = size;
    pieces[n++] = (Piece){.gva = gva, .size = first};
    if (first < size) {
        Gva second = gva + first;
        pieces[n++] = (Piece){.gva = cpu->mode & MODE_CODE64 ? second : (uint32_t)second, .size = size - first};
    }
    *out_fault = false;
    for (unsigned i = 0; i < n; i++) {
        Piece *p = &pieces[i];
        p->outcome = mmu_fill(&cpu->mmu, p->gva, access, bt_mmu_index(cpu), &p->fill);
        if (p->outcome == MMU_FAULT) {
            *out_fault = true;
            pieces[0] = *p;
            return 1;
        }
    }
    return n;
}

static unsigned chunk_size(unsigned size) { return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1; }

static void piece_read(BtCpu *cpu, const Piece *p, uint8_t *to)
{
    if (p->outcome == MMU_RAM || p->outcome == MMU_CODE) {
        mem_copy(to, p->fill.host, p->size);
        return;
    }
    if (p->outcome == MMU_ROM) {
        if (p->fill.host)
            mem_copy(to, p->fill.host, p->size);
        return;
    }
    for (unsigned at = 0; at < p->size;) {
        unsigned n = chunk_size(p->size - at);
        uint64_t value = bt_host_call(cpu, host_mmio_read, p->fill.gpa + at, n, 0);
        for (unsigned k = 0; k < n; k++)
            to[at + k] = (uint8_t)(value >> (8 * k));
        at += n;
    }
}

static void piece_write(BtCpu *cpu, const Piece *p, const uint8_t *from)
{
    switch (p->outcome) {
    case MMU_RAM:
        mem_copy(p->fill.host, from, p->size);
        break;
    case MMU_CODE:
        mem_copy(p->fill.host, from, p->size);
        bt_code_written(cpu, p->fill.gpa, p->size);
        break;
    case MMU_MMIO:
        for (unsigned at = 0; at < p->size;) {
            unsigned n = chunk_size(p->size - at);
            uint64_t value = 0;
            for (unsigned k = 0; k < n; k++)
                value |= (uint64_t)from[at + k] << (8 * k);
            bt_host_call(cpu, host_mmio_write, p->fill.gpa + at, n, value);
            at += n;
        }
        break;
    case MMU_ROM:
    case MMU_FAULT:
        break;
    }
}

/* What T1 is after a check of @gva. */
static uint64_t tlb_offset(Gva gva) { return (gva >> PAGE_SHIFT) % TLB_SIZE * sizeof(TlbEntry); }

/* For #AC.  SDM 3A table 6-7: ten bytes of the FPU are aligned at eight; it leaves vectors to the CPU, Zen 5 wants sixteen of all. */
static bool is_misaligned(Gva gva, unsigned size)
{
    return gva & (size == 10 ? 7u : size >= 16 ? 15u : size - 1);
}

uint8_t *bt_mem_slow(BtCpu *cpu, Gva gva, uint32_t desc, const uint8_t *pc)
{
    unsigned size = ACCESS_SIZE(desc);
    MmuAccess access = desc & ACCESS_WRITE ? MMU_WRITE : MMU_READ;
    cpu->bt->stat_mem_slow++;
    cpu->t1 = tlb_offset(gva);
    cpu->commit_kind = COMMIT_NONE;
    if (desc & ACCESS_MASKED) {
        uint8_t *direct = bt_mask_direct(cpu, gva, desc);
        if (direct)
            return direct;
        locate(cpu, pc, NULL);
        return bt_mask_begin(cpu, gva, desc);
    }
    if (cpu->mode & MODE_CODE64) {
        if (!gva_is_canonical(gva) || !gva_is_canonical(gva + size - 1)) {
            locate(cpu, pc, NULL);
            bt_raise_code(cpu, desc & ACCESS_STACK ? X86_EXC_SS : X86_EXC_GP, 0);
        }
    } else {
        gva = (uint32_t)gva;
    }
    if (cpu->mode & MODE_ALIGN && is_misaligned(gva, size) && !(desc & ACCESS_ALIGNED)) {
        locate(cpu, pc, NULL);
        bt_raise_code(cpu, X86_EXC_AC, 0);
    }
    if (cpu->mode & MODE_DEBUG)
        bt_debug_access(cpu, gva, size, access == MMU_WRITE);
    if (desc & ACCESS_LOCKED && page_offset(gva) + size > PAGE_SIZE && cpu->exclusive != EXCLUSIVE_BEGUN) {
        locate(cpu, pc, NULL);
        cpu->exclusive = EXCLUSIVE_WANTED; /* and again from its beginning: nothing has been done that could be trapped */
        cpu->step = cpu->debug_hits = 0;
        cpu->unwind(cpu);
    }
    Piece pieces[2];
    bool fault;
    unsigned n = pieces_of(cpu, gva, size, access, pieces, &fault);
    if (fault) {
        locate(cpu, pc, NULL);
        bt_raise_pf(cpu, pieces[0].gva, pieces[0].fill.error_code);
    }
    if (n == 1 && pieces[0].outcome == MMU_RAM)
        return pieces[0].fill.host;
    if (n == 1 && pieces[0].outcome == MMU_CODE) {
        cpu->commit_kind = COMMIT_CODE;
        cpu->commit_gpa[0] = pieces[0].fill.gpa;
        cpu->commit_size = (uint8_t)size;
        return pieces[0].fill.host;
    }
    uint8_t *bounce = cpu->bounce + (gva & 63); /* alignment faults stay what they are */
    /* Memory is read before a plain store too: an x87 store with an unmasked exception stores nothing, and is committed all the same. */
    for (unsigned i = 0, at = 0; i < n; at += pieces[i].size, i++)
        if (desc & ACCESS_READ || pieces[i].outcome == MMU_RAM || pieces[i].outcome == MMU_CODE)
            piece_read(cpu, &pieces[i], bounce + at);
    if (desc & ACCESS_WRITE) {
        cpu->commit_kind = COMMIT_BOUNCE;
        cpu->commit_gva = gva;
        cpu->commit_size = (uint8_t)size;
        cpu->commit_bounce_at = (uint8_t)(gva & 63);
    }
    return bounce;
}

uint8_t *bt_group_slow(BtCpu *cpu, Gva gva, uint32_t desc)
{
    MmuIndex index = bt_mmu_index(cpu);
    MmuFill fill;
    cpu->bt->stat_group_slow++;
    cpu->t1 = tlb_offset(gva);
    if (cpu->mode & MODE_CODE64 && !gva_is_canonical(gva))
        return NULL;
    if (mmu_fill(&cpu->mmu, gva, desc & GROUP_LEADER_WRITES ? MMU_WRITE : MMU_READ, index, &fill) != MMU_RAM)
        return NULL;
    const TlbEntry *e = &cpu->mmu.tlb[index][(gva >> PAGE_SHIFT) % TLB_SIZE];
    uint64_t offset = gva - (desc & GROUP_WRITES ? e->tag_write : e->tag_read);
    return offset <= PAGE_SIZE - (desc & 0xffff) ? e->host + offset : NULL;
}

uint32_t bt_commit(BtCpu *cpu, const uint8_t *pc, uint64_t host_flags)
{
    unsigned kind = cpu->commit_kind;
    cpu->commit_kind = COMMIT_NONE;
    if (kind == COMMIT_MASKED) {
        bt_mask_commit(cpu);
    } else if (kind == COMMIT_CODE) {
        bt_code_written(cpu, cpu->commit_gpa[0], cpu->commit_size);
    } else {
        Piece pieces[2];
        bool fault;
        unsigned at = 0, n = pieces_of(cpu, cpu->commit_gva, cpu->commit_size, MMU_WRITE, pieces, &fault);
        for (unsigned i = 0; i < n && !fault; i++) {
            piece_write(cpu, &pieces[i], cpu->bounce + cpu->commit_bounce_at + at);
            at += pieces[i].size;
        }
    }
    if (!cpu->store_hit_code)
        return 0;
    const BtBlock *block;
    const BtMap *m = locate(cpu, pc, &block);
    cpu->store_hit_code = false;
    if (!m || block->is_valid)
        return 0; /* it hit other blocks: this one can go on */
    bool is_last = m->guest_at + m->length == block->guest_size;
    if (is_last && block->next_in_scratch) {
        cpu->rip = cpu->scratch[1];
    } else if (is_last && block->next_is_edge) {
        cpu->rip = cpu->bt->exits[block->exit_first].target_rip;
    } else {
        uint64_t next = cpu->rip + m->length;
        cpu->rip = mode_ip(cpu->mode, next);
    }
    if (m->flags_in_host_after) {
        cpu->status_ah = (uint8_t)((host_flags & 0xd5u) | 2u);
        cpu->status_of = (host_flags & X86_FLAG_OF) != 0;
    }
    return 1;
}

void bt_seg_slow(BtCpu *cpu, uint64_t offset, uint32_t desc, const uint8_t *pc)
{
    locate(cpu, pc, NULL);
    bt_linear(cpu, ACCESS_SEG(desc), offset, ACCESS_SIZE(desc), desc & ACCESS_WRITE ? MMU_WRITE : MMU_READ);
}

void bt_code_written(BtCpu *cpu, Gpa gpa, unsigned size)
{
    cpu->bt->stat_code_writes++;
    /* The store before the look at the marks: who marks the page now reads its bytes after that. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (code_map_users(cpu->mmu.code, gpa) & ~cpu->mmu.code->user)
        bt_host_call(cpu, host_written, gpa, size, 0);
    if (cache_invalidate(cpu->bt, cpu, gpa, size) || cache_note_write(cpu->bt, cpu, gpa))
        cpu->store_hit_code = true;
}
