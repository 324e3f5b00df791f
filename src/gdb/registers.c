#include "gdb/registers.h"

#include <string.h>

#define XSTATE_BV 512u /* place in the image */
#define X87 1u
#define SSE 2u
#define FLAGS_SETTABLE (UINT64_C(0x3f7fd5) & ~(uint64_t)X86_FLAG_VM)

typedef enum Kind { GPR, RIP, FLAGS, SELECTOR, ST, X87_WORD, XMM, MXCSR, BASE, KERNEL_GS, CONTROL, EFER } Kind;
enum { FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF, FOP };

struct GdbRegister {
    char name[12];
    unsigned bits;
    const char *type; /* gdb's */
    const char *feature;
    Kind kind;
    unsigned number;
};

#define CORE "org.gnu.gdb.i386.core"
#define MAX_REGISTERS 80u

typedef struct Table {
    GdbRegister row[MAX_REGISTERS];
    unsigned count;
} Table;

static void add(Table *table, const char *name, unsigned bits, const char *type, const char *feature, Kind kind, unsigned number)
{
    g_assert(table->count < MAX_REGISTERS);
    GdbRegister *row = &table->row[table->count++];
    *row = (GdbRegister){ .bits = bits, .type = type, .feature = feature, .kind = kind, .number = number };
    g_strlcpy(row->name, name, sizeof row->name);
}

static void add_numbered(Table *table, const char *prefix, unsigned first, unsigned end, unsigned bits, const char *type, const char *feature, Kind kind)
{
    for (unsigned i = first; i < end; i++) {
        char name[12];
        g_snprintf(name, sizeof name, "%s%u", prefix, i);
        add(table, name, bits, type, feature, kind, i);
    }
}

static void add_general(Table *table, bool is_64)
{
    static const struct {
        char name[3];
        uint8_t number;
    } wide[] = { { "ax", X86_RAX }, { "bx", X86_RBX }, { "cx", X86_RCX }, { "dx", X86_RDX }, { "si", X86_RSI }, { "di", X86_RDI }, { "bp", X86_RBP }, { "sp", X86_RSP } },
      narrow[] = { { "ax", X86_RAX }, { "cx", X86_RCX }, { "dx", X86_RDX }, { "bx", X86_RBX }, { "sp", X86_RSP }, { "bp", X86_RBP }, { "si", X86_RSI }, { "di", X86_RDI } };
    for (unsigned i = 0; i < 8; i++) {
        unsigned number = is_64 ? wide[i].number : narrow[i].number;
        const char *type = number == X86_RSP || number == X86_RBP ? "data_ptr" : is_64 ? "int64" : "int32";
        char name[12];
        g_snprintf(name, sizeof name, "%c%s", is_64 ? 'r' : 'e', is_64 ? wide[i].name : narrow[i].name);
        add(table, name, is_64 ? 64 : 32, type, CORE, GPR, number);
    }
    if (is_64)
        add_numbered(table, "r", 8, 16, 64, "int64", CORE, GPR);
    add(table, is_64 ? "rip" : "eip", is_64 ? 64 : 32, "code_ptr", CORE, RIP, 0);
    add(table, "eflags", 32, "i386_eflags", CORE, FLAGS, 0);
}

static void table_fill(Table *table, bool is_64)
{
    static const struct {
        const char *name;
        unsigned number;
    } segments[] = { { "cs", X86_CS }, { "ss", X86_SS }, { "ds", X86_DS }, { "es", X86_ES }, { "fs", X86_FS }, { "gs", X86_GS } };
    static const char *const x87[] = { "fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop" };
    static const uint8_t controls[] = { 0, 2, 3, 4, 8 };
    add_general(table, is_64);
    for (size_t i = 0; i < G_N_ELEMENTS(segments); i++)
        add(table, segments[i].name, 32, "int32", CORE, SELECTOR, segments[i].number);
    add_numbered(table, "st", 0, 8, 80, "i387_ext", CORE, ST);
    for (unsigned i = 0; i < G_N_ELEMENTS(x87); i++)
        add(table, x87[i], 32, "int", CORE, X87_WORD, i);
    add_numbered(table, "xmm", 0, is_64 ? 16 : 8, 128, "vec128", "org.gnu.gdb.i386.sse", XMM);
    add(table, "mxcsr", 32, "int", "org.gnu.gdb.i386.sse", MXCSR, 0);
    const char *bases = is_64 ? "org.gnu.gdb.i386.segments" : "segue.system";
    add(table, "fs_base", is_64 ? 64 : 32, "int", bases, BASE, X86_FS);
    add(table, "gs_base", is_64 ? 64 : 32, "int", bases, BASE, X86_GS);
    if (is_64)
        add(table, "k_gs_base", 64, "int", "segue.system", KERNEL_GS, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(controls) - !is_64; i++) {
        char name[12];
        g_snprintf(name, sizeof name, "cr%u", controls[i]);
        add(table, name, is_64 ? 64 : 32, "int", "segue.system", CONTROL, controls[i]);
    }
    add(table, "efer", is_64 ? 64 : 32, "int", "segue.system", EFER, 0);
}

const GdbRegister *gdb_registers(bool is_64, unsigned *out_count)
{
    static Table tables[2];
    static gsize once;
    if (g_once_init_enter(&once)) {
        table_fill(&tables[0], false);
        table_fill(&tables[1], true);
        g_once_init_leave(&once, 1);
    }
    *out_count = tables[is_64].count;
    return tables[is_64].row;
}

const GdbRegister *gdb_register_at(const GdbRegister *registers, unsigned index) { return &registers[index]; }
const char *gdb_register_name(const GdbRegister *reg) { return reg->name; }
unsigned gdb_register_size(const GdbRegister *reg) { return reg->bits / 8; }

/* --- x87 and SSE, in the XSAVE image --- */

static bool has_component(const X86State *state, unsigned bit) { return state->xsave[XSTATE_BV] & bit; }

/* A component that is marked initial has its initial value, whatever its bytes are. */
static void component_use(X86State *state, unsigned bit)
{
    if (has_component(state, bit))
        return;
    memset(state->xsave + (bit == X87 ? 32 : 160), 0, bit == X87 ? 128 : 256);
    if (bit == X87) {
        memset(state->xsave, 0, 24);
        state->xsave[0] = 0x7f;
        state->xsave[1] = 0x03;
    } else if (!(state->xsave[XSTATE_BV] & 4)) { /* MXCSR is AVX's, too */
        memcpy(state->xsave + 24, (const uint8_t[]){ 0x80, 0x1f, 0, 0 }, 4);
    }
    state->xsave[XSTATE_BV] |= (uint8_t)bit;
}

static uint64_t field(const X86State *state, unsigned at, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, state->xsave + at, size);
    return GUINT64_FROM_LE(value);
}

static void field_set(X86State *state, unsigned at, unsigned size, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    memcpy(state->xsave + at, &value, size);
}

/* Two bits a physical register, as FSAVE has them, from the one that FXSAVE keeps. */
static uint64_t tag_word(const X86State *state)
{
    unsigned top = field(state, 2, 2) >> 11 & 7, valid = (unsigned)field(state, 4, 1);
    uint64_t tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned at = 32 + 16 * ((i - top) & 7), exponent = (unsigned)field(state, at + 8, 2) & 0x7fff;
        uint64_t mantissa = field(state, at, 8);
        uint64_t tag = !(valid >> i & 1) ? 3 : !exponent && !mantissa ? 1 : exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
        tags |= tag << (2 * i);
    }
    return tags;
}

static uint64_t x87_get(const X86State *state, unsigned number)
{
    switch (number) {
    case FCTRL:
        return field(state, 0, 2);
    case FSTAT:
        return field(state, 2, 2);
    case FTAG:
        return tag_word(state);
    case FISEG:
        return field(state, 12, 2);
    case FIOFF:
        return field(state, 8, 4);
    case FOSEG:
        return field(state, 20, 2);
    case FOOFF:
        return field(state, 16, 4);
    default:
        return field(state, 6, 2) & 0x7ff;
    }
}

static void x87_set(X86State *state, unsigned number, uint64_t value)
{
    static const struct {
        uint8_t at, size;
    } place[] = { [FCTRL] = { 0, 2 }, [FSTAT] = { 2, 2 }, [FISEG] = { 12, 2 }, [FIOFF] = { 8, 4 }, [FOSEG] = { 20, 2 }, [FOOFF] = { 16, 4 }, [FOP] = { 6, 2 } };
    if (number != FTAG) {
        field_set(state, place[number].at, place[number].size, number == FOP ? value & 0x7ff : value);
        return;
    }
    uint64_t valid = 0;
    for (unsigned i = 0; i < 8; i++)
        valid |= (uint64_t)((value >> (2 * i) & 3) != 3) << i;
    field_set(state, 4, 1, valid);
}

/* --- values --- */

static uint64_t control_get(const X86State *state, unsigned number)
{
    return number == 0 ? state->cr0 : number == 2 ? state->cr2 : number == 3 ? state->cr3 : number == 4 ? state->cr4 : state->cr8;
}

static uint64_t number_get(const GdbRegister *reg, const X86State *state)
{
    switch (reg->kind) {
    case GPR:
        return state->gpr[reg->number];
    case RIP:
        return state->rip;
    case FLAGS:
        return state->rflags;
    case SELECTOR:
        return state->seg[reg->number].selector;
    case X87_WORD:
        return x87_get(state, reg->number);
    case MXCSR:
        return field(state, 24, 4);
    case BASE:
        return state->seg[reg->number].base;
    case KERNEL_GS:
        return state->kernel_gs_base;
    case CONTROL:
        return control_get(state, reg->number);
    case EFER:
        return state->efer;
    default:
        return 0;
    }
}

unsigned gdb_register_get(const GdbRegister *reg, const X86State *state, uint8_t out_bytes[GDB_REGISTER_MAX_BYTES])
{
    bool is_float = reg->kind == ST || reg->kind == X87_WORD, is_sse = reg->kind == XMM || reg->kind == MXCSR;
    g_autofree X86State *whole = NULL;
    if ((is_float && !has_component(state, X87)) || (is_sse && !has_component(state, SSE))) {
        whole = g_memdup2(state, sizeof *state);
        component_use(whole, is_float ? X87 : SSE);
        state = whole;
    }
    memset(out_bytes, 0, GDB_REGISTER_MAX_BYTES);
    if (reg->kind == ST || reg->kind == XMM) {
        memcpy(out_bytes, state->xsave + (reg->kind == ST ? 32 : 160) + 16 * reg->number, reg->bits / 8);
    } else {
        uint64_t value = GUINT64_TO_LE(number_get(reg, state));
        memcpy(out_bytes, &value, reg->bits / 8);
    }
    return reg->bits / 8;
}

bool gdb_register_set(const GdbRegister *reg, X86State *state, const uint8_t *bytes)
{
    uint64_t value = 0;
    memcpy(&value, bytes, MIN(reg->bits / 8, (unsigned)sizeof value));
    value = GUINT64_FROM_LE(value);
    switch (reg->kind) {
    case GPR:
        state->gpr[reg->number] = value;
        return true;
    case RIP:
        state->rip = value;
        return true;
    case FLAGS:
        state->rflags = (state->rflags & ~FLAGS_SETTABLE) | (value & FLAGS_SETTABLE);
        return true;
    case ST:
        component_use(state, X87);
        memcpy(state->xsave + 32 + 16 * reg->number, bytes, 10);
        return true;
    case X87_WORD:
        component_use(state, X87);
        x87_set(state, reg->number, value);
        return true;
    case XMM:
        component_use(state, SSE);
        memcpy(state->xsave + 160 + 16 * reg->number, bytes, 16);
        return true;
    case MXCSR:
        component_use(state, SSE);
        field_set(state, 24, 4, value & 0xffff); /* others would be a fault of the host's XRSTOR */
        return true;
    default: /* what a CPU checks, or has more of than its number */
        return number_get(reg, state) == value;
    }
}

/* --- the description --- */

static const char core_types[] =
    "<flags id=\"i386_eflags\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/>"
    "<field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/>"
    "<field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";
static const char sse_types[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>";

char *gdb_target_xml(bool is_64)
{
    GString *text = g_string_new("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>");
    const char *feature = "";
    unsigned count;
    const GdbRegister *registers = gdb_registers(is_64, &count);
    g_string_append_printf(text, "<architecture>%s</architecture>", is_64 ? "i386:x86-64" : "i386");
    for (unsigned i = 0; i < count; i++) {
        const GdbRegister *row = &registers[i];
        if (strcmp(row->feature, feature) != 0) {
            g_string_append_printf(text, "%s<feature name=\"%s\">%s", *feature ? "</feature>" : "", row->feature,
                                   !i ? core_types : g_str_has_suffix(row->feature, ".sse") ? sse_types : "");
            feature = row->feature;
        }
        g_string_append_printf(text, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>", row->name, row->bits, row->type, i);
    }
    g_string_append(text, "</feature></target>");
    return g_string_free(text, FALSE);
}
