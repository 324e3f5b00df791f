/* The lines of the log that belong to the translator. */
#include "bt/trace.h"

#include <glib.h>
#include <string.h>

#include "bt/dump.h"
#include "core/log.h"

#define HEX G_GINT64_MODIFIER "x"
#define UNDEFINED_MAX 4096u /* different ones are printed; a guest can make up any number */

/* The block's guest bytes; false when they are not in RAM. */
static bool guest_bytes(const BtCpu *cpu, const BtBlock *block, uint8_t *out)
{
    unsigned room = (unsigned)(PAGE_SIZE - page_offset(block->gpa)), first = block->guest_size < room ? block->guest_size : room;
    const uint8_t *low = ram_slice(cpu->ram, block->gpa, first);
    if (!low)
        return false;
    memcpy(out, low, first);
    if (first < block->guest_size) {
        const uint8_t *high = ram_slice(cpu->ram, block_page(block, 1), block->guest_size - first);
        if (!high)
            return false;
        memcpy(out + first, high, block->guest_size - first);
    }
    return true;
}

void trace_block(BtCpu *cpu, const BtBlock *block)
{
    g_autofree uint8_t *bytes = g_malloc(block->guest_size + 1u);
    if (!guest_bytes(cpu, block, bytes))
        return;
    g_autofree char *text = dump_block(cpu->bt, block, bytes);
    log_text(LOG_BT, "%s", text);
}

void trace_undefined(const Insn *insn)
{
    static GHashTable *seen;
    static GMutex lock;
    GString *key = g_string_new(NULL);
    g_string_printf(key, "%012" HEX ":", insn->va);
    for (unsigned i = 0; i < insn->length && i < sizeof insn->bytes; i++)
        g_string_append_printf(key, " %02x", insn->bytes[i]);
    g_mutex_lock(&lock);
    if (!seen)
        seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    bool is_new = g_hash_table_size(seen) < UNDEFINED_MAX && !g_hash_table_contains(seen, key->str);
    if (is_new)
        g_hash_table_add(seen, g_strdup(key->str));
    g_mutex_unlock(&lock);
    if (is_new)
        log_text(LOG_UNIMP, "bt: #UD for an instruction that is not in the table, at %s", key->str);
    g_string_free(key, TRUE);
}

uint64_t trace_event(BtCpu *cpu, uint64_t vector, uint64_t code, uint64_t is_software)
{
    static const char *const names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS", "#NP", "#SS", "#GP",
                                        "#PF", "", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};
    const char *name = is_software ? "INT n" : vector < G_N_ELEMENTS(names) ? names[vector] : "interrupt";
    GString *line = g_string_new(NULL);
    g_string_printf(line, "int %02x %s", (unsigned)vector, name);
    if (code != ~(uint64_t)0)
        g_string_append_printf(line, " code %04x", (unsigned)code);
    g_string_append_printf(line, " at %04x:%012" HEX " CPL %u SP %012" HEX " flags %08x", cpu->seg[X86_CS].selector, cpu->rip, cpu->cpl,
                           cpu->gpr[X86_RSP], bt_flags(cpu));
    if (vector == X86_EXC_PF && !is_software)
        g_string_append_printf(line, " CR2 %012" HEX, cpu->cr2);
    log_text(LOG_INT, "%s", line->str);
    g_string_free(line, TRUE);
    return 0;
}

static void trace_registers(const BtCpu *cpu)
{
    static const char names[16][4] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < (cpu->mode & MODE_CODE64 ? 16u : 8u); i++)
        g_string_append_printf(text, "%s%-3s %016" HEX, i % 4 ? "  " : i ? "\n  " : "  ", names[i], cpu->gpr[i]);
    log_text(LOG_CPU, "%s  flags %08x", text->str, bt_flags(cpu));
    g_string_free(text, TRUE);
}

uint64_t trace_enter(BtCpu *cpu, uint64_t rip, uint64_t mode, uint64_t unused)
{
    log_text(LOG_EXEC, "exec %04x:%012" HEX " mode %x CPL %u", cpu->seg[X86_CS].selector, rip, (unsigned)mode, cpu->cpl);
    if (log_on(LOG_CPU))
        trace_registers(cpu);
    return 0;
}
