#include "vm/netdev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"

#define QUEUE_FRAMES 512u /* in each direction */
#define FRAME_MIN    60u  /* bytes, of Ethernet */

typedef struct Poll {
    int fd; /* -1: free */
    gpointer tag;
    GIOCondition condition;
    bool is_wanted;
} Poll;

struct Netdev {
    NetdevWires wires;
    Slirp *slirp; /* the main thread's, lock held */
    GSource *source;
    GArray *polls;      /* of Poll; the main thread's, as the next */
    gint64 deadline_us; /* when libslirp has to be called, -1: never */
    GQueue to_network; /* of GBytes; under the lock, as the next */
    GQueue to_guest;
};

typedef struct NetdevSource {
    GSource source;
    Netdev *netdev;
} NetdevSource;

/* --- frames --- */

static void frame_queue(GQueue *queue, const void *frame, size_t size)
{
    if (queue->length < QUEUE_FRAMES)
        g_queue_push_tail(queue, g_bytes_new(frame, size));
}

static void guest_flush(Netdev *netdev)
{
    GBytes *frame;
    while ((frame = g_queue_peek_head(&netdev->to_guest)) != NULL) {
        gsize size;
        const uint8_t *bytes = g_bytes_get_data(frame, &size);
        if (!netdev->wires.receive(netdev->wires.opaque, bytes, size))
            return;
        g_bytes_unref(g_queue_pop_head(&netdev->to_guest));
    }
}

void netdev_send(Netdev *netdev, const uint8_t *frame, size_t size)
{
    uint8_t padded[FRAME_MIN] = { 0 }; /* libslirp looks at headers without asking whether they are there */
    if (size < sizeof padded)
        frame = memcpy(padded, frame, size), size = sizeof padded;
    frame_queue(&netdev->to_network, frame, size);
    g_main_context_wakeup(NULL);
}

void netdev_can_receive(Netdev *netdev)
{
    if (netdev->to_guest.length)
        g_main_context_wakeup(NULL);
}

/* --- libslirp's callbacks; lock held --- */

static ssize_t on_frame(const void *frame, size_t size, void *opaque)
{
    Netdev *netdev = opaque;
    frame_queue(&netdev->to_guest, frame, size);
    guest_flush(netdev);
    return (ssize_t)size;
}

static void on_guest_error(const char *text, void *opaque) { log_once(LOG_GUEST_ERRORS, "network: %s", text); }

static int64_t on_clock(void *opaque) { return clock_now_ns(((Netdev *)opaque)->wires.clock); }

static void *on_timer_new(SlirpTimerCb func, void *func_opaque, void *opaque)
{
    return timer_new(((Netdev *)opaque)->wires.clock, func, func_opaque);
}

static void on_timer_free(void *timer, void *opaque) { timer_free(timer); }

static void on_timer_mod(void *timer, int64_t at_ms, void *opaque) { timer_arm(timer, at_ms * 1000000); }

static void on_fd(int fd, void *opaque) { }

static void on_notify(void *opaque) { g_main_context_wakeup(NULL); }

static const SlirpCb callbacks = {
    .send_packet = on_frame, .guest_error = on_guest_error, .clock_get_ns = on_clock, .timer_new = on_timer_new,
    .timer_free = on_timer_free, .timer_mod = on_timer_mod, .register_poll_fd = on_fd, .unregister_poll_fd = on_fd, .notify = on_notify,
};

/* --- the main loop's source --- */

static const struct {
    int slirp;
    GIOCondition glib;
} conditions[] = {
    { SLIRP_POLL_IN, G_IO_IN }, { SLIRP_POLL_OUT, G_IO_OUT }, { SLIRP_POLL_PRI, G_IO_PRI }, { SLIRP_POLL_ERR, G_IO_ERR },
    { SLIRP_POLL_HUP, G_IO_HUP },
};

static int poll_add(int fd, int events, void *opaque)
{
    Netdev *netdev = opaque;
    GIOCondition condition = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(conditions); i++)
        if (events & conditions[i].slirp)
            condition |= conditions[i].glib;
    for (guint i = 0; i < netdev->polls->len; i++) {
        Poll *poll = &g_array_index(netdev->polls, Poll, i);
        if (poll->fd != fd || poll->is_wanted)
            continue;
        if (poll->condition != condition)
            g_source_modify_unix_fd(netdev->source, poll->tag, condition);
        poll->condition = condition;
        poll->is_wanted = true;
        return (int)i;
    }
    Poll poll = { .fd = fd, .tag = g_source_add_unix_fd(netdev->source, fd, condition), .condition = condition, .is_wanted = true };
    guint at = 0;
    while (at < netdev->polls->len && g_array_index(netdev->polls, Poll, at).fd >= 0)
        at++;
    if (at == netdev->polls->len)
        g_array_set_size(netdev->polls, at + 1);
    g_array_index(netdev->polls, Poll, at) = poll;
    return (int)at;
}

static int poll_result(int index, void *opaque)
{
    Netdev *netdev = opaque;
    int events = 0;
    if (index < 0 || (guint)index >= netdev->polls->len)
        return 0;
    GIOCondition condition = g_source_query_unix_fd(netdev->source, g_array_index(netdev->polls, Poll, index).tag);
    for (size_t i = 0; i < G_N_ELEMENTS(conditions); i++)
        if (condition & conditions[i].glib)
            events |= conditions[i].slirp;
    return events;
}

static gboolean source_prepare(GSource *source, gint *out_timeout_ms)
{
    Netdev *netdev = ((NetdevSource *)source)->netdev;
    uint32_t timeout_ms = UINT32_MAX;
    g_mutex_lock(netdev->wires.lock);
    for (guint i = 0; i < netdev->polls->len; i++)
        g_array_index(netdev->polls, Poll, i).is_wanted = false;
    slirp_pollfds_fill(netdev->slirp, &timeout_ms, poll_add, netdev);
    for (guint i = 0; i < netdev->polls->len; i++) {
        Poll *poll = &g_array_index(netdev->polls, Poll, i);
        if (!poll->is_wanted && poll->fd >= 0) {
            g_source_remove_unix_fd(source, poll->tag);
            poll->fd = -1;
        }
    }
    bool has_frames = netdev->to_network.length != 0;
    g_mutex_unlock(netdev->wires.lock);
    *out_timeout_ms = timeout_ms > 3600000 ? -1 : (gint)timeout_ms;
    netdev->deadline_us = *out_timeout_ms < 0 ? -1 : g_source_get_time(source) + (gint64)timeout_ms * 1000;
    return has_frames;
}

/* Ready only when there is something to do: a source that always is starves what comes later in the loop. */
static gboolean source_check(GSource *source)
{
    Netdev *netdev = ((NetdevSource *)source)->netdev;
    g_mutex_lock(netdev->wires.lock);
    bool is_ready = netdev->to_network.length || netdev->to_guest.length;
    g_mutex_unlock(netdev->wires.lock);
    is_ready = is_ready || (netdev->deadline_us >= 0 && g_source_get_time(source) >= netdev->deadline_us);
    for (guint i = 0; i < netdev->polls->len && !is_ready; i++) {
        const Poll *poll = &g_array_index(netdev->polls, Poll, i);
        is_ready = poll->fd >= 0 && g_source_query_unix_fd(source, poll->tag) != 0;
    }
    return is_ready;
}

static gboolean source_dispatch(GSource *source, GSourceFunc func, gpointer opaque)
{
    Netdev *netdev = ((NetdevSource *)source)->netdev;
    GBytes *frame;
    g_mutex_lock(netdev->wires.lock);
    guest_flush(netdev);
    slirp_pollfds_poll(netdev->slirp, 0, poll_result, netdev);
    while ((frame = g_queue_pop_head(&netdev->to_network)) != NULL) {
        gsize size;
        const uint8_t *bytes = g_bytes_get_data(frame, &size);
        slirp_input(netdev->slirp, bytes, (int)size);
        g_bytes_unref(frame);
    }
    g_mutex_unlock(netdev->wires.lock);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = { .prepare = source_prepare, .check = source_check, .dispatch = source_dispatch };

/* --- life --- */

static struct in_addr address_of(uint32_t number) { return (struct in_addr){ .s_addr = htonl(number) }; }

static gboolean forward_add(Netdev *netdev, const NetdevForward *forward, GError **error)
{
    struct in_addr host = address_of(forward->host);
    char text[INET_ADDRSTRLEN];
    if (slirp_add_hostfwd(netdev->slirp, forward->is_udp, host, forward->host_port, address_of(forward->guest), forward->guest_port) == 0)
        return TRUE;
    int cause = errno;
    inet_ntop(AF_INET, &host, text, sizeof text);
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "hostfwd: port %u of %s cannot be had: %s", forward->host_port, text, g_strerror(cause));
    return FALSE;
}

Netdev *netdev_new(const NetdevConfig *config, const NetdevWires *wires, GError **error)
{
    SlirpConfig slirp = { .version = 1, .restricted = config->is_restricted, .in_enabled = true, .vhostname = config->hostname,
                          .vdomainname = config->domain };
    g_autofree const char **searches = g_new0(const char *, config->searches->len + 1);
    for (guint i = 0; i < config->searches->len; i++)
        searches[i] = g_ptr_array_index(config->searches, i);
    slirp.vnetwork = address_of(config->net);
    slirp.vnetmask = address_of(config->mask);
    slirp.vhost = address_of(config->host);
    slirp.vdhcp_start = address_of(config->dhcp);
    slirp.vnameserver = address_of(config->dns);
    slirp.vdnssearch = config->searches->len ? searches : NULL;
    slirp.tftp_path = config->tftp;
    slirp.bootfile = config->bootfile;
    g_autoptr(Netdev) netdev = g_new0(Netdev, 1);
    netdev->wires = *wires;
    netdev->polls = g_array_new(FALSE, TRUE, sizeof(Poll));
    g_queue_init(&netdev->to_network);
    g_queue_init(&netdev->to_guest);
    netdev->slirp = slirp_new(&slirp, &callbacks, netdev);
    if (!netdev->slirp) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "-netdev user: libslirp refuses");
        return NULL;
    }
    for (guint i = 0; i < config->forwards->len; i++)
        if (!forward_add(netdev, g_ptr_array_index(config->forwards, i), error))
            return NULL;
    netdev->source = g_source_new(&source_funcs, sizeof(NetdevSource));
    ((NetdevSource *)netdev->source)->netdev = netdev;
    g_source_set_can_recurse(netdev->source, TRUE); /* else every dispatch adds its descriptors anew, and wakes the loop again */
    g_source_attach(netdev->source, NULL);
    return g_steal_pointer(&netdev);
}

gboolean netdev_forward_add(Netdev *netdev, const NetdevForward *forward, GError **error)
{
    g_mutex_lock(netdev->wires.lock);
    gboolean is_ok = forward_add(netdev, forward, error);
    g_mutex_unlock(netdev->wires.lock);
    g_main_context_wakeup(NULL);
    return is_ok;
}

bool netdev_forward_remove(Netdev *netdev, const NetdevForward *forward)
{
    g_mutex_lock(netdev->wires.lock);
    bool is_ok = slirp_remove_hostfwd(netdev->slirp, forward->is_udp, address_of(forward->host), forward->host_port) == 0;
    g_mutex_unlock(netdev->wires.lock);
    return is_ok;
}

char *netdev_connections(Netdev *netdev)
{
    g_mutex_lock(netdev->wires.lock);
    g_autofree char *text = slirp_connection_info(netdev->slirp);
    g_mutex_unlock(netdev->wires.lock);
    return g_steal_pointer(&text);
}

void netdev_free(Netdev *netdev)
{
    if (!netdev)
        return;
    if (netdev->source) {
        g_source_destroy(netdev->source);
        g_source_unref(netdev->source);
    }
    g_mutex_lock(netdev->wires.lock);
    if (netdev->slirp)
        slirp_cleanup(netdev->slirp);
    g_mutex_unlock(netdev->wires.lock);
    g_queue_clear_full(&netdev->to_network, (GDestroyNotify)g_bytes_unref);
    g_queue_clear_full(&netdev->to_guest, (GDestroyNotify)g_bytes_unref);
    g_array_free(netdev->polls, TRUE);
    g_free(netdev);
}
