/*
 * A monitor's transport: listening sockets and the connections on them, or stdio, pipe and pseudo-terminal as one connection each.  What
 * a peer sends is hostile: it is read in pieces, not while it leaves its answers unread, and it is dropped when those grow past 8 MiB.
 * Thread: the default main context's.
 */
#pragma once

#include "config/config.h"

#define TRANSPORT_MAX_PEERS 64 /* of one server; others wait in its backlog */

typedef struct TransportServer TransportServer;
typedef struct TransportPeer TransportPeer; /* one connection */

typedef struct TransportHandler {
    void *(*opened)(void *opaque, TransportPeer *peer); /* returns the handler's own data for this peer; greets */
    /* Takes bytes from the front.  Returns: how many; the rest comes again when transport_is_full() is over, which is the only reason to
     * leave any. */
    size_t (*receive)(void *opaque, TransportPeer *peer, const uint8_t *bytes, size_t count);
    void (*closed)(void *opaque, void *data); /* frees the data; the peer is gone */
    void *opaque;
} TransportHandler;

/* transport_server_new: opens, listens or connects at once; Unix sockets have mode 0600.  @option is for messages ("-qmp"): NULL with
 * VMM_ERROR_USAGE.  A pseudo-terminal's name is printed on stdout, as QEMU does. */
TransportServer *transport_server_new(const char *option, const CharConfig *config, const TransportHandler *handler, GError **error);
void transport_server_free(TransportServer *server); /* writes out what waits (at most a second), closes, removes its socket */

/* transport_server_start: from now on peers are read from; before, they are only accepted and greeted. */
void transport_server_start(TransportServer *server);
bool transport_server_waits(const TransportServer *server); /* wait=on and nobody has come yet */

/* transport_server_each: @func on each peer's data. */
void transport_server_each(TransportServer *server, void (*func)(TransportPeer *peer, void *data, void *opaque), void *opaque);

void *transport_data(TransportPeer *peer);
void transport_write(TransportPeer *peer, const void *bytes, size_t count);
bool transport_is_full(const TransportPeer *peer); /* it should read its answers first */
