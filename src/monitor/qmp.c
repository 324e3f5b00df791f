#include "monitor/qmp.h"

#include <glib-unix.h>
#include <json-glib/json-glib.h>
#include <signal.h>
#include <string.h>

#include "core/error.h"
#include "monitor/qmp-commands.h"
#include "monitor/qmp-stream.h"

struct Qmp {
    QmpMachine machine; /* .vm NULL before qmp_attach() */
    GPtrArray *servers;

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

/* --- answers --- */

static void answer(QmpPeer *peer, JsonObject *object, JsonNode *id)
{
    if (id)
        json_object_set_member(object, "id", json_node_copy(id));
    g_autofree char *line = line_of(object);
    qmp_peer_send(peer, line);
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

static void peer_opened(void *opaque, QmpPeer *peer)
{
    JsonObject *greeting = json_object_new(), *body = json_object_new();
    json_object_set_member(body, "version", qmp_version());
    json_object_set_array_member(body, "capabilities", json_array_new());
    json_object_set_object_member(greeting, "QMP", body);
    answer(peer, greeting, NULL);
}

static void peer_malformed(void *opaque, QmpPeer *peer, const char *why) { answer_error(peer, "GenericError", why, NULL); }

/* qmp_capabilities: we have none to offer. */
static void negotiate(QmpPeer *peer, JsonObject *args, JsonNode *id)
{
    JsonNode *enable = args ? json_object_get_member(args, "enable") : NULL;
    if (*qmp_peer_ready(peer)) {
        answer_error(peer, "CommandNotFound", "Capabilities negotiation is already complete, command ignored", id);
    } else if (enable && !JSON_NODE_HOLDS_ARRAY(enable)) {
        answer_error(peer, "GenericError", "Invalid parameter type for 'enable', expected: array", id);
    } else if (enable && json_array_get_length(json_node_get_array(enable))) {
        answer_error(peer, "GenericError", "Parameter 'enable': this capability is not available", id);
    } else {
        *qmp_peer_ready(peer) = true;
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

static void peer_object(void *opaque, QmpPeer *peer, const char *text, size_t size)
{
    Qmp *qmp = opaque;
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
    if (!*qmp_peer_ready(peer)) {
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

/* --- events --- */

static void events_send(Qmp *qmp)
{
    g_mutex_lock(&qmp->lock);
    GQueue events = qmp->events;
    g_queue_init(&qmp->events);
    qmp->source = 0;
    g_mutex_unlock(&qmp->lock);
    for (char *line; (line = g_queue_pop_head(&events)); g_free(line))
        for (guint i = 0; i < qmp->servers->len; i++)
            qmp_server_send_ready(g_ptr_array_index(qmp->servers, i), line);
}

static gboolean events_posted(gpointer data)
{
    events_send(data);
    return G_SOURCE_REMOVE;
}

/* Any thread, machine lock held. */
static void vm_event(void *opaque, VmEvent event, bool by_guest, const char *reason)
{
    static const struct {
        const char *name;
        bool has_data;
    } rows[] = { [VM_EVENT_STOP] = { "STOP" },
                 [VM_EVENT_RESUME] = { "RESUME" },
                 [VM_EVENT_RESET] = { "RESET", true },
                 [VM_EVENT_SHUTDOWN] = { "SHUTDOWN", true },
                 [VM_EVENT_POWERDOWN] = { "POWERDOWN" } };
    Qmp *qmp = opaque;
    gint64 now = g_get_real_time();
    JsonObject *object = json_object_new(), *timestamp = json_object_new();
    json_object_set_int_member(timestamp, "seconds", now / G_USEC_PER_SEC);
    json_object_set_int_member(timestamp, "microseconds", now % G_USEC_PER_SEC);
    json_object_set_object_member(object, "timestamp", timestamp);
    json_object_set_string_member(object, "event", rows[event].name);
    JsonObject *data = json_object_new();
    if (rows[event].has_data) {
        json_object_set_boolean_member(data, "guest", by_guest);
        json_object_set_string_member(data, "reason", reason);
    }
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

/* --- building --- */

static gboolean signal_arrived(gpointer data)
{
    *(bool *)data = true;
    return G_SOURCE_CONTINUE;
}

/* Until each server with wait=on has a peer.  FALSE: a signal came. */
static gboolean peers_wait(Qmp *qmp, GError **error)
{
    bool is_interrupted = false;
    guint sources[] = { g_unix_signal_add(SIGINT, signal_arrived, &is_interrupted),
                        g_unix_signal_add(SIGTERM, signal_arrived, &is_interrupted),
                        g_unix_signal_add(SIGHUP, signal_arrived, &is_interrupted) };
    for (guint i = 0; i < qmp->servers->len; i++)
        while (qmp_server_waits(g_ptr_array_index(qmp->servers, i)) && !is_interrupted)
            g_main_context_iteration(NULL, TRUE);
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++)
        g_source_remove(sources[i]);
    if (is_interrupted)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, "QMP: ended by a signal while waiting for a connection; wait=off does not wait");
    return !is_interrupted;
}

Qmp *qmp_new(const Config *config, GError **error)
{
    g_autoptr(Qmp) qmp = g_new0(Qmp, 1);
    qmp->machine.config = config;
    qmp->machine.started_us = g_get_monotonic_time();
    g_mutex_init(&qmp->lock);
    g_queue_init(&qmp->events);
    qmp->servers = g_ptr_array_new_with_free_func((GDestroyNotify)qmp_server_free);
    if (config->controls->len)
        signal(SIGPIPE, SIG_IGN);
    QmpHandler handler = { .opened = peer_opened, .object = peer_object, .malformed = peer_malformed, .opaque = qmp };
    for (guint i = 0; i < config->controls->len; i++) {
        QmpServer *server = qmp_server_new(g_ptr_array_index(config->controls, i), &handler, error);
        if (!server)
            return NULL;
        g_ptr_array_add(qmp->servers, server);
    }
    return peers_wait(qmp, error) ? g_steal_pointer(&qmp) : NULL;
}

void qmp_attach(Qmp *qmp, Vm *vm, const HostFacts *(*host)(void))
{
    qmp->machine.vm = vm;
    qmp->machine.host = host;
    vm_set_event_func(vm, vm_event, qmp);
    for (guint i = 0; i < qmp->servers->len; i++)
        qmp_server_start(g_ptr_array_index(qmp->servers, i));
}

void qmp_free(Qmp *qmp)
{
    if (!qmp)
        return;
    if (qmp->source)
        g_source_remove(qmp->source);
    events_send(qmp);
    g_ptr_array_free(qmp->servers, TRUE);
    g_mutex_clear(&qmp->lock);
    g_free(qmp);
}
