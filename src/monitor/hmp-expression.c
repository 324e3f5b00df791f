#include "monitor/hmp-expression.h"

#include <string.h>

#define MAX_DEPTH 64

typedef struct Reader {
    const char *at;
    const X86State *state;
    const char *wrong; /* NULL: nothing so far */
    unsigned depth;
} Reader;

static uint64_t sum_read(Reader *reader);

static void blanks_skip(Reader *reader)
{
    while (*reader->at == ' ' || *reader->at == '\t')
        reader->at++;
}

static bool register_find(const X86State *state, const char *name, uint64_t *out_value)
{
    static const char *const gprs[] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
    static const char *const segments[X86_NSEGS] = { [X86_ES] = "es", [X86_CS] = "cs", [X86_SS] = "ss", [X86_DS] = "ds", [X86_FS] = "fs",
                                                     [X86_GS] = "gs" };
    const struct {
        const char *name;
        uint64_t value;
    } others[] = {
        { "rip", state->rip },   { "eip", (uint32_t)state->rip }, { "pc", state->rip },  { "rflags", state->rflags },
        { "eflags", (uint32_t)state->rflags }, { "cr0", state->cr0 }, { "cr2", state->cr2 }, { "cr3", state->cr3 },
        { "cr4", state->cr4 },   { "cr8", state->cr8 },           { "efer", state->efer }, { "tsc", state->tsc },
        { "gdtr", state->gdtr.base }, { "idtr", state->idtr.base },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
        if (!strcmp(name, others[i].name))
            return *out_value = others[i].value, true;
    for (unsigned i = 0; i < G_N_ELEMENTS(gprs); i++)
        if ((name[0] == 'r' || name[0] == 'e') && !strcmp(name + 1, gprs[i]))
            return *out_value = name[0] == 'r' ? state->gpr[i] : (uint32_t)state->gpr[i], true;
    for (unsigned i = 8; i < X86_NGPRS; i++) {
        char wide[4];
        g_snprintf(wide, sizeof wide, "r%u", i);
        if (!strcmp(name, wide))
            return *out_value = state->gpr[i], true;
    }
    for (unsigned i = 0; i < X86_NSEGS; i++)
        if (segments[i] && !strcmp(name, segments[i]))
            return *out_value = state->seg[i].selector, true;
    return false;
}

static uint64_t register_read(Reader *reader)
{
    char name[16];
    size_t length = 0;
    uint64_t value = 0;
    while (g_ascii_isalnum(reader->at[length]) && length < sizeof name - 1)
        length++;
    memcpy(name, reader->at, length);
    name[length] = 0;
    reader->at += length;
    if (!register_find(reader->state, name, &value))
        reader->wrong = "unknown register";
    return value;
}

static uint64_t term_read(Reader *reader)
{
    blanks_skip(reader);
    if (reader->wrong)
        return 0;
    if (++reader->depth > MAX_DEPTH) {
        reader->wrong = "nested too deeply";
        return 0;
    }
    uint64_t value = 0;
    char first = *reader->at;
    if (first == '(') {
        reader->at++;
        value = sum_read(reader);
        if (!reader->wrong && *reader->at++ != ')') {
            reader->wrong = "')' is missing";
            reader->at--;
        }
    } else if (first == '-' || first == '~' || first == '+') {
        reader->at++;
        uint64_t operand = term_read(reader);
        value = first == '-' ? -operand : first == '~' ? ~operand : operand;
    } else if (first == '$') {
        reader->at++;
        value = register_read(reader);
    } else if (g_ascii_isdigit(first)) {
        char *end;
        value = g_ascii_strtoull(reader->at, &end, g_str_has_prefix(reader->at, "0x") || g_str_has_prefix(reader->at, "0X") ? 16 : 10);
        reader->at = end;
    } else {
        reader->wrong = first ? "not a number, register or '('" : "a number is missing";
    }
    reader->depth--;
    blanks_skip(reader);
    return value;
}

static uint64_t product_read(Reader *reader)
{
    uint64_t value = term_read(reader);
    while (!reader->wrong && *reader->at && strchr("*/%", *reader->at)) {
        char operator = *reader->at++;
        uint64_t right = term_read(reader);
        if (!reader->wrong && operator != '*' && !right)
            reader->wrong = "division by zero";
        if (!reader->wrong)
            value = operator == '*' ? value * right : operator == '/' ? value / right : value % right;
    }
    return value;
}

static uint64_t bits_read(Reader *reader)
{
    uint64_t value = product_read(reader);
    while (!reader->wrong && *reader->at && strchr("&|^", *reader->at)) {
        char operator = *reader->at++;
        uint64_t right = product_read(reader);
        value = operator == '&' ? value & right : operator == '|' ? value | right : value ^ right;
    }
    return value;
}

static uint64_t sum_read(Reader *reader)
{
    uint64_t value = bits_read(reader);
    while (!reader->wrong && (*reader->at == '+' || *reader->at == '-')) {
        char operator = *reader->at++;
        uint64_t right = bits_read(reader);
        value = operator == '+' ? value + right : value - right;
    }
    return value;
}

const char *expression_take(const char **text, const X86State *state, uint64_t *out_value)
{
    Reader reader = { .at = *text, .state = state };
    uint64_t value = sum_read(&reader);
    if (!reader.wrong) {
        *out_value = value;
        *text = reader.at;
    }
    return reader.wrong;
}
