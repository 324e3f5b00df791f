/* The verifier's way through a block: control flow and stubs. */
#include "bt/verify-priv.h"

#include "bt/dump.h"
#include "core/log.h"

static Value join(Value a, Value b)
{
    if (memcmp(&a, &b, sizeof a) == 0)
        return a;
    if (a.kind == KIND_HOST && b.kind == KIND_HOST && !a.disp && !b.disp)
        return (Value){ .kind = KIND_HOST, .room = MIN(a.room, b.room), .is_write = a.is_write && b.is_write };
    return (Value){ 0 };
}

/* The number of the byte at offset @at among the block's, -1: it is not in the block. */
static int64_t place_of(const VerifyCode *code, uint32_t at)
{
    return at - code->start < code->size ? (int64_t)(at - code->start) : at - code->cold_start < code->cold_size
               ? (int64_t)code->size + (at - code->cold_start) : -1;
}

/* Control may come to offset @at with @s. */
static bool flow_to(Verify *v, uint32_t at, const State *s)
{
    int64_t place = place_of(v->code, at);
    if (place < 0 || v->insn_at[place] == 0)
        return verify_fail(v, "leads outside the block, or into the middle of an instruction");
    unsigned n = v->insn_at[place] - 1;
    State *to = &v->states[n], old = *to;
    if (!to->is_reached) {
        *to = *s;
        to->is_reached = true;
    } else {
        for (unsigned i = 0; i < NVALUES; i++)
            to->value[i] = join(to->value[i], s->value[i]);
        if (to->compared != s->compared || to->limit != s->limit || to->entry != s->entry)
            to->compared = -1;
        /* A difference outlives only the T1 that it was made with. */
        for (unsigned i = 0; i < NVALUES && to->value[T1].kind != KIND_TLB; i++)
            if (to->value[i].kind == KIND_DIFFERENCE || to->value[i].kind == KIND_OFFSET)
                to->value[i] = (Value){ 0 };
    }
    if (memcmp(&old, to, sizeof old) != 0 && !v->is_queued[n]) {
        v->is_queued[n] = 1;
        v->queue[v->nqueue++] = n;
    }
    return true;
}

static bool is_const_in(const Value *value, uint32_t first, uint32_t end)
{
    return value->kind == KIND_CONST && value->number >= first && value->number < end;
}

static bool jump_to_stub(Verify *v, const uint8_t *target, const State *s)
{
    const Bt *bt = v->bt;
    if (target == bt->stub_save_dispatch_rw)
        return true;
    if (target == bt->stub_exec_end_rw)
        return is_const_in(&s->value[T0], v->code->exec_first, v->code->exec_end) ? true : verify_fail(v, "no function of the block's to call");
    if (target == bt->stub_link_host_rw || target == bt->stub_link_slot_rw)
        return is_const_in(&s->value[T0], v->code->exit_first, v->code->exit_end) ? true : verify_fail(v, "no edge of the block's to follow");
    if (target == bt->stub_indirect_rw)
        return s->value[T1].kind == KIND_CONST ? true : verify_fail(v, "no site of an indirect branch");
    return false;
}

static bool call_stub(Verify *v, const uint8_t *target, State *s)
{
    const Bt *bt = v->bt;
    Value desc = s->value[T1], index = s->value[T0];
    verify_forget_guests(s);
    uint32_t bits = (uint32_t)desc.number;
    if (target == bt->stub_mem_slow_rw) {
        if (desc.kind != KIND_CONST || ACCESS_SIZE(bits) == 0 || ACCESS_SIZE(bits) > 64)
            return verify_fail(v, "no description of the access");
        verify_set(s, T1, (Value){ .kind = KIND_TLB });
        verify_set(s, T0, (Value){ .kind = KIND_HOST, .room = ACCESS_SIZE(bits), .is_write = bits & ACCESS_WRITE });
        return true;
    }
    if (target == bt->stub_group_slow_rw) {
        if (desc.kind != KIND_CONST)
            return verify_fail(v, "no description of the group");
        verify_set(s, T1, (Value){ .kind = KIND_TLB });
        verify_kill(s, T0);
        verify_set(s, T2, (Value){ .kind = KIND_MAYBE_HOST, .room = bits & 0xffff, .is_write = bits & GROUP_WRITES });
        return true;
    }
    if (target == bt->stub_seg_slow_rw || target == bt->stub_commit_rw) {
        if (target == bt->stub_seg_slow_rw && desc.kind != KIND_CONST)
            return verify_fail(v, "no description of the access");
        verify_kill(s, T0); /* the others come back */
        return true;
    }
    if (target == bt->stub_exec_rw) {
        for (int i = 0; i < NVALUES; i++)
            verify_kill(s, i);
        return is_const_in(&index, v->code->exec_first, v->code->exec_end) ? true : verify_fail(v, "no function of the block's to call");
    }
    return verify_fail(v, "a call to what is no stub");
}

/* An edge that promises its target a TLB entry in T1 must have one there.  @at: of the exit's stub, or @cell: its cell; the other is -1. */
static bool check_carry(Verify *v, const State *s, int64_t at, int64_t cell)
{
    for (uint32_t i = v->code->exit_first; i < v->code->exit_end; i++) {
        const BtExit *exit = &v->bt->exits[i];
        bool is_it = exit->uses_cell ? cell == exit->patch_at : at == exit->stub_at;
        if (is_it && exit->carries && s->value[T1].kind != KIND_TLB)
            return verify_fail(v, "an edge that carries no TLB entry");
    }
    return true;
}

static bool step(Verify *v, unsigned n)
{
    const Insn *in = &v->insns[n];
    State s = v->states[n];
    uint32_t next = (uint32_t)(in->ip - (uint64_t)(uintptr_t)v->bt->rx) + in->length;
    v->error_at = n;
    if (!verify_allowed(v, in) || !verify_memory(v, in, &s))
        return false;
    if (in->row->how == HOW_EMIT && in->row->attr & A_ENDS) {
        uint32_t at = next + (uint32_t)in->imm;
        const uint8_t *target = v->bt->rw + (int64_t)next + (int64_t)in->imm;
        bool is_inside = in->row->operand[0] >> 8 == M_J && place_of(v->code, at) >= 0;
        State taken = s;
        int compared = s.compared;
        taken.compared = s.compared = -1;
        int64_t cell = (int64_t)next + in->disp - CACHE_CODE_SIZE;
        bool is_cell = is_emit(in, TR_JMP_RM) && in->has_mem && in->base == INSN_REG_RIP;
        if (!check_carry(v, &s, is_inside ? (int64_t)at : -1, is_cell ? cell / 8 : -1))
            return false;
        if (is_emit(in, TR_JMP_RM)) /* through a cell or the jump cache; verify_memory() has seen which */
            return in->has_mem && (in->base == INSN_REG_RIP || (in->base == (int8_t)H_T1 && s.value[T1].kind == KIND_JUMP))
                       ? true : verify_fail(v, "an indirect jump");
        if (is_emit(in, TR_CALL)) {
            if (is_inside)
                return verify_fail(v, "a call into the block");
            return call_stub(v, target, &s) && flow_to(v, next, &s);
        }
        if (compared >= 0 && is_emit(in, TR_JCC) && (in->opcode & 15) == CC_A && s.value[compared].kind == KIND_DIFFERENCE) {
            s.value[compared].kind = KIND_OFFSET;
            s.value[compared].room = (uint32_t)PAGE_SIZE - v->states[n].limit;
        }
        if (compared >= 0 && is_emit(in, TR_JCC) && (in->opcode & 15) == CC_NE && taken.value[compared].kind == KIND_MAYBE_HOST)
            taken.value[compared].kind = KIND_HOST;
        if (compared >= 0 && is_emit(in, TR_JCC) && (in->opcode & 15) == CC_NE && s.value[compared].kind == KIND_CONST)
            s.value[compared] = (Value){ .kind = KIND_PAGE, .number = s.entry, .is_write = s.limit };
        if (!(is_inside ? flow_to(v, at, &taken) : jump_to_stub(v, target, &taken)))
            return verify_fail(v, "a jump out of the block to what is no stub");
        return is_emit(in, TR_JMP) || flow_to(v, next, &s);
    }
    verify_apply(in, &s);
    return flow_to(v, next, &s);
}

/* Operands in the vCPU block by its address become what they would be through GS. */
static void name_block(const Bt *bt, Insn *in)
{
    bool is_absolute = in->has_mem && !in->has_segment_prefix && in->index == INSN_REG_NONE && !in->vsib &&
                       (in->base == INSN_REG_NONE || in->base == (int8_t)H_T1);
    if (!bt->cpu_at || !is_absolute || is_emit(in, TR_LEA) || (uint64_t)in->disp - bt->cpu_at >= sizeof(BtCpu))
        return;
    in->disp -= bt->cpu_at;
    in->segment = X86_GS;
}

static bool decode_part(Verify *v, uint32_t start, uint32_t size)
{
    for (uint32_t at = start; at < start + size;) {
        Insn *in = &v->insns[v->ninsns];
        v->error_at = v->ninsns;
        if (insn_decode(in, v->bt->rw + at, 15, 8, (uint64_t)(uintptr_t)v->bt->rx + at, 0) != INSN_OK)
            return verify_fail(v, "not an instruction");
        name_block(v->bt, in);
        v->insn_at[place_of(v->code, at)] = ++v->ninsns;
        at += in->length;
    }
    return true;
}

static bool decode_all(Verify *v)
{
    return decode_part(v, v->code->start, v->code->size) && decode_part(v, v->code->cold_start, v->code->cold_size);
}

char *verify_code(const Bt *bt, const VerifyCode *code)
{
    Verify v = { .bt = bt, .code = code };
    size_t size = (size_t)code->size + code->cold_size;
    g_autofree uint32_t *insn_at = v.insn_at = g_new0(uint32_t, size + 1);
    g_autofree Insn *insns = v.insns = g_new(Insn, size + 1);
    bool is_ok = decode_all(&v);
    g_autofree State *states = v.states = g_new0(State, v.ninsns + 1);
    g_autofree uint8_t *is_queued = v.is_queued = g_new0(uint8_t, v.ninsns + 1);
    g_autofree unsigned *queue = v.queue = g_new(unsigned, v.ninsns + 1);
    State unknown = { .compared = -1 };
    for (unsigned i = 0; is_ok && i < G_N_ELEMENTS(code->entry); i++)
        is_ok = flow_to(&v, code->entry[i], &unknown);
    State carried = { .compared = -1, .value[T1].kind = KIND_TLB };
    for (unsigned i = 0; is_ok && i < code->ncarry_entries; i++)
        is_ok = flow_to(&v, code->carry_entry[i], &carried);
    /* When an edge is taken apart, its code asks the dispatcher again. */
    for (uint32_t i = code->exit_first; is_ok && i < code->exit_end; i++)
        if (place_of(code, bt->exits[i].stub_at) >= 0)
            is_ok = flow_to(&v, bt->exits[i].stub_at, &unknown);
    while (is_ok && v.nqueue) {
        unsigned n = v.queue[--v.nqueue];
        v.is_queued[n] = 0;
        is_ok = step(&v, n);
    }
    if (is_ok)
        return NULL;
    uint64_t address = v.error_at < v.ninsns || v.ninsns == 0 ? v.insns[v.error_at].ip : v.insns[v.ninsns - 1].ip;
    uint32_t at = (uint32_t)(address - (uint64_t)(uintptr_t)bt->rx);
    uint32_t part_end = at - code->start < code->size ? code->start + code->size : code->cold_start + code->cold_size;
    g_autofree char *listing = place_of(code, at) >= 0 ? dump_code(bt->rw + at, MIN(part_end - at, 15), address, 8) : NULL;
    char *end = listing ? strchr(listing, '\n') : NULL;
    if (end)
        *end = 0;
    return g_strdup_printf("%s: %s", v.error ? v.error : "?", listing ? listing : "at the entry");
}

void verify_block(Bt *bt, const BtBlock *block, uint32_t exit_first, uint32_t exec_first)
{
    VerifyCode code = { .start = block->code_at, .size = block->code_size, .cold_start = block->cold_at, .cold_size = block->cold_size, 
                        .entry = { block_main_at(block), block_slot_at(block), block_host_poll_at(block) },
                        .carry_entry = { block->code_at + block->carry_in, block->code_at + block->carry_poll_in }, .ncarry_entries = block->carry_base >= 0 ? 2 : 0,
                        .mode = block->mode, .exit_first = exit_first, .exit_end = bt->nexits, .exec_first = exec_first, .exec_end = bt->nexecs };
    g_autofree char *wrong = verify_code(bt, &code);
    bt->stat_verified++;
    if (!wrong)
        return;
    g_autofree char *listing = dump_code(bt->rw + block->code_at, block->code_size, (uint64_t)(uintptr_t)bt->rx + block->code_at, 8);
    g_autofree char *cold = dump_code(bt->rw + block->cold_at, block->cold_size, (uint64_t)(uintptr_t)bt->rx + block->cold_at, 8);
    g_error("verifier: block at %012" G_GINT64_MODIFIER "x, mode %x: %s\n%s%s", block->rip, block->mode, wrong, listing, cold);
}

void verify_summary(const Bt *bt)
{
    log_text(LOG_VERIFY, "verifier: %" G_GUINT64_FORMAT " blocks stay inside what they were given", bt->stat_verified);
}
