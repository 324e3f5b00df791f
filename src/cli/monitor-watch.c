#include "cli/monitor-watch.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <curses.h>

#include "cli/monitor-sample.h"
#include "core/error.h"

typedef struct Watch {
    QmpClient *client;
    MonitorWatchParams params;
    MonitorSample *before, *now; /* before: NULL at first */
    char *message;
} Watch;

static void message_set(Watch *watch, char *text)
{
    g_free(watch->message);
    watch->message = text;
}

static void event_came(void *opaque, JsonObject *event)
{
    JsonNode *data = json_object_get_member(event, "data");
    g_autofree char *text = data ? json_to_string(data, FALSE) : NULL;
    message_set(opaque, g_strdup_printf("%s %s", json_object_get_string_member_with_default(event, "event", "?"), text ? text : ""));
}

static gboolean look(Watch *watch, GError **error)
{
    MonitorSample *sample = monitor_sample_new(watch->client, error);
    if (!sample)
        return FALSE;
    monitor_sample_free(watch->before);
    watch->before = watch->now;
    watch->now = sample;
    return TRUE;
}

/* --- plain lines --- */

static void line_print(const Watch *watch)
{
    const MonitorSample *now = watch->now;
    printf("t=%.1f state=%s mode=%s host-cpu=%.0f%% switches=%" G_GINT64_FORMAT, now->wall, now->state, now->mode,
           monitor_sample_load(now, watch->before) * 100, now->switches);
    for (guint i = 0; i < now->names->len; i++) {
        const char *name = g_ptr_array_index(now->names, i);
        printf(" %s/s=%.0f", name, monitor_sample_rate(now, watch->before, name));
    }
    putchar('\n');
    fflush(stdout);
}

/* --- the view --- */

/* "1234567" as "1 234 567". */
static char *grouped(double value)
{
    g_autofree char *digits = g_strdup_printf("%.0f", value);
    GString *text = g_string_new(NULL);
    for (size_t i = 0, n = strlen(digits); i < n; i++)
        g_string_append_printf(text, "%s%c", i && (n - i) % 3 == 0 ? " " : "", digits[i]);
    return g_string_free(text, FALSE);
}

static void bar_draw(int row, int column, int width, double part)
{
    int full = (int)(CLAMP(part, 0, 1) * width + 0.5);
    mvaddch(row, column, '[');
    for (int i = 0; i < width; i++)
        addch(i < full ? '#' : ' ');
    addch(']');
}

static void view_draw(const Watch *watch)
{
    const MonitorSample *now = watch->now;
    double load = monitor_sample_load(now, watch->before);
    int row = 0;
    erase();
    attron(A_BOLD);
    mvprintw(row, 0, "%s", watch->params.address);
    attroff(A_BOLD);
    mvprintw(row++, MAX(0, COLS - 24), "up %.0f s   %s", now->wall, now->state);
    mvaddstr(++row, 0, "mode      ");
    attron(A_REVERSE);
    printw(" %s ", now->mode);
    attroff(A_REVERSE);
    printw("  because: %s; this host has: %s", now->reason, now->allowed);
    mvprintw(++row, 0, "switches  %" G_GINT64_FORMAT, now->switches);
    if (now->switches)
        printw(", mean downtime %.3f ms", now->downtime_ms / (double)now->switches);
    mvprintw(++row, 0, "host CPU  %5.0f %% ", load * 100);
    bar_draw(row, 20, MIN(50, MAX(10, COLS - 24)), load);
    row += 2;
    attron(A_UNDERLINE);
    mvprintw(row++, 0, "%-28s %16s %20s", "counter", "per second", "total");
    attroff(A_UNDERLINE);
    for (guint i = 0; i < now->names->len && row < LINES - 3; i++) {
        const char *name = g_ptr_array_index(now->names, i);
        g_autofree char *rate = grouped(monitor_sample_rate(now, watch->before, name)), *total = grouped(monitor_sample_value(now, name));
        mvprintw(row++, 0, "%-28.28s %16s %20s", name, rate, total);
    }
    if (watch->message)
        mvaddnstr(LINES - 2, 0, watch->message, MAX(0, COLS - 1));
    attron(A_REVERSE);
    mvprintw(LINES - 1, 0, " b bt  v hv  h hwmmu  s %s  q leave ", now->is_running ? "stop" : "cont");
    attroff(A_REVERSE);
    refresh();
}

static void command_send(Watch *watch, const char *command, const char *mode)
{
    g_autoptr(GError) error = NULL;
    JsonObject *args = mode ? json_object_new() : NULL;
    if (mode)
        json_object_set_string_member(args, "mode", mode);
    g_autoptr(JsonNode) result = qmp_client_call(watch->client, command, args, &error);
    if (!result)
        message_set(watch, g_strdup(error->message));
}

/* Returns: false to leave. */
static bool key_take(Watch *watch, int key)
{
    static const struct {
        char key;
        const char *mode;
    } modes[] = { { 'b', "bt" }, { 'v', "hv" }, { 'h', "hwmmu" } };
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++)
        if (key == modes[i].key)
            command_send(watch, "switch-mode", modes[i].mode);
    if (key == 's')
        command_send(watch, watch->now->is_running ? "stop" : "cont", NULL);
    return key != 'q' && key != 3; /* Ctrl-C */
}

static gboolean view_loop(Watch *watch, GError **error)
{
    bool is_open = true;
    gboolean is_ok = TRUE;
    for (unsigned looks = 0; is_open && is_ok && (!watch->params.count || looks < watch->params.count); looks++) {
        is_ok = look(watch, error);
        if (!is_ok)
            break;
        view_draw(watch);
        gint64 deadline = g_get_monotonic_time() + (gint64)(watch->params.interval * 1e6);
        for (gint64 left; is_open && (left = deadline - g_get_monotonic_time()) > 0;) {
            timeout((int)(left / 1000) + 1);
            int key = getch();
            if (key == ERR)
                break;
            is_open = key_take(watch, key);
            if (key != KEY_RESIZE)
                break; /* show at once what it did */
            view_draw(watch);
        }
    }
    return is_ok;
}

static gboolean view_run(Watch *watch, GError **error)
{
    SCREEN *screen = newterm(NULL, stdout, stdin);
    if (!screen) {
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, "the terminal is unknown: set TERM, or pipe the output for plain lines");
        return FALSE;
    }
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    gboolean is_ok = view_loop(watch, error);
    endwin();
    delscreen(screen);
    return is_ok;
}

static gboolean lines_run(Watch *watch, GError **error)
{
    for (unsigned looks = 0; !watch->params.count || looks < watch->params.count; looks++) {
        if (looks)
            g_usleep((gulong)(watch->params.interval * 1e6));
        if (!look(watch, error))
            return FALSE;
        line_print(watch);
    }
    return TRUE;
}

gboolean monitor_watch(const MonitorWatchParams *params, GError **error)
{
    Watch watch = { .params = *params };
    g_autoptr(QmpClient) client = qmp_client_new(params->address, event_came, &watch, error);
    if (!client)
        return FALSE;
    watch.client = client;
    g_autoptr(GError) cause = NULL;
    gboolean is_ok = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) ? view_run(&watch, &cause) : lines_run(&watch, &cause);
    bool has_ended = !is_ok && watch.now && g_error_matches(cause, VMM_ERROR, VMM_ERROR_HOST);
    if (has_ended)
        printf("%s: the machine has ended\n", params->address);
    else if (!is_ok)
        g_propagate_error(error, g_steal_pointer(&cause));
    monitor_sample_free(watch.before);
    monitor_sample_free(watch.now);
    g_free(watch.message);
    return is_ok || has_ended;
}
