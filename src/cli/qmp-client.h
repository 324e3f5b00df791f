/*
 * A client of a running machine's QMP socket: commands one at a time, events in between.  Blocking, with a limit: a machine that does not
 * answer within thirty seconds is an error, not a hang.
 * Thread: one.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

typedef struct QmpClient QmpClient;

/* An event that came; @event has "event", "data" and "timestamp". */
typedef void QmpClientEvent(void *opaque, JsonObject *event);

/* qmp_client_new: @address is a path, "unix:PATH" or "tcp:HOST:PORT"; @on_event may be NULL.  Connects and negotiates.
 * NULL with VMM_ERROR_USAGE (nobody there, not QMP) or VMM_ERROR_HOST (it stopped answering). */
QmpClient *qmp_client_new(const char *address, QmpClientEvent *on_event, void *opaque, GError **error);
void qmp_client_free(QmpClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpClient, qmp_client_free)

/* qmp_client_call: @args (transfer full) may be NULL.  Returns: the value of "return"; (transfer full).  NULL with VMM_ERROR_REFUSED: the
 * machine refused, the message is its own; VMM_ERROR_HOST: the connection is lost. */
JsonNode *qmp_client_call(QmpClient *client, const char *command, JsonObject *args, GError **error);

/* qmp_client_human: one line of the human monitor.  Returns: its output; (transfer full). */
char *qmp_client_human(QmpClient *client, const char *line, GError **error);

int qmp_client_fd(const QmpClient *client); /* readable: call qmp_client_poll() */
/* qmp_client_poll: takes what has come, events only.  FALSE with VMM_ERROR_HOST when the connection is lost. */
gboolean qmp_client_poll(QmpClient *client, GError **error);
