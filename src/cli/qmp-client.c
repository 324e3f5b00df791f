#include "cli/qmp-client.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/error.h"

#define PATIENCE_MS 30000
#define MESSAGE_MAX_BYTES (64u << 20)

struct QmpClient {
    int fd;
    char *address;
    QmpClientEvent *on_event;
    void *opaque;
    GByteArray *in;
    int next_id;
};

static gboolean fail(const QmpClient *client, VmmError code, const char *what, GError **error)
{
    g_set_error(error, VMM_ERROR, code, "%s: %s", client->address, what);
    return FALSE;
}

/* --- connecting --- */

static gboolean unix_connect(QmpClient *client, const char *path, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path)
        return fail(client, VMM_ERROR_USAGE, "the path is too long for a socket", error);
    strcpy(address.sun_path, path);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0)
        return fail(client, VMM_ERROR_USAGE, errno == ECONNREFUSED ? "nobody listens; has the machine ended?" : g_strerror(errno), error);
    return TRUE;
}

static gboolean tcp_connect(QmpClient *client, const char *host_port, GError **error)
{
    const char *colon = strrchr(host_port, ':');
    if (!colon || !colon[1])
        return fail(client, VMM_ERROR_USAGE, "must be tcp:HOST:PORT", error);
    g_autofree char *host = g_strndup(host_port, (gsize)(colon - host_port));
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    int status = getaddrinfo(*host ? host : NULL, colon + 1, &hints, &list), cause = 0;
    if (status)
        return fail(client, VMM_ERROR_USAGE, gai_strerror(status), error);
    for (struct addrinfo *row = list; row && client->fd < 0; row = row->ai_next) {
        client->fd = socket(row->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client->fd >= 0 && connect(client->fd, row->ai_addr, row->ai_addrlen) == 0)
            break;
        cause = errno;
        if (client->fd >= 0)
            close(client->fd);
        client->fd = -1;
    }
    freeaddrinfo(list);
    return client->fd >= 0 || fail(client, VMM_ERROR_USAGE, g_strerror(cause), error);
}

/* --- messages --- */

/* Waits for bytes at most @wait_ms; *out_is_none: nothing came. */
static gboolean bytes_receive(QmpClient *client, int wait_ms, bool *out_is_none, GError **error)
{
    struct pollfd wait = { .fd = client->fd, .events = POLLIN };
    guint8 bytes[16384];
    int ready;
    do
        ready = poll(&wait, 1, wait_ms);
    while (ready < 0 && errno == EINTR);
    *out_is_none = ready == 0;
    if (ready == 0)
        return TRUE;
    ssize_t size;
    do
        size = read(client->fd, bytes, sizeof bytes);
    while (size < 0 && errno == EINTR);
    if (size <= 0)
        return fail(client, VMM_ERROR_HOST, "the machine closed the connection", error);
    g_byte_array_append(client->in, bytes, (guint)size);
    return client->in->len <= MESSAGE_MAX_BYTES || fail(client, VMM_ERROR_HOST, "a message without end", error);
}

/* A human monitor's greeting may come without a newline. */
static const char *foreign_text(const QmpClient *client)
{
    bool is_human = client->in->len >= 5 && !memcmp(client->in->data, "QEMU ", 5);
    return is_human ? "this is the socket of a human monitor; name the one of -qmp" : NULL;
}

/* The next complete line as an object; NULL without @error: there is none yet. */
static JsonNode *message_take(QmpClient *client, GError **error)
{
    for (;;) {
        const char *foreign = foreign_text(client);
        guint8 *end = client->in->len ? memchr(client->in->data, '\n', client->in->len) : NULL;
        if (foreign)
            fail(client, VMM_ERROR_USAGE, foreign, error);
        if (foreign || !end)
            return NULL;
        g_autofree char *line = g_strndup((const char *)client->in->data, (gsize)(end - client->in->data));
        g_byte_array_remove_range(client->in, 0, (guint)(end - client->in->data) + 1);
        if (!*g_strstrip(line))
            continue;
        g_autoptr(JsonNode) node = json_from_string(line, NULL);
        if (node && JSON_NODE_HOLDS_OBJECT(node))
            return g_steal_pointer(&node);
        fail(client, VMM_ERROR_USAGE, "this does not speak QMP", error);
        return NULL;
    }
}

/* Takes one message if there is one; an event goes to on_event.  FALSE: *error is set. */
static gboolean message_next(QmpClient *client, JsonNode **out_answer, bool *out_is_none, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(JsonNode) node = message_take(client, &cause);
    *out_is_none = !node;
    if (cause) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    if (!node)
        return TRUE;
    JsonObject *object = json_node_get_object(node);
    if (!json_object_has_member(object, "event"))
        *out_answer = g_steal_pointer(&node);
    else if (client->on_event)
        client->on_event(client->opaque, object);
    return TRUE;
}

static JsonNode *answer_wait(QmpClient *client, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE_MS * G_TIME_SPAN_MILLISECOND;
    for (;;) {
        JsonNode *answer = NULL;
        bool is_none;
        if (!message_next(client, &answer, &is_none, error))
            return NULL;
        if (answer)
            return answer;
        if (!is_none)
            continue;
        gint64 left_ms = (deadline - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND;
        if (left_ms <= 0) {
            fail(client, VMM_ERROR_HOST, "no answer within thirty seconds", error);
            return NULL;
        }
        if (!bytes_receive(client, (int)left_ms, &is_none, error))
            return NULL;
    }
}

static gboolean line_send(QmpClient *client, const char *line, GError **error)
{
    for (size_t done = 0, size = strlen(line); done < size;) {
        ssize_t n = send(client->fd, line + done, size - done, MSG_NOSIGNAL);
        if (n <= 0 && errno != EINTR)
            return fail(client, VMM_ERROR_HOST, "the machine closed the connection", error);
        done += n > 0 ? (size_t)n : 0;
    }
    return TRUE;
}

JsonNode *qmp_client_call(QmpClient *client, const char *command, JsonObject *args, GError **error)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();
    json_node_take_object(node, object);
    json_object_set_string_member(object, "execute", command);
    json_object_set_int_member(object, "id", ++client->next_id);
    if (args)
        json_object_set_object_member(object, "arguments", args);
    g_autofree char *text = json_to_string(node, FALSE);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    if (!line_send(client, line, error))
        return NULL;
    g_autoptr(JsonNode) answer = answer_wait(client, error);
    if (!answer)
        return NULL;
    JsonObject *result = json_node_get_object(answer);
    if (json_object_has_member(result, "return"))
        return json_object_dup_member(result, "return");
    JsonNode *wrong = json_object_get_member(result, "error");
    const char *why = NULL;
    if (wrong && JSON_NODE_HOLDS_OBJECT(wrong))
        why = json_object_get_string_member_with_default(json_node_get_object(wrong), "desc", NULL);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_REFUSED, why ? why : "refused without a reason");
    return NULL;
}

char *qmp_client_human(QmpClient *client, const char *line, GError **error)
{
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "command-line", line);
    g_autoptr(JsonNode) result = qmp_client_call(client, "human-monitor-command", args, error);
    if (!result)
        return NULL;
    const char *text = JSON_NODE_HOLDS_VALUE(result) ? json_node_get_string(result) : NULL;
    return g_strdup(text ? text : "");
}

int qmp_client_fd(const QmpClient *client) { return client->fd; }

gboolean qmp_client_poll(QmpClient *client, GError **error)
{
    bool is_none = false;
    while (!is_none)
        if (!bytes_receive(client, 0, &is_none, error))
            return FALSE;
    for (is_none = false; !is_none;) {
        g_autoptr(JsonNode) answer = NULL; /* to a question nobody waits for */
        if (!message_next(client, &answer, &is_none, error))
            return FALSE;
    }
    return TRUE;
}

QmpClient *qmp_client_new(const char *address, QmpClientEvent *on_event, void *opaque, GError **error)
{
    g_autoptr(QmpClient) client = g_new0(QmpClient, 1);
    client->fd = -1;
    client->address = g_strdup(address);
    client->on_event = on_event;
    client->opaque = opaque;
    client->in = g_byte_array_new();
    const char *path = g_str_has_prefix(address, "unix:") ? address + 5 : address;
    if (!(g_str_has_prefix(address, "tcp:") ? tcp_connect(client, address + 4, error) : unix_connect(client, path, error)))
        return NULL;
    g_autoptr(JsonNode) greeting = answer_wait(client, error);
    if (!greeting)
        return NULL;
    if (!json_object_has_member(json_node_get_object(greeting), "QMP")) {
        fail(client, VMM_ERROR_USAGE, "this does not speak QMP", error);
        return NULL;
    }
    g_autoptr(JsonNode) done = qmp_client_call(client, "qmp_capabilities", NULL, error);
    return done ? g_steal_pointer(&client) : NULL;
}

void qmp_client_free(QmpClient *client)
{
    if (!client)
        return;
    if (client->fd >= 0)
        close(client->fd);
    g_byte_array_free(client->in, TRUE);
    g_free(client->address);
    g_free(client);
}
