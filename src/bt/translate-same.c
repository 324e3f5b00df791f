/*
 * Rows that are carried out by the same instruction on the host: registers renamed, the memory operand replaced by [T0].
 */
#include "bt/translate-priv.h"

/* How a GPR operand of the instruction reaches the host instruction. */
typedef struct Gpr {
    int8_t guest;    /* register number, -1: not a GPR */
    uint8_t host;    /* register to encode */
    bool is_read, is_written, is_byte, is_high; /* is_high: AH, CH, DH, BH */
    bool in_memory;  /* encoded as gs:[slot], r/m only */
    uint8_t size;    /* bytes */
} Gpr;

typedef struct Same {
    const Insn *in;
    Gpr reg, rm, vvvv;
    uint8_t opcode, mod, reg_field, rm_field;
    bool has_modrm, uses_v, op66, w;
    uint8_t mem_base; /* the memory operand: Tr.mem_base, … */
    int8_t mem_index;
    uint8_t mem_scale;
    int32_t mem_disp;
} Same;

static bool row_is_vector(const InsnRow *row) { return row->attr & (A_SSE | A_AVX | A_MMX | A_X87); }

static void gpr_set(Same *s, Gpr *g, unsigned k, unsigned number)
{
    const Insn *in = s->in;
    const InsnRow *row = in->row;
    unsigned size = insn_size_bytes(in, row->operand[k] & 0xff);
    g->guest = (int8_t)number;
    g->size = (uint8_t)size;
    bool is_first = k == 0;
    g->is_written = (is_first && !(row->attr & A_NOW)) || (k == 1 && row->attr & A_W2);
    g->is_read = !(is_first && row->attr & A_WO) || size < 4;
    if (k == 1 && row->attr & A_W2)
        g->is_read = row->map != MAP_38; /* XCHG, XADD read it; MULX does not */
    g->is_byte = size == 1 && !row_is_vector(row) && in->encoding == ENC_LEGACY;
    if (g->is_byte && number >= 4 && number < 8 && !in->rex) {
        g->is_high = true;
        g->guest = (int8_t)(number - 4);
    }
}

static void same_operands(Same *s)
{
    const Insn *in = s->in;
    const InsnRow *row = in->row;
    s->reg.guest = s->rm.guest = s->vvvv.guest = -1;
    s->has_modrm = in->has_modrm;
    s->opcode = in->opcode;
    s->mod = in->mod;
    s->reg_field = in->reg;
    s->rm_field = in->rm;
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = row->operand[k] >> 8, size = row->operand[k] & 0xff;
        if (size == S_v || size == S_z)
            s->uses_v = true;
        switch (method) {
        case M_G:
            gpr_set(s, &s->reg, k, in->reg);
            break;
        case M_E:
        case M_R:
            if (!in->has_mem)
                gpr_set(s, &s->rm, k, in->rm);
            break;
        case M_B:
            gpr_set(s, &s->vvvv, k, in->vvvv);
            break;
        case M_Z:
            gpr_set(s, &s->rm, k, in->rm);
            break;
        default:
            break;
        }
    }
    if ((row->operand[0] >> 8) == M_Z && in->map == MAP_1B && in->opcode >= 0x40 && in->opcode <= 0x4f) {
        /* INC/DEC short forms: FF /0, FF /1 */
        s->opcode = 0xff;
        s->has_modrm = true;
        s->mod = 3;
        s->reg_field = in->opcode >= 0x48;
    }
    if (in->map == MAP_1B && in->opcode == 0x82 && in->encoding == ENC_LEGACY)
        s->opcode = 0x80; /* the same instruction, and the host's 64-bit code has only this one */
    s->op66 = (row->prefix == PP_66) || (s->uses_v && in->opsize == 2);
    s->w = s->uses_v ? in->opsize == 8 : in->w;
}

/* Chooses host registers for spilled operands and for guest RSP. */
static void same_allocate(Same *s)
{
    Gpr *list[3] = {&s->rm, &s->reg, &s->vvvv};
    unsigned pool[2], npool = 0;
    const Insn *in = s->in;
    pool[npool++] = H_T1;
    if (!in->has_mem)
        pool[npool++] = H_T0;
    unsigned next = 0;
    /* An r/m register that only memory-form semantics would not change can stay in its slot. */
    Gpr *rm = &s->rm;
    bool rm_fits_memory = rm->guest >= 0 && reg_is_spilled((unsigned)rm->guest) && s->has_modrm && !(in->row->attr & (A_BITS | A_W2)) &&
                          in->encoding == ENC_LEGACY && !row_is_vector(in->row) && (rm->size != 4 || !rm->is_written) &&
                          in->row->how == HOW_SAME && (in->row->operand[0] >> 8) != M_R;
    if (rm_fits_memory)
        rm->in_memory = true;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < 3; i++) {
            Gpr *g = list[i];
            if (g->guest < 0 || g->in_memory || g->is_read != (pass == 0))
                continue;
            if (!reg_is_spilled((unsigned)g->guest)) {
                g->host = (uint8_t)reg_host((unsigned)g->guest);
                continue;
            }
            bool shared = false;
            for (unsigned j = 0; j < 3; j++) {
                Gpr *o = list[j];
                if (o != g && o->guest == g->guest && o->host && !o->in_memory) {
                    g->host = o->host;
                    shared = true;
                }
            }
            if (shared)
                continue;
            if (next < npool)
                g->host = (uint8_t)pool[next++];
            else if (in->has_mem && s->reg.is_written && s->vvvv.is_written && g == &s->vvvv)
                g->host = H_T0; /* MULX's second result: the address is not needed any more */
            else
                g->host = H_T1; /* written only: may share with an operand that is only read */
        }
    }
}

static bool byte_needs_rex(const Gpr *g) { return g->guest >= 0 && g->is_byte && !g->is_high && g->host >= 4 && g->host < 8; }

/* Writes an EVEX instruction: the prefix as the guest has it, but for the fields whose registers changed. */
static void same_encode_evex(Emit *e, const Same *s, unsigned reg, unsigned rm, unsigned base)
{
    const Insn *in = s->in;
    uint8_t p0 = in->evex[0], p1 = (uint8_t)((in->evex[1] & 0x7f) | (in->w ? 0x80 : 0));
    if (s->reg.guest >= 0 || in->code_size != 8)
        p0 = (uint8_t)((p0 & ~0x80) | (~reg & 8) << 4);
    if (in->has_mem)
        p0 = (uint8_t)((p0 & ~0x60) | (~base & 8) << 2 | (s->mem_index >= 8 ? 0 : 0x40));
    else if (s->rm.guest >= 0 || in->code_size != 8)
        p0 = (uint8_t)((p0 & ~0x60) | 0x40 | (~rm & 8) << 2);
    if (in->code_size != 8) {
        p0 |= 0x10;
        p1 |= 0x40;
    }
    e8(e, 0x62);
    e8(e, p0);
    e8(e, p1);
    e8(e, in->evex[2]);
    e8(e, s->opcode);
    if (!in->has_mem) {
        e8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
    } else { /* never the short displacement, which EVEX scales */
        e_modrm_mem_long(e, reg, base, s->mem_index, s->mem_scale, s->mem_disp);
    }
    for (unsigned i = in->imm_at; i < in->length; i++)
        e8(e, in->bytes[i]);
}

/* Writes the instruction. */
static void same_encode(Emit *e, const Same *s)
{
    const Insn *in = s->in;
    unsigned reg = s->reg.guest >= 0 ? s->reg.host : s->reg_field;
    unsigned rm = s->rm_field, base = 0;
    bool rm_in_memory = false;
    if (in->has_mem)
        base = s->mem_base;
    else if (s->rm.guest >= 0 && s->rm.in_memory)
        rm_in_memory = true;
    else if (s->rm.guest >= 0)
        rm = s->rm.host;
    unsigned rex_b = in->has_mem ? base : rm_in_memory ? 0 : rm;
    if (rm_in_memory)
        e_cpu_prefix(e);
    if (in->encoding == ENC_EVEX) {
        same_encode_evex(e, s, reg, rm, base);
        return;
    }
    if (in->encoding == ENC_VEX) {
        static const uint8_t pp[5] = {0, 1, 2, 3, 0};
        unsigned vvvv = s->vvvv.guest >= 0 ? s->vvvv.host : in->vvvv;
        e8(e, 0xc4);
        e8(e, (~(reg >> 3) & 1) << 7 | (in->has_mem && s->mem_index >= 8 ? 0 : 0x40u) | (~(rex_b >> 3) & 1) << 5 | in->map);
        e8(e, (in->w ? 0x80u : 0) | (~vvvv & 15) << 3 | (unsigned)in->vex_l << 2 | pp[in->pp]);
        e8(e, s->opcode);
    } else {
        if (in->lock)
            e8(e, 0xf0);
        if (s->op66)
            e8(e, 0x66);
        if (in->row->prefix == PP_F3)
            e8(e, 0xf3);
        else if (in->row->prefix == PP_F2)
            e8(e, 0xf2);
        e_rex(e, s->w, s->has_modrm ? reg : 0, in->has_mem && s->mem_index >= 0 ? (unsigned)s->mem_index : 0, rex_b, byte_needs_rex(&s->reg) || (!rm_in_memory && byte_needs_rex(&s->rm)));
        if (in->map != MAP_1B)
            e8(e, 0x0f);
        if (in->map == MAP_38)
            e8(e, 0x38);
        else if (in->map == MAP_3A)
            e8(e, 0x3a);
        if (!s->has_modrm && s->rm.guest >= 0)
            e8(e, (s->opcode & ~7u) | ((s->rm.is_high ? s->rm.host + 4u : rm) & 7)); /* register in the opcode */
        else
            e8(e, s->opcode);
    }
    if (s->has_modrm) {
        unsigned r = ((s->reg.guest >= 0 && s->reg.is_high ? reg + 4 : reg) & 7) << 3;
        if (in->has_mem) {
            e_modrm_mem(e, r >> 3, (int)base, s->mem_index, s->mem_scale, s->mem_disp);
        } else if (rm_in_memory) {
            e8(e, r | 4);
            e8(e, 0x25);
            e_cpu_disp(e, GPR_OFF(s->rm.guest));
        } else {
            e8(e, 0xc0 | r | ((s->rm.guest >= 0 && s->rm.is_high ? rm + 4 : rm) & 7));
        }
    }
    for (unsigned i = in->imm_at; i < in->length; i++)
        e8(e, in->bytes[i]);
}

/* With memory it is atomic without a LOCK prefix. */
static bool insn_is_xchg(const Insn *in) { return in->map == MAP_1B && (in->opcode & 0xfe) == 0x86; }

static bool host_is_extended(const Gpr *g) { return g->guest >= 0 && !g->in_memory && g->host >= 8; }

/* xchg rl, rh: swaps the two low bytes of RAX, RCX, RDX or RBX; changes no flag. */
static void e_swap_bytes(Emit *e, unsigned reg)
{
    e8(e, 0x86);
    e8(e, 0xc0 | (reg + 4) << 3 | reg);
}

/* Bit strings: BT/BTS/BTR/BTC with a register offset and a memory operand reach beyond the operand. */
static void same_bit_address(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    unsigned bits_log2 = in->opsize == 8 ? 6 : in->opsize == 4 ? 5 : 4;
    unsigned source = reg_is_spilled(in->reg) ? H_T1 : reg_host(in->reg);
    tr_flags_clobber(t);
    if (source == H_T1)
        e_load_gs(e, H_T1, GPR_OFF(in->reg));
    if (in->opsize == 8) {
        if (source != H_T1)
            e_mov_rr(e, true, H_T1, source);
    } else if (in->opsize == 4) {
        e_rr(e, true, XO_MOVSXD, H_T1, source);
    } else { /* movsx T1, source16 */
        e_rex(e, true, H_T1, 0, source, false);
        e8(e, 0x0f);
        e8(e, 0xbf);
        e8(e, 0xc0 | (H_T1 & 7) << 3 | (source & 7));
    }
    e_store_gs(e, H_T1, CPU_OFF(scratch[2]));
    e_shift(e, true, 7, H_T1, bits_log2);
    e_mem(e, in->addrsize == 8, XO_LEA, H_T0, H_T0, H_T1, in->opsize, 0);
    if (in->addrsize == 2) {
        e_rex(e, false, H_T0, 0, H_T0, false);
        e8(e, 0x0f);
        e8(e, 0xb7);
        e8(e, 0xc0 | (H_T0 & 7) << 3 | (H_T0 & 7));
    }
    e_load_gs(e, H_T1, CPU_OFF(scratch[2]));
    e_ri(e, false, XG_AND, H_T1, (1 << bits_log2) - 1);
    e_store_gs(e, H_T1, CPU_OFF(scratch[2]));
}

/* What the slow path must know about the elements that the mask of @in selects. */
static uint32_t masked_access(const Insn *in)
{
    uint32_t attr = in->row->attr;
    unsigned element = attr_element(attr), granule = attr_granule(attr), bits = granule ? (16u << in->vex_l) / granule : 1;
    return ACCESS_MASKED | (attr & A_PACKED ? ACCESS_PACKED : 0) | (in->evex[2] & 7u) << ACCESS_MASK_SHIFT |
           (unsigned)__builtin_ctz(element) << ACCESS_ELEMENT_SHIFT | (unsigned)__builtin_ctz(bits) << ACCESS_MASK_BITS_SHIFT;
}

/* Whether a misaligned operand of @in is #GP: legacy SSE, CMPXCHG16B, and in other encodings the moves that are made for it. */
static bool raises_gp(const Insn *in)
{
    static const uint8_t moves[] = {0x28, 0x29, 0x2a, 0x2b, 0x6f, 0x7f, 0xe7};
    bool is_sha = (in->map == MAP_38 && in->opcode >= 0xc8 && in->opcode <= 0xcd) || (in->map == MAP_3A && in->opcode == 0xcc);
    if (in->map == MAP_0F && in->opcode == 0xc7 && in->mem_size == 16)
        return true;
    if (in->encoding == ENC_LEGACY && is_sha) /* #AC on Zen 5 */
        return false;
    if (!(in->row->attr & A_ALIGN) || in->encoding != ENC_VEX)
        return in->row->attr & A_ALIGN;
    return memchr(moves, in->opcode, sizeof moves) && (in->map == MAP_0F) != (in->opcode == 0x2a);
}

void tr_same(Tr *t, const Insn *in)
{
    Emit *e = &t->e;
    Same s = {.in = in};
    same_operands(&s);
    same_allocate(&s);
    bool is_bit_string = in->row->attr & A_BITS && in->has_mem;
    if (is_bit_string) {
        s.reg.host = H_T1;
        s.reg.is_high = false;
    }
    if (in->has_mem) {
        uint32_t access = (in->row->access & ACC_R ? ACCESS_READ : 0) | (in->row->access & ACC_W ? ACCESS_WRITE : 0);
        if (in->lock || insn_is_xchg(in))
            access |= ACCESS_LOCKED;
        if ((in->row->attr & A_NOW) || !access)
            access = in->row->access & ACC_W ? access : ACCESS_READ;
        if (raises_gp(in))
            access |= ACCESS_ALIGNED;
        if (insn_is_masked(in))
            access |= masked_access(in);
        if (is_bit_string) {
            tr_group_begin(t, in, TR_MEMBER_MEM); /* never in one */
            tr_address(t, in);
            same_bit_address(t, in);
            tr_access_begin(t, in->segment, in->mem_size, access, in->segment == X86_SS);
        } else {
            tr_mem_begin(t, in, in->mem_size, access, !s.reg.is_high && !s.rm.is_high);
        }
        s.mem_base = t->mem_base;
        s.mem_index = t->mem_index;
        s.mem_scale = t->mem_scale;
        s.mem_disp = t->mem_disp;
    }
    tr_flags_before(t, in);
    tr_access_map(t, in);

    Gpr *list[3] = {&s.rm, &s.reg, &s.vvvv};
    for (unsigned i = 0; i < 3; i++) {
        Gpr *g = list[i];
        if (g->guest < 0 || g->in_memory)
            continue;
        if (is_bit_string && g == &s.reg)
            e_load_gs(e, H_T1, CPU_OFF(scratch[2]));
        else if (reg_is_spilled((unsigned)g->guest) && g->is_read)
            e_load_gs(e, g->host, GPR_OFF(g->guest));
    }
    /* AH–BH cannot be encoded beside a REX prefix: swap them into the low byte, or copy. */
    bool needs_rex = in->has_mem || s.w || host_is_extended(&s.reg) || host_is_extended(&s.rm) ||
                     byte_needs_rex(&s.reg) || byte_needs_rex(&s.rm);
    Gpr *high = s.reg.guest >= 0 && s.reg.is_high ? &s.reg : s.rm.guest >= 0 && s.rm.is_high ? &s.rm : NULL;
    unsigned swapped = 0;
    bool swap = false;
    if (high && needs_rex) {
        bool both = s.reg.is_high && s.rm.is_high;
        if (!both && !high->is_written) {
            unsigned source = high->host;
            e_swap_bytes(e, source);
            e_rex(e, false, source, 0, H_T1, false); /* mov T1b, low byte */
            e8(e, XO_MOV8_MR);
            e8(e, 0xc0 | source << 3 | (H_T1 & 7));
            e_swap_bytes(e, source);
            high->host = H_T1;
        } else {
            swap = true;
            swapped = high->host;
            e_swap_bytes(e, swapped);
        }
        high->is_high = false;
    }
    same_encode(e, &s);
    if (swap)
        e_swap_bytes(e, swapped);
    for (unsigned i = 0; i < 3; i++) {
        Gpr *g = list[i];
        if (g->guest >= 0 && !g->in_memory && g->is_written && reg_is_spilled((unsigned)g->guest)) {
            bool later_wins = i == 2 && s.reg.guest == g->guest && s.reg.is_written; /* MULX r, r: the high half */
            if (!later_wins)
                e_store_gs(e, g->host, GPR_OFF(g->guest));
        }
    }
    if (in->has_mem)
        tr_access_end(t);
    tr_flags_after(t, in);
}
