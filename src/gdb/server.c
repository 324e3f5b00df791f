#include "gdb/server.h"

#include <string.h>

#include "core/error.h"
#include "gdb/packet.h"
#include "gdb/target.h"
#include "monitor/transport.h"

#define SIGNAL_INT 2u

struct GdbServer {
    TransportServer *transport; /* NULL: none listens */
    TransportPeer *peer;        /* the debugger, or NULL */
    Vm *vm;
    GdbTarget *target;
    GdbParser parser;
    GString *last;   /* frame, for those who want it again */
    bool is_running; /* the debugger waits for the guest to stop */
    bool was_running; /* before it came, or it let it run */

    GMutex lock; /* taken last; of what follows: any thread writes */
    bool is_stopped, is_by_exit;
    unsigned stop_index;
    CpuExit stop_exit;
    guint stop_source;
};

static void send(GdbServer *server, const GString *body)
{
    if (server->last)
        g_string_free(server->last, TRUE);
    server->last = gdb_frame(body->str, body->len);
    transport_write(server->peer, server->last->str, server->last->len);
}

/* --- the guest stops --- */

static gboolean stop_source(gpointer data)
{
    GdbServer *server = data;
    g_mutex_lock(&server->lock);
    bool is_stopped = server->is_stopped, is_by_exit = server->is_by_exit;
    unsigned index = server->stop_index;
    CpuExit exit = server->stop_exit;
    server->is_stopped = false;
    server->stop_source = 0;
    g_mutex_unlock(&server->lock);
    if (!is_stopped || !server->peer || !server->is_running)
        return G_SOURCE_REMOVE;
    server->is_running = false;
    g_autoptr(GString) reply = g_string_new(NULL);
    gdb_target_stopped(server->target, index, is_by_exit ? &exit : NULL, SIGNAL_INT, reply);
    send(server, reply);
    return G_SOURCE_REMOVE;
}

/* VmDebugFunc */
static void guest_stopped(void *opaque, unsigned index, const CpuExit *exit)
{
    GdbServer *server = opaque;
    g_mutex_lock(&server->lock);
    server->is_stopped = true;
    server->is_by_exit = exit != NULL;
    server->stop_index = index;
    if (exit)
        server->stop_exit = *exit;
    if (!server->stop_source)
        server->stop_source = g_idle_add(stop_source, server);
    g_mutex_unlock(&server->lock);
}

static void stop_forget(GdbServer *server)
{
    g_mutex_lock(&server->lock);
    server->is_stopped = false;
    g_mutex_unlock(&server->lock);
}

/* --- the debugger --- */

static void let_go(GdbServer *server)
{
    gdb_target_release(server->target);
    if (server->was_running && !vm_is_running(server->vm))
        vm_cont(server->vm);
}

static void packet_take(GdbServer *server)
{
    const GByteArray *body = server->parser.body;
    g_autoptr(GString) reply = g_string_new(NULL);
    if (gdb_target_wants_acks(server->target))
        transport_write(server->peer, "+", 1);
    if (server->is_running) /* it should wait */
        return;
    switch (gdb_target_command(server->target, (const char *)body->data, body->len, reply)) {
    case GDB_ACTION_NONE:
        send(server, reply);
        break;
    case GDB_ACTION_RESUME:
        stop_forget(server);
        server->is_running = server->was_running = true;
        vm_cont(server->vm);
        break;
    case GDB_ACTION_DETACH:
        server->was_running = true;
        let_go(server);
        send(server, reply);
        break;
    case GDB_ACTION_KILL:
        if (reply->len)
            send(server, reply);
        vm_quit(server->vm);
        break;
    }
}

static void interrupt_take(GdbServer *server)
{
    if (!server->is_running)
        return;
    if (vm_is_running(server->vm))
        vm_stop(server->vm);
    else
        guest_stopped(server, 0, NULL); /* others have stopped it, and said so before it was asked */
}

static size_t peer_receive(void *opaque, TransportPeer *peer, const uint8_t *bytes, size_t count)
{
    GdbServer *server = opaque;
    if (peer != server->peer)
        return count; /* it has been told */
    for (size_t i = 0; i < count; i++) {
        if (transport_is_full(peer))
            return i;
        switch (gdb_parser_byte(&server->parser, bytes[i])) {
        case GDB_EVENT_PACKET:
            packet_take(server);
            break;
        case GDB_EVENT_DAMAGED:
            if (gdb_target_wants_acks(server->target))
                transport_write(peer, "-", 1);
            break;
        case GDB_EVENT_NAK:
            if (server->last)
                transport_write(peer, server->last->str, server->last->len);
            break;
        case GDB_EVENT_INTERRUPT:
            interrupt_take(server);
            break;
        case GDB_EVENT_NONE:
            break;
        }
    }
    return count;
}

static void debugger_begin(GdbServer *server)
{
    gdb_target_begin(server->target);
    server->was_running = vm_is_running(server->vm);
    server->is_running = false;
    if (server->was_running)
        vm_stop(server->vm);
}

static void *peer_opened(void *opaque, TransportPeer *peer)
{
    GdbServer *server = opaque;
    if (server->peer) {
        static const char text[] = "E.another debugger is here";
        g_autoptr(GString) frame = gdb_frame(text, strlen(text));
        transport_write(peer, frame->str, frame->len);
        return NULL;
    }
    server->peer = peer;
    if (server->target)
        debugger_begin(server);
    return server;
}

static void peer_closed(void *opaque, void *data)
{
    GdbServer *server = opaque;
    if (!data)
        return;
    server->peer = NULL;
    server->is_running = false;
    if (server->target)
        let_go(server);
}

/* --- the server --- */

static gboolean listen_at(GdbServer *server, const char *option, const CharConfig *config, GError **error)
{
    TransportHandler handler = { .opened = peer_opened, .receive = peer_receive, .closed = peer_closed, .opaque = server };
    server->transport = transport_server_new(option, config, &handler, error);
    return server->transport != NULL;
}

static void listen_end(GdbServer *server)
{
    transport_server_free(server->transport);
    server->transport = NULL;
}

GdbServer *gdb_server_new(const Config *config, GError **error)
{
    g_autoptr(GdbServer) server = g_new0(GdbServer, 1);
    g_mutex_init(&server->lock);
    gdb_parser_init(&server->parser);
    if (config->gdb && !listen_at(server, "-gdb", config->gdb, error))
        return NULL;
    return g_steal_pointer(&server);
}

void gdb_server_free(GdbServer *server)
{
    if (!server)
        return;
    if (server->stop_source)
        g_source_remove(server->stop_source);
    if (server->peer && server->target) { /* "the process has ended" */
        g_autoptr(GString) reply = g_string_new("W00");
        send(server, reply);
    }
    g_clear_pointer(&server->target, gdb_target_free); /* the machine has ended: nothing is to be let go */
    if (server->transport)
        listen_end(server);
    gdb_parser_clear(&server->parser);
    if (server->last)
        g_string_free(server->last, TRUE);
    g_mutex_clear(&server->lock);
    g_free(server);
}

/* VmGdbserverFunc */
static gboolean gdbserver_command(void *opaque, const char *where, GError **error)
{
    GdbServer *server = opaque;
    g_autoptr(CharConfig) config = NULL;
    if (strcmp(where, "none") != 0 && !(config = config_gdb_parse("gdbserver", where, error)))
        return FALSE;
    if (server->transport)
        listen_end(server);
    if (!config)
        return TRUE;
    if (!listen_at(server, "gdbserver", config, error))
        return FALSE;
    transport_server_start(server->transport);
    return TRUE;
}

void gdb_server_attach(GdbServer *server, Vm *vm)
{
    server->vm = vm;
    server->target = gdb_target_new(vm);
    vm_set_debug_func(vm, guest_stopped, server);
    vm_set_gdbserver_func(vm, gdbserver_command, server);
    if (server->peer)
        debugger_begin(server);
    if (server->transport)
        transport_server_start(server->transport);
}
