#include "vm/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/error.h"
#include "vm/terminal.h"

#define INPUT_QUEUE 4096u
#define OUTPUT_LIMIT 65536u /* bytes; above, the writer itself drains */
#define CHUNK 4096u         /* PIPE_BUF: does not block after POLLOUT */
#define ESCAPE 1            /* Ctrl-A */

struct Chardev {
    CharConfig *config;
    CharWires wires;
    int listen_fd;        /* -1: no server */
    char *unlink_path;    /* our socket, removed at the end */
    guint listen_watch;

    /* Main thread only. */
    int in_fd;
    guint in_watch;
    bool started;
    uint8_t queue[INPUT_QUEUE];
    size_t queued;
    bool escaped; /* last key was Ctrl-A */
    CharFront front[CHAR_NSLOTS];
    CharSlot focus;
    int ready_pending; /* atomic: chardev_ready() has been posted */
    int waiting;       /* atomic: queued > 0 */

    /* Taken last, never while waiting for another lock. */
    GMutex out_lock;
    int out_fd; /* -1: nobody listens */
    GByteArray *out;
    bool drain_posted;
    guint out_watch;
    bool is_cancelled; /* atomic */
};

static void input_watch(Chardev *chardev);

/* --- output --- */

static void out_close(Chardev *chardev)
{
    g_byte_array_set_size(chardev->out, 0);
    chardev->out_fd = -1;
}

/* Writes what goes without waiting longer than @wait_ms at a time; out_lock held.  Returns: true when all is out. */
static bool out_drain(Chardev *chardev, int wait_ms, int rounds)
{
    while (chardev->out->len && chardev->out_fd >= 0) {
        struct pollfd pfd = { .fd = chardev->out_fd, .events = POLLOUT };
        int n = poll(&pfd, 1, wait_ms);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || !(pfd.revents & (POLLOUT | POLLERR | POLLHUP))) {
            if (--rounds <= 0)
                return false;
            continue;
        }
        size_t count = MIN(chardev->out->len, CHUNK);
        ssize_t done = chardev->config->kind == CHAR_UNIX || chardev->config->kind == CHAR_TCP
                           ? send(chardev->out_fd, chardev->out->data, count, MSG_DONTWAIT | MSG_NOSIGNAL)
                           : write(chardev->out_fd, chardev->out->data, count);
        if (done > 0)
            g_byte_array_remove_range(chardev->out, 0, (guint)done);
        else if (done < 0 && errno == EAGAIN) {
            if (--rounds <= 0)
                return false;
            g_usleep(1000);
        } else if (done < 0 && errno != EINTR)
            out_close(chardev);
    }
    return true;
}

static gboolean out_writable(gint fd, GIOCondition condition, gpointer data)
{
    Chardev *chardev = data;
    g_mutex_lock(&chardev->out_lock);
    bool is_done = out_drain(chardev, 0, 1);
    if (is_done)
        chardev->out_watch = 0;
    g_mutex_unlock(&chardev->out_lock);
    return is_done ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static gboolean out_posted(gpointer data)
{
    Chardev *chardev = data;
    g_mutex_lock(&chardev->out_lock);
    chardev->drain_posted = false;
    if (!out_drain(chardev, 0, 1) && !chardev->out_watch)
        chardev->out_watch = g_unix_fd_add(chardev->out_fd, G_IO_OUT | G_IO_ERR | G_IO_HUP, out_writable, chardev);
    g_mutex_unlock(&chardev->out_lock);
    return G_SOURCE_REMOVE;
}

void chardev_write(Chardev *chardev, const void *bytes, size_t count)
{
    g_mutex_lock(&chardev->out_lock);
    if (chardev->out_fd >= 0) {
        g_byte_array_append(chardev->out, bytes, (guint)count);
        while (chardev->out->len > OUTPUT_LIMIT && chardev->out_fd >= 0 &&
               !__atomic_load_n(&chardev->is_cancelled, __ATOMIC_RELAXED))
            out_drain(chardev, 50, 1);
        if (chardev->out->len && !chardev->drain_posted && !chardev->out_watch) {
            chardev->drain_posted = true;
            g_idle_add_full(G_PRIORITY_DEFAULT, out_posted, chardev, NULL);
        }
    }
    g_mutex_unlock(&chardev->out_lock);
}

void chardev_flush(Chardev *chardev)
{
    g_mutex_lock(&chardev->out_lock);
    out_drain(chardev, 50, 40);
    g_mutex_unlock(&chardev->out_lock);
}

void chardev_cancel(Chardev *chardev) { __atomic_store_n(&chardev->is_cancelled, true, __ATOMIC_RELAXED); }

/* --- input --- */

static const CharFront *front_now(const Chardev *chardev)
{
    const CharFront *front = &chardev->front[chardev->focus];
    return front->receive ? front : NULL;
}

static void mux_help(Chardev *chardev)
{
    static const char text[] = "\r\nC-a h    print this help\r\nC-a x    exit\r\nC-a b    send break to the serial port\r\n"
                               "C-a c    switch between console and monitor\r\nC-a C-a  sends C-a\r\n";
    chardev_write(chardev, text, sizeof text - 1);
}

/* Acts on the key behind Ctrl-A.  Returns: true when @key itself goes to the front end. */
static bool mux_command(Chardev *chardev, uint8_t key)
{
    const CharFront *front = front_now(chardev);
    switch (key) {
    case ESCAPE:
        return true;
    case 'x':
        if (chardev->wires.quit)
            chardev->wires.quit(chardev->wires.opaque);
        return false;
    case 'c':
        chardev_focus(chardev, chardev->focus == CHAR_SLOT_GUEST ? CHAR_SLOT_MONITOR : CHAR_SLOT_GUEST);
        return false;
    case 'b':
        if (front && front->send_break)
            front->send_break(front->opaque);
        return false;
    case 'h':
    case '?':
        mux_help(chardev);
        return false;
    default:
        return true; /* as QEMU: an unknown command is passed on */
    }
}

/* Delivers the queue up to the next Ctrl-A command or until the front end is full. */
static void input_deliver(Chardev *chardev)
{
    size_t at = 0;
    while (at < chardev->queued) {
        if (chardev->config->mux) {
            if (chardev->escaped) {
                uint8_t key = chardev->queue[at];
                if (key != ESCAPE && !strchr("xcbh?", key ? key : 'z')) {
                    chardev->escaped = false;
                    continue;
                }
                if (!mux_command(chardev, key)) {
                    chardev->escaped = false;
                    at++;
                    continue;
                }
                const CharFront *front = front_now(chardev);
                if (front && !front->receive(front->opaque, &key, 1))
                    break; /* stays escaped; offered again */
                chardev->escaped = false;
                at++;
                continue;
            }
            if (chardev->queue[at] == ESCAPE) {
                chardev->escaped = true;
                at++;
                continue;
            }
        }
        size_t count = chardev->queued - at;
        const uint8_t *escape = chardev->config->mux ? memchr(chardev->queue + at, ESCAPE, count) : NULL;
        if (escape)
            count = (size_t)(escape - (chardev->queue + at));
        const CharFront *front = front_now(chardev);
        size_t taken = front ? front->receive(front->opaque, chardev->queue + at, count) : count;
        at += taken;
        if (taken < count)
            break;
    }
    memmove(chardev->queue, chardev->queue + at, chardev->queued - at);
    chardev->queued -= at;
    __atomic_store_n(&chardev->waiting, chardev->queued > 0, __ATOMIC_SEQ_CST);
}

static gboolean ready_posted(gpointer data)
{
    Chardev *chardev = data;
    __atomic_store_n(&chardev->ready_pending, 0, __ATOMIC_SEQ_CST);
    input_deliver(chardev);
    input_watch(chardev);
    return G_SOURCE_REMOVE;
}

void chardev_ready(Chardev *chardev)
{
    if (__atomic_load_n(&chardev->waiting, __ATOMIC_SEQ_CST) && !__atomic_exchange_n(&chardev->ready_pending, 1, __ATOMIC_SEQ_CST))
        g_idle_add_full(G_PRIORITY_DEFAULT, ready_posted, chardev, NULL);
}

static gboolean peer_accept(gint fd, GIOCondition condition, gpointer data);

/* The peer is gone: a server listens again. */
static void peer_closed(Chardev *chardev)
{
    bool is_socket = chardev->config->kind == CHAR_UNIX || chardev->config->kind == CHAR_TCP;
    if (is_socket) {
        g_mutex_lock(&chardev->out_lock);
        out_close(chardev);
        if (chardev->out_watch)
            g_source_remove(chardev->out_watch);
        chardev->out_watch = 0;
        g_mutex_unlock(&chardev->out_lock);
        close(chardev->in_fd);
    }
    chardev->in_fd = -1;
    if (chardev->listen_fd >= 0 && !chardev->listen_watch)
        chardev->listen_watch = g_unix_fd_add(chardev->listen_fd, G_IO_IN, peer_accept, chardev);
}

static gboolean input_readable(gint fd, GIOCondition condition, gpointer data)
{
    Chardev *chardev = data;
    size_t room = INPUT_QUEUE - chardev->queued;
    if (room) {
        ssize_t n = read(fd, chardev->queue + chardev->queued, room);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
            chardev->in_watch = 0;
            peer_closed(chardev);
            return G_SOURCE_REMOVE;
        }
        if (n > 0)
            chardev->queued += (size_t)n;
        __atomic_store_n(&chardev->waiting, 1, __ATOMIC_SEQ_CST);
        input_deliver(chardev);
    }
    if (chardev->queued < INPUT_QUEUE)
        return G_SOURCE_CONTINUE;
    chardev->in_watch = 0; /* full: chardev_ready() watches again */
    return G_SOURCE_REMOVE;
}

static void input_watch(Chardev *chardev)
{
    if (chardev->started && chardev->in_fd >= 0 && !chardev->in_watch && chardev->queued < INPUT_QUEUE)
        chardev->in_watch = g_unix_fd_add(chardev->in_fd, G_IO_IN | G_IO_HUP | G_IO_ERR, input_readable, chardev);
}

static void peer_opened(Chardev *chardev, int fd)
{
    chardev->in_fd = fd;
    g_mutex_lock(&chardev->out_lock);
    chardev->out_fd = fd;
    g_mutex_unlock(&chardev->out_lock);
    if (!chardev->started)
        return;
    const CharFront *front = front_now(chardev);
    if (front && front->opened)
        front->opened(front->opaque);
    input_watch(chardev);
}

static gboolean peer_accept(gint fd, GIOCondition condition, gpointer data)
{
    Chardev *chardev = data;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0)
        return G_SOURCE_CONTINUE;
    chardev->listen_watch = 0; /* one peer at a time; others wait in the backlog */
    peer_opened(chardev, peer);
    return G_SOURCE_REMOVE;
}

/* --- opening --- */

static gboolean open_failed(const CharConfig *config, const char *what, GError **error)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: %s", what, g_strerror(errno));
    return FALSE;
}

static gboolean socket_ready(Chardev *chardev, int fd, const struct sockaddr *address, socklen_t size, const char *what, GError **error)
{
    if (chardev->config->server) {
        int one = 1;
        if (address->sa_family != AF_UNIX)
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, address, size) == 0 && listen(fd, 16) == 0) {
            chardev->listen_fd = fd;
            chardev->listen_watch = g_unix_fd_add(fd, G_IO_IN, peer_accept, chardev);
            return TRUE;
        }
    } else if (connect(fd, address, size) == 0) {
        peer_opened(chardev, fd);
        return TRUE;
    }
    open_failed(chardev->config, what, error);
    close(fd);
    return FALSE;
}

static gboolean unix_open(Chardev *chardev, GError **error)
{
    const CharConfig *config = chardev->config;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *what = g_strdup_printf("socket %s", config->path);
    if (strlen(config->path) >= sizeof address.sun_path) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: the path is longer than %zu characters", what, sizeof address.sun_path - 1);
        return FALSE;
    }
    strcpy(address.sun_path, config->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return open_failed(config, what, error);
    struct stat info;
    if (config->server && lstat(config->path, &info) == 0 && S_ISSOCK(info.st_mode))
        unlink(config->path); /* left over from an earlier run */
    if (!socket_ready(chardev, fd, (struct sockaddr *)&address, sizeof address, what, error))
        return FALSE;
    if (config->server)
        chardev->unlink_path = g_strdup(config->path);
    return TRUE;
}

static gboolean tcp_open(Chardev *chardev, GError **error)
{
    const CharConfig *config = chardev->config;
    g_autofree char *what = g_strdup_printf("tcp %s:%s", config->host ? config->host : "", config->port);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = config->server ? AI_PASSIVE : 0 }, *list = NULL;
    int status = getaddrinfo(config->host && config->host[0] ? config->host : NULL, config->port, &hints, &list);
    if (status) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: %s", what, gai_strerror(status));
        return FALSE;
    }
    gboolean ok = FALSE;
    for (struct addrinfo *row = list; row && !ok; row = row->ai_next) {
        g_clear_error(error);
        int fd = socket(row->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ok = fd < 0 ? open_failed(config, what, error) : socket_ready(chardev, fd, row->ai_addr, row->ai_addrlen, what, error);
    }
    freeaddrinfo(list);
    return ok;
}

static gboolean pipe_open(Chardev *chardev, GError **error)
{
    /* PATH.in and PATH.out when both exist, else PATH for both directions. */
    const char *path = chardev->config->path;
    g_autofree char *in = g_strconcat(path, ".in", NULL), *out = g_strconcat(path, ".out", NULL);
    chardev->in_fd = open(in, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    chardev->out_fd = open(out, O_RDWR | O_CLOEXEC);
    if (chardev->in_fd >= 0 && chardev->out_fd >= 0)
        return TRUE;
    if (chardev->in_fd >= 0)
        close(chardev->in_fd);
    if (chardev->out_fd >= 0)
        close(chardev->out_fd);
    chardev->in_fd = chardev->out_fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    return chardev->in_fd >= 0 ? TRUE : open_failed(chardev->config, path, error);
}

static gboolean backend_open(Chardev *chardev, GError **error)
{
    const CharConfig *config = chardev->config;
    switch (config->kind) {
    case CHAR_NONE:
    case CHAR_NULL:
        return TRUE;
    case CHAR_STDIO:
        chardev->in_fd = STDIN_FILENO;
        chardev->out_fd = STDOUT_FILENO;
        return TRUE;
    case CHAR_FILE:
        chardev->out_fd = open(config->path, O_WRONLY | O_CREAT | O_CLOEXEC | (config->append ? O_APPEND : O_TRUNC), 0666);
        return chardev->out_fd >= 0 ? TRUE : open_failed(config, config->path, error);
    case CHAR_PIPE:
        return pipe_open(chardev, error);
    case CHAR_UNIX:
        return unix_open(chardev, error);
    case CHAR_TCP:
        return tcp_open(chardev, error);
    case CHAR_PTY:
        break;
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "pty back ends are not in this version; use unix:PATH,server=on,wait=off");
    return FALSE;
}

Chardev *chardev_new(const CharConfig *config, const CharWires *wires, GError **error)
{
    Chardev *chardev = g_new0(Chardev, 1);
    chardev->config = char_config_copy(config);
    if (wires)
        chardev->wires = *wires;
    chardev->in_fd = chardev->out_fd = chardev->listen_fd = -1;
    chardev->out = g_byte_array_new();
    g_mutex_init(&chardev->out_lock);
    if (!backend_open(chardev, error)) {
        chardev_free(chardev);
        return NULL;
    }
    return chardev;
}

void chardev_start(Chardev *chardev)
{
    if (chardev->config->kind == CHAR_STDIO)
        terminal_raw(STDIN_FILENO, chardev->config->signal);
    chardev->started = true;
    const CharFront *front = front_now(chardev);
    if (chardev->out_fd >= 0 && front && front->opened)
        front->opened(front->opaque);
    input_watch(chardev);
}

gboolean chardev_wait(Chardev *chardev, GError **error)
{
    if (chardev->listen_fd < 0 || !chardev->config->wait)
        return TRUE;
    while (chardev->in_fd < 0)
        g_main_context_iteration(NULL, TRUE);
    return TRUE;
}

void chardev_set_front(Chardev *chardev, CharSlot slot, const CharFront *front)
{
    chardev->front[slot] = *front;
    if (slot == CHAR_SLOT_GUEST || !chardev->front[CHAR_SLOT_GUEST].receive)
        chardev->focus = slot;
}

void chardev_focus(Chardev *chardev, CharSlot slot)
{
    if (!chardev->front[slot].receive || chardev->focus == slot)
        return;
    chardev->focus = slot;
    if (chardev->front[slot].opened)
        chardev->front[slot].opened(chardev->front[slot].opaque);
}

void chardev_free(Chardev *chardev)
{
    if (!chardev)
        return;
    chardev_flush(chardev);
    if (chardev->in_watch)
        g_source_remove(chardev->in_watch);
    if (chardev->listen_watch)
        g_source_remove(chardev->listen_watch);
    if (chardev->out_watch)
        g_source_remove(chardev->out_watch);
    while (g_idle_remove_by_data(chardev)) /* posted work that has not run */
        ;
    if (chardev->config->kind == CHAR_STDIO) {
        terminal_restore();
    } else {
        if (chardev->in_fd >= 0)
            close(chardev->in_fd);
        if (chardev->out_fd >= 0 && chardev->out_fd != chardev->in_fd)
            close(chardev->out_fd);
    }
    if (chardev->listen_fd >= 0)
        close(chardev->listen_fd);
    if (chardev->unlink_path)
        unlink(chardev->unlink_path);
    g_free(chardev->unlink_path);
    g_byte_array_free(chardev->out, TRUE);
    g_mutex_clear(&chardev->out_lock);
    char_config_free(chardev->config);
    g_free(chardev);
}
