/* `segue monitor --watch`: a live view of a running machine in the terminal; plain lines when stdout is none. */
#pragma once

#include "cli/qmp-client.h"

typedef struct MonitorWatchParams {
    const char *address;
    double interval; /* seconds */
    unsigned count;  /* of looks; 0: until the user or the machine ends it */
} MonitorWatchParams;

/* monitor_watch: FALSE with the client's error, but not when the machine has ended, which is said. */
gboolean monitor_watch(const MonitorWatchParams *params, GError **error);
