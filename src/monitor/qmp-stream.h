/*
 * QMP's transport: listening sockets, connections, and the cutting of a byte stream into JSON objects.  What a peer sends is hostile:
 * at most 256 KiB and 128 levels an object, a newline ends whatever is malformed, and a peer that does not read is not read from.
 * Thread: the default main context's.
 */
#pragma once

#include "config/config.h"

#define QMP_OBJECT_MAX_BYTES (256u << 10)
#define QMP_MAX_DEPTH 128
#define QMP_MAX_PEERS 64 /* of one server; others wait in its backlog */

typedef struct QmpServer QmpServer;
typedef struct QmpPeer QmpPeer; /* one connection */

typedef struct QmpHandler {
    void (*opened)(void *opaque, QmpPeer *peer);
    void (*object)(void *opaque, QmpPeer *peer, const char *text, size_t size); /* braces and quotes balance; not checked further */
    void (*malformed)(void *opaque, QmpPeer *peer, const char *why);            /* what was sent up to the newline is dropped */
    void *opaque;
} QmpHandler;

/* qmp_server_new: opens, listens or connects at once; Unix sockets have mode 0600.  NULL with VMM_ERROR_USAGE. */
QmpServer *qmp_server_new(const CharConfig *config, const QmpHandler *handler, GError **error);
void qmp_server_free(QmpServer *server); /* writes out what waits (at most a second), closes, removes its socket */

/* qmp_server_start: from now on commands are read; before, peers are only accepted and greeted. */
void qmp_server_start(QmpServer *server);
bool qmp_server_waits(const QmpServer *server); /* wait=on and nobody has come yet */

void qmp_server_send_ready(QmpServer *server, const char *line); /* to each peer whose is_ready is set */
void qmp_peer_send(QmpPeer *peer, const char *line);             /* adds CR LF */
bool *qmp_peer_ready(QmpPeer *peer);                             /* a flag for the handler: negotiation is done */
