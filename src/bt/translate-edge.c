/*
 * The ways out of a block: edges to a RIP that is known, through patched jumps or cells, and indirect branches through the jump cache.  What a way
 * out seldom needs stands away from the main line: tr_edges_finish() and tr_indirect_finish() write it behind the slow paths.
 */
#include "bt/translate-priv.h"

/* The registers whose TLB entry T1 names, where they are as before instruction @at. */
static uint16_t carried(const Tr *t, unsigned at)
{
    uint16_t mask = 0;
    if (t->has_values && t->t1_symbol != TR_NO_SYMBOL && !t->e.t1_lost)
        for (unsigned r = 0; r < X86_NGPRS; r++)
            if (t->value[at][r].symbol == t->t1_symbol)
                mask |= (uint16_t)(1u << r);
    return mask;
}

/* Whether an edge to @target goes through a cell: see cache.h. */
static bool edge_uses_cell(const Tr *t, uint64_t target)
{
    Gva to = target + t->block->cs_base;
    return page_of(to) != page_of(t->block->rip + t->block->cs_base) || t->block->crosses_page || cache_may_cross(to);
}

/* jmp [rip + cell] */
static void jump_through_cell(Tr *t, uint32_t cell)
{
    Emit *e = &t->e;
    e8(e, 0xff);
    e8(e, 0x25);
    e32(e, (uint32_t)(int32_t)((uint8_t *)&t->bt->cells[cell] - (e->p + 4)));
}

/* Leaves for @target.  The flags must be in the host's or in the slot; cc >= 0: only if the condition holds (flags in the host's). */
void tr_edge(Tr *t, uint64_t target, int cc)
{
    Emit *e = &t->e;
    t->edge[t->nedges].target = target;
    t->edge[t->nedges].flags_in_host = t->flags == FLAGS_HOST || t->flags == FLAGS_BOTH;
    t->edge[t->nedges].again = t->flags == FLAGS_AGAIN;
    t->edge[t->nedges].at = (uint8_t)(t->i < t->ninsns ? t->i + 1 : t->ninsns);
    t->edge[t->nedges].recipe = t->again;
    t->edge[t->nedges].carries = carried(t, t->edge[t->nedges].at);
    t->edge[t->nedges].is_backward = target <= t->insns[t->i < t->ninsns ? t->i : t->ninsns - 1].ip;
    if (cc < 0 && edge_uses_cell(t, target)) {
        t->edge[t->nedges].jump = NULL;
        t->edge[t->nedges].cell = t->bt->ncells++;
        jump_through_cell(t, t->edge[t->nedges].cell);
    } else {
        t->edge[t->nedges].jump = cc < 0 ? e_jmp_later(e) : e_jcc_later(e, (unsigned)cc);
    }
    t->nedges++;
    if (cc < 0)
        t->ended = true;
}

/* A way out by the jump @jump, NULL: through the edge's cell: an exit, and what stands between the jump and the exit's stub, which begins at e->p
 * afterwards. */
static BtExit *edge_exit(Tr *t, unsigned i, uint8_t *jump)
{
    Emit *e = &t->e;
    Bt *bt = t->bt;
    uint64_t target = t->edge[i].target;
    BtExit *exit = &bt->exits[bt->nexits++];
    *exit = (BtExit){.target_rip = target, .from = block_number(bt, t->block), .flags_in_host = t->edge[i].flags_in_host, .is_ac = t->mode & MODE_AC};
    exit->carries = t->edge[i].carries;
    exit->is_backward = t->edge[i].is_backward; /* loops need a poll; going forward does not */
    exit->uses_cell = edge_uses_cell(t, target);
    if (jump)
        e_patch32(jump, e->p);
    if (!exit->uses_cell) {
        exit->patch_at = (uint32_t)(jump - bt->rw);
    } else if (jump) {
        exit->patch_at = bt->ncells++;
        jump_through_cell(t, exit->patch_at);
    } else {
        exit->patch_at = t->edge[i].cell;
    }
    exit->stub_at = (uint32_t)(e->p - bt->rw);
    if (exit->uses_cell)
        bt->cells[exit->patch_at] = (uint64_t)(uintptr_t)(bt->rx + exit->stub_at);
    return exit;
}

/*
 * The code edges jump to until they are linked, and the indirect jumps of those that leave the page.  Where the flags are still to be made there
 * are two exits: a bare one, linked to blocks that need no flags, whose stub makes them and goes on to the other.
 */
void tr_edges_finish(Tr *t)
{
    Emit *e = &t->e;
    Bt *bt = t->bt;
    for (unsigned i = 0; i < t->nedges; i++) {
        uint8_t *jump = t->edge[i].jump;
        if (t->edge[i].again) {
            edge_exit(t, i, jump);
            tr_flags_again(t, &t->edge[i].recipe, t->edge[i].at);
            jump = e_jmp_later(e);
            t->edge[i].flags_in_host = true;
            t->edge[i].carries = 0; /* T1 was used */
        }
        BtExit *exit = edge_exit(t, i, jump);
        exit->has_bare = t->edge[i].again;
        e_mov_imm(e, H_T0, (uint32_t)(exit - bt->exits));
        e_jmp(e, exit->flags_in_host ? bt->stub_link_host_rw : bt->stub_link_slot_rw);
    }
    for (unsigned i = 0; i < t->nleads; i++) {
        const TrLead *lead = &t->lead[i];
        BtExit *exit = &bt->exits[bt->nexits];
        *exit = (BtExit){.target_rip = lead->ip, .from = block_number(bt, t->block), .is_plain = true, .is_ac = lead->mode & MODE_AC,
                         .is_single = lead->mode & MODE_ONE};
        exit->patch_at = (uint32_t)(lead->jump - bt->rw);
        exit->stub_at = (uint32_t)(e->p - bt->rw);
        e_patch32(lead->jump, e->p);
        e_mov_imm(e, H_T0, bt->nexits++);
        e_jmp(e, bt->stub_link_slot_rw);
    }
}

/* What bt_indirect() needs to raise #GP at the branch itself: where its code is, and what it has added to RSP.  A call has looked before it pushed. */
static uint64_t indirect_site(const Tr *t)
{
    const Insn *in = &t->insns[t->i];
    uint32_t added = in->opcode == 0xc3 ? 8 : in->opcode == 0xc2 ? 8 + (uint16_t)in->imm : 0;
    return (uint64_t)added << 32 | (uint32_t)(t->e.p - t->bt->rw);
}

/* Looks for the key in T0 and goes there.  Returns the jump of a miss. */
static uint8_t *jump_cache_look(Tr *t)
{
    Emit *e = &t->e;
    int32_t entries = (int32_t)(offsetof(BtCpu, jump_cache) + (t->mode & MODE_USER ? sizeof(JumpCacheEntry) * JUMP_CACHE_SIZE : 0));
    e_gs_base(e, true, XO_CMP_RM, H_T0, H_T1, entries);
    uint8_t *miss = e_jcc_later(e, CC_NE);
    e_cpu_prefix(e); /* jmp gs:[T1 + host] */
    e_rex(e, false, 4, 0, H_T1, false);
    e8(e, 0xff);
    e8(e, 0x80 | 4 << 3 | (H_T1 & 7));
    e_cpu_disp(e, entries + (int32_t)offsetof(JumpCacheEntry, host));
    return miss;
}

/* T1 = offset of the entry for the RIP in T0 */
static void jump_cache_index(Tr *t)
{
    _Static_assert(sizeof(JumpCacheEntry) == 16, "the index is shifted by four");
    if (t->bt->has_bmi2) {
        e_rorx(&t->e, false, H_T1, H_T0, 28);
        e_ri(&t->e, false, XG_AND, H_T1, (JUMP_CACHE_SIZE - 1) << 4);
        return;
    }
    e_mov_rr(&t->e, false, H_T1, H_T0);
    e_ri(&t->e, false, XG_AND, H_T1, JUMP_CACHE_SIZE - 1);
    e_shift(&t->e, false, 4, H_T1, 4);
}

/* btc T0, the bit that blocks have which want flags */
static void flip_key(Tr *t)
{
    e_rex(&t->e, true, 0, 0, H_T0, false);
    e8(&t->e, 0x0f);
    e8(&t->e, 0xba);
    e8(&t->e, 0xc0 | 7 << 3 | (H_T0 & 7));
    e8(&t->e, JUMP_CACHE_FLAGS_BIT);
}

/* T0 = RIP to go to.  The jump cache is asked first for a block that wants no flags, then, with the flags in the slot, for one that does. */
void tr_indirect(Tr *t)
{
    Emit *e = &t->e;
    bool uses_cache = tr_is_flat(t) && !(t->mode & (MODE_ONE | MODE_TF | MODE_DEBUG | MODE_AC));
    unsigned at = t->i + 1;
    t->ended = true;
    t->i = at; /* the registers are as after the branch */
    if (uses_cache)
        tr_flags_clobber_at_end(t);
    else
        tr_flags_to_slot(t);
    t->i = at - 1;
    t->indirect_site = indirect_site(t);
    if (!uses_cache) {
        e_mov_imm(e, H_T1, t->indirect_site | INDIRECT_DISPATCH);
        e_jmp(e, t->bt->stub_indirect_rw);
        return;
    }
    jump_cache_index(t);
    t->indirect_miss = jump_cache_look(t);
}

void tr_indirect_finish(Tr *t)
{
    Emit *e = &t->e;
    if (t->call_refused) {
        e_patch32(t->call_refused, e->p);
        if (t->refused_again) {
            tr_flags_again(t, &t->again, t->ninsns - 1);
            e_flags_save(e);
        }
        e_gs(e, true, XO_MOV_RM, H_T0, CPU_OFF(scratch[1]));
        e_mov_imm(e, H_T1, t->indirect_site);
        e_jmp(e, t->bt->stub_indirect_rw);
    }
    if (!t->indirect_miss)
        return;
    unsigned at = t->ninsns;
    e_patch32(t->indirect_miss, e->p);
    if (t->flags == FLAGS_AGAIN) {
        tr_flags_again(t, &t->again, at);
        e_flags_save(e);
        jump_cache_index(t);
    }
    flip_key(t);
    uint8_t *miss = jump_cache_look(t);
    e_patch32(miss, e->p);
    flip_key(t);
    e_mov_imm(e, H_T1, t->indirect_site);
    e_jmp(e, t->bt->stub_indirect_rw);
}
