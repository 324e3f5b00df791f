#include "bt/profile.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "bt/cache.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define PERIOD_NS   1000000 /* asked for; a host without high-resolution CPU clocks gives its tick */
#define TABLE_BITS  14
#define PROBES      16u
#define MAX_VCPUS   64u
#define REPORT_ROWS 40u

typedef enum Place { PLACE_NONE, PLACE_KERNEL, PLACE_USER, PLACE_STUB, PLACE_HOST } Place;

typedef struct Cell {
    uint64_t address; /* of a block: guest RIP; of a stub: offset in the cache; else host PC */
    uint32_t count;
    uint32_t place;
} Cell;

struct BtProfile {
    const BtCpu *cpu;
    const Symbols *guest;
    Symbols *own; /* of this program, NULL: stripped */
    uint64_t bias; /* run-time address less that in the file */
    unsigned slot;
    bool has_timer;
    timer_t timer;
    uint64_t nsamples, nlost;
    Cell cell[1u << TABLE_BITS];
};

/* A signal names its profile by number: one that arrives late finds nothing here. */
static BtProfile *profiles[MAX_VCPUS];

/* --- in the signal handler: no call, no lock --- */

static void sample_add(BtProfile *profile, Place place, uint64_t address)
{
    uint32_t start = (uint32_t)((address * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - TABLE_BITS));
    for (unsigned i = 0; i < PROBES; i++) {
        Cell *cell = &profile->cell[(start + i) & ((1u << TABLE_BITS) - 1)];
        if (cell->count && (cell->address != address || cell->place != place))
            continue;
        cell->address = address;
        cell->place = place;
        __atomic_store_n(&cell->count, cell->count + 1, __ATOMIC_RELEASE);
        return;
    }
    profile->nlost++;
}

static void on_tick(int signal_number, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    if (info->si_code != SI_TIMER || (unsigned)info->si_value.sival_int >= MAX_VCPUS)
        return;
    BtProfile *profile = __atomic_load_n(&profiles[info->si_value.sival_int], __ATOMIC_ACQUIRE);
    if (!profile)
        return;
    const Bt *bt = profile->cpu->bt;
    const uint8_t *pc = (const uint8_t *)uc->uc_mcontext.gregs[REG_RIP];
    const BtBlock *block = NULL;
    profile->nsamples++;
    /* The thread is in translated code, so that nobody changes the cache meanwhile. */
    if (!cache_contains(bt, pc))
        sample_add(profile, PLACE_HOST, (uint64_t)(uintptr_t)pc);
    else if (cache_map_find(bt, pc, &block))
        sample_add(profile, block->mode & MODE_USER ? PLACE_USER : PLACE_KERNEL, block->rip + block->cs_base);
    else
        sample_add(profile, PLACE_STUB, (uint64_t)(pc - bt->rx));
}

/* --- life --- */

static int main_program(struct dl_phdr_info *info, size_t size, void *opaque)
{
    *(uint64_t *)opaque = info->dlpi_addr;
    return 1; /* the first one is it */
}

BtProfile *profile_new(const BtCpu *cpu, const Symbols *symbols)
{
    unsigned slot = 0;
    while (slot < MAX_VCPUS && profiles[slot])
        slot++;
    if (slot == MAX_VCPUS)
        return NULL;
    BtProfile *profile = g_new0(BtProfile, 1);
    profile->cpu = cpu;
    profile->guest = symbols;
    profile->slot = slot;
    profile->own = symbols_load("/proc/self/exe", NULL);
    dl_iterate_phdr(main_program, &profile->bias);
    __atomic_store_n(&profiles[slot], profile, __ATOMIC_RELEASE);
    return profile;
}

void profile_thread_init(BtProfile *profile)
{
    if (profile->has_timer)
        return;
    struct sigaction action = { .sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
    sigemptyset(&action.sa_mask);
    sigaction(SIGPROF, &action, NULL);
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF, .sigev_value.sival_int = (int)profile->slot };
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    profile->has_timer = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &profile->timer) == 0;
    struct itimerspec period = { .it_interval.tv_nsec = PERIOD_NS, .it_value.tv_nsec = PERIOD_NS };
    if (profile->has_timer)
        timer_settime(profile->timer, 0, &period, NULL);
}

void profile_free(BtProfile *profile)
{
    if (!profile)
        return;
    __atomic_store_n(&profiles[profile->slot], NULL, __ATOMIC_RELEASE);
    if (profile->has_timer)
        timer_delete(profile->timer);
    symbols_free(profile->own);
    g_free(profile);
}

/* --- the report --- */

/* What a stub is for, by the offset of a sample in it. */
static const char *stub_name(const Bt *bt, uint64_t offset)
{
    const struct {
        const uint8_t *start;
        const char *name;
    } stubs[] = {
        { bt->rw + ((const uint8_t *)(uintptr_t)bt->enter - bt->rx), "enter" }, { bt->stub_dispatch_rw, "dispatch" },
        { bt->stub_save_dispatch_rw, "save and dispatch" }, { bt->stub_mem_slow_rw, "slow access" },
        { bt->stub_group_slow_rw, "slow accesses of a group" }, { bt->stub_commit_rw, "commit" }, { bt->stub_exec_rw, "helper" },
        { bt->stub_exec_end_rw, "last helper" }, { bt->stub_link_host_rw, "link" }, { bt->stub_link_slot_rw, "link" },
        { bt->stub_indirect_rw, "indirect branch" }, { bt->stub_seg_slow_rw, "slow segment" },
    };
    const char *name = "between blocks";
    const uint8_t *best = NULL;
    if (offset >= (uint64_t)(bt->code_start - bt->rw))
        return name;
    for (size_t i = 0; i < G_N_ELEMENTS(stubs); i++)
        if (stubs[i].start && stubs[i].start <= bt->rw + offset && (!best || stubs[i].start > best)) {
            best = stubs[i].start;
            name = stubs[i].name;
        }
    return name;
}

/* The kinds of host code, by the beginning of a function's name; the first row that fits. */
static const struct {
    const char *prefix, *kind;
} kinds[] = {
    { "mmu_fill", "TLB fills" },         { "walk", "TLB fills" },            { "mmu_walk", "TLB fills" },
    { "mmu_prefill", "TLB fills" },      { "fill_", "TLB fills" },           { "place_", "TLB fills" },
    { "entry_fill", "TLB fills" },       { "table_cache", "TLB fills" },     { "recall", "TLB refills after CR3 loads" },
    { "mmu_", "TLB flushes" },           { "tlb_", "TLB flushes" },          { "drop_", "TLB flushes" },
    { "code_map", "code pages" },        { "cache_", "code cache" },         { "jump_cache", "code cache" },
    { "bt_dispatch", "dispatch" },       { "find_block", "dispatch" },       { "fetch_gpa", "dispatch" },
    { "refresh_mode", "dispatch" },      { "update_segments", "dispatch" },  { "bt_mem", "slow accesses" },
    { "mem_", "slow accesses" },         { "bt_translate", "translation" },  { "translate", "translation" },
    { "tr_", "translation" },            { "insn_", "translation" },         { "decode", "translation" },
    { "bt_deliver", "interrupts and exceptions" }, { "deliver", "interrupts and exceptions" },
};

/* By source file, where the symbol table tells it. */
static const struct {
    const char *prefix, *kind;
} files[] = {
    { "exec-deliver", "interrupts and exceptions" }, { "exec-", "helpers" },  { "translate", "translation" }, { "decode", "translation" },
    { "insn-table", "translation" },                 { "cache", "code cache" }, { "dispatch", "dispatch" },   { "mem.c", "slow accesses" },
    { "fill", "TLB fills" },                         { "walk", "TLB fills" }, { "tlb", "TLB flushes" },
    { "recall", "TLB refills after CR3 loads" },     { "codemap", "code pages" }, { "bt.c", "run loop" }, { "unwind", "host faults" },
};

static const char *host_kind(const Symbol *symbol, const char *library)
{
    if (library)
        return "libraries and system calls";
    if (!symbol)
        return "this program";
    for (size_t i = 0; symbol->file && i < G_N_ELEMENTS(files); i++)
        if (g_str_has_prefix(symbol->file, files[i].prefix))
            return files[i].kind;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_str_has_prefix(symbol->name, kinds[i].prefix))
            return kinds[i].kind;
    return g_str_has_prefix(symbol->name, "bt_") || g_str_has_prefix(symbol->name, "ex_") ? "helpers" : "machine and devices";
}

typedef struct Row {
    const char *name; /* owned by the table it is a key of */
    uint64_t count;
} Row;

static void row_count(GHashTable *table, const char *name, uint64_t count)
{
    uint64_t *total = g_hash_table_lookup(table, name);
    if (!total) {
        total = g_new0(uint64_t, 1);
        g_hash_table_insert(table, g_strdup(name), total);
    }
    *total += count;
}

static gint by_count(gconstpointer a, gconstpointer b)
{
    const Row *one = a, *two = b;
    return one->count != two->count ? (one->count > two->count ? -1 : 1) : strcmp(one->name, two->name);
}

static void table_print(GString *out, const char *title, GHashTable *table, uint64_t total)
{
    g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(Row));
    GHashTableIter iter;
    gpointer name, count;
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &name, &count)) {
        Row row = { .name = name, .count = *(uint64_t *)count };
        g_array_append_val(rows, row);
    }
    g_array_sort(rows, by_count);
    g_string_append_printf(out, "%s\n", title);
    for (guint i = 0; i < rows->len && i < REPORT_ROWS; i++) {
        const Row *row = &g_array_index(rows, Row, i);
        g_string_append_printf(out, "  %6.2f%% %8" G_GUINT64_FORMAT "  %s\n", 100.0 * (double)row->count / (double)total, row->count, row->name);
    }
    if (rows->len > REPORT_ROWS)
        g_string_append_printf(out, "  … and %u more\n", rows->len - REPORT_ROWS);
}

static void host_count(const BtProfile *profile, uint64_t pc, uint64_t count, GHashTable *by_kind, GHashTable *by_host)
{
    Dl_info info;
    bool is_known = dladdr((const void *)(uintptr_t)pc, &info) != 0;
    bool is_own = is_known && (uint64_t)(uintptr_t)info.dli_fbase == profile->bias;
    const Symbol *symbol = is_own ? symbols_find(profile->own, pc - profile->bias) : NULL;
    const char *library = is_own ? NULL : is_known ? info.dli_fname : "the host's kernel page";
    g_autofree char *base = library ? g_path_get_basename(library) : NULL;
    g_autofree char *name = NULL;
    if (symbol)
        name = g_strdup_printf("%s%s%s%s", symbol->name, symbol->file ? " (" : "", symbol->file ? symbol->file : "", symbol->file ? ")" : "");
    else if (is_known && info.dli_sname)
        name = g_strdup_printf("%s (%s)", info.dli_sname, base ? base : "this program");
    else
        name = g_strdup(base ? base : "this program");
    row_count(by_kind, host_kind(symbol, library), count);
    row_count(by_host, name, count);
}

static void guest_count(const BtProfile *profile, const Cell *cell, uint64_t count, GHashTable *by_guest)
{
    bool is_kernel = cell->place == PLACE_KERNEL;
    const Symbol *symbol = is_kernel ? symbols_find(profile->guest, cell->address) : NULL;
    g_autofree char *name = symbol ? g_strdup(symbol->name)
                                   : g_strdup_printf("%s %016" G_GINT64_MODIFIER "x", is_kernel ? "kernel" : "user  ", cell->address);
    row_count(by_guest, name, count);
}

char *profile_report(const BtProfile *profile)
{
    g_autoptr(GHashTable) by_kind = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GHashTable) by_host = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GHashTable) by_guest = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    uint64_t total = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(profile->cell); i++) {
        const Cell *cell = &profile->cell[i];
        uint64_t count = __atomic_load_n(&cell->count, __ATOMIC_ACQUIRE);
        if (!count)
            continue;
        total += count;
        switch ((Place)cell->place) {
        case PLACE_KERNEL:
        case PLACE_USER:
            row_count(by_kind, cell->place == PLACE_USER ? "translated code, CPL 3" : "translated code, CPL 0", count);
            guest_count(profile, cell, count, by_guest);
            break;
        case PLACE_STUB: {
            g_autofree char *name = g_strconcat("stub: ", stub_name(profile->cpu->bt, cell->address), NULL);
            row_count(by_kind, "stubs", count);
            row_count(by_host, name, count);
            break;
        }
        case PLACE_HOST:
            host_count(profile, cell->address, count, by_kind, by_host);
            break;
        case PLACE_NONE:
            break;
        }
    }
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "profile of vCPU %u: %" G_GUINT64_FORMAT " samples of its thread's CPU time, %" G_GUINT64_FORMAT " lost\n",
                           profile->cpu->index, profile->nsamples, profile->nlost);
    if (!profile->has_timer)
        g_string_append(out, "the host gave no timer on the thread's CPU clock\n");
    if (!total)
        return g_string_free(out, FALSE);
    table_print(out, "by kind:", by_kind, total);
    table_print(out, "by host function:", by_host, total);
    table_print(out, "by guest function:", by_guest, total);
    return g_string_free(out, FALSE);
}
