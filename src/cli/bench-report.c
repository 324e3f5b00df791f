#include "cli/bench-report.h"

#include <stdlib.h>
#include <string.h>

typedef struct Spread {
    double median, least, most;
} Spread;

static int double_compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double bench_median(const double *values, unsigned count)
{
    g_autofree double *sorted = g_memdup2(values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, double_compare);
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* @what: "seconds", "host-cpu", or a counter. */
static Spread spread_of(const BenchColumn *column, const char *what)
{
    g_autofree double *values = g_new(double, column->runs->len);
    Spread spread = { 0 };
    for (guint i = 0; i < column->runs->len; i++) {
        const BenchRun *run = &g_array_index(column->runs, BenchRun, i);
        values[i] = !strcmp(what, "seconds") ? run->seconds : !strcmp(what, "host-cpu") ? run->sample->host_cpu : monitor_sample_value(run->sample, what);
        spread.least = i ? MIN(spread.least, values[i]) : values[i];
        spread.most = i ? MAX(spread.most, values[i]) : values[i];
    }
    if (column->runs->len)
        spread.median = bench_median(values, column->runs->len);
    return spread;
}

char *bench_advice(const BenchColumn *columns, unsigned count)
{
    const BenchColumn *best = NULL, *second = NULL;
    for (unsigned i = 0; i < count; i++) {
        const BenchColumn *column = &columns[i];
        if (!column->runs->len)
            continue;
        double median = spread_of(column, "seconds").median;
        if (!best || median < spread_of(best, "seconds").median) {
            second = best;
            best = column;
        } else if (!second || median < spread_of(second, "seconds").median) {
            second = column;
        }
    }
    if (!best)
        return g_strdup("No mode ran the workload.");
    if (!second)
        return g_strdup_printf("Only %s could run it here.", best->accel);
    Spread first = spread_of(best, "seconds"), other = spread_of(second, "seconds");
    if (first.most >= other.least && best->runs->len > 1)
        return g_strdup_printf("%s and %s do not differ clearly: %.2f and %.2f s, and their runs overlap. Any of them will do.", best->accel,
                               second->accel, first.median, other.median);
    return g_strdup_printf("Use %s: %.2f s, %.2f times as fast as %s.", best->accel, first.median, other.median / first.median, second->accel);
}

/* The counters of all columns, each once. */
static GPtrArray *counter_names(const BenchColumn *columns, unsigned count)
{
    GPtrArray *names = g_ptr_array_new();
    for (unsigned i = 0; i < count; i++) {
        if (!columns[i].runs->len)
            continue;
        const GPtrArray *own = g_array_index(columns[i].runs, BenchRun, 0).sample->names;
        for (guint j = 0; j < own->len; j++)
            if (!g_ptr_array_find_with_equal_func(names, g_ptr_array_index(own, j), g_str_equal, NULL))
                g_ptr_array_add(names, g_ptr_array_index(own, j));
    }
    return names;
}

static void row_append(GString *text, const BenchColumn *columns, unsigned count, const char *label, const char *what, int decimals)
{
    g_string_append_printf(text, "%-28s", label);
    for (unsigned i = 0; i < count; i++)
        if (columns[i].runs->len)
            g_string_append_printf(text, " %20.*f", decimals, spread_of(&columns[i], what).median);
        else
            g_string_append_printf(text, " %20s", "-");
    g_string_append_c(text, '\n');
}

char *bench_text(const BenchColumn *columns, unsigned count)
{
    GString *text = g_string_new(NULL);
    g_autofree char *advice = bench_advice(columns, count);
    g_string_append_printf(text, "%-28s", "medians");
    for (unsigned i = 0; i < count; i++)
        g_string_append_printf(text, " %20s", columns[i].accel);
    g_string_append_c(text, '\n');
    row_append(text, columns, count, "seconds", "seconds", 2);
    g_string_append_printf(text, "%-28s", "  from - to");
    for (unsigned i = 0; i < count; i++) {
        Spread spread = spread_of(&columns[i], "seconds");
        g_autofree char *range = columns[i].runs->len ? g_strdup_printf("%.2f - %.2f", spread.least, spread.most) : g_strdup("-");
        g_string_append_printf(text, " %20s", range);
    }
    g_string_append_c(text, '\n');
    row_append(text, columns, count, "host CPU seconds", "host-cpu", 2);
    g_autoptr(GPtrArray) names = counter_names(columns, count);
    for (guint i = 0; i < names->len; i++)
        row_append(text, columns, count, g_ptr_array_index(names, i), g_ptr_array_index(names, i), 0);
    for (unsigned i = 0; i < count; i++)
        if (columns[i].missing)
            g_string_append_printf(text, "not %s: %s\n", columns[i].accel, columns[i].missing);
    g_string_append_printf(text, "%s\n", advice);
    return g_string_free(text, FALSE);
}

char *bench_html(const char *title, const BenchColumn *columns, unsigned count)
{
    const int left = 180, wide = 560, high = 44;
    double most = 0;
    for (unsigned i = 0; i < count; i++)
        most = MAX(most, spread_of(&columns[i], "seconds").most);
    g_autofree char *name = g_markup_escape_text(title, -1), *table = bench_text(columns, count), *shown = g_markup_escape_text(table, -1);
    GString *text = g_string_new(NULL);
    g_string_append_printf(text, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>segue bench: %s</title>\n"
                                 "<style>body{font:16px sans-serif;margin:2em;max-width:60em}text{font:14px sans-serif}</style></head>\n"
                                 "<body><h1>%s</h1>\n<p>Seconds, less is better. The bar is the median, the line goes from the fastest run to the slowest.</p>\n"
                                 "<svg role=\"img\" xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\">\n", name, name, left + wide + 120,
                           count * (unsigned)high + 10);
    for (unsigned i = 0; i < count; i++) {
        Spread spread = spread_of(&columns[i], "seconds");
        double scale = most > 0 ? wide / most : 0;
        g_autofree char *label = g_markup_escape_text(columns[i].accel, -1);
        int y = (int)i * high + 8;
        g_string_append_printf(text, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 10, y + 19, label);
        if (!columns[i].runs->len) {
            g_string_append_printf(text, "<text x=\"%d\" y=\"%d\">not on this host</text>\n", left, y + 19);
            continue;
        }
        g_string_append_printf(text, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"26\" fill=\"#4477aa\"/>\n"
                                     "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"black\" stroke-width=\"2\"/>\n"
                                     "<text x=\"%.1f\" y=\"%d\">%.2f s</text>\n",
                               left, y, spread.median * scale, left + spread.least * scale, left + spread.most * scale, y + 13, y + 13,
                               left + spread.most * scale + 8, y + 19, spread.median);
    }
    g_string_append_printf(text, "</svg>\n<pre>%s</pre>\n</body></html>\n", shown);
    return g_string_free(text, FALSE);
}
