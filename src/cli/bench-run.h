/* One run of a guest for `segue bench`: a process of our own, its serial line, its QMP socket, and what it counted. */
#pragma once

#include "cli/monitor-sample.h"

typedef struct BenchJob {
    const char *vmx;          /* the guest's file */
    const char *const *extra; /* QEMU-style options for each run; ended by NULL */
    const char *const *lines; /* typed at the guest's prompts; NULL: the run is from start to power-off */
    const char *prompt;       /* regular expression at the end of what the guest has printed */
    unsigned limit;           /* seconds for a whole run */
} BenchJob;

typedef struct BenchRun {
    double seconds;        /* the workload: from the first line typed, or from the start */
    MonitorSample *sample; /* at its end */
} BenchRun;

/* bench_run: one run under `-accel @accel`.  FALSE with VMM_ERROR_REFUSED: the guest did not get there (the message has its last words), or
 * what the client says. */
gboolean bench_run(const BenchJob *job, const char *accel, BenchRun *out_run, GError **error);
