/* What `segue bench` prints: medians, a recommendation with its reason, and a page with a chart.  Pure: no guest is run here. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "cli/bench-run.h"

typedef struct BenchColumn {
    const char *accel;
    GArray *runs;    /* BenchRun */
    char *missing;   /* why there are none, or NULL */
} BenchColumn;

double bench_median(const double *values, unsigned count);
/* bench_advice: one sentence: which is best, or that they do not differ; (transfer full). */
char *bench_advice(const BenchColumn *columns, unsigned count);
char *bench_text(const BenchColumn *columns, unsigned count);                    /* (transfer full) */
char *bench_html(const char *title, const BenchColumn *columns, unsigned count); /* a whole page with an SVG; (transfer full) */
