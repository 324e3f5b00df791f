/*
 * The decoder.  Prefixes, then the opcode, then the first row of that opcode that fits; the row's operand letters say whether there is a ModRM
 * byte and which immediates follow.
 */
#include "bt/decode.h"

#include <glib.h>
#include <string.h>

#include "bt/insn-table.h"

/* The rows of one opcode, in file order: chain_row[chain_start[map][opcode] … + chain_count). */
#define CHAIN_MAX 4096
static uint16_t chain_start[4][256];
static uint8_t chain_count[4][256];
static const InsnRow *chain_row[CHAIN_MAX];
static bool opcode_has_modrm[4][256];
static bool is_built;

static bool method_uses_modrm(unsigned method)
{
    switch (method) {
    case M_E: case M_G: case M_M: case M_R: case M_V: case M_W: case M_U: case M_P: case M_Q: case M_N:
    case M_S: case M_C: case M_D: case M_FP: case M_ST: case M_MK: case M_RK:
        return true;
    default:
        return false;
    }
}

static bool row_uses_modrm(const InsnRow *row)
{
    if (row->digit >= 0 || row->modrm >= 0 || row->attr & (A_MEM | A_REG))
        return true;
    for (unsigned k = 0; k < 4; k++)
        if (method_uses_modrm(row->operand[k] >> 8))
            return true;
    return false;
}

void insn_decode_init(void)
{
    if (is_built)
        return;
    for (const InsnRow *row = insn_table; row->name; row++) {
        for (unsigned opcode = row->opcode_first; opcode <= row->opcode_last; opcode++) {
            chain_count[row->map][opcode]++;
            if (row_uses_modrm(row))
                opcode_has_modrm[row->map][opcode] = true;
        }
    }
    unsigned used = 0;
    uint16_t end[4][256];
    for (unsigned map = 0; map < 4; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            chain_start[map][opcode] = end[map][opcode] = (uint16_t)used;
            used += chain_count[map][opcode];
        }
    }
    g_assert(used <= CHAIN_MAX);
    for (const InsnRow *row = insn_table; row->name; row++)
        for (unsigned opcode = row->opcode_first; opcode <= row->opcode_last; opcode++)
            chain_row[end[row->map][opcode]++] = row;
    is_built = true;
}

unsigned insn_size_bytes(const Insn *insn, unsigned size)
{
    unsigned vector = insn->encoding == ENC_LEGACY ? 16u : 16u << insn->vex_l;
    switch (size) {
    case S_b: return 1;
    case S_w: return 2;
    case S_d: return 4;
    case S_q: return 8;
    case S_dq: return 16;
    case S_qq: return 32;
    case S_v: return insn->opsize;
    case S_z: return insn->opsize == 8 ? 4 : insn->opsize;
    case S_y: return insn->w ? 8 : 4;
    case S_x: return vector;
    case S_xh: return vector / 2;
    case S_xq: return vector / 4;
    case S_xe: return vector / 8;
    case S_t: return 10;
    case S_p: return insn->opsize + 2u;
    case S_s: return insn->code_size == 8 ? 10 : 6;
    default: return 0;
    }
}

#define EVEX_B 0x10u /* in P2: broadcast, rounding, or SAE */

/* Reading bytes: `cursor` walks; running out is remembered and reported once. */
typedef struct Cursor {
    const uint8_t *bytes;
    unsigned at, limit;
    bool overrun;
} Cursor;

static uint8_t cursor_byte(Cursor *c)
{
    if (c->at >= c->limit) {
        c->overrun = true;
        return 0;
    }
    return c->bytes[c->at++];
}

static uint64_t cursor_value(Cursor *c, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)cursor_byte(c) << (8 * i);
    return value;
}

static int64_t cursor_signed(Cursor *c, unsigned size)
{
    uint64_t value = cursor_value(c, size);
    unsigned shift = 64 - 8 * size;
    return size == 8 ? (int64_t)value : (int64_t)(value << shift) >> shift;
}

static bool row_fits(const InsnRow *row, const Insn *in, bool modrm_known)
{
    if (!(row->encodings & in->encoding))
        return false;
    if (row->attr & (in->code_size == 8 ? A_I64 : A_O64))
        return false;
    switch (row->prefix) {
    case PP_NONE:
        if (in->pp != PP_NONE)
            return false;
        break;
    case PP_66:
    case PP_F3:
    case PP_F2:
        if (in->pp != row->prefix)
            return false;
        break;
    default:
        break;
    }
    if (row->map == MAP_1B && row->prefix == PP_F3 && row->opcode_first == 0x90 && in->rex & 1) /* F3 REX.B 90 is XCHG R8, rAX, not PAUSE */
        return false;
    if ((row->attr & A_W0 && in->w) || (row->attr & A_W1 && !in->w))
        return false;
    if (in->encoding != ENC_LEGACY && ((row->attr & A_L0 && in->vex_l) || (row->attr & A_L1 && !in->vex_l)))
        return false;
    if (!modrm_known)
        return true;
    if (row->digit >= 0 && row->digit != ((in->modrm >> 3) & 7))
        return false;
    if (row->modrm >= 0 && row->modrm != in->modrm)
        return false;
    if ((row->attr & A_MEM && in->modrm >= 0xc0) || (row->attr & A_REG && in->modrm < 0xc0))
        return false;
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = row->operand[k] >> 8;
        if ((method == M_M && in->modrm >= 0xc0) ||
            ((method == M_R || method == M_U || method == M_N || method == M_ST) && in->modrm < 0xc0))
            return false;
    }
    return true;
}

static void decode_memory_16(Insn *in, Cursor *c)
{
    static const int8_t base[8] = {X86_RBX, X86_RBX, X86_RBP, X86_RBP, X86_RSI, X86_RDI, X86_RBP, X86_RBX};
    static const int8_t index[8] = {X86_RSI, X86_RDI, X86_RSI, X86_RDI, -1, -1, -1, -1};
    unsigned rm = in->modrm & 7;
    in->base = base[rm];
    in->index = index[rm];
    in->scale = 1;
    if (in->mod == 0 && rm == 6) {
        in->base = INSN_REG_NONE;
        in->disp = (int16_t)cursor_value(c, 2);
    } else if (in->mod == 1) {
        in->disp = (int8_t)cursor_byte(c);
    } else if (in->mod == 2) {
        in->disp = (int16_t)cursor_value(c, 2);
    }
}

static void decode_memory_32(Insn *in, Cursor *c)
{
    unsigned rm = in->modrm & 7;
    bool rex_b = in->rex & 1, rex_x = in->rex & 2;
    in->index = INSN_REG_NONE;
    in->scale = 1;
    in->base = (int8_t)(rm | (rex_b ? 8 : 0));
    if (rm == 4) {
        uint8_t sib = cursor_byte(c);
        in->scale = (uint8_t)(1u << (sib >> 6));
        unsigned index = ((sib >> 3) & 7) | (rex_x ? 8u : 0);
        if (index != 4 || in->vsib)
            in->index = (int8_t)index;
        in->base = (int8_t)((sib & 7) | (rex_b ? 8 : 0));
        if ((sib & 7) == 5 && in->mod == 0) {
            in->base = INSN_REG_NONE;
            in->disp = (int32_t)cursor_value(c, 4);
        }
    } else if (rm == 5 && in->mod == 0) {
        in->base = in->code_size == 8 ? INSN_REG_RIP : INSN_REG_NONE;
        in->disp = (int32_t)cursor_value(c, 4);
    }
    if (in->vsib && in->encoding == ENC_EVEX && in->code_size == 8 && !(in->evex[2] & 8))
        in->index = (int8_t)(in->index | 16);
    if (in->mod == 1)
        in->disp = (int8_t)cursor_byte(c);
    else if (in->mod == 2)
        in->disp = (int32_t)cursor_value(c, 4);
}

static void decode_memory(Insn *in, Cursor *c)
{
    in->has_mem = true;
    if (in->addrsize == 2)
        decode_memory_16(in, c);
    else
        decode_memory_32(in, c);
    if (!in->has_segment_prefix)
        in->segment = in->base == X86_RSP || in->base == X86_RBP ? X86_SS : X86_DS;
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = in->row->operand[k] >> 8;
        if (method == M_E || method == M_M || method == M_W || method == M_Q || method == M_FP || method == M_RK)
            in->mem_size = (uint8_t)insn_size_bytes(in, in->row->operand[k] & 0xff);
    }
    if (in->encoding == ENC_EVEX) {
        if (in->evex[2] & EVEX_B)
            in->mem_size = in->w ? 8 : 4; /* broadcast */
        if (in->mod == 1)
            in->disp *= in->row->attr & A_PACKED ? (int32_t)attr_element(in->row->attr) : in->mem_size;
    }
}

static void decode_immediates(Insn *in, Cursor *c)
{
    bool have_first = false;
    in->imm_at = (uint8_t)c->at;
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = in->row->operand[k] >> 8, size = insn_size_bytes(in, in->row->operand[k] & 0xff);
        switch (method) {
        case M_I:
        case M_L:
            if (have_first) {
                in->imm2 = (uint16_t)cursor_value(c, size);
            } else {
                in->imm = (uint64_t)cursor_signed(c, size);
                have_first = true;
            }
            break;
        case M_J:
            in->imm = (uint64_t)cursor_signed(c, size);
            break;
        case M_A:
            in->imm = cursor_value(c, size - 2);
            in->imm2 = (uint16_t)cursor_value(c, 2);
            break;
        case M_O:
            in->imm = cursor_value(c, in->addrsize);
            if (!in->has_segment_prefix)
                in->segment = X86_DS;
            break;
        default:
            break;
        }
    }
}

/* decode_evex: after the 62 byte.  Returns false when these bytes are BOUND.  The bits that choose among rows and registers are taken apart;
 * all three bytes are kept, for what only the host's CPU judges. */
static bool decode_evex(Insn *in, Cursor *c)
{
    if (c->at >= c->limit) {
        c->overrun = true;
        return true;
    }
    if (in->code_size != 8 && c->bytes[c->at] < 0xc0)
        return false;
    for (unsigned i = 0; i < 3; i++)
        in->evex[i] = cursor_byte(c);
    uint8_t p0 = in->evex[0], p1 = in->evex[1], p2 = in->evex[2];
    static const uint8_t pp[4] = {PP_NONE, PP_66, PP_F3, PP_F2};
    in->encoding = ENC_EVEX;
    in->w = p1 >> 7;
    in->rex = (uint8_t)(0x40 | ((~p0 >> 5) & 7) | (in->w ? 8 : 0));
    in->vvvv = (uint8_t)(((~p1 >> 3) & 15) | (p2 & 8 ? 0 : 16));
    if (in->code_size != 8) {
        in->rex &= 0x48;
        in->vvvv &= 7;
    }
    in->vex_l = (p2 >> 5) & 3;
    in->pp = pp[p1 & 3];
    in->map = p0 & 7;
    if (in->map > 3 || p0 & 8 || !(p1 & 4) || (in->code_size != 8 && !(p2 & 8)))
        in->map = 0xff;
    return true;
}

/* What an EVEX prefix says about registers and lengths once there is a ModRM byte; false: undefined. */
static bool decode_evex_modrm(Insn *in)
{
    bool is_reg = in->modrm >= 0xc0;
    if (is_reg && in->evex[2] & EVEX_B)
        in->vex_l = 2; /* L'L is the rounding mode */
    return in->vex_l != 3;
}

static void decode_evex_registers(Insn *in)
{
    if (in->code_size != 8)
        return;
    bool is_gpr_reg = false, is_gpr_rm = false;
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = in->row->operand[k] >> 8;
        is_gpr_reg |= method == M_G || method == M_MK;
        is_gpr_rm |= method == M_E || method == M_R || method == M_RK;
    }
    if (!is_gpr_reg && !(in->evex[0] & 0x10))
        in->reg |= 16;
    if (in->mod == 3 && !is_gpr_rm && !(in->evex[0] & 0x40))
        in->rm |= 16;
}

/* decode_vex: after the C4/C5 byte.  Returns false when these bytes are not a VEX prefix in this mode (LES/LDS). */
static bool decode_vex(Insn *in, Cursor *c, uint8_t first)
{
    if (c->at >= c->limit) {
        c->overrun = true;
        return true;
    }
    uint8_t p0 = c->bytes[c->at];
    if (in->code_size != 8 && p0 < 0xc0)
        return false;
    c->at++;
    uint8_t p1 = p0;
    uint8_t rxb = (uint8_t)(~p0 >> 5) & 4, map = 1; /* C5: only R */
    in->w = false;
    if (first == 0xc4) {
        rxb = (uint8_t)(~p0 >> 5) & 7;
        map = p0 & 31;
        p1 = cursor_byte(c);
        in->w = p1 >> 7;
    }
    if (in->code_size != 8)
        rxb = 0;
    in->encoding = ENC_VEX;
    in->rex = (uint8_t)(0x40 | rxb | (in->w ? 8 : 0));
    in->vvvv = (uint8_t)((~p1 >> 3) & 15);
    if (in->code_size != 8)
        in->vvvv &= 7;
    in->vex_l = (p1 >> 2) & 1;
    static const uint8_t pp[4] = {PP_NONE, PP_66, PP_F3, PP_F2};
    in->pp = pp[p1 & 3];
    in->map = map <= 3 ? map : 0xff;
    return true;
}

/* There are eight opmask registers: the bits that name more must not be set (SDM 2A 2.7). */
static bool masks_exist(const Insn *in)
{
    for (unsigned k = 0; k < 4; k++) {
        unsigned method = in->row->operand[k] >> 8;
        if (method != M_MK)
            continue;
        if (in->rex & 4 || (in->encoding == ENC_EVEX && in->code_size == 8 && !(in->evex[0] & 0x10)))
            return false;
        if (in->encoding == ENC_VEX && in->vvvv > 7)
            return false;
    }
    return true;
}

InsnDecode insn_decode(Insn *out, const uint8_t *bytes, unsigned nbytes, unsigned code_size, uint64_t ip,
                       uint64_t cs_base)
{
    Insn *in = out;
    Cursor c = {.bytes = bytes, .limit = nbytes < 15 ? nbytes : 15};
    memset(in, 0, sizeof *in);
    in->ip = ip;
    in->va = ip + cs_base;
    in->code_size = (uint8_t)code_size;
    in->encoding = ENC_LEGACY;
    in->base = in->index = INSN_REG_NONE;
    in->segment = X86_DS;
    bool addrsize_prefix = false, has_any_prefix = false;
    uint8_t b;

    for (;;) {
        b = cursor_byte(&c);
        if (c.overrun)
            goto overrun;
        switch (b) {
        case 0x66: in->opsize_prefix = true; break;
        case 0x67: addrsize_prefix = true; break;
        case 0xf0: in->lock = true; break;
        case 0xf2: in->repne = true; in->rep = false; break;
        case 0xf3: in->rep = true; in->repne = false; break;
        case 0x26: case 0x2e: case 0x36: case 0x3e:
            if (code_size != 8) {
                in->segment = (uint8_t)((b >> 3) & 3);
                in->has_segment_prefix = true;
            }
            break;
        case 0x64: case 0x65:
            in->segment = b == 0x64 ? X86_FS : X86_GS;
            in->has_segment_prefix = true;
            break;
        default:
            if (code_size == 8 && (b & 0xf0) == 0x40) {
                in->rex = b;
                continue;
            }
            goto opcode;
        }
        has_any_prefix = has_any_prefix || b == 0x66 || b == 0xf0 || b == 0xf2 || b == 0xf3;
        in->rex = 0; /* a REX prefix counts only right before the opcode */
    }

opcode:
    in->pp = in->repne ? PP_F2 : in->rep ? PP_F3 : in->opsize_prefix ? PP_66 : PP_NONE;
    in->w = in->rex & 8;
    in->map = MAP_1B;
    if (b == 0xc4 || b == 0xc5) {
        bool had_rex = in->rex != 0;
        if (decode_vex(in, &c, b)) {
            b = cursor_byte(&c);
            if (c.overrun)
                goto overrun;
            if (had_rex || has_any_prefix || in->map == 0xff || in->map == 0)
                goto undefined;
        }
    } else if (b == 0x62) {
        bool had_rex = in->rex != 0;
        if (decode_evex(in, &c)) {
            b = cursor_byte(&c);
            if (c.overrun)
                goto overrun;
            if (had_rex || has_any_prefix || in->map == 0xff || in->map == 0)
                goto undefined;
        }
    } else if (b == 0x0f) {
        in->map = MAP_0F;
        b = cursor_byte(&c);
        if (b == 0x38 || b == 0x3a) {
            in->map = b == 0x38 ? MAP_38 : MAP_3A;
            b = cursor_byte(&c);
        }
        if (c.overrun)
            goto overrun;
    }
    in->opcode = b;
    in->opcode_at = (uint8_t)(c.at - 1);
    in->addrsize = code_size == 8 ? (addrsize_prefix ? 4 : 8) : ((code_size == 4) != addrsize_prefix ? 4 : 2);

    bool modrm_known = false;
    if (opcode_has_modrm[in->map][b]) {
        if (c.at >= c.limit) {
            c.overrun = true;
            goto overrun;
        }
        in->modrm = bytes[c.at];
        modrm_known = true;
        if (in->encoding == ENC_EVEX && !decode_evex_modrm(in))
            goto undefined;
    }
    unsigned first = chain_start[in->map][b], count = chain_count[in->map][b];
    for (unsigned i = 0; i < count && !in->row; i++)
        if (row_fits(chain_row[first + i], in, modrm_known))
            in->row = chain_row[first + i];
    if (!in->row)
        goto undefined;

    uint32_t attr = in->row->attr;
    for (unsigned k = 0; k < 4 && code_size != 8; k++)
        if (in->row->operand[k] && (in->row->operand[k] & 0xff) == S_y)
            in->w = false; /* VEX.W chooses no 64-bit GPR operand outside 64-bit code (SDM 2A 2.3.5.3) */
    if (code_size == 8)
        in->opsize = in->w || attr & A_F64 ? 8 : in->opsize_prefix ? 2 : attr & A_D64 ? 8 : 4;
    else
        in->opsize = (code_size == 4) != in->opsize_prefix ? 4 : 2;

    if (row_uses_modrm(in->row)) {
        c.at++;
        in->has_modrm = true;
        in->mod = in->modrm >> 6;
        in->reg = (uint8_t)(((in->modrm >> 3) & 7) | (in->rex & 4 ? 8 : 0));
        in->rm = (uint8_t)((in->modrm & 7) | (in->rex & 1 ? 8 : 0));
        if (in->encoding == ENC_EVEX)
            decode_evex_registers(in);
        in->vsib = (attr & A_VSIB) != 0;
        unsigned method0 = in->row->operand[0] >> 8, method1 = in->row->operand[1] >> 8;
        bool is_system_move = method0 == M_C || method0 == M_D || method1 == M_C || method1 == M_D;
        if (method0 == M_S || method1 == M_S)
            in->reg &= 7; /* REX.R is ignored (SDM 2A 2.2.1.2) */
        if (in->mod != 3 && !is_system_move)
            decode_memory(in, &c);
    } else if ((in->row->operand[0] >> 8) == M_Z || (in->row->operand[1] >> 8) == M_Z) {
        in->rm = (uint8_t)((b & 7) | (in->rex & 1 ? 8 : 0));
    }
    decode_immediates(in, &c);
    if (c.overrun)
        goto overrun;
    if (!masks_exist(in))
        goto undefined;
    if (in->lock && !(attr & A_LOCK && in->has_mem && in->row->access & ACC_W))
        goto undefined;
    if (in->encoding == ENC_VEX) {
        bool uses_vvvv = false;
        for (unsigned k = 0; k < 4; k++)
            uses_vvvv |= (in->row->operand[k] >> 8) == M_H || (in->row->operand[k] >> 8) == M_B;
        if (!uses_vvvv && in->vvvv != 0)
            goto undefined;
    }
    in->length = (uint8_t)c.at;
    memcpy(in->bytes, bytes, in->length);
    return INSN_OK;

undefined:
    in->length = (uint8_t)c.at;
    in->row = NULL;
    return INSN_UNDEFINED;
overrun:
    in->length = (uint8_t)c.at;
    in->row = NULL;
    return nbytes >= 15 ? INSN_TOO_LONG : INSN_TRUNCATED;
}
