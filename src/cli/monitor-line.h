/*
 * One line for a running machine, as a person types it: a QMP command with key=value words ("switch-mode mode=bt"), or else a line of the
 * human monitor ("info registers").  Shared by `segue monitor`'s ways of reading lines.
 */
#pragma once

#include "cli/qmp-client.h"

typedef struct MonitorNames {
    GPtrArray *qmp;   /* char * */
    GPtrArray *human; /* char *: the human monitor's commands */
    GPtrArray *infos; /* char *: what follows "info" */
} MonitorNames;

/* monitor_names_new: asks the machine.  NULL with the client's error. */
MonitorNames *monitor_names_new(QmpClient *client, GError **error);
void monitor_names_free(MonitorNames *names);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MonitorNames, monitor_names_free)

/* monitor_line_run: Returns: what to print, "" for nothing; (transfer full).  NULL with VMM_ERROR_REFUSED and the machine's words, also when
 * the human monitor complains, which it does in a line that begins with the command's name and a colon. */
char *monitor_words_run(QmpClient *client, const MonitorNames *names, const char *const *words, GError **error); /* ended by NULL */
char *monitor_line_run(QmpClient *client, const MonitorNames *names, const char *line, GError **error);

/* monitor_line_complete: the words that may stand where @line ends; @start: where that word begins.  (transfer container); the strings are
 * owned by @names or static. */
GPtrArray *monitor_line_complete(const MonitorNames *names, const char *line, size_t start);
