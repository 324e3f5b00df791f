#include "vm/migration-channel.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixinputstream.h>
#include <gio/gunixoutputstream.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

struct MigrationChannel {
    GOutputStream *out;
    GInputStream *in;
    GSocketListener *listener; /* receiving on a socket: nobody has come yet */
    GSocketConnection *connection;
    GSubprocess *program;
    char *unlink_path;
};

void migration_channel_free(MigrationChannel *channel)
{
    if (!channel)
        return;
    if (channel->program)
        g_subprocess_force_exit(channel->program);
    g_clear_object(&channel->out);
    g_clear_object(&channel->in);
    g_clear_object(&channel->connection);
    g_clear_object(&channel->listener);
    g_clear_object(&channel->program);
    if (channel->unlink_path)
        g_unlink(channel->unlink_path);
    g_free(channel->unlink_path);
    g_free(channel);
}

static gboolean fail(GError **error, const char *uri, const char *why)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "migration: %s: %s", uri, why);
    return FALSE;
}

/* The text behind @scheme, or NULL. */
static const char *after(const char *uri, const char *scheme) { return g_str_has_prefix(uri, scheme) ? uri + strlen(scheme) : NULL; }

static gboolean unknown(const char *uri, GError **error)
{
    return fail(error, uri, "not a place for a guest; write file:PATH, unix:PATH, tcp:HOST:PORT, fd:NUMBER or exec:COMMAND");
}

static int fd_parse(const char *uri, const char *text, GError **error)
{
    guint64 number;
    if (!g_ascii_string_to_unsigned(text, 10, 0, 65535, &number, NULL) || fcntl((int)number, F_GETFD) < 0) {
        fail(error, uri, "not the number of an open file descriptor");
        return -1;
    }
    return (int)number;
}

static GSubprocess *program_new(const char *uri, const char *command, GSubprocessFlags flags, GError **error)
{
    g_autoptr(GError) cause = NULL;
    GSubprocess *program = g_subprocess_new(flags, &cause, "/bin/sh", "-c", command, NULL);
    if (!program)
        fail(error, uri, cause->message);
    return program;
}

static GSocketConnectable *address_parse(const char *uri, GError **error)
{
    const char *path = after(uri, "unix:"), *host = after(uri, "tcp:");
    g_autoptr(GError) cause = NULL;
    GSocketConnectable *address = NULL;
    if (path)
        return G_SOCKET_CONNECTABLE(g_unix_socket_address_new(path));
    address = g_network_address_parse(host, 0, &cause);
    if (!address || !g_network_address_get_port(G_NETWORK_ADDRESS(address))) {
        g_clear_object(&address);
        fail(error, uri, "not HOST:PORT");
    }
    return address;
}

/* --- out --- */

/* GLib polls before it writes, but a pipe that takes a byte need not take a megabyte: a writer that cannot be cancelled. */
static void unblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static gboolean socket_connect(MigrationChannel *channel, const char *uri, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketConnectable) address = address_parse(uri, error);
    g_autoptr(GError) cause = NULL;
    if (!address)
        return FALSE;
    g_socket_client_set_timeout(client, 10);
    channel->connection = g_socket_client_connect(client, address, NULL, &cause);
    if (!channel->connection)
        return fail(error, uri, cause->message);
    g_socket_set_timeout(g_socket_connection_get_socket(channel->connection), 0);
    channel->out = g_object_ref(g_io_stream_get_output_stream(G_IO_STREAM(channel->connection)));
    return TRUE;
}

static gboolean out_open(MigrationChannel *channel, const char *uri, GError **error)
{
    const char *text;
    if ((text = after(uri, "file:"))) {
        int fd = open(text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
            return fail(error, uri, g_strerror(errno));
        channel->out = g_unix_output_stream_new(fd, TRUE);
        return TRUE;
    }
    if ((text = after(uri, "fd:"))) {
        int fd = fd_parse(uri, text, error);
        if (fd < 0)
            return FALSE;
        unblock(fd);
        channel->out = g_unix_output_stream_new(fd, TRUE);
        return TRUE;
    }
    if ((text = after(uri, "exec:"))) {
        channel->program = program_new(uri, text, G_SUBPROCESS_FLAGS_STDIN_PIPE, error);
        if (!channel->program)
            return FALSE;
        channel->out = g_object_ref(g_subprocess_get_stdin_pipe(channel->program));
        unblock(g_unix_output_stream_get_fd(G_UNIX_OUTPUT_STREAM(channel->out)));
        return TRUE;
    }
    if (after(uri, "unix:") || after(uri, "tcp:"))
        return socket_connect(channel, uri, error);
    return unknown(uri, error);
}

MigrationChannel *migration_channel_out(const char *uri, GError **error)
{
    g_autoptr(MigrationChannel) channel = g_new0(MigrationChannel, 1);
    return out_open(channel, uri, error) ? g_steal_pointer(&channel) : NULL;
}

GOutputStream *migration_channel_writer(MigrationChannel *channel) { return channel->out; }

gboolean migration_channel_finish(MigrationChannel *channel, GCancellable *cancellable, GError **error)
{
    g_autoptr(GError) cause = NULL;
    gboolean is_ok = TRUE;
    if (channel->out)
        is_ok = g_output_stream_close(channel->out, cancellable, &cause);
    if (is_ok && channel->program && channel->out)
        is_ok = g_subprocess_wait_check(channel->program, cancellable, &cause);
    if (!is_ok)
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "migration: %s", cause->message);
    return is_ok;
}

/* --- in --- */

/* A socket that a dead process left behind is replaced; anything else at @path stays. */
static void stale_remove(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
}

static gboolean socket_listen(MigrationChannel *channel, const char *uri, GError **error)
{
    const char *path = after(uri, "unix:");
    g_autoptr(GSocketConnectable) connectable = address_parse(uri, error);
    g_autoptr(GError) cause = NULL;
    if (!connectable)
        return FALSE;
    g_autoptr(GSocketAddressEnumerator) enumerator = g_socket_connectable_enumerate(connectable);
    g_autoptr(GSocketAddress) address = g_socket_address_enumerator_next(enumerator, NULL, &cause);
    if (!address)
        return fail(error, uri, cause ? cause->message : "no such host");
    if (path)
        stale_remove(path);
    channel->listener = g_socket_listener_new();
    mode_t mask = umask(0077);
    gboolean is_ok = g_socket_listener_add_address(channel->listener, address, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, &cause);
    umask(mask);
    if (!is_ok)
        return fail(error, uri, cause->message);
    channel->unlink_path = g_strdup(path);
    return TRUE;
}

static gboolean in_open(MigrationChannel *channel, const char *uri, GError **error)
{
    const char *text;
    if ((text = after(uri, "file:"))) {
        int fd = open(text, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return fail(error, uri, g_strerror(errno));
        channel->in = g_unix_input_stream_new(fd, TRUE);
        return TRUE;
    }
    if ((text = after(uri, "fd:"))) {
        int fd = fd_parse(uri, text, error);
        if (fd < 0)
            return FALSE;
        channel->in = g_unix_input_stream_new(fd, TRUE);
        return TRUE;
    }
    if ((text = after(uri, "exec:"))) {
        channel->program = program_new(uri, text, G_SUBPROCESS_FLAGS_STDOUT_PIPE, error);
        if (!channel->program)
            return FALSE;
        channel->in = g_object_ref(g_subprocess_get_stdout_pipe(channel->program));
        return TRUE;
    }
    if (after(uri, "unix:") || after(uri, "tcp:"))
        return socket_listen(channel, uri, error);
    return unknown(uri, error);
}

MigrationChannel *migration_channel_in(const char *uri, GError **error)
{
    g_autoptr(MigrationChannel) channel = g_new0(MigrationChannel, 1);
    return in_open(channel, uri, error) ? g_steal_pointer(&channel) : NULL;
}

GInputStream *migration_channel_reader(MigrationChannel *channel, GCancellable *cancellable, GError **error)
{
    if (!channel->in) {
        channel->connection = g_socket_listener_accept(channel->listener, NULL, cancellable, error);
        if (!channel->connection)
            return NULL;
        g_socket_listener_close(channel->listener);
        channel->in = g_object_ref(g_io_stream_get_input_stream(G_IO_STREAM(channel->connection)));
    }
    return channel->in;
}
