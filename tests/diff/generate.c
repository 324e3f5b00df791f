/* Random cases: instructions from rows of the table, with registers set so that memory operands point into the window. */
#include "oracle.h"

#include <string.h>

#include "bt/decode.h"

uint64_t rng_next(Rng *rng)
{
    rng->s += 0x9e3779b97f4a7c15u;
    uint64_t z = rng->s;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool chance(Rng *rng, unsigned percent) { return rng_below(rng, 100) < percent; }

/* ---- values ----------------------------------------------------------------------------------------------------------------------- */

static uint32_t float_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static uint64_t double_bits(double d) { uint64_t u; memcpy(&u, &d, 8); return u; }

static uint64_t interesting(Rng *rng)
{
    static const uint64_t edge[] = {
        0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff,
        0x8000000000000000, 0xffffffffffffffff, 0xffffffff80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0x00000001,
        0x7ff0000000000000, 0xfff8000000000000, 0x7ff0000000000001, 0x0000000000000001, 0x3ff0000000000000, 0x3f8000003f800000,
    };
    uint64_t v = rng_next(rng);
    switch (rng_below(rng, 8)) {
    case 0: return edge[rng_below(rng, sizeof edge / sizeof edge[0])];
    case 1: return v & 0xff;
    case 2: return v & 0xffff;
    case 3: return (uint32_t)v;
    case 4: return double_bits((double)(int64_t)v / (double)(1ll << rng_below(rng, 60)));
    case 5: return float_bits((float)(int32_t)v / 256.0f) | (uint64_t)float_bits((float)(v >> 40)) << 32;
    case 6: return (uint64_t)-(int64_t)(v & 0xffff);
    default: return v;
    }
}

void generate_template(Rng *rng, uint8_t *window)
{
    for (unsigned i = 0; i < WINDOW_SIZE; i += 8) {
        uint64_t v = chance(rng, 10) ? CODE + rng_below(rng, CODE_CASES) : interesting(rng);
        memcpy(window + i, &v, 8);
    }
}

static void random_st(Rng *rng, uint8_t *out)
{
    uint64_t mantissa = rng_next(rng) | 1ull << 63;
    uint16_t exponent = (uint16_t)(0x3fff - 70 + (int)rng_below(rng, 140));
    switch (rng_below(rng, 12)) {
    case 0: mantissa = 0, exponent = 0; break;
    case 1: mantissa = 1ull << 63, exponent = 0x7fff; break;
    case 2: mantissa = 3ull << 62, exponent = 0x7fff; break;
    case 3: mantissa = rng_next(rng), exponent = 0x7fff; break;
    case 4: mantissa = rng_next(rng) >> 1, exponent = 0; break;
    case 5: mantissa = rng_next(rng) >> 1; break; /* unnormal */
    case 6: mantissa = 1ull << 63, exponent = (uint16_t)(0x3fff + rng_below(rng, 8)); break;
    default: break;
    }
    exponent |= (uint16_t)(rng_next(rng) & 0x8000);
    memset(out, 0, 16);
    memcpy(out, &mantissa, 8);
    memcpy(out + 8, &exponent, 2);
}

static bool oracle_has_avx512(void)
{
    static int known = -1;
    if (known < 0)
        known = oracle_xsave(5) != 0;
    return known;
}

static void random_vectors(Rng *rng, OracleState *s)
{
    memset(s->fx, 0, sizeof s->fx);
    uint16_t fcw = (uint16_t)(0x7f | rng_below(rng, 4) << 8 | rng_below(rng, 4) << 10);
    if (chance(rng, 60))
        fcw = 0x37f;
    if (chance(rng, 4))
        fcw &= (uint16_t)~(1u << rng_below(rng, 6));
    uint16_t fsw = (uint16_t)(rng_below(rng, 8) << 11 | (rng_next(rng) & 0x4700));
    uint8_t ftw = chance(rng, 50) ? 0xff : (uint8_t)rng_next(rng);
    memcpy(s->fx, &fcw, 2);
    memcpy(s->fx + 2, &fsw, 2);
    s->fx[4] = ftw;
    uint32_t mxcsr = 0x1f80;
    if (chance(rng, 40))
        mxcsr |= rng_below(rng, 4) << 13 | (chance(rng, 30) ? 0x8000u : 0) | (chance(rng, 30) ? 0x40u : 0) | rng_below(rng, 64);
    if (chance(rng, 4))
        mxcsr = (mxcsr & ~0x3fu) & ~(0x80u << rng_below(rng, 6));
    memcpy(s->fx + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++)
        random_st(rng, s->fx + 32 + 16 * i);
    for (unsigned i = 0; i < 32; i++) {
        uint64_t v = interesting(rng);
        memcpy(s->fx + 160 + 8 * i, &v, 8);
        v = interesting(rng);
        memcpy(s->ymm_high + 8 * i, &v, 8);
    }
    if (!oracle_has_avx512())
        return;
    for (unsigned i = 0; i < 8; i++)
        s->mask[i] = chance(rng, 30) ? rng_next(rng) & rng_next(rng) & rng_next(rng) : chance(rng, 10) ? 0 : rng_next(rng);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t v = interesting(rng);
        memcpy(s->zmm_high + 8 * i, &v, 8);
    }
    for (unsigned i = 0; i < 128; i++) {
        uint64_t v = interesting(rng);
        memcpy(s->zmm + 8 * i, &v, 8);
    }
}

/* ---- which rows ------------------------------------------------------------------------------------------------------------------- */

static bool name_is(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

static bool has(const InsnRow *row, unsigned method)
{
    for (unsigned k = 0; k < 4; k++)
        if (row->operand[k] >> 8 == method)
            return true;
    return false;
}

const char *generate_skip_reason(const InsnRow *row, unsigned code_size)
{
    static const char *const unstable[] = {"rdrand", "rdseed", "rdtsc", "rdtscp", "cpuid", "rdpmc", "xgetbv", "rdpid", NULL};
    static const char *const kernel[] = {"syscall", "sysenter", "int", "int1", "int3", "sgdt", "sidt", "sldt", "str", "smsw", "lar", "lsl",
                                         "verr", "verw", "rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase", "iret", "retf", "call far",
                                         "jmp far", "rdpkru", "wrpkru", "invpcid", "sysexit", "sysret", "monitor", "mwait", NULL};
    static const char *const loads_segment[] = {"lss", "lfs", "lgs", "les", "lds", NULL};
    if (row->attr & A_AVX512 && !oracle_has_avx512())
        return "the host has no AVX-512";
    if (row->attr & (code_size == 8 ? A_I64 : A_O64))
        return "not in code of this size";
    if (row->operand[0] >> 8 == M_C || row->operand[0] >> 8 == M_D || row->operand[1] >> 8 == M_C || row->operand[1] >> 8 == M_D)
        return "#UD or #GP first: vendors differ";
    if (code_size == 4 && (row->attr & (A_D64 | A_I64) || (row->attr & A_F64 && !has(row, M_J)) || has(row, M_S) || name_is(row->name,
        (const char *const[]){"call", "ret", "leave", "enter", "pushf", "popf", "push", "pop", "iret", "fxrstor", "fxsave",
        "xsave", "xsavec", "xsaveopt", "xrstor", NULL})))
        return "no 64-bit equivalent";
    if (name_is(row->name, unstable))
        return "answer depends on time or host";
    if (row->how == HOW_CALL && (row->operand[0] >> 8 == M_A || ((row->operand[0] >> 8) == M_M && row->operand[0] % 256 == S_p)))
        return "far transfer";
    if (row->how == HOW_CALL && name_is(row->name, kernel))
        return "the host's kernel would see it";
    bool is_pop_segment = strncmp(row->name, "pop", 3) == 0 && row->how == HOW_CALL && row->map <= MAP_0F && row->operand[0] >> 8 != M_E;
    if (row->operand[0] >> 8 == M_S || is_pop_segment || name_is(row->name, loads_segment))
        return "loads a segment register";
    if (row->map == MAP_1B && row->opcode_first == 0xcc)
        return "ends a case";
    return NULL;
}

/* ---- cases ------------------------------------------------------------------------------------------------------------------------ */

typedef struct Gen {
    Rng *rng;
    Case *c;
    bool used[16], dirty[16]; /* value settled; changed by an instruction of this case */
    uint64_t rip;             /* of the instruction being made */
    bool is64;
    unsigned nregs;           /* GPRs and vector registers there are */
    int32_t disp8_unit;       /* what a one-byte displacement counts */
} Gen;

static bool row_has_modrm(const InsnRow *row)
{
    static const uint8_t methods[] = {M_E, M_G, M_M, M_R, M_V, M_W, M_U, M_P, M_Q, M_N, M_S, M_C, M_D, M_FP, M_ST, M_MK, M_RK};
    if (row->digit >= 0 || row->modrm >= 0 || row->attr & (A_MEM | A_REG))
        return true;
    for (unsigned i = 0; i < sizeof methods; i++)
        if (has(row, methods[i]))
            return true;
    return false;
}

static bool row_can_have_memory(const InsnRow *row)
{
    if (row->attr & A_REG || row->modrm >= 0xc0 || has(row, M_R) || has(row, M_U) || has(row, M_N) || has(row, M_ST))
        return false;
    return has(row, M_E) || has(row, M_M) || has(row, M_W) || has(row, M_Q) || has(row, M_FP) || has(row, M_RK) || row->attr & A_MEM;
}

/* An address for an operand of @size bytes. */
static uint64_t choose_target(Rng *rng, unsigned size, bool aligned)
{
    unsigned kind = rng_below(rng, 100);
    unsigned align = size >= 64 ? 64 : size >= 32 ? 32 : size >= 16 ? 16 : size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
    unsigned page = rng_below(rng, 4);
    if (kind < 60)
        return WINDOW + page * 4096 + (rng_below(rng, 4096 - 512) & ~(align - 1));
    if (kind < 76)
        return WINDOW + page * 4096 + rng_below(rng, 4096 - 512) / (aligned ? align : 1) * (aligned ? align : 1);
    if (kind < 86 && size > 1)
        return WINDOW + (rng_below(rng, 3) + 1) * 4096 - 1 - rng_below(rng, size - 1);
    if (kind < 90)
        return WINDOW + WINDOW_RO * 4096 + (rng_below(rng, 3072) & ~(align - 1));
    if (kind < 92 && size > 1)
        return WINDOW + (chance(rng, 50) ? WINDOW_RO : WINDOW_HOLE) * 4096 - 1 - rng_below(rng, size - 1);
    if (kind < 95)
        return WINDOW + WINDOW_HOLE * 4096 + (rng_below(rng, 4000) & ~(align - 1));
    if (kind < 97)
        return 0x8000000000000000u ^ (WINDOW + (rng_below(rng, 4096) & ~(align - 1)));
    return WINDOW + (6 + rng_below(rng, 2)) * 4096 + (rng_below(rng, 3500) & ~(align - 1));
}

static void set_gpr(Gen *g, unsigned reg, uint64_t value)
{
    if (g->used[reg])
        return;
    g->c->in.gpr[reg] = value;
    g->used[reg] = true;
}

/* Bytes of ModRM, SIB and displacement for an operand at @target.  *rip_disp: where a RIP-relative displacement is to be filled in. */
static unsigned memory_operand(Gen *g, uint8_t *out, uint8_t *rex, unsigned reg, uint64_t target, bool addr32, bool vsib, int *rip_disp)
{
    Rng *rng = g->rng;
    uint64_t *gpr = g->c->in.gpr;
    uint64_t mask = addr32 || !g->is64 ? 0xffffffff : ~(uint64_t)0;
    unsigned n = 0, form = rng_below(rng, 100), scale = rng_below(rng, 4);
    *rip_disp = -1;
    if (form < 8 && !vsib && target < 0x80000000u) {
        out[n++] = (uint8_t)((reg & 7) << 3 | 5);
        *rip_disp = (int)n;
        memcpy(out + n, &target, 4);
        return n + 4;
    }
    if (form < 14 && !vsib && target < 0x80000000u) {
        out[n++] = (uint8_t)((reg & 7) << 3 | 4);
        out[n++] = 0x25;
        memcpy(out + n, &target, 4);
        *rex &= (uint8_t)~2;
        return n + 4;
    }
    unsigned base = rng_below(rng, g->nregs);
    for (unsigned i = 0; i < 8 && g->dirty[base]; i++)
        base = rng_below(rng, g->nregs);
    bool has_index = vsib || form < 55;
    unsigned index = rng_below(rng, g->nregs);
    for (unsigned i = 0; i < 16 && !vsib && (index == 4 || g->dirty[index] || index == base); i++)
        index = rng_below(rng, g->nregs);
    if (!vsib && index == 4)
        has_index = false;
    uint64_t indexed = 0;
    if (has_index && !vsib) {
        set_gpr(g, index, chance(rng, 20) ? -(uint64_t)rng_below(rng, 64) : rng_below(rng, 200));
        indexed = gpr[index] << scale;
    }
    int32_t disp = chance(rng, 30) ? 0 : chance(rng, 60) ? (int32_t)(int8_t)rng_next(rng) * (chance(rng, 80) ? g->disp8_unit : 1) : (int32_t)(rng_next(rng) & 0xffffff) - 0x800000;
    if (!g->used[base]) {
        uint64_t value = (target - indexed - (uint64_t)(int64_t)disp) & mask;
        if (addr32 && g->is64)
            value |= rng_next(rng) << 32;
        set_gpr(g, base, value);
    } else {
        disp = (int32_t)(target - indexed - gpr[base]); /* wrong when out of reach: then the case faults, on both sides */
    }
    int32_t short_disp = disp % g->disp8_unit ? 128 : disp / g->disp8_unit;
    unsigned mod = disp == 0 && (base & 7) != 5 ? 0 : short_disp >= -128 && short_disp < 128 ? 1 : 2;
    *rex &= (uint8_t)~3;
    *rex |= (uint8_t)(base >> 3);
    if (has_index || (base & 7) == 4) {
        out[n++] = (uint8_t)(mod << 6 | (reg & 7) << 3 | 4);
        out[n++] = (uint8_t)(scale << 6 | (has_index ? index & 7 : 4) << 3 | (base & 7));
        if (has_index)
            *rex |= (uint8_t)(index >> 3 << 1);
    } else {
        out[n++] = (uint8_t)(mod << 6 | (reg & 7) << 3 | (base & 7));
    }
    if (mod == 1) {
        out[n++] = (uint8_t)short_disp;
    } else if (mod == 2) {
        memcpy(out + n, &disp, 4);
        n += 4;
    }
    return n;
}

static void random_bytes(Rng *rng, uint8_t *out, unsigned n)
{
    uint64_t v = chance(rng, 30) ? interesting(rng) : rng_next(rng);
    memcpy(out, &v, n);
}

static unsigned size_bytes(unsigned size, unsigned opsize, bool w)
{
    switch (size) {
    case S_b: return 1;
    case S_w: return 2;
    case S_d: return 4;
    case S_q: return 8;
    case S_v: return opsize;
    case S_z: return opsize == 8 ? 4 : opsize;
    case S_y: return w ? 8 : 4;
    default: return 0;
    }
}

static void plant(Case *c, uint64_t address, uint64_t value)
{
    if (c->nplants < sizeof c->plant / sizeof c->plant[0])
        c->plant[c->nplants++] = (Plant){(uint32_t)address, value};
}

/* What certain rows need in registers to be more than a fault. */
static void prepare_registers(Gen *g, const InsnRow *row, const Insn *in)
{
    Rng *rng = g->rng;
    bool is_division = row->map == MAP_1B && (row->opcode_first & 0xfe) == 0xf6 && row->digit >= 6;
    if (is_division && chance(rng, 80)) {
        uint64_t low = interesting(rng);
        set_gpr(g, X86_RAX, row->opcode_first == 0xf6 ? low & 0xfff : low);
        set_gpr(g, X86_RDX, row->digit == 7 && (int64_t)low < 0 ? ~(uint64_t)0 : rng_below(rng, 3));
    }
    if (row->attr & A_BITS)
        set_gpr(g, in->reg, (uint64_t)((int64_t)rng_below(rng, 16000) - 8000));
    if (has(row, M_X) || has(row, M_Y) || (row->map == MAP_1B && row->opcode_first >= 0xa4 && row->opcode_first <= 0xaf && row->how == HOW_CALL)) {
        set_gpr(g, X86_RCX, rng_below(rng, 40));
        set_gpr(g, X86_RSI, WINDOW + rng_below(rng, 4 * 4096 - 400) + 400);
        set_gpr(g, X86_RDI, WINDOW + rng_below(rng, 4 * 4096 - 400) + 400);
    }
    if (row->how == HOW_EMIT && row->tr == TR_POPF) {
        uint64_t keep = chance(rng, 30) ? ~(uint64_t)0 : ~(uint64_t)X86_FLAG_TF;
        plant(g->c, g->c->in.gpr[X86_RSP], rng_next(rng) & keep & ~(uint64_t)X86_FLAG_VIP);
    }
    if (row->opcode_first == 0xf7 && row->map == MAP_0F)
        set_gpr(g, X86_RDI, choose_target(rng, 16, false) & ~(1ull << 63)); /* CPUs differ when no byte is stored */
    if (row->how == HOW_EMIT && row->tr == TR_XLAT)
        set_gpr(g, X86_RBX, choose_target(rng, 256, false) & ~0xffull);
    if (row->how == HOW_EMIT && (row->tr == TR_LOOP || row->tr == TR_JCXZ) && chance(rng, 50))
        set_gpr(g, X86_RCX, rng_below(rng, 3));
    if (row->how == HOW_EMIT && (row->tr == TR_JMP_RM || row->tr == TR_CALL_RM) && !in->has_mem)
        set_gpr(g, in->rm, CODE + rng_below(rng, CODE_CASES));
    if (row->attr & A_VSIB && in->index >= 0) {
        for (unsigned i = 8; i < 16; i++) { /* the upper half of a ZMM register */
            uint32_t v = in->opcode & 1 && i & 1 ? 0 : rng_below(rng, 300);
            memcpy((in->index >= 16 ? g->c->in.zmm + 64 * (in->index - 16) + 32 : g->c->in.zmm_high + 32 * in->index) + 4 * (i - 8), &v, 4);
        }
        for (unsigned i = 0; i < 8; i++) {
            uint32_t v = in->opcode & 1 ? (i & 1 ? 0 : rng_below(rng, 300)) : rng_below(rng, 300);
            if (in->index >= 16) {
                memcpy(g->c->in.zmm + 64 * (in->index - 16) + 4 * i, &v, 4);
                continue;
            }
            uint8_t *at = i < 4 ? g->c->in.fx + 160 + 16 * in->index + 4 * i : g->c->in.ymm_high + 16 * in->index + 4 * (i - 4);
            memcpy(at, &v, 4);
        }
    }
}

static void mark_dirty(Gen *g, const InsnRow *row, const Insn *in)
{
    for (unsigned k = 0; k < 2; k++) {
        if (k == 1 && !(row->attr & A_W2))
            continue;
        switch (row->operand[k] >> 8) {
        case M_G: g->dirty[in->reg] = true; break;
        case M_E: case M_R: case M_Z: if (!in->has_mem) g->dirty[in->rm] = true; break;
        case M_B: g->dirty[in->vvvv] = true; break;
        case M_ACC: g->dirty[X86_RAX] = true; break;
        default: break;
        }
    }
    if (row->how != HOW_SAME || row->attr & A_NOW)
        g->dirty[X86_RAX] = g->dirty[X86_RDX] = g->dirty[X86_RCX] = true;
    if (row->how == HOW_EMIT && (row->tr == TR_PUSH || row->tr == TR_POP || row->tr == TR_PUSH_IMM || row->tr == TR_PUSH_RM ||
                                 row->tr == TR_POP_RM || row->tr == TR_LEAVE || row->tr == TR_PUSHF || row->tr == TR_POPF))
        g->dirty[X86_RSP] = true;
}

/* P2 of an EVEX prefix: z, L'L, b, V', aaa. */
static uint8_t evex_fields(Gen *g, const InsnRow *row, bool memory)
{
    Rng *rng = g->rng;
    unsigned l = row->attr & A_L0 ? 0 : row->attr & A_L1 ? 1 + rng_below(rng, 2) : rng_below(rng, 3);
    bool is_scalar = attr_element(row->attr) && !attr_granule(row->attr);
    bool b = memory ? attr_granule(row->attr) >= 4 && !is_scalar && chance(rng, 25) : chance(rng, 10);
    unsigned aaa = row->attr & A_VSIB ? 1 + rng_below(rng, 7) : chance(rng, 40) ? 0 : rng_below(rng, 8);
    bool z = aaa && !(row->attr & A_VSIB) && (row->access != ACC_W || !memory) && chance(rng, 30);
    bool high = g->is64 && (has(row, M_H) || row->attr & A_VSIB) && chance(rng, 50);
    if (row->attr & A_VSIB)
        b = false;
    if (chance(rng, 2))
        z = !z;
    if (b && !memory)
        l = rng_below(rng, 4);
    return (uint8_t)(z << 7 | l << 5 | b << 4 | (high ? 0 : 8) | aaa);
}

/* Bytes of the memory operand. */
static unsigned evex_size(const InsnRow *row, unsigned size, bool w, uint8_t p2)
{
    Insn in = {.encoding = ENC_EVEX, .vex_l = p2 >> 5 & 3, .w = w};
    if (p2 & 0x10)
        return w ? 8 : 4;
    return insn_size_bytes(&in, size);
}

static bool row_is_state_block(const InsnRow *row) { return row->how == HOW_CALL && row->operand[0] == (M_M << 8 | S_mx); }

/* Where a block of FXSAVE or XSAVE stands, with registers and a header that mostly are valid. */
static uint64_t choose_block(Gen *g, const InsnRow *row)
{
    enum { AT_MXCSR = 24, AT_BV = 512, AT_COMP = 520, AT_RESERVED = 528, HEADER_END = 576, COMPONENTS = 0xe7, NOT_GUESTS = 0x60200 };
    Rng *rng = g->rng;
    bool is_x = row->name[0] == 'x', is_fx = row->name[1] == 'x';
    uint64_t target = choose_target(rng, 64, false);
    if (chance(rng, 90))
        target &= ~(uint64_t)(is_x ? 63 : is_fx ? 15 : 3);
    set_gpr(g, X86_RAX, rng_next(rng) & ~(uint64_t)NOT_GUESTS); /* PKRU and AMX, which the host may have on */
    if (target - WINDOW >= WINDOW_RO * 4096 - HEADER_END)
        return target;
    plant(g->c, target + AT_MXCSR, rng_next(rng) & (chance(rng, 95) ? 0xffffu : 0xffffffffu));
    if (!is_x)
        return target;
    uint64_t bv = rng_next(rng) & (chance(rng, 95) ? COMPONENTS : ~(uint64_t)0);
    plant(g->c, target + AT_BV, bv);
    plant(g->c, target + AT_COMP, chance(rng, 40) ? 0 : (chance(rng, 95) ? 1ull << 63 | (bv & COMPONENTS) : 0) | (rng_next(rng) & COMPONENTS));
    for (unsigned at = AT_RESERVED; at < HEADER_END; at += 8)
        plant(g->c, target + at, chance(rng, 1) ? rng_next(rng) : 0);
    return target;
}

/* One instruction for @row at code[c->ncode].  False: these choices do not make a valid one. */
static bool generate_insn(Gen *g, unsigned row_index)
{
    const InsnRow *row = &insn_table[row_index];
    Rng *rng = g->rng;
    Case *c = g->c;
    uint8_t out[32];
    unsigned n = 0;
    bool vex = row->encodings == VEX || (row->encodings & VEX && chance(rng, 50));
    bool evex = row->encodings == ENC_EVEX, has_y = false;
    for (unsigned k = 0; k < 4; k++)
        has_y |= row->operand[k] && (row->operand[k] & 0xff) == S_y;
    bool w = row->attr & A_W1 ? true : row->attr & A_W0 ? false : (g->is64 || vex) && (g->is64 || !has_y) ? chance(rng, 35) : false;
    bool op66 = row->prefix == PP_66 || (row->prefix == PP_ANY && chance(rng, 20)) ||
                (!vex && (row->prefix == PP_F3 || row->prefix == PP_F2) && has(row, M_G) && chance(rng, 15));
    if (row->attr & A_F64)
        op66 = false; /* vendors differ on near branches under 66; bt follows Intel */
    bool modrm = row_has_modrm(row);
    bool memory = modrm && row_can_have_memory(row) && (row->attr & A_MEM || has(row, M_M) || chance(rng, 60));
    bool addr32 = memory && g->is64 && chance(rng, 4), gs = memory && g->is64 && chance(rng, 4);
    bool lock = memory && row->attr & A_LOCK && row->access & ACC_W && chance(rng, 15);
    bool l = row->attr & A_L1 ? true : row->attr & A_L0 ? false : chance(rng, 50);
    bool is_string = has(row, M_X) || has(row, M_Y) || (row->map == MAP_1B && row->opcode_first >= 0xa4 && row->opcode_first <= 0xaf &&
                     row->how == HOW_CALL);
    uint8_t rex = g->is64 ? (uint8_t)(rng_next(rng) & 7) : 0;
    if (has(row, M_ST) || row->modrm >= 0 || has(row, M_N) || has(row, M_P))
        rex &= (uint8_t)~1;
    unsigned opcode = row->opcode_first + rng_below(rng, row->opcode_last - row->opcode_first + 1u);
    unsigned reg = row->digit >= 0 ? (unsigned)row->digit : rng_below(rng, 8);
    unsigned opsize = !g->is64 ? (op66 ? 2 : 4) : w || row->attr & A_F64 ? 8 : op66 ? 2 : row->attr & A_D64 ? 8 : 4;

    uint8_t evex_p2 = evex ? evex_fields(g, row, memory) : 0;
    uint8_t tail[16];
    unsigned ntail = 0;
    int rip_disp = -1;
    if (memory) {
        unsigned size = 0;
        for (unsigned k = 0; k < 4; k++) {
            unsigned method = row->operand[k] >> 8, s = row->operand[k] & 0xff;
            if (evex && (method == M_E || method == M_M || method == M_W))
                size = evex_size(row, s, w, evex_p2);
            else if (method == M_E || method == M_M || method == M_W || method == M_Q || method == M_FP || method == M_RK)
                size = s == S_x ? (vex && l ? 32 : 16) : s == S_xh ? (vex && l ? 16 : 8) : s == S_dq ? 16 : s == S_t ? 10 : s == S_qq ? 32
                       : size_bytes(s, opsize, w);
        }
        g->disp8_unit = !evex ? 1 : row->attr & A_PACKED ? (int32_t)attr_element(row->attr) : size ? (int32_t)size : 1;
        uint64_t target = choose_target(rng, size ? size : 1, row->attr & A_ALIGN && chance(rng, 80));
        if (row->how == HOW_EMIT && (row->tr == TR_JMP_RM || row->tr == TR_CALL_RM)) {
            target = WINDOW + (rng_below(rng, 3 * 4096) & ~7u);
            plant(c, target, CODE + rng_below(rng, CODE_CASES));
        }
        if (row_is_state_block(row))
            target = choose_block(g, row);
        ntail = memory_operand(g, tail, &rex, reg, gs ? target - ORACLE_GS : target, addr32, row->attr & A_VSIB, &rip_disp);
    } else if (modrm) {
        unsigned rm = row->modrm >= 0 ? (unsigned)row->modrm & 7 : rng_below(rng, 8);
        if (row->modrm >= 0)
            reg = (unsigned)row->modrm >> 3 & 7;
        tail[ntail++] = (uint8_t)(0xc0 | reg << 3 | rm);
        if (!evex || has(row, M_E) || has(row, M_R) || has(row, M_RK))
            rex &= (uint8_t)~2;
    }
    if (!vex && chance(rng, 40) && !w && !memory)
        rex = 0;

    bool needs_67 = !g->is64 && (memory || is_string || has(row, M_O) || (row->how == HOW_EMIT && (row->tr == TR_XLAT ||
                    row->tr == TR_LOOP || row->tr == TR_JCXZ || row->tr == TR_LEA)));
    if (needs_67)
        out[n++] = 0x3e;
    if (gs)
        out[n++] = 0x65;
    if (addr32)
        out[n++] = 0x67;
    if (lock)
        out[n++] = 0xf0;
    if (evex) {
        static const uint8_t pp[5] = {0, 1, 2, 3, 0};
        unsigned vvvv = has(row, M_H) ? rng_below(rng, g->nregs) : 0;
        bool high_reg = g->is64 && (has(row, M_V) || row->attr & A_VSIB) && chance(rng, 50);
        out[n++] = 0x62;
        out[n++] = (uint8_t)((~rex & 7) << 5 | (high_reg ? 0 : 0x10) | row->map);
        out[n++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | 4 | pp[row->prefix]);
        out[n++] = evex_p2;
    } else if (vex) {
        static const uint8_t pp[5] = {0, 1, 2, 3, 0};
        unsigned vvvv = has(row, M_H) || has(row, M_B) ? rng_below(rng, g->nregs) : 0;
        out[n++] = 0xc4;
        out[n++] = (uint8_t)((~rex & 7) << 5 | row->map);
        out[n++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp[row->prefix]);
    } else {
        if (op66)
            out[n++] = 0x66;
        if (row->prefix == PP_F3)
            out[n++] = 0xf3;
        if (row->prefix == PP_F2)
            out[n++] = 0xf2;
        if (is_string && chance(rng, 70))
            out[n++] = chance(rng, 50) ? 0xf3 : 0xf2;
        if (rex || w)
            out[n++] = (uint8_t)(0x40 | w << 3 | rex);
        if (row->map != MAP_1B)
            out[n++] = 0x0f;
        if (row->map > MAP_0F)
            out[n++] = row->map == MAP_38 ? 0x38 : 0x3a;
    }
    out[n++] = (uint8_t)opcode;
    unsigned tail_at = n;
    memcpy(out + n, tail, ntail);
    n += ntail;
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = row->operand[k] >> 8, size = size_bytes(row->operand[k] & 0xff, opsize, w);
        if (method == M_I || method == M_L) {
            random_bytes(rng, out + n, size);
            n += size;
        } else if (method == M_J) {
            if (size == 2 && g->is64)
                size = 4;
            /* To the INT3s before or after this case; short ones skip this case's other instructions at most backwards into INT3. */
            int32_t disp = size == 1 ? (chance(rng, 50) ? 100 + (int32_t)rng_below(rng, 20) : -110 - (int32_t)rng_below(rng, 18))
                                     : (int32_t)(CODE + rng_below(rng, CODE_CASES) - g->rip);
            memcpy(out + n, &disp, size);
            n += size;
        } else if (method == M_O) {
            uint64_t target = choose_target(rng, opsize, false);
            memcpy(out + n, &target, 8);
            n += g->is64 ? 8 : 4;
        }
    }
    if (rip_disp >= 0) {
        int32_t disp;
        memcpy(&disp, out + tail_at + rip_disp, 4);
        disp = (int32_t)((uint32_t)disp - (uint32_t)(g->rip + n));
        memcpy(out + tail_at + rip_disp, &disp, 4);
    }
    uint8_t native[32];
    memcpy(native, out, sizeof native);
    if (!g->is64 && rip_disp >= 0) { /* absolute in 32-bit code */
        int32_t disp;
        memcpy(&disp, out + tail_at + rip_disp, 4);
        disp = (int32_t)((uint32_t)disp + (uint32_t)(g->rip + n));
        memcpy(out + tail_at + rip_disp, &disp, 4);
    }
    if (needs_67)
        native[0] = 0x67;
    uint8_t padded[48] = {0};
    memcpy(padded, out, n);
    Insn in;
    if (n > 15 || insn_decode(&in, padded, 15, g->is64 ? 8 : 4, g->rip, 0) != INSN_OK || in.row != row || in.length != n)
        return false;
    if (row->how == HOW_EMIT && row->tr == TR_POPF && (g->dirty[X86_RSP] || c->in.gpr[X86_RSP] - WINDOW >= WINDOW_RO * 4096 - 8))
        return false;
    prepare_registers(g, row, &in);
    mark_dirty(g, row, &in);
    memcpy(c->code + c->ncode, out, n);
    memcpy(c->native_code + c->ncode, native, n);
    c->insn_at[c->ninsns] = (uint8_t)c->ncode;
    c->row[c->ninsns++] = (uint16_t)row_index;
    c->ncode += n;
    g->rip += n;
    return true;
}

/* A short instruction of our own making, appended as it is. */
static void append(Gen *g, const uint8_t *bytes, unsigned n, unsigned jump_to)
{
    Case *c = g->c;
    Insn in;
    uint8_t padded[15] = {0};
    memcpy(padded, bytes, n);
    if (insn_decode(&in, padded, 15, g->is64 ? 8 : 4, g->rip, 0) != INSN_OK)
        return;
    memcpy(c->code + c->ncode, bytes, n);
    memcpy(c->native_code + c->ncode, bytes, n);
    c->insn_at[c->ninsns] = (uint8_t)c->ncode;
    c->jump_to[c->ninsns] = (uint8_t)jump_to;
    c->row[c->ninsns++] = (uint16_t)(in.row - insn_table);
    c->ncode += n;
    g->rip += n;
}

/* Jcc over some of the instructions that follow, so that blocks join. */
static void maybe_jump_forward(Gen *g, unsigned remaining, uint16_t *sticky)
{
    uint8_t jcc[2] = {(uint8_t)(0x70 + rng_below(g->rng, 16)), 0};
    Insn in;
    uint8_t padded[15] = {jcc[0]};
    if (g->c->ninsns + remaining + 4 > CASE_INSNS || insn_decode(&in, padded, 15, 8, 0, 0) != INSN_OK ||
        in.row->flags_read & g->c->undefined)
        return;
    *sticky |= g->c->undefined;
    append(g, jcc, 2, g->c->ninsns + 2 + 1 + rng_below(g->rng, remaining));
}

/* DEC r; JNZ to the start. */
static void maybe_loop(Gen *g, uint16_t sticky)
{
    Case *c = g->c;
    unsigned reg = 8 + rng_below(g->rng, 8);
    if (!g->is64 || g->dirty[reg] || g->used[reg] || sticky || c->undefined || c->ninsns + 2 > CASE_INSNS || c->ncode > 110)
        return;
    for (unsigned i = 0; i < c->ninsns; i++)
        if (insn_table[c->row[i]].attr & A_ENDS && !c->jump_to[i])
            return;
    set_gpr(g, reg, 2 + rng_below(g->rng, 4));
    append(g, (const uint8_t[]){0x49, 0xff, (uint8_t)(0xc8 | (reg & 7))}, 3, 0);
    append(g, (const uint8_t[]){0x75, 0}, 2, 1);
}

static void patch_jumps(Case *c)
{
    for (unsigned i = 0; i < c->ninsns; i++) {
        if (!c->jump_to[i])
            continue;
        unsigned end = i + 1 < c->ninsns ? c->insn_at[i + 1] : c->insn_at[c->ninsns];
        unsigned to = c->jump_to[i] - 1 < (int)c->ninsns ? c->jump_to[i] - 1u : c->ninsns;
        c->code[end - 1] = c->native_code[end - 1] = (uint8_t)(c->insn_at[to] - end);
    }
}

void generate_case(Rng *rng, Case *c, uint64_t rip, const uint16_t *rows, unsigned nrows, unsigned ninsns,
                   unsigned code_size)
{
    memset(c, 0, sizeof *c);
    Gen g = {.rng = rng, .c = c, .rip = rip, .is64 = code_size == 8, .nregs = code_size == 8 ? 16 : 8, .disp8_unit = 1};
    c->code_size = code_size;
    for (unsigned i = 0; i < 16; i++) /* without R8 to R15, and with 32 bits, in 32-bit code: below */
        c->in.gpr[i] = chance(rng, 25) ? CODE + rng_below(rng, CODE_CASES) : interesting(rng);
    c->in.gpr[X86_RSP] = WINDOW + 4096 + (rng_below(rng, 2 * 4096) & (chance(rng, 90) ? ~7u : ~0u));
    if (chance(rng, 2))
        c->in.gpr[X86_RSP] = choose_target(rng, 8, false) & ~(1ull << 63); /* IRET to it would fault natively */
    g.used[X86_RSP] = true;
    c->in.rip = rip;
    c->in.rflags = rng_next(rng) & (X86_FLAGS_STATUS | (chance(rng, 20) ? X86_FLAG_DF : 0));
    c->in.rflags |= (chance(rng, 4) ? X86_FLAG_AC : 0) | (chance(rng, 4) ? X86_FLAG_TF : 0);
    random_vectors(rng, &c->in);
    c->in.components = chance(rng, 90) ? ~(uint64_t)0 : rng_next(rng);
    uint16_t sticky = 0; /* flags undefined on some path */
    for (unsigned i = 0, attempts = 0; i < ninsns && attempts < 200; attempts++) {
        unsigned index = rows[rng_below(rng, nrows)];
        const InsnRow *row = &insn_table[index];
        if (row->flags_read & c->undefined || (i + 1 < ninsns && row->attr & A_ENDS))
            continue;
        if (ninsns > 1 && row_is_state_block(row)) /* others leave x87 pointers, which are not the guest's in bt */
            continue;
        if (!generate_insn(&g, index))
            continue;
        c->undefined = (uint16_t)((c->undefined & ~(row->flags_written & ~row->flags_read)) | row->flags_undefined | sticky);
        i++;
        if (ninsns > 1 && i < ninsns && chance(rng, 25))
            maybe_jump_forward(&g, ninsns - i, &sticky);
    }
    if (ninsns > 1 && chance(rng, 25))
        maybe_loop(&g, sticky);
    if (!g.is64)
        for (unsigned i = 0; i < 16; i++)
            c->in.gpr[i] = i < 8 ? (uint32_t)c->in.gpr[i] : 0;
    c->insn_at[c->ninsns] = (uint8_t)c->ncode;
    patch_jumps(c);
    c->native_code[c->ncode] = c->code[c->ncode] = 0xcc;
    c->ncode++;
}
