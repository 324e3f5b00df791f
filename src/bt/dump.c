/* The printer of code.  Capstone's only user besides the tests: loaded when it is wanted, since most of what the dynamic linker does at a start would
 * be its tables' (77 000 relocations). */
#include "bt/dump.h"

#include <capstone/capstone.h>
#include <dlfcn.h>
#include <glib.h>
#include <string.h>

#define LIBRARY "libcapstone.so.4"

#define FUNCTIONS(F) F(cs_open) F(cs_malloc) F(cs_disasm_iter) F(cs_free)
static struct {
#define FUNCTION(name) __typeof__(name) *name;
    FUNCTIONS(FUNCTION)
#undef FUNCTION
} capstone;

static enum { UNKNOWN, LOADED, ABSENT } library;

static bool library_load(void)
{
    void *opened = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    const struct {
        const char *name;
        void *at; /* a pointer to a function */
    } functions[] = {
#define FUNCTION(name) { #name, &capstone.name },
        FUNCTIONS(FUNCTION)
#undef FUNCTION
    };
    for (size_t i = 0; opened && i < G_N_ELEMENTS(functions); i++) {
        void *function = dlsym(opened, functions[i].name);
        if (!function)
            return false;
        memcpy(functions[i].at, &function, sizeof function);
    }
    return opened;
}

void dump_prepare(bool is_wanted)
{
    if (library == UNKNOWN)
        library = is_wanted && library_load() ? LOADED : ABSENT;
}

bool dump_is_ready(void)
{
    dump_prepare(true);
    return library == LOADED;
}

/* Appends the lines for @n bytes, each begun with @indent. */
static void append_code(GString *out, const char *indent, const uint8_t *code, size_t n, uint64_t address, unsigned code_size)
{
    static __thread csh handles[9]; /* by code size; opening one takes longer than a block */
    cs_mode mode = code_size == 8 ? CS_MODE_64 : code_size == 4 ? CS_MODE_32 : CS_MODE_16;
    if (!dump_is_ready() || (!handles[code_size] && capstone.cs_open(CS_ARCH_X86, mode, &handles[code_size]) != CS_ERR_OK)) {
        g_string_append_printf(out, "%s(no disassembler)\n", indent);
        return;
    }
    csh handle = handles[code_size];
    cs_insn *insn = capstone.cs_malloc(handle);
    while (n > 0) {
        const uint8_t *start = code;
        g_string_append_printf(out, "%s%012" G_GINT64_MODIFIER "x  ", indent, address);
        if (capstone.cs_disasm_iter(handle, &code, &n, &address, insn)) {
            for (size_t i = 0; i < 12; i++) {
                if (i < insn->size)
                    g_string_append_printf(out, "%02x", start[i]);
                else
                    g_string_append(out, "  ");
            }
            g_string_append_printf(out, "  %s%s%s\n", insn->mnemonic, *insn->op_str ? " " : "", insn->op_str);
        } else {
            g_string_append_printf(out, "%02x                        db 0x%02x\n", *code, *code);
            code++, n--, address++;
        }
    }
    capstone.cs_free(insn, 1);
}

char *dump_code(const uint8_t *host, size_t n, uint64_t address, unsigned code_size)
{
    GString *out = g_string_new(NULL);
    append_code(out, "", host, n, address, code_size);
    return g_string_free(out, FALSE);
}

static void append_host(GString *out, const Bt *bt, uint32_t from, uint32_t to)
{
    if (from < to)
        append_code(out, "        ", bt->rw + from, to - from, (uint64_t)(uintptr_t)bt->rx + from, 8);
}

char *dump_block(const Bt *bt, const BtBlock *block, const uint8_t *guest)
{
    unsigned code_size = block->mode & MODE_CODE64 ? 8 : block->mode & MODE_CODE32 ? 4 : 2;
    uint32_t end = block->code_at + block->code_size, at = block->code_at;
    bool in_cold = false;
    unsigned shown = 0; /* guest bytes listed so far */
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "block %012" G_GINT64_MODIFIER "x gpa %" G_GINT64_MODIFIER "x mode %x: %u guest bytes, %u host bytes\n",
                           block->rip, (uint64_t)block->gpa, block->mode, block->guest_size, block->code_size + block->cold_size);
    for (uint32_t i = 0; i < block->map_count; i++) {
        const BtMap *map = &bt->map[block->map_first + i];
        uint32_t host_at = map_host_at(block, map);
        if (!in_cold && map->is_cold) {
            append_host(out, bt, at, end);
            in_cold = true;
            at = block->cold_at;
        }
        append_host(out, bt, at, host_at);
        at = host_at;
        if (map->guest_at >= shown && map->guest_at + map->length <= block->guest_size) {
            append_code(out, "  ", guest + map->guest_at, map->length, block->rip + map->guest_at, code_size);
            shown = map->guest_at + map->length;
        } else if (map->guest_at < shown && (i == 0 || map->guest_at != map[-1].guest_at)) {
            g_string_append_printf(out, "    (again at +%u)\n", map->guest_at);
        }
    }
    append_host(out, bt, at, in_cold ? block->cold_at + block->cold_size : end);
    if (!in_cold)
        append_host(out, bt, block->cold_at, block->cold_at + block->cold_size);
    return g_string_free(out, FALSE);
}
