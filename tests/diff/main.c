/* Runs the oracle: `oracle [--count N] [--first N] [--seed S] [--row NAME] [--bits 64|32] [--insns N] [--rows] [--verbose]`.
 *
 * A batch that differs is run once more on both sides, because a host can be wrong for a moment: below a hypervisor that emulates, an INT3 has come
 * back as #UD.  A difference that the second native run does not show is the host's; it is printed, counted and no failure. */
#include "oracle.h"

#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bt/decode.h"
#include "bt/dump.h"
#include "core/log.h"

typedef struct Child {
    const char *name;
    void (*init)(Shared *shared);
    void (*run)(Shared *shared);
    pid_t pid;
    int to, from;
} Child;

static Shared *area;
static Child native = {.name = "native", .init = native_init, .run = native_run};
static Child guest = {.name = "bt", .init = guest_init, .run = guest_run};

static void child_start(Child *child)
{
    int to[2], from[2];
    if (pipe(to) || pipe(from)) {
        perror("oracle: pipe");
        exit(1);
    }
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        close(to[1]);
        close(from[0]);
        child->init(area);
        char token;
        while (read(to[0], &token, 1) == 1) {
            child->run(area);
            if (token == 'd' && child == &guest)
                guest_dump(area);
            if (write(from[1], &token, 1) != 1)
                break;
        }
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    child->to = to[1];
    child->from = from[0];
}

/* Runs cases [first, ncases).  False: the child died or hangs at area->at; it is started again. */
static bool child_run(Child *child, unsigned first, char token)
{
    area->at = first;
    struct pollfd fd = {.fd = child->from, .events = POLLIN};
    char answer;
    if (write(child->to, &token, 1) == 1 && poll(&fd, 1, 60000) == 1 && read(child->from, &answer, 1) == 1)
        return true;
    int status;
    kill(child->pid, SIGKILL);
    waitpid(child->pid, &status, 0);
    close(child->to);
    close(child->from);
    child_start(child);
    return false;
}

static void run_all(Child *child, Result *results)
{
    for (unsigned i = 0; i < area->ncases; i++)
        results[i].vector = VECTOR_NOT_RUN;
    unsigned deaths = 0;
    for (unsigned first = 0; first < area->ncases && !child_run(child, first, 'r'); first = area->at + 1)
        if (++deaths == 16) {
            printf("%s crashes all the time\n", child->name);
            exit(1);
        }
}

static void code_fill(void)
{
    memset(area->code, 0xcc, CODE_SIZE);
    memset(area->native_code, 0xcc, CODE_SIZE);
    for (unsigned i = 0; i < area->ncases; i++) {
        const Case *c = &area->cases[i];
        memcpy(area->code + (c->in.rip - CODE), c->code, c->ncode);
        memcpy(area->native_code + (c->in.rip - CODE), c->native_code, c->ncode);
    }
}

/* ---- comparing -------------------------------------------------------------------------------------------------------------------- */

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static void say(GString *out, const char *what, uint64_t theirs, uint64_t ours)
{
    g_string_append_printf(out, "    %-14s native %016" G_GINT64_MODIFIER "x bt %016" G_GINT64_MODIFIER "x\n", what, theirs, ours);
}

static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

static bool any_row(const Case *c, bool (*predicate)(const InsnRow *row))
{
    for (unsigned i = 0; i < c->ninsns; i++)
        if (predicate(&insn_table[c->row[i]]))
            return true;
    return false;
}

static bool row_needs_alignment(const InsnRow *row) { return row->attr & A_ALIGN || strcmp(row->name, "cmpxchg16b") == 0; }
static bool row_is_masked_store(const InsnRow *row) { return strncmp(row->name, "maskmov", 7) == 0; }
static bool row_is_string(const InsnRow *row) { return row->how == HOW_CALL && row->map == MAP_1B && (row->opcode_first & 0xf0) == 0xa0; }
static bool row_is_state_block(const InsnRow *row) { return row->how == HOW_CALL && (row->operand[0] & 0xff) == S_mx; }
static bool row_is_evex(const InsnRow *row) { return row->encodings == ENC_EVEX; }

static uint16_t any_undefined(const Case *c)
{
    uint16_t flags = 0;
    for (unsigned i = 0; i < c->ninsns; i++)
        flags |= insn_table[c->row[i]].flags_undefined;
    return flags;
}

/* Differences in which of several faults is reported that we accept, because software cannot depend on them. */
static bool is_accepted(const Case *c, const Result *n, const Result *g)
{
    uint32_t a = n->vector, b = g->vector;
    bool b_is_operand_fault = b == X86_EXC_PF || b == X86_EXC_GP || b == X86_EXC_SS;
    /* A misaligned operand on a page that faults: the CPU raises #GP, bt looks the page up first. */
    if (a == X86_EXC_GP && (b == X86_EXC_PF || b == X86_EXC_SS) && any_row(c, row_needs_alignment))
        return true;
    /* A pending x87 exception and a faulting operand: bt takes the operand's first; the other comes when it is restarted. */
    if (a == X86_EXC_MF && (b_is_operand_fault || b == X86_EXC_AC))
        return true;
    /* Whether an empty mask faults, and which byte is blamed, differs between CPUs (SDM 2B MASKMOVDQU). */
    if (a == X86_EXC_PF && any_row(c, row_is_masked_store))
        return true;
    /* An operand across the end of the 4 GiB segment; the 64-bit equivalent has no such end. */
    if (c->code_size == 4 && a == X86_EXC_PF && b_is_operand_fault && (n->cr2 >= 0xfffff000 || any_row(c, row_is_string)))
        return true;
    if (c->code_size == 4 && a == X86_EXC_AC && (b == X86_EXC_GP || b == X86_EXC_SS))
        return true;
    if (a == X86_EXC_GP && any_row(c, row_is_masked_store))
        return true;
    /* An invalid combination of EVEX fields with a memory operand: bt leaves the judgement to the host, after it has looked the page up. */
    return a == X86_EXC_UD && (b_is_operand_fault || b == X86_EXC_AC) && any_row(c, row_is_evex);
}

/* The differences between the two results of @c as text; NULL: none. */
static char *compare(const Case *c, const Result *n, const Result *g)
{
    if (n->vector != VECTOR_NOT_RUN && g->vector != VECTOR_NOT_RUN && is_accepted(c, n, g))
        return NULL;
    GString *out = g_string_new(NULL);
    char name[32];
    if (n->vector == VECTOR_NOT_RUN || g->vector == VECTOR_NOT_RUN) {
        g_string_append_printf(out, "    %s crashed or hung\n", n->vector == VECTOR_NOT_RUN ? "native" : "bt");
        return g_string_free(out, FALSE);
    }
    if (n->vector != g->vector)
        say(out, "vector", n->vector, g->vector);
    uint32_t error = n->vector == X86_EXC_PF && n->cr2 >> 63 ? 1 : 0; /* Linux reports every kernel address as present */
    bool is_block = n->vector == X86_EXC_PF && any_row(c, row_is_state_block); /* any byte of it may be touched first */
    if (n->vector == g->vector && n->vector != X86_EXC_BP && (n->error | error) != (g->error | error) && !is_block)
        say(out, "error code", n->error, g->error);
    if (n->vector == X86_EXC_PF && g->vector == X86_EXC_PF && n->cr2 != g->cr2 && !is_block)
        say(out, "cr2", n->cr2, g->cr2);
    if (n->out.rip != g->out.rip)
        say(out, "rip", n->out.rip, g->out.rip);
    uint64_t gpr_mask = c->code_size == 8 ? ~(uint64_t)0 : 0xffffffff;
    for (unsigned i = 0; i < 2 * c->code_size; i++)
        if ((n->out.gpr[i] ^ g->out.gpr[i]) & gpr_mask)
            say(out, gpr_names[i], n->out.gpr[i], g->out.gpr[i]);
    const uint64_t system_flags = X86_FLAG_DF | X86_FLAG_TF | X86_FLAG_AC | X86_FLAG_RF;
    uint64_t flags = (X86_FLAGS_STATUS | system_flags) & ~(uint64_t)c->undefined;
    if (n->vector == X86_EXC_DB)
        flags &= ~(uint64_t)any_undefined(c); /* of a single step: it may come in the middle */
    else if (n->vector != X86_EXC_BP)
        flags = system_flags; /* at a fault, bt does not keep status flags that the restarted code overwrites before it reads them */
    if ((n->out.rflags ^ g->out.rflags) & flags)
        say(out, "rflags", n->out.rflags & flags, g->out.rflags & flags);
    const uint8_t *a = n->out.fx, *b = g->out.fx;
    if (memcmp(a, b, 2))
        say(out, "fcw", get64(a) & 0xffff, get64(b) & 0xffff);
    if (memcmp(a + 2, b + 2, 2))
        say(out, "fsw", get64(a) >> 16 & 0xffff, get64(b) >> 16 & 0xffff);
    if (a[4] != b[4])
        say(out, "ftw", a[4], b[4]);
    if (memcmp(a + 24, b + 24, 4))
        say(out, "mxcsr", get64(a + 24) & 0xffffffff, get64(b + 24) & 0xffffffff);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(a + 32 + 16 * i, b + 32 + 16 * i, 10)) {
            g_snprintf(name, sizeof name, "st%u", i);
            say(out, name, get64(a + 32 + 16 * i), get64(b + 32 + 16 * i));
        }
    for (unsigned i = 0; i < 32; i++) {
        g_snprintf(name, sizeof name, "xmm%u[%u]", i / 2, i % 2);
        if (memcmp(a + 160 + 8 * i, b + 160 + 8 * i, 8))
            say(out, name, get64(a + 160 + 8 * i), get64(b + 160 + 8 * i));
        g_snprintf(name, sizeof name, "ymm%u[%u]", i / 2, 2 + i % 2);
        if (memcmp(n->out.ymm_high + 8 * i, g->out.ymm_high + 8 * i, 8))
            say(out, name, get64(n->out.ymm_high + 8 * i), get64(g->out.ymm_high + 8 * i));
    }
    for (unsigned i = 0; i < 8; i++)
        if (n->out.mask[i] != g->out.mask[i]) {
            g_snprintf(name, sizeof name, "k%u", i);
            say(out, name, n->out.mask[i], g->out.mask[i]);
        }
    for (unsigned i = 0; i < 64; i++) {
        g_snprintf(name, sizeof name, "zmm%u[%u]", i / 4, 4 + i % 4);
        if (memcmp(n->out.zmm_high + 8 * i, g->out.zmm_high + 8 * i, 8))
            say(out, name, get64(n->out.zmm_high + 8 * i), get64(g->out.zmm_high + 8 * i));
    }
    for (unsigned i = 0; i < 128; i++) {
        g_snprintf(name, sizeof name, "zmm%u[%u]", 16 + i / 8, i % 8);
        if (memcmp(n->out.zmm + 8 * i, g->out.zmm + 8 * i, 8))
            say(out, name, get64(n->out.zmm + 8 * i), get64(g->out.zmm + 8 * i));
    }
    for (unsigned i = 0, shown = 0; i < WINDOW_SIZE && shown < 4; i += 8) {
        if (i % 4096 == 0 && (is_block || memcmp(n->window + i, g->window + i, 4096) == 0)) {
            i += 4096 - 8;
            continue;
        }
        if (i / 4096 != WINDOW_HOLE && memcmp(n->window + i, g->window + i, 8)) {
            g_snprintf(name, sizeof name, "[%x]", WINDOW + i);
            say(out, name, get64(n->window + i), get64(g->window + i));
            shown++;
        }
    }
    if (out->len)
        return g_string_free(out, FALSE);
    g_string_free(out, TRUE);
    return NULL;
}

static GString *unrepeatable_text(const Case *c, const char *differences, const char *side)
{
    GString *out = g_string_new(NULL);
    g_string_printf(out, "%s result not repeatable: seed %u, rows", side, c->seed);
    for (unsigned i = 0; i < c->ninsns; i++)
        g_string_append_printf(out, " %s", insn_table[c->row[i]].name);
    g_string_append_printf(out, "\n%s", differences);
    return out;
}

/* Drops instructions from area->cases[0] as long as it still differs; leaves the smallest there and returns its differences. */
static char *minimize(Case original)
{
    Case best = original;
    area->cases[0] = best;
    area->ncases = 1;
    code_fill();
    run_all(&native, area->native);
    run_all(&guest, area->guest);
    char *text = compare(&best, &area->native[0], &area->guest[0]);
    for (unsigned i = 0; i < best.ninsns; i++)
        if (best.jump_to[i])
            return text; /* dropping instructions would move its jumps */
    for (unsigned drop = 0; text && best.ninsns > 1 && drop < best.ninsns;) {
        Case smaller = best;
        smaller.ninsns = 0;
        smaller.ncode = 0;
        smaller.undefined = 0;
        for (unsigned i = 0; i < best.ninsns; i++) {
            unsigned length = best.insn_at[i + 1] - best.insn_at[i];
            if (i == drop)
                continue;
            const InsnRow *row = &insn_table[best.row[i]];
            smaller.insn_at[smaller.ninsns] = (uint8_t)smaller.ncode;
            smaller.row[smaller.ninsns++] = best.row[i];
            memcpy(smaller.code + smaller.ncode, best.code + best.insn_at[i], length);
            memcpy(smaller.native_code + smaller.ncode, best.native_code + best.insn_at[i], length);
            smaller.ncode += length;
            smaller.undefined = (uint16_t)((smaller.undefined & ~(row->flags_written & ~row->flags_read)) | row->flags_undefined);
        }
        smaller.insn_at[smaller.ninsns] = (uint8_t)smaller.ncode;
        smaller.native_code[smaller.ncode] = smaller.code[smaller.ncode] = 0xcc;
        smaller.ncode++;
        area->cases[0] = smaller;
        code_fill();
        run_all(&native, area->native);
        run_all(&guest, area->guest);
        char *again = compare(&smaller, &area->native[0], &area->guest[0]);
        if (again) {
            g_free(text);
            text = again;
            best = smaller;
            drop = 0;
        } else {
            drop++;
        }
    }
    area->cases[0] = best;
    return text;
}

static void report(const Case *c, const char *differences)
{
    printf("seed %u, rows", c->seed);
    for (unsigned i = 0; i < c->ninsns; i++)
        printf(" %s", insn_table[c->row[i]].name);
    printf(", undefined flags %x\n", c->undefined);
    g_autofree char *listing = dump_code(c->code, c->ncode, c->in.rip, c->code_size);
    printf("%s", listing);
    printf("  in:");
    for (unsigned i = 0; i < 16; i++)
        printf(" %s=%" G_GINT64_MODIFIER "x", gpr_names[i], c->in.gpr[i]);
    printf(" rflags=%" G_GINT64_MODIFIER "x\n%s\n", c->in.rflags, differences);
}

/* ---- the run ---------------------------------------------------------------------------------------------------------------------- */

typedef struct Options {
    int count, first, seed, insns, limit, bits;
    char *row, *fault;
    gboolean rows, verbose, verify;
} Options;

typedef struct RowList {
    uint16_t row[2048];
    unsigned count;
} RowList;

static void make_batch(const Options *options, unsigned first, const RowList *rows64, const RowList *rows32)
{
    Rng rng = {(uint64_t)options->seed << 32 | first / BATCH};
    generate_template(&rng, area->template);
    area->ncases = BATCH;
    for (unsigned i = 0; i < BATCH; i++) {
        Rng own = {(uint64_t)options->seed << 32 ^ (uint64_t)(first + i) * 0x2545f4914f6cdd1du};
        unsigned insns = options->insns ? (unsigned)options->insns : i % 4 ? 1 : 2 + rng_below(&own, 5);
        bool is64 = !rows32->count || (rows64->count && i % 3);
        const RowList *rows = is64 ? rows64 : rows32;
        generate_case(&own, &area->cases[i], case_rip(i), rows->row, rows->count, insns, is64 ? 8 : 4);
        area->cases[i].seed = first + i;
    }
    code_fill();
}

static const char *row_kind(const InsnRow *row)
{
    if (row->attr & A_AVX512)
        return "AVX-512";
    if (row->attr & (A_SSE | A_AVX))
        return !(row->encodings & VEX) ? "SSE" : row->encodings == VEX ? "AVX" : "SSE and AVX";
    if (row->attr & A_MMX)
        return "MMX";
    if (row->attr & A_X87)
        return "x87";
    return row->attr & A_CPL0 || row_is_state_block(row) ? "system" : "integer";
}

/* A wrong native result, to test the oracle itself: what the host was seen to do. */
static void fault_inject(void)
{
    area->native[BATCH / 2].vector ^= X86_EXC_BP ^ X86_EXC_UD;
}

/* Runs the batch again.  @texts: the differences of each case, NULL where there are none; keeps those that both runs show, and those that bt does not
 * repeat.  Prints those that the host does not repeat.  Returns how many. */
static unsigned batch_confirm(const Options *o, char *texts[BATCH])
{
    static Result native_before[BATCH];
    unsigned count = 0;
    memcpy(native_before, area->native, sizeof native_before);
    run_all(&native, area->native);
    if (o->fault && strcmp(o->fault, "always") == 0)
        fault_inject();
    run_all(&guest, area->guest);
    for (unsigned i = 0; i < BATCH; i++) {
        const Case *c = &area->cases[i];
        if (!texts[i])
            continue;
        g_autofree char *now = compare(c, &area->native[i], &area->guest[i]);
        if (now)
            continue;
        /* The host's, when its two results differ where they are compared. */
        g_autofree char *between = compare(c, &native_before[i], &area->native[i]);
        bool is_host = between || native_before[i].vector != area->native[i].vector;
        GString *text = unrepeatable_text(c, texts[i], is_host ? "native" : "bt");
        printf("%s\n", text->str);
        fflush(stdout);
        g_string_free(text, TRUE);
        if (is_host) {
            count++;
            g_clear_pointer(&texts[i], g_free);
        }
    }
    return count;
}

int main(int argc, char **argv)
{
    Options o = {.count = 20000, .seed = 1, .limit = 10};
    GOptionEntry entries[] = {
        {"count", 'n', 0, G_OPTION_ARG_INT, &o.count, "Cases to run", "N"},
        {"first", 'f', 0, G_OPTION_ARG_INT, &o.first, "Begin with this case", "N"},
        {"seed", 's', 0, G_OPTION_ARG_INT, &o.seed, "Random seed", "S"},
        {"row", 'r', 0, G_OPTION_ARG_STRING, &o.row, "Only rows of this name", "NAME"},
        {"insns", 'i', 0, G_OPTION_ARG_INT, &o.insns, "Instructions a case (default: mostly 1, up to 6)", "N"},
        {"bits", 'b', 0, G_OPTION_ARG_INT, &o.bits, "Only 64- or 32-bit code", "64|32"},
        {"limit", 'l', 0, G_OPTION_ARG_INT, &o.limit, "Stop after this many differing rows", "N"},
        {"rows", 0, 0, G_OPTION_ARG_NONE, &o.rows, "List rows with their number of cases, and those left out with the reason", NULL},
        {"fault", 0, 0, G_OPTION_ARG_STRING, &o.fault, "Falsify a native result of each batch, to test the oracle", "once|always"},
        {"verify", 0, 0, G_OPTION_ARG_NONE, &o.verify, "Have every translation proven safe as well", NULL},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &o.verbose, "Show the translated code of each reproducer", NULL},
        {0},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- run rows of the instruction table natively and in bt");
    g_option_context_add_main_entries(context, entries, NULL);
    g_autoptr(GError) error = NULL;
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "oracle: %s\n", error->message);
        return 2;
    }
    insn_decode_init();
    if (o.verify)
        log_open(LOG_VERIFY, NULL, NULL);
    signal(SIGPIPE, SIG_IGN);
    area = mmap(NULL, sizeof *area, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static RowList rows64, rows32;
    g_autofree unsigned *runs = g_new0(unsigned, insn_table_rows);
    g_autofree bool *bad = g_new0(bool, insn_table_rows);
    unsigned differing = 0, finished = 0, unrepeatable = 0;
    for (unsigned i = 0; i < insn_table_rows && i < G_N_ELEMENTS(rows64.row); i++) {
        if (o.row && strcmp(o.row, insn_table[i].name) != 0)
            continue;
        if (o.bits != 32 && !generate_skip_reason(&insn_table[i], 8))
            rows64.row[rows64.count++] = (uint16_t)i;
        if (o.bits != 64 && !generate_skip_reason(&insn_table[i], 4))
            rows32.row[rows32.count++] = (uint16_t)i;
    }
    if (!rows64.count && !rows32.count) {
        fprintf(stderr, "oracle: no row%s%s takes part\n", o.row ? " named " : "", o.row ? o.row : "");
        return 2;
    }
    child_start(&native);
    child_start(&guest);
    unsigned begin = (unsigned)o.first / BATCH * BATCH;
    for (unsigned first = begin; first - begin < (unsigned)o.count && differing < (unsigned)o.limit; first += BATCH) {
        make_batch(&o, first, &rows64, &rows32);
        run_all(&native, area->native);
        run_all(&guest, area->guest);
        finished += BATCH;
        if (o.fault)
            fault_inject();
        char *texts[BATCH]; /* differences as first seen */
        bool any = false;
        for (unsigned i = 0; i < BATCH; i++)
            any |= (texts[i] = compare(&area->cases[i], &area->native[i], &area->guest[i])) != NULL;
        if (any)
            unrepeatable += batch_confirm(&o, texts);
        char *first_text[BATCH] = {NULL}; /* of failed[i] */
        g_autoptr(GPtrArray) failed = g_ptr_array_new_with_free_func(g_free);
        for (unsigned i = 0; i < BATCH; i++) {
            const Case *c = &area->cases[i];
            bool known_bad = false;
            for (unsigned k = 0; k < c->ninsns; k++) {
                runs[c->row[k]]++;
                known_bad |= bad[c->row[k]];
            }
            g_autofree char *text = texts[i];
            if (text && (!known_bad || strstr(text, "crashed"))) {
                first_text[failed->len] = g_steal_pointer(&text);
                g_ptr_array_add(failed, g_memdup2(c, sizeof *c));
            }
        }
        for (unsigned i = 0; i < failed->len && differing < (unsigned)o.limit; i++) {
            const Case *c = failed->pdata[i];
            bool known_bad = false;
            for (unsigned k = 0; k < c->ninsns; k++)
                known_bad |= bad[c->row[k]];
            g_autofree char *text = minimize(*c);
            if (known_bad && !(text && strstr(text, "crashed")))
                continue;
            Case smallest = text ? area->cases[0] : *c;
            for (unsigned k = 0; k < smallest.ninsns; k++)
                bad[smallest.row[k]] = true;
            differing++;
            report(&smallest, text ? text : first_text[i] ? first_text[i] : "");
            if (!text)
                printf("    (differs only in company of the other cases)\n\n");
            fflush(stdout);
            if (text && o.verbose)
                child_run(&guest, 0, 'd');
        }
        for (unsigned i = 0; i < BATCH; i++)
            g_free(first_text[i]);
    }
    unsigned exercised = 0;
    for (unsigned i = 0; i < insn_table_rows; i++) {
        const InsnRow *row = &insn_table[i];
        const char *reason = generate_skip_reason(row, row->attr & A_I64 ? 4 : 8);
        exercised += runs[i] > 0;
        if (o.rows)
            printf("%-16s map %u %02x/%d pp %u, %s: %u cases%s%s\n", row->name, row->map, row->opcode_first, row->digit, row->prefix, row_kind(row), runs[i],
                   reason ? ", left out: " : "", reason ? reason : "");
    }
    printf("%u cases, %u of %u rows exercised, %u of them differ\n", finished, exercised, insn_table_rows, differing);
    if (unrepeatable)
        printf("%u native results not repeatable\n", unrepeatable);
    return differing != 0 || (o.fault && !unrepeatable); /* a fault that goes unseen is a fault of ours */
}
