/*
 * A monitor's transport: listening sockets and the connections on them, or stdio, pipe and pseudo-terminal as one connection each.  What
 * a peer sends is hostile: it is read in pieces, not while it leaves its answers unread, and it is dropped when those grow past 8 MiB.
 * Thread: the default main context's.
 */
#pragma once

#include "config/config.h"

#define STREAM_MAX_PEERS 64 /* of one server; others wait in its backlog */

typedef struct StreamServer StreamServer;
typedef struct StreamPeer StreamPeer; /* one connection */

typedef struct StreamHandler {
    void *(*opened)(void *opaque, StreamPeer *peer); /* returns the handler's own data for this peer; greets */
    /* Takes bytes from the front.  Returns: how many; the rest comes again when stream_is_full() is over, which is the only reason to
     * leave any. */
    size_t (*receive)(void *opaque, StreamPeer *peer, const uint8_t *bytes, size_t count);
    void (*closed)(void *opaque, void *data); /* frees the data; the peer is gone */
    void *opaque;
} StreamHandler;

/* stream_server_new: opens, listens or connects at once; Unix sockets have mode 0600.  @option is for messages ("-qmp"): NULL with
 * VMM_ERROR_USAGE.  A pseudo-terminal's name is printed on stdout, as QEMU does. */
StreamServer *stream_server_new(const char *option, const CharConfig *config, const StreamHandler *handler, GError **error);
void stream_server_free(StreamServer *server); /* writes out what waits (at most a second), closes, removes its socket */

/* stream_server_start: from now on peers are read from; before, they are only accepted and greeted. */
void stream_server_start(StreamServer *server);
bool stream_server_waits(const StreamServer *server); /* wait=on and nobody has come yet */

/* stream_server_each: @func on each peer's data. */
void stream_server_each(StreamServer *server, void (*func)(StreamPeer *peer, void *data, void *opaque), void *opaque);

void *stream_data(StreamPeer *peer);
void stream_write(StreamPeer *peer, const void *bytes, size_t count);
bool stream_is_full(const StreamPeer *peer); /* it should read its answers first */
