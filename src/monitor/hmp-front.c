/* Where human monitors are: on the terminal or a shared serial port (Hmp), and on sockets, pipes and pseudo-terminals (HmpServer). */
#include "monitor/hmp-session.h"
#include "monitor/hmp.h"
#include "monitor/transport.h"

/* --- terminal or serial port --- */

struct Hmp {
    Chardev *chardev;
    HmpSession *session;
};

static void console_write(void *opaque, const void *bytes, size_t count)
{
    Hmp *hmp = opaque;
    chardev_write(hmp->chardev, bytes, count);
}

static void console_opened(void *opaque)
{
    Hmp *hmp = opaque;
    hmp_session_greet(hmp->session);
}

static size_t console_receive(void *opaque, const uint8_t *bytes, size_t count)
{
    Hmp *hmp = opaque;
    for (size_t i = 0; i < count; i++)
        hmp_session_key(hmp->session, (char)bytes[i]);
    return count;
}

Hmp *hmp_new(Vm *vm, Chardev *chardev)
{
    Hmp *hmp = g_new0(Hmp, 1);
    hmp->chardev = chardev;
    hmp->session = hmp_session_new(console_write, hmp);
    hmp_session_set_vm(hmp->session, vm);
    chardev_set_front(chardev, CHAR_SLOT_MONITOR, &(CharFront){ .receive = console_receive, .opened = console_opened, .opaque = hmp });
    return hmp;
}

void hmp_free(Hmp *hmp)
{
    if (!hmp)
        return;
    hmp_session_free(hmp->session);
    g_free(hmp);
}

/* --- sockets --- */

struct HmpServer {
    GPtrArray *servers; /* TransportServer; borrowed */
    Vm *vm;             /* NULL before hmp_server_attach() */
};

static void peer_write(void *opaque, const void *bytes, size_t count) { transport_write(opaque, bytes, count); }

static void *peer_opened(void *opaque, TransportPeer *peer)
{
    HmpServer *server = opaque;
    HmpSession *session = hmp_session_new(peer_write, peer);
    hmp_session_set_vm(session, server->vm);
    hmp_session_greet(session);
    return session;
}

static size_t peer_receive(void *opaque, TransportPeer *peer, const uint8_t *bytes, size_t count)
{
    size_t done = 0;
    while (done < count && !transport_is_full(peer))
        hmp_session_key(transport_data(peer), (char)bytes[done++]);
    return done;
}

static void peer_closed(void *opaque, void *data) { hmp_session_free(data); }

static void peer_attach(TransportPeer *peer, void *data, void *opaque) { hmp_session_set_vm(data, opaque); }

HmpServer *hmp_server_new(const Config *config, GPtrArray *servers, GError **error)
{
    g_autoptr(HmpServer) server = g_new0(HmpServer, 1);
    server->servers = g_ptr_array_new();
    TransportHandler handler = { .opened = peer_opened, .receive = peer_receive, .closed = peer_closed, .opaque = server };
    for (guint i = 0; i < config->monitors->len; i++) {
        TransportServer *stream = transport_server_new("-monitor", g_ptr_array_index(config->monitors, i), &handler, error);
        if (!stream)
            return NULL;
        g_ptr_array_add(server->servers, stream);
        g_ptr_array_add(servers, stream);
    }
    return g_steal_pointer(&server);
}

void hmp_server_attach(HmpServer *server, Vm *vm)
{
    server->vm = vm;
    for (guint i = 0; i < server->servers->len; i++)
        transport_server_each(g_ptr_array_index(server->servers, i), peer_attach, vm);
}

void hmp_server_free(HmpServer *server)
{
    if (!server)
        return;
    g_ptr_array_free(server->servers, TRUE);
    g_free(server);
}
