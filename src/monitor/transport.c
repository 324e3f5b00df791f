#include "monitor/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "core/error.h"

#define READ_BYTES 65536u
#define WRITE_CHUNK 4096u              /* PIPE_BUF: does not block after POLLOUT */
#define OUTPUT_PAUSE (1u << 20)        /* above, the peer is not read from */
#define OUTPUT_LIMIT (8u << 20)        /* above, it is dropped */
#define FLUSH_MS 1000

struct TransportPeer {
    TransportServer *server;
    void *data; /* the handler's */
    int in_fd, out_fd;
    int hold_fd; /* -1, or the other side of a pseudo-terminal, so that it outlives its users */
    guint in_watch, out_watch;
    GByteArray *in, *out;
    bool at_end; /* nothing more will come */
    bool is_dead;
};

struct TransportServer {
    TransportHandler handler;
    const char *option;
    bool is_started, is_waiting;
    int listen_fd;
    guint listen_watch;
    char *unlink_path;
    GPtrArray *peers;
};

static void listen_resume(TransportServer *server);

static void peer_free(gpointer data)
{
    TransportPeer *peer = data;
    if (peer->in_watch)
        g_source_remove(peer->in_watch);
    if (peer->out_watch)
        g_source_remove(peer->out_watch);
    if (peer->in_fd > STDERR_FILENO)
        close(peer->in_fd);
    if (peer->out_fd > STDERR_FILENO && peer->out_fd != peer->in_fd)
        close(peer->out_fd);
    if (peer->hold_fd >= 0)
        close(peer->hold_fd);
    g_byte_array_free(peer->in, TRUE);
    g_byte_array_free(peer->out, TRUE);
    peer->server->handler.closed(peer->server->handler.opaque, peer->data);
    g_free(peer);
}

/* Frees it when it is of no more use.  Returns: true when it is gone. */
static bool peer_reap(TransportPeer *peer)
{
    TransportServer *server = peer->server;
    if (!peer->is_dead && !(peer->at_end && !peer->out->len && !peer->in->len))
        return false;
    g_ptr_array_remove(server->peers, peer);
    listen_resume(server);
    return true;
}

/* --- output --- */

/* Writes what goes without waiting longer than @wait_ms. */
static void peer_write(TransportPeer *peer, int wait_ms)
{
    while (peer->out->len && !peer->is_dead) {
        struct pollfd poll_fd = { .fd = peer->out_fd, .events = POLLOUT };
        if (poll(&poll_fd, 1, wait_ms) <= 0)
            return;
        ssize_t n = write(peer->out_fd, peer->out->data, MIN(peer->out->len, WRITE_CHUNK));
        if (n > 0)
            g_byte_array_remove_range(peer->out, 0, (guint)n);
        else if (n < 0 && errno != EINTR && errno != EAGAIN)
            peer->is_dead = true;
        else if (n < 0 && errno == EAGAIN)
            return;
    }
}

static void peer_consume(TransportPeer *peer);
static void input_watch(TransportPeer *peer);

static gboolean out_ready(gint fd, GIOCondition condition, gpointer data)
{
    TransportPeer *peer = data;
    peer_write(peer, 0);
    bool is_done = !peer->out->len || peer->is_dead;
    if (is_done)
        peer->out_watch = 0;
    if (!peer->is_dead && peer->out->len < OUTPUT_PAUSE)
        peer_consume(peer); /* what waited for room */
    input_watch(peer);
    peer_reap(peer);
    return is_done ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void output_watch(TransportPeer *peer)
{
    if (peer->out->len && !peer->out_watch && !peer->is_dead)
        peer->out_watch = g_unix_fd_add(peer->out_fd, G_IO_OUT | G_IO_ERR | G_IO_HUP, out_ready, peer);
}

void transport_write(TransportPeer *peer, const void *bytes, size_t count)
{
    if (peer->is_dead)
        return;
    if (peer->out->len + count > OUTPUT_LIMIT) {
        peer->is_dead = true; /* it has not read for a long time; freed by the next event on it */
        g_byte_array_set_size(peer->out, 0);
        return;
    }
    g_byte_array_append(peer->out, bytes, (guint)count);
    if (!peer->out_watch)
        peer_write(peer, 0);
    output_watch(peer);
}

bool transport_is_full(const TransportPeer *peer) { return peer->is_dead || peer->out->len >= OUTPUT_PAUSE; }

void *transport_data(TransportPeer *peer) { return peer->data; }

void transport_server_each(TransportServer *server, void (*func)(TransportPeer *peer, void *data, void *opaque), void *opaque)
{
    for (guint i = 0; i < server->peers->len; i++) {
        TransportPeer *peer = g_ptr_array_index(server->peers, i);
        func(peer, peer->data, opaque);
    }
}

/* --- input --- */

/* Offers what was received. */
static void peer_consume(TransportPeer *peer)
{
    const TransportHandler *handler = &peer->server->handler;
    if (peer->in->len && !transport_is_full(peer)) {
        size_t taken = handler->receive(handler->opaque, peer, peer->in->data, peer->in->len);
        g_byte_array_remove_range(peer->in, 0, (guint)taken);
    }
}

static gboolean in_ready(gint fd, GIOCondition condition, gpointer data)
{
    TransportPeer *peer = data;
    guint8 bytes[READ_BYTES];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n > 0)
        g_byte_array_append(peer->in, bytes, (guint)n);
    else if (n == 0)
        peer->at_end = true;
    else if (errno != EINTR && errno != EAGAIN)
        peer->is_dead = true;
    guint watch = peer->in_watch;
    if (!peer->is_dead)
        peer_consume(peer);
    bool is_paused = transport_is_full(peer) || peer->at_end;
    if (is_paused || peer->is_dead)
        peer->in_watch = 0;
    if (peer_reap(peer))
        return G_SOURCE_REMOVE;
    return watch && !is_paused && !peer->is_dead ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void input_watch(TransportPeer *peer)
{
    if (peer->server->is_started && !peer->in_watch && !peer->at_end && !peer->is_dead && peer->out->len < OUTPUT_PAUSE)
        peer->in_watch = g_unix_fd_add(peer->in_fd, G_IO_IN | G_IO_HUP | G_IO_ERR, in_ready, peer);
}

static void peer_add(TransportServer *server, int in_fd, int out_fd, int hold_fd)
{
    TransportPeer *peer = g_new0(TransportPeer, 1);
    peer->server = server;
    peer->in_fd = in_fd;
    peer->out_fd = out_fd;
    peer->hold_fd = hold_fd;
    peer->in = g_byte_array_new();
    peer->out = g_byte_array_new();
    g_ptr_array_add(server->peers, peer);
    server->is_waiting = false;
    peer->data = server->handler.opened(server->handler.opaque, peer);
    input_watch(peer);
}

/* --- opening --- */

static gboolean peer_accept(gint fd, GIOCondition condition, gpointer data)
{
    TransportServer *server = data;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer >= 0)
        peer_add(server, peer, peer, -1);
    if (server->peers->len < TRANSPORT_MAX_PEERS && (peer >= 0 || errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
        return G_SOURCE_CONTINUE;
    server->listen_watch = 0; /* until one of them leaves */
    return G_SOURCE_REMOVE;
}

static void listen_resume(TransportServer *server)
{
    if (server->listen_fd >= 0 && !server->listen_watch)
        server->listen_watch = g_unix_fd_add(server->listen_fd, G_IO_IN, peer_accept, server);
}

static gboolean open_failed(const TransportServer *server, const char *what, GError **error)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: %s: %s", server->option, what, g_strerror(errno));
    return FALSE;
}

static gboolean socket_open(TransportServer *server, const CharConfig *config, int fd, const struct sockaddr *address, socklen_t size,
                            const char *what, GError **error)
{
    int one = 1;
    if (fd < 0)
        return open_failed(server, what, error);
    if (address->sa_family == AF_UNIX)
        fchmod(fd, 0600); /* before bind: the name never has another mode */
    else if (config->server)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool is_open = config->server ? bind(fd, address, size) == 0 && listen(fd, 64) == 0 : connect(fd, address, size) == 0;
    if (!is_open) {
        open_failed(server, what, error);
        close(fd);
        return FALSE;
    }
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    if (config->server) {
        server->listen_fd = fd;
        server->is_waiting = config->wait;
        listen_resume(server);
    } else {
        peer_add(server, fd, fd, -1);
    }
    return TRUE;
}

static gboolean unix_open(TransportServer *server, const CharConfig *config, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(config->path) >= sizeof address.sun_path) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: socket %s: the path is longer than %zu characters", server->option, config->path,
                    sizeof address.sun_path - 1);
        return FALSE;
    }
    strcpy(address.sun_path, config->path);
    struct stat info;
    if (config->server && lstat(config->path, &info) == 0 && S_ISSOCK(info.st_mode))
        unlink(config->path); /* left over from an earlier run */
    if (!socket_open(server, config, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&address, sizeof address, config->path,
                     error))
        return FALSE;
    if (config->server)
        server->unlink_path = g_strdup(config->path);
    return TRUE;
}

static gboolean tcp_open(TransportServer *server, const CharConfig *config, GError **error)
{
    g_autofree char *what = g_strdup_printf("tcp %s:%s", config->host ? config->host : "", config->port);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = config->server ? AI_PASSIVE : 0 }, *list = NULL;
    int status = getaddrinfo(config->host && config->host[0] ? config->host : NULL, config->port, &hints, &list);
    if (status) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: %s: %s", server->option, what, gai_strerror(status));
        return FALSE;
    }
    gboolean is_ok = FALSE;
    for (struct addrinfo *row = list; row && !is_ok; row = row->ai_next) {
        g_clear_error(error);
        is_ok = socket_open(server, config, socket(row->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), row->ai_addr, row->ai_addrlen, what, error);
    }
    freeaddrinfo(list);
    return is_ok;
}

/* PATH.in and PATH.out, or PATH for both directions. */
static gboolean pipe_open(TransportServer *server, const CharConfig *config, GError **error)
{
    g_autofree char *in_path = g_strconcat(config->path, ".in", NULL), *out_path = g_strconcat(config->path, ".out", NULL);
    int in = open(in_path, O_RDWR | O_CLOEXEC | O_NONBLOCK), out = in < 0 ? -1 : open(out_path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (in >= 0 && out < 0)
        close(in);
    if (in < 0 || out < 0)
        in = out = open(config->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (in < 0)
        return open_failed(server, config->path, error);
    peer_add(server, in, out, -1);
    return TRUE;
}

/* The name goes to stdout, in QEMU's words, because scripts look for them. */
static gboolean pty_open(TransportServer *server, GError **error)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    char name[128];
    if (fd < 0 || grantpt(fd) != 0 || unlockpt(fd) != 0 || ptsname_r(fd, name, sizeof name) != 0) {
        open_failed(server, "pseudo-terminal", error);
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    int hold = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios mode;
    if (hold < 0 || tcgetattr(hold, &mode) != 0) {
        open_failed(server, name, error);
        if (hold >= 0)
            close(hold);
        close(fd);
        return FALSE;
    }
    cfmakeraw(&mode);
    tcsetattr(hold, TCSANOW, &mode);
    printf("char device redirected to %s (%s)\n", name, server->option);
    fflush(stdout);
    peer_add(server, fd, fd, hold);
    return TRUE;
}

static gboolean server_open(TransportServer *server, const CharConfig *config, GError **error)
{
    switch (config->kind) {
    case CHAR_NONE:
    case CHAR_NULL:
        return TRUE;
    case CHAR_STDIO:
        peer_add(server, STDIN_FILENO, STDOUT_FILENO, -1);
        return TRUE;
    case CHAR_PIPE:
        return pipe_open(server, config, error);
    case CHAR_UNIX:
        return unix_open(server, config, error);
    case CHAR_TCP:
        return tcp_open(server, config, error);
    case CHAR_PTY:
        return pty_open(server, error);
    case CHAR_FILE:
        break;
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: a file cannot carry a monitor; use unix:, tcp:, pipe:, pty or stdio", server->option);
    return FALSE;
}

TransportServer *transport_server_new(const char *option, const CharConfig *config, const TransportHandler *handler, GError **error)
{
    TransportServer *server = g_new0(TransportServer, 1);
    server->handler = *handler;
    server->option = option;
    server->listen_fd = -1;
    server->peers = g_ptr_array_new_with_free_func(peer_free);
    if (server_open(server, config, error))
        return server;
    transport_server_free(server);
    return NULL;
}

void transport_server_start(TransportServer *server)
{
    server->is_started = true;
    for (guint i = 0; i < server->peers->len; i++)
        input_watch(g_ptr_array_index(server->peers, i));
}

bool transport_server_waits(const TransportServer *server) { return server->is_waiting; }

void transport_server_free(TransportServer *server)
{
    if (!server)
        return;
    if (server->listen_watch)
        g_source_remove(server->listen_watch);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    server->listen_fd = -1;
    if (server->unlink_path)
        unlink(server->unlink_path);
    gint64 deadline = g_get_monotonic_time() + FLUSH_MS * 1000;
    for (guint i = 0; i < server->peers->len; i++) {
        gint64 left = (deadline - g_get_monotonic_time()) / 1000;
        peer_write(g_ptr_array_index(server->peers, i), (int)MAX(left, 0));
    }
    g_ptr_array_free(server->peers, TRUE);
    g_free(server->unlink_path);
    g_free(server);
}
