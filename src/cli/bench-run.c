#include "cli/bench-run.h"

#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixinputstream.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/error.h"

#define TEXT_KEPT 65536u

typedef struct Guest {
    const BenchJob *job;
    GSubprocess *process;
    QmpClient *client;
    GRegex *prompt;
    GString *text; /* what it has printed since the last line was typed */
    int out_fd;
    gint64 deadline; /* monotonic, µs */
    bool is_off;
} Guest;

static gboolean fail(const Guest *guest, const char *what, GError **error)
{
    size_t skipped = guest->text->len > 300 ? guest->text->len - 300 : 0;
    g_autofree char *last = g_utf8_make_valid(guest->text->str + skipped, -1);
    g_set_error(error, VMM_ERROR, VMM_ERROR_REFUSED, "bench: %s; the last it printed: %s", what, *g_strstrip(last) ? last : "nothing");
    return FALSE;
}

static void event_came(void *opaque, JsonObject *event)
{
    Guest *guest = opaque;
    if (!strcmp(json_object_get_string_member_with_default(event, "event", ""), "SHUTDOWN"))
        guest->is_off = true;
}

/* Reads what the guest prints and what the machine tells, for at most @wait_ms.  FALSE: it is gone. */
static gboolean guest_listen(Guest *guest, int wait_ms, GError **error)
{
    struct pollfd waits[] = { { .fd = guest->out_fd, .events = POLLIN }, { .fd = guest->client ? qmp_client_fd(guest->client) : -1, .events = POLLIN } };
    char bytes[8192];
    if (g_get_monotonic_time() > guest->deadline)
        return fail(guest, "the time limit (--limit) is over", error);
    if (poll(waits, G_N_ELEMENTS(waits), wait_ms) <= 0)
        return TRUE;
    if (waits[0].revents) {
        ssize_t n = read(guest->out_fd, bytes, sizeof bytes);
        if (n == 0)
            return fail(guest, "the machine ended before the workload did", error);
        if (n > 0)
            g_string_append_len(guest->text, bytes, n);
        if (guest->text->len > TEXT_KEPT)
            g_string_erase(guest->text, 0, (gssize)(guest->text->len - TEXT_KEPT / 2));
    }
    return !waits[1].revents || qmp_client_poll(guest->client, error);
}

/* What it printed without the terminal's sequences: a shell may ask for the cursor's place behind its prompt. */
static char *plain_text(const Guest *guest)
{
    GString *plain = g_string_new(NULL);
    for (gsize i = 0; i < guest->text->len; i++) {
        const char *at = guest->text->str + i;
        if (at[0] == 27 && at[1] == '[') {
            for (i += 2; i < guest->text->len && !g_ascii_isalpha(guest->text->str[i]);)
                i++;
        } else if (*at) {
            g_string_append_c(plain, *at);
        }
    }
    g_autofree char *bytes = g_string_free(plain, FALSE);
    return g_utf8_make_valid(bytes, -1);
}

static gboolean prompt_wait(Guest *guest, GError **error)
{
    for (;;) {
        g_autofree char *text = plain_text(guest);
        if (g_regex_match(guest->prompt, text, 0, NULL))
            return TRUE;
        if (guest->is_off)
            return fail(guest, "the guest powered off before the script's end", error);
        if (!guest_listen(guest, 1000, error))
            return FALSE;
    }
}

static gboolean script_run(Guest *guest, gint64 *out_start, GError **error)
{
    GOutputStream *keys = g_subprocess_get_stdin_pipe(guest->process);
    if (!prompt_wait(guest, error))
        return FALSE;
    *out_start = g_get_monotonic_time();
    for (const char *const *line = guest->job->lines; *line; line++) {
        g_autofree char *typed = g_strconcat(*line, "\n", NULL);
        g_string_truncate(guest->text, 0);
        if (!g_output_stream_write_all(keys, typed, strlen(typed), NULL, NULL, error) || !prompt_wait(guest, error))
            return FALSE;
    }
    return TRUE;
}

/* The socket is there at once, but not before the process runs. */
static gboolean guest_connect(Guest *guest, const char *path, GError **error)
{
    while (!guest->client) {
        g_autoptr(GError) cause = NULL;
        guest->client = qmp_client_new(path, event_came, guest, &cause);
        if (!guest->client && cause->code != VMM_ERROR_USAGE) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return FALSE;
        }
        if (!guest->client && !guest_listen(guest, 20, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean guest_measure(Guest *guest, const char *path, BenchRun *out_run, GError **error)
{
    gint64 start = g_get_monotonic_time();
    if (!guest_connect(guest, path, error))
        return FALSE;
    if (guest->job->lines) {
        if (!script_run(guest, &start, error))
            return FALSE;
    } else {
        while (!guest->is_off)
            if (!guest_listen(guest, 1000, error))
                return FALSE;
    }
    out_run->seconds = (double)(g_get_monotonic_time() - start) / 1e6;
    out_run->sample = monitor_sample_new(guest->client, error);
    if (!out_run->sample)
        return FALSE;
    g_autoptr(JsonNode) done = qmp_client_call(guest->client, "quit", NULL, NULL);
    return TRUE;
}

/* In the child: a guest does not outlive the one who measures it. */
static void end_with_parent(gpointer data) { prctl(PR_SET_PDEATHSIG, SIGTERM); }

gboolean bench_run(const BenchJob *job, const char *accel, BenchRun *out_run, GError **error)
{
    g_autofree char *folder = g_dir_make_tmp("segue-bench-XXXXXX", error);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    if (!folder)
        return FALSE;
    g_autofree char *path = g_build_filename(folder, "qmp", NULL);
    g_autofree char *qmp = g_strdup_printf("unix:%s,server=on,wait=off", path);
    const char *const fixed[] = { self, "run", job->vmx, "-accel", accel, "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-shutdown",
                                  "-no-reboot", "-qmp", qmp };
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
        g_ptr_array_add(words, (char *)fixed[i]);
    for (const char *const *word = job->extra; *word; word++)
        g_ptr_array_add(words, (char *)*word);
    g_ptr_array_add(words, NULL);
    g_autoptr(GRegex) prompt = g_regex_new(job->prompt, 0, 0, error);
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE);
    g_subprocess_launcher_set_child_setup(launcher, end_with_parent, NULL, NULL);
    g_autoptr(GSubprocess) process = prompt ? g_subprocess_launcher_spawnv(launcher, (const char *const *)words->pdata, error) : NULL;
    gboolean is_ok = FALSE;
    if (process) {
        Guest guest = { .job = job, .process = process, .prompt = prompt, .text = g_string_new(NULL),
                        .out_fd = g_unix_input_stream_get_fd(G_UNIX_INPUT_STREAM(g_subprocess_get_stdout_pipe(process))),
                        .deadline = g_get_monotonic_time() + job->limit * G_TIME_SPAN_SECOND };
        is_ok = guest_measure(&guest, path, out_run, error);
        if (!is_ok)
            g_subprocess_force_exit(process);
        g_subprocess_wait(process, NULL, NULL);
        qmp_client_free(guest.client);
        g_string_free(guest.text, TRUE);
    }
    g_unlink(path);
    g_rmdir(folder);
    return is_ok;
}
