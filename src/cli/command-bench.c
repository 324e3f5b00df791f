/* segue bench: the same workload in each mode the host has. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

#include "cli/bench-report.h"
#include "core/error.h"
#include "host.h"

typedef struct Bench {
    BenchJob job;
    bool is_modes;
    uint64_t rounds;
    const char *script, *html;
    GPtrArray *accels; /* const char *; --accel */
    char **lines;
    BenchColumn *columns;
    unsigned ncolumns;
} Bench;

static gboolean script_read(Bench *bench, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) cause = NULL;
    if (!g_file_get_contents(bench->script, &text, NULL, &cause)) {
        command_usage(error, "bench: --script: %s", cause->message);
        return FALSE;
    }
    g_auto(GStrv) all = g_strsplit(text, "\n", -1);
    GPtrArray *lines = g_ptr_array_new();
    for (char **line = all; *line; line++)
        if (*g_strstrip(*line) && **line != '#')
            g_ptr_array_add(lines, g_strdup(*line));
    bool is_empty = !lines->len;
    g_ptr_array_add(lines, NULL);
    bench->lines = (char **)g_ptr_array_free(lines, FALSE);
    bench->job.lines = (const char *const *)bench->lines;
    if (is_empty)
        command_usage(error, "bench: --script %s: no line to type", bench->script);
    return !is_empty;
}

static gboolean words_take(Bench *bench, int argc, const char *const *argv, GError **error)
{
    uint64_t limit = bench->job.limit;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool has_value = true, is_fine = true;
        if (word[0] != '-') {
            bench->job.vmx = word;
            bench->job.extra = argv + i + 1; /* the rest is for each run */
            break;
        }
        if (!strcmp(word, "--modes"))
            bench->is_modes = true, has_value = false;
        else if (!value)
            is_fine = false;
        else if (!strcmp(word, "--script"))
            bench->script = value;
        else if (!strcmp(word, "--html"))
            bench->html = value;
        else if (!strcmp(word, "--prompt"))
            bench->job.prompt = value;
        else if (!strcmp(word, "--accel"))
            g_ptr_array_add(bench->accels, (char *)value);
        else if (!strcmp(word, "--rounds"))
            is_fine = parse_uint(value, 1000, &bench->rounds) && bench->rounds;
        else if (!strcmp(word, "--limit"))
            is_fine = parse_uint(value, 1000000, &limit) && limit;
        else
            is_fine = false;
        if (!is_fine) {
            command_usage(error, "bench: '%s' is not understood, or its value is missing or wrong; see segue bench --help", word);
            return FALSE;
        }
        i += has_value;
    }
    bench->job.limit = (unsigned)limit;
    if (!bench->job.vmx || (!bench->is_modes && !bench->accels->len)) {
        command_usage(error, "bench: --modes and a .vmx file are needed; see segue bench --help");
        return FALSE;
    }
    return !bench->script || script_read(bench, error);
}

static void column_add(Bench *bench, const char *accel, const char *missing)
{
    bench->columns = g_renew(BenchColumn, bench->columns, bench->ncolumns + 1);
    bench->columns[bench->ncolumns++] = (BenchColumn){ .accel = accel, .runs = g_array_new(FALSE, TRUE, sizeof(BenchRun)),
                                                       .missing = g_strdup(missing) };
}

/* One column a mode; those that this host does not have say why. */
static gboolean columns_plan(Bench *bench, GError **error)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(VmxFile) file = vmx_load(bench->job.vmx, error);
    if (!file || !vmx_apply(file, config, error))
        return FALSE;
    ModeConfig any;
    mode_config_init(&any);
    g_autoptr(Plan) plan = plan_new(&(PlanInput){ .modes = &any, .guest_os = config->guest_os, .is_vmi = config->is_vmi }, host_this());
    for (PlanMode mode = 0; bench->is_modes && mode < PLAN_NMODES; mode++) {
        const char *missing = plan_list_has(&plan->allowed, mode) ? NULL : "this host does not have it";
        for (guint i = 0; i < plan->reasons->len; i++) {
            const PlanReason *reason = g_ptr_array_index(plan->reasons, i);
            if (missing && reason->mode == mode)
                missing = reason->text;
        }
        column_add(bench, plan_mode_name(mode), missing);
    }
    for (guint i = 0; i < bench->accels->len; i++)
        column_add(bench, g_ptr_array_index(bench->accels, i), NULL);
    return TRUE;
}

/* Alternating, so that what changes on the host meanwhile changes it for all. */
static gboolean rounds_run(Bench *bench, GError **error)
{
    for (uint64_t round = 0; round < bench->rounds; round++)
        for (unsigned i = 0; i < bench->ncolumns; i++) {
            BenchColumn *column = &bench->columns[i];
            BenchRun run = { 0 };
            if (column->missing)
                continue;
            if (!bench_run(&bench->job, column->accel, &run, error)) {
                g_prefix_error(error, "%s, round %u: ", column->accel, (unsigned)round + 1);
                return FALSE;
            }
            g_array_append_val(column->runs, run);
            fprintf(stderr, "round %u of %u: %s %.2f s\n", (unsigned)round + 1, (unsigned)bench->rounds, column->accel, run.seconds);
        }
    return TRUE;
}

static gboolean report(const Bench *bench, GError **error)
{
    g_autofree char *text = bench_text(bench->columns, bench->ncolumns);
    fputs(text, stdout);
    if (!bench->html)
        return TRUE;
    g_autofree char *page = bench_html(bench->job.vmx, bench->columns, bench->ncolumns);
    g_autoptr(GError) cause = NULL;
    if (!g_file_set_contents(bench->html, page, -1, &cause))
        command_usage(error, "bench: --html: %s", cause->message);
    return !cause;
}

static int bench_command_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    Bench bench = { .rounds = 3, .job = { .prompt = "[#$] $", .limit = 600 } };
    bench.accels = g_ptr_array_new();
    if (words_take(&bench, argc, argv, error) && columns_plan(&bench, error) && rounds_run(&bench, error))
        report(&bench, error);
    for (unsigned i = 0; i < bench.ncolumns; i++) {
        for (guint j = 0; j < bench.columns[i].runs->len; j++)
            monitor_sample_free(g_array_index(bench.columns[i].runs, BenchRun, j).sample);
        g_array_free(bench.columns[i].runs, TRUE);
        g_free(bench.columns[i].missing);
    }
    g_free(bench.columns);
    g_strfreev(bench.lines);
    g_ptr_array_unref(bench.accels);
    return 0;
}

const Command command_bench = {
    "bench", "--modes [--script FILE] [--rounds N] [--html FILE] guest.vmx [QEMU-style options]", "find the mode that suits a workload",
    bench_command_run,
    "Runs the guest in each mode that this host has, in turns, and prints medians, what the engines counted, and which mode to use.\n"
    "Without a script the workload is the whole run, from start to power-off.\n"
    "  --script FILE   lines to type at the guest's prompts on its first serial port; the time is from the first line to the last prompt\n"
    "  --prompt REGEX  what ends the guest's output when it waits for a line (default: [#$] and a blank)\n"
    "  --rounds N      runs of each mode (default 3)\n"
    "  --limit N       seconds that one run may take (default 600)\n"
    "  --accel VALUE   another column: a value of -accel, for example bt,one-insn-per-tb=on; may be given more than once\n"
    "  --html FILE     a page with a chart\n",
};
