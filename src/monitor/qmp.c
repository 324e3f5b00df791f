#include "monitor/qmp.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "monitor/qmp-commands.h"
#include "monitor/qmp-frame.h"
#include "monitor/qmp-mode.h"
#include "monitor/transport.h"

/* One connection. */
typedef struct QmpPeer {
    TransportPeer *stream;
    QmpFrame frame;
    bool is_ready; /* capabilities were negotiated */
} QmpPeer;

struct Qmp {
    QmpMachine machine; /* .vm NULL before qmp_attach() */
    GPtrArray *servers; /* TransportServer; borrowed */

    GMutex lock; /* taken last; for what follows */
    GQueue events; /* char *: lines that wait for the main thread */
    guint source;
};

static char *line_of(JsonObject *object)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, object);
    return json_to_string(node, FALSE);
}

static void peer_send(TransportPeer *stream, const char *line)
{
    g_autofree char *text = g_strconcat(line, "\r\n", NULL);
    transport_write(stream, text, strlen(text));
}

/* --- answers --- */

static void answer(QmpPeer *peer, JsonObject *object, JsonNode *id)
{
    if (id)
        json_object_set_member(object, "id", json_node_copy(id));
    g_autofree char *line = line_of(object);
    peer_send(peer->stream, line);
}

static void answer_error(QmpPeer *peer, const char *class, const char *text, JsonNode *id)
{
    JsonObject *object = json_object_new(), *error = json_object_new();
    json_object_set_string_member(error, "class", class);
    json_object_set_string_member(error, "desc", text);
    json_object_set_object_member(object, "error", error);
    answer(peer, object, id);
}

static void answer_value(QmpPeer *peer, JsonNode *value, JsonNode *id)
{
    JsonObject *object = json_object_new();
    json_object_set_member(object, "return", value);
    answer(peer, object, id);
}

static void *peer_opened(void *opaque, TransportPeer *stream)
{
    QmpPeer *peer = g_new0(QmpPeer, 1);
    peer->stream = stream;
    qmp_frame_init(&peer->frame);
    JsonObject *greeting = json_object_new(), *body = json_object_new();
    json_object_set_member(body, "version", qmp_version());
    json_object_set_array_member(body, "capabilities", json_array_new());
    json_object_set_object_member(greeting, "QMP", body);
    answer(peer, greeting, NULL);
    return peer;
}

static void peer_closed(void *opaque, void *data)
{
    QmpPeer *peer = data;
    qmp_frame_clear(&peer->frame);
    g_free(peer);
}

/* qmp_capabilities: we have none to offer. */
static void negotiate(QmpPeer *peer, JsonObject *args, JsonNode *id)
{
    JsonNode *enable = args ? json_object_get_member(args, "enable") : NULL;
    if (peer->is_ready) {
        answer_error(peer, "CommandNotFound", "Capabilities negotiation is already complete, command ignored", id);
    } else if (enable && !JSON_NODE_HOLDS_ARRAY(enable)) {
        answer_error(peer, "GenericError", "Invalid parameter type for 'enable', expected: array", id);
    } else if (enable && json_array_get_length(json_node_get_array(enable))) {
        answer_error(peer, "GenericError", "Parameter 'enable': this capability is not available", id);
    } else {
        peer->is_ready = true;
        JsonNode *nothing = json_node_new(JSON_NODE_OBJECT);
        json_node_take_object(nothing, json_object_new());
        answer_value(peer, nothing, id);
    }
}

/* Says what is wrong with the form of a command, or NULL. */
static char *form_check(JsonObject *object)
{
    static const char *const known[] = { "execute", "arguments", "id" };
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &name, &node)) {
        bool is_known = false;
        for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
            is_known = is_known || !strcmp(name, known[i]);
        if (!is_known)
            return g_strdup_printf("QMP input member '%s' is unexpected", name);
    }
    JsonNode *execute = json_object_get_member(object, "execute"), *arguments = json_object_get_member(object, "arguments");
    if (!execute)
        return g_strdup("QMP input lacks member 'execute'");
    if (!JSON_NODE_HOLDS_VALUE(execute) || json_node_get_value_type(execute) != G_TYPE_STRING)
        return g_strdup("QMP input member 'execute' must be a string");
    if (arguments && !JSON_NODE_HOLDS_OBJECT(arguments))
        return g_strdup("QMP input member 'arguments' must be an object");
    return NULL;
}

static void peer_object(Qmp *qmp, QmpPeer *peer, const char *text, size_t size)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    if (!g_utf8_validate_len(text, size, NULL)) {
        answer_error(peer, "GenericError", "JSON parse error: not UTF-8", NULL);
        return;
    }
    if (!json_parser_load_from_data(parser, text, (gssize)size, NULL) || !json_parser_get_root(parser)) {
        answer_error(peer, "GenericError", "JSON parse error: malformed", NULL);
        return;
    }
    JsonNode *root = json_parser_get_root(parser);
    if (!JSON_NODE_HOLDS_OBJECT(root)) {
        answer_error(peer, "GenericError", "QMP input must be a JSON object", NULL);
        return;
    }
    JsonObject *object = json_node_get_object(root);
    JsonNode *id = json_object_get_member(object, "id");
    g_autofree char *wrong = form_check(object);
    if (wrong) {
        answer_error(peer, "GenericError", wrong, id);
        return;
    }
    const char *name = json_object_get_string_member(object, "execute");
    JsonObject *args = json_object_has_member(object, "arguments") ? json_object_get_object_member(object, "arguments") : NULL;
    if (!strcmp(name, "qmp_capabilities")) {
        negotiate(peer, args, id);
        return;
    }
    if (!peer->is_ready) {
        answer_error(peer, "CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'", id);
        return;
    }
    const char *class = NULL;
    g_autofree char *error = NULL;
    JsonNode *value = qmp_command_run(&qmp->machine, name, args, &class, &error);
    if (value)
        answer_value(peer, value, id);
    else
        answer_error(peer, class, error, id);
}

static size_t peer_receive(void *opaque, TransportPeer *stream, const uint8_t *bytes, size_t count)
{
    QmpPeer *peer = transport_data(stream);
    size_t done = 0;
    while (done < count && !transport_is_full(stream)) {
        size_t taken, size;
        const char *text;
        QmpFrameKind kind = qmp_frame_take(&peer->frame, bytes + done, count - done, &taken, &text, &size);
        done += taken;
        if (kind == QMP_FRAME_OBJECT)
            peer_object(opaque, peer, text, size);
        else if (kind == QMP_FRAME_MALFORMED)
            answer_error(peer, "GenericError", text, NULL);
    }
    return done;
}

/* --- events --- */

static void event_send(TransportPeer *stream, void *data, void *opaque)
{
    const QmpPeer *peer = data;
    if (peer->is_ready)
        peer_send(stream, opaque);
}

static void events_send(Qmp *qmp)
{
    g_mutex_lock(&qmp->lock);
    GQueue events = qmp->events;
    g_queue_init(&qmp->events);
    qmp->source = 0;
    g_mutex_unlock(&qmp->lock);
    for (char *line; (line = g_queue_pop_head(&events)); g_free(line))
        for (guint i = 0; i < qmp->servers->len; i++)
            transport_server_each(g_ptr_array_index(qmp->servers, i), event_send, line);
}

static gboolean events_posted(gpointer data)
{
    events_send(data);
    return G_SOURCE_REMOVE;
}

/* Any thread, machine lock held. @data: (transfer full). */
static void event_post(Qmp *qmp, const char *name, JsonObject *data)
{
    gint64 now = g_get_real_time();
    JsonObject *object = json_object_new(), *timestamp = json_object_new();
    json_object_set_int_member(timestamp, "seconds", now / G_USEC_PER_SEC);
    json_object_set_int_member(timestamp, "microseconds", now % G_USEC_PER_SEC);
    json_object_set_object_member(object, "timestamp", timestamp);
    json_object_set_string_member(object, "event", name);
    json_object_set_object_member(object, "data", data);
    char *line = line_of(object);
    g_mutex_lock(&qmp->lock);
    if (g_queue_get_length(&qmp->events) < 1024) /* a guest that resets faster than we write */
        g_queue_push_tail(&qmp->events, line);
    else
        g_free(line);
    if (!qmp->source)
        qmp->source = g_idle_add_full(G_PRIORITY_DEFAULT, events_posted, qmp, NULL);
    g_mutex_unlock(&qmp->lock);
}

/* Any thread, machine lock held. */
static void vm_event(void *opaque, VmEvent event, bool by_guest, const char *reason)
{
    static const struct {
        const char *name;
        bool has_data, has_action;
    } rows[] = { [VM_EVENT_STOP] = { "STOP" },
                 [VM_EVENT_RESUME] = { "RESUME" },
                 [VM_EVENT_RESET] = { "RESET", true },
                 [VM_EVENT_SHUTDOWN] = { "SHUTDOWN", true },
                 [VM_EVENT_POWERDOWN] = { "POWERDOWN" },
                 [VM_EVENT_PANICKED] = { "GUEST_PANICKED", .has_action = true },
                 [VM_EVENT_CRASH_LOADED] = { "GUEST_CRASHLOADED", .has_action = true },
                 [VM_EVENT_WATCHDOG] = { "WATCHDOG", .has_action = true } };
    JsonObject *data = json_object_new();
    if (rows[event].has_data) {
        json_object_set_boolean_member(data, "guest", by_guest);
        json_object_set_string_member(data, "reason", reason);
    }
    if (rows[event].has_action)
        json_object_set_string_member(data, "action", reason);
    event_post(opaque, rows[event].name, data);
}

static void migration_event(void *opaque, const char *status)
{
    JsonObject *data = json_object_new();
    json_object_set_string_member(data, "status", status);
    event_post(opaque, "MIGRATION", data);
}

static void mode_event(void *opaque, const SwitchEvent *event)
{
    const char *name;
    JsonObject *data = qmp_mode_event(event, &name);
    event_post(opaque, name, data);
}

static void adaptive_event(void *opaque, const AdaptiveDecision *decision)
{
    event_post(opaque, "ADAPTIVE_DECISION", qmp_adaptive_event(decision));
}

/* --- building --- */

Qmp *qmp_new(const Config *config, GPtrArray *servers, GError **error)
{
    g_autoptr(Qmp) qmp = g_new0(Qmp, 1);
    qmp->machine.config = config;
    qmp->machine.started_us = g_get_monotonic_time();
    g_mutex_init(&qmp->lock);
    g_queue_init(&qmp->events);
    qmp->servers = g_ptr_array_new();
    TransportHandler handler = { .opened = peer_opened, .receive = peer_receive, .closed = peer_closed, .opaque = qmp };
    for (guint i = 0; i < config->controls->len; i++) {
        TransportServer *server = transport_server_new("-qmp", g_ptr_array_index(config->controls, i), &handler, error);
        if (!server)
            return NULL;
        g_ptr_array_add(qmp->servers, server);
        g_ptr_array_add(servers, server);
    }
    return g_steal_pointer(&qmp);
}

void qmp_attach(Qmp *qmp, Vm *vm, const HostFacts *(*host)(void))
{
    qmp->machine.vm = vm;
    qmp->machine.host = host;
    vm_set_event_func(vm, vm_event, qmp);
    vm_set_mode_func(vm, mode_event, qmp);
    vm_set_adaptive_func(vm, adaptive_event, qmp);
    vm_set_migration_func(vm, migration_event, qmp);
}

void qmp_flush(Qmp *qmp)
{
    if (qmp->source)
        g_source_remove(qmp->source);
    events_send(qmp);
}

void qmp_free(Qmp *qmp)
{
    if (!qmp)
        return;
    if (qmp->source)
        g_source_remove(qmp->source);
    g_queue_clear_full(&qmp->events, g_free);
    g_ptr_array_free(qmp->servers, TRUE);
    g_mutex_clear(&qmp->lock);
    g_free(qmp);
}
