/* One look at a running machine's state and counters, and the difference of two. */
#pragma once

#include "cli/qmp-client.h"

typedef struct MonitorSample {
    double wall;        /* seconds of the machine's own clock since it was started */
    double host_cpu;    /* seconds of host CPU it has used */
    bool is_running;
    char *mode, *state, *reason, *allowed; /* allowed: words */
    gint64 switches;
    double downtime_ms; /* of all switches together */
    GPtrArray *names;   /* char *, as the machine orders them */
    GHashTable *values; /* char * → double * */
} MonitorSample;

/* monitor_sample_new: NULL with the client's error. */
MonitorSample *monitor_sample_new(QmpClient *client, GError **error);
void monitor_sample_free(MonitorSample *sample);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MonitorSample, monitor_sample_free)

double monitor_sample_value(const MonitorSample *sample, const char *name); /* 0 when it is not counted */
/* monitor_sample_rate: per second between two; 0 when there is no earlier one, or when a new engine counts from 0 again. */
double monitor_sample_rate(const MonitorSample *now, const MonitorSample *before, const char *name);
double monitor_sample_load(const MonitorSample *now, const MonitorSample *before); /* host CPUs in use: 1.0 is one */
