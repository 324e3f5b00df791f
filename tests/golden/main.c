/*
 * Golden translations: the code made from small pieces of guest code is compared with what was accepted before, so that a change of the
 * translator shows all it does to its output.
 *
 *     golden DIR             compare with DIR/<name>.expect
 *     golden DIR --accept    write them (scripts/golden-accept)
 *
 * Names after the options choose cases.  Host addresses, stubs and offsets in the vCPU block are shown by name, so that texts are the same
 * from run to run and on every host.
 */
#include "../lib/bt-machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "bt/dump.h"
#include "bt/translate.h"

#define BLOCKS_MAX 8u

typedef struct GoldenCase {
    const char *name;
    const uint8_t *start, *end;
    uint32_t bits, at;
    uint64_t xcr0;
} GoldenCase;

extern const GoldenCase __start_golden_table[], __stop_golden_table[];

static const char *const gpr_names[X86_NGPRS] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                                 "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const segment_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};

static const char *stub_name(const Bt *bt, uint64_t address)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)address - (bt->rx - bt->rw);
    const struct {
        const uint8_t *at;
        const char *name;
    } stubs[] = {
        {bt->stub_dispatch_rw, "dispatch"}, {bt->stub_save_dispatch_rw, "save_dispatch"}, {bt->stub_mem_slow_rw, "mem_slow"},
        {bt->stub_commit_rw, "commit"}, {bt->stub_exec_rw, "exec"}, {bt->stub_exec_end_rw, "exec_end"},
        {bt->stub_link_host_rw, "link_host"}, {bt->stub_link_slot_rw, "link_slot"}, {bt->stub_indirect_rw, "indirect"},
        {bt->stub_seg_slow_rw, "seg_slow"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(stubs); i++)
        if (p == stubs[i].at)
            return stubs[i].name;
    return p >= bt->rw && p < bt->code_start ? "stub" : NULL;
}

/* The field of the vCPU block at @offset; appended to @out. */
static void append_field(GString *out, uint64_t offset)
{
#define FIELD(name) {offsetof(BtCpu, name), sizeof bm->name, #name}
    static const struct {
        size_t at, size;
        const char *name;
    } fields[] = {
        FIELD(self), FIELD(rip), FIELD(next_rip), FIELD(status_of), FIELD(status_ah), FIELD(eflags), FIELD(poll_kick),
        FIELD(poll_window), FIELD(irq_line), FIELD(nmi_line), FIELD(mode), FIELD(cpl), FIELD(mode_dirty), FIELD(interrupt_shadow),
        FIELD(kernel_gs_base), FIELD(step), FIELD(commit_kind), FIELD(host_rsp),
    };
#undef FIELD
    const size_t gpr = offsetof(BtCpu, gpr), seg = offsetof(BtCpu, seg), scratch = offsetof(BtCpu, scratch);
    const size_t jump = offsetof(BtCpu, jump_cache), tlb = offsetof(BtCpu, mmu) + offsetof(Mmu, tlb);
    static const char *const index_names[] = {"kernel", "kernel_ac", "user"};
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++)
        if (offset - fields[i].at < fields[i].size) {
            g_string_append(out, fields[i].name);
            return;
        }
    for (unsigned s = 0; s < G_N_ELEMENTS(segment_names); s++) {
        const char *what = offset == seg + s * sizeof(X86Segment) + offsetof(X86Segment, base) ? "base"
                           : offset == offsetof(BtCpu, seg_read_limit) + 8 * s                   ? "read_limit"
                           : offset == offsetof(BtCpu, seg_write_limit) + 8 * s                  ? "write_limit"
                                                                                                 : NULL;
        if (what) {
            g_string_append_printf(out, "%s.%s", segment_names[s], what);
            return;
        }
    }
    for (unsigned i = 0; i < MMU_NINDEXES; i++) {
        uint64_t at = offset - tlb - i * sizeof(TlbEntry) * TLB_SIZE;
        const char *what = at == offsetof(TlbEntry, tag_read) ? "tag_read" : at == offsetof(TlbEntry, tag_write) ? "tag_write"
                           : at == offsetof(TlbEntry, host)   ? "host"     : NULL;
        if (what) {
            g_string_append_printf(out, "tlb.%s.%s", i == MMU_USER ? index_names[2] : i == MMU_KERNEL ? index_names[0] : index_names[1], what);
            return;
        }
    }
    if (offset - gpr < sizeof bm->gpr)
        g_string_append_printf(out, "guest_%s%s", gpr_names[(offset - gpr) / 8], (offset - gpr) % 8 ? "+n" : "");
    else if (offset - scratch < sizeof bm->scratch)
        g_string_append_printf(out, "scratch%u", (unsigned)((offset - scratch) / 8));
    else if (offset - jump < sizeof bm->jump_cache)
        g_string_append_printf(out, "jump_cache.%s.%s", (offset - jump) / sizeof bm->jump_cache[0] ? "user" : "kernel",
                               (offset - jump) % 16 ? "host" : "rip");
    else
        g_string_append_printf(out, "cpu+0x%" G_GINT64_MODIFIER "x", offset);
}

typedef struct Listing {
    const Bt *bt;
    const BtBlock *block;
    uint64_t base;          /* address of the block's first byte */
    unsigned char *is_label; /* by offset in it: the main line, then the rest */
} Listing;

/* The offset of @address among the block's bytes, -1: it is not in the block. */
static int64_t offset_of(const Listing *l, uint64_t address)
{
    uint64_t at = address - l->base, cold = address - l->base - (l->block->cold_at - l->block->code_at);
    return at < l->block->code_size ? (int64_t)at : cold < l->block->cold_size ? (int64_t)(l->block->code_size + cold) : -1;
}

static unsigned label_number(const Listing *l, uint64_t address)
{
    unsigned n = 0;
    for (int64_t i = 0; i <= offset_of(l, address); i++)
        n += l->is_label[i];
    return n;
}

static bool in_block(const Listing *l, uint64_t address) { return offset_of(l, address) >= 0; }

/* Operands of host code with names for numbers that depend on where things are. */
static void append_operands(GString *out, const Listing *l, const char *text)
{
    bool is_branch = text[0] == 'j' || g_str_has_prefix(text, "call");
    bool is_site = g_str_has_prefix(text, "mov r10d, ") || g_str_has_prefix(text, "movabs r10, ");
    const char *gs = strstr(text, "gs:[");
    for (const char *p = text; *p;) {
        char *end;
        if (p[0] != '0' || p[1] != 'x') {
            g_string_append_c(out, *p++);
            continue;
        }
        uint64_t value = g_ascii_strtoull(p, &end, 16);
        const char *stub = stub_name(l->bt, value);
        if (is_branch && in_block(l, value))
            g_string_append_printf(out, "L%u", label_number(l, value));
        else if (is_branch && stub)
            g_string_append(out, stub);
        else if (g_str_has_suffix(out->str, "[rip + "))
            g_string_append(out, "cell");
        else if (gs && p > gs && memchr(gs, ']', (size_t)(p - gs)) == NULL)
            append_field(out, value);
        else if (is_site && in_block(l, (uint32_t)value + (uint64_t)(uintptr_t)l->bt->rx))
            g_string_append_printf(out, "site%+d", (int)(int32_t)(value >> 32));
        else
            g_string_append_len(out, p, end - p);
        p = end;
    }
}

/* Host lines of dump_block() are indented by eight; address, bytes and text follow, two blanks between them. */
static bool host_line(const char *line, uint64_t *out_address, const char **out_text)
{
    if (!g_str_has_prefix(line, "        "))
        return false;
    char *rest;
    *out_address = g_ascii_strtoull(line + 8, &rest, 16);
    rest += strspn(rest, " ");
    rest += strcspn(rest, " ");
    *out_text = rest + strspn(rest, " ");
    return true;
}

static void append_block(GString *out, const BtBlock *block, const uint8_t *guest)
{
    Listing l = {.bt = bm->bt, .block = block, .base = (uint64_t)(uintptr_t)bm->bt->rx + block->code_at};
    l.is_label = g_malloc0(block->code_size + block->cold_size + 1u);
    g_autofree char *dump = dump_block(l.bt, block, guest);
    g_auto(GStrv) lines = g_strsplit(dump, "\n", -1);
    uint64_t address;
    const char *text;
    const uint32_t entries[] = {block_main_at(block), block_slot_at(block), block_host_poll_at(block)};
    for (char **line = lines; *line; line++) {
        if (!host_line(*line, &address, &text) || !(text[0] == 'j'))
            continue;
        const char *number = strstr(text, "0x");
        uint64_t target = number ? g_ascii_strtoull(number, NULL, 16) : 0;
        if (in_block(&l, target))
            l.is_label[offset_of(&l, target)] = 1;
    }
    for (char **line = lines; *line; line++) {
        if (!host_line(*line, &address, &text)) {
            g_string_append_printf(out, "%s%s", *line, **line ? "\n" : "");
            continue;
        }
        for (unsigned i = 0; i < 3; i++)
            if (address - l.base == entries[i] - block->code_at)
                g_string_append_printf(out, "    %s:\n", i == 0 ? "main" : i == 1 ? "slot" : "host_poll");
        if (in_block(&l, address) && l.is_label[offset_of(&l, address)])
            g_string_append_printf(out, "    L%u:\n", label_number(&l, address));
        g_string_append(out, "        ");
        append_operands(out, &l, text);
        g_string_append_c(out, '\n');
    }
    g_free(l.is_label);
}

/* The case's first block and those its edges lead to. */
static char *case_text(const GoldenCase *c)
{
    GString *out = g_string_new(NULL);
    uint64_t start = BM_CODE + c->at, todo[BLOCKS_MAX] = {start};
    size_t size = (size_t)(c->end - c->start);
    if (c->bits == 64) {
        bm_long();
    } else {
        bm_flat32();
        bm_state.seg[X86_FS].base = 0x300000;
        bm_state.seg[X86_FS].limit = 0xfff;
    }
    bm_state.rip = start;
    bm_state.xcr0 = c->xcr0;
    cache_flush(bm->bt, bm);
    mmu_flush(&bm->mmu, true);
    bm_code(start, c->start, size);
    bt_cpu_ops.load(&bm->base, &bm_state);
    bt_update_mode(bm);
    for (unsigned i = 0, n = 1; i < n; i++) {
        const BtBlock *block = bt_translate(bm, todo[i], bm->mode);
        if (!block) {
            g_string_append_printf(out, "exception %u\n", bm->exception.vector);
            break;
        }
        append_block(out, block, bm_ram + todo[i]);
        for (uint32_t k = block->exit_first; k < bm->bt->nexits; k++) {
            uint64_t target = bm->bt->exits[k].target_rip;
            bool is_known = target - start >= size;
            for (unsigned j = 0; j < n; j++)
                is_known |= todo[j] == target;
            if (!is_known && n < BLOCKS_MAX)
                todo[n++] = target;
        }
    }
    return g_string_free(out, FALSE);
}

/* False when the text differs. */
static bool case_compare(const char *dir, const GoldenCase *c, const char *text)
{
    g_autofree char *path = g_strdup_printf("%s/%s.expect", dir, c->name), *expected = NULL;
    if (g_file_get_contents(path, &expected, NULL, NULL) && !strcmp(expected, text))
        return true;
    g_autofree char *got = g_strdup_printf("%s/golden-%s-XXXXXX", g_get_tmp_dir(), c->name);
    int fd = g_mkstemp(got);
    if (fd < 0 || !g_file_set_contents(got, text, -1, NULL)) {
        fprintf(stderr, "golden: cannot write %s\n", got);
        return false;
    }
    const char *argv[] = {"diff", "-u", "--label", path, "--label", "now", expected ? path : "/dev/null", got, NULL};
    g_autofree char *diff = NULL;
    GError *error = NULL;
    if (g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &diff, NULL, NULL, &error))
        fputs(diff, stdout);
    else
        printf("golden: %s differs; diff: %s\n", c->name, error->message);
    g_clear_error(&error);
    remove(got);
    return false;
}

int main(int argc, char **argv)
{
    bool accept = argc > 2 && !strcmp(argv[2], "--accept");
    int first_name = accept ? 3 : 2;
    unsigned ncases = 0, ndifferent = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: golden DIR [--accept] [NAME]…\n");
        return 2;
    }
    bm_setup();
    bm->bt->has_bmi2 = true; /* nothing is executed here */
    bm->bt->cpu_at = 0;
    for (const GoldenCase *c = __start_golden_table; c < __stop_golden_table; c++) {
        bool chosen = argc <= first_name;
        for (int i = first_name; i < argc; i++)
            chosen |= !strcmp(argv[i], c->name);
        if (!chosen)
            continue;
        g_autofree char *text = case_text(c), *path = g_strdup_printf("%s/%s.expect", argv[1], c->name);
        GError *error = NULL;
        ncases++;
        if (!accept) {
            ndifferent += !case_compare(argv[1], c, text);
        } else if (!g_file_set_contents(path, text, -1, &error)) {
            fprintf(stderr, "golden: %s\n", error->message);
            return 1;
        }
    }
    bm_teardown();
    if (ndifferent)
        printf("golden: %u of %u translations differ; if that is what you wanted: scripts/golden-accept\n", ndifferent, ncases);
    else
        printf("golden: %u translations %s\n", ncases, accept ? "accepted" : "are as accepted");
    return ncases == 0 || ndifferent != 0;
}
