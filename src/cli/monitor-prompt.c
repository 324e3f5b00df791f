#include "cli/monitor-prompt.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "core/error.h"

#define PROMPT "(segue) "
#define HISTORY_LINES 1000

/* Events come to a function that was named before there was a prompt: the one prompt of this process. */
typedef struct Prompt {
    QmpClient *client;
    const MonitorNames *names;
    EditLine *edit; /* NULL: lines come from a pipe */
    bool is_open;
    GError *lost;
} Prompt;

static Prompt prompt;

/* --- completion --- */

/* What all of @matches begin with. */
static char *common_part(const GPtrArray *matches)
{
    char *part = g_strdup(g_ptr_array_index(matches, 0));
    for (guint i = 1; i < matches->len; i++) {
        const char *other = g_ptr_array_index(matches, i);
        size_t same = 0;
        while (part[same] && part[same] == other[same])
            same++;
        part[same] = 0;
    }
    return part;
}

static unsigned char tab_typed(EditLine *edit, int key)
{
    const LineInfo *info = el_line(edit);
    g_autofree char *line = g_strndup(info->buffer, (gsize)(info->cursor - info->buffer));
    const char *blank = strrchr(line, ' ');
    size_t start = blank ? (size_t)(blank + 1 - line) : 0;
    g_autoptr(GPtrArray) matches = monitor_line_complete(prompt.names, line, start);
    if (!matches->len)
        return CC_REFRESH_BEEP;
    g_autofree char *part = common_part(matches);
    if (strlen(part) > strlen(line + start) || matches->len == 1) {
        g_autofree char *rest = g_strconcat(part + strlen(line + start), matches->len == 1 ? " " : NULL, NULL);
        return el_insertstr(edit, rest) == 0 ? CC_REFRESH : CC_REFRESH_BEEP;
    }
    putchar('\n');
    for (guint i = 0; i < matches->len; i++)
        printf("%s%s", (const char *)g_ptr_array_index(matches, i), i + 1 < matches->len ? "  " : "\n");
    fflush(stdout);
    return CC_REDISPLAY;
}

/* --- lines --- */

static void lost_take(GError *error)
{
    if (prompt.lost)
        g_error_free(error);
    else
        prompt.lost = error;
    prompt.is_open = false;
}

static bool line_run(const char *line)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = monitor_line_run(prompt.client, prompt.names, line, &error);
    if (text) {
        fputs(text, stdout);
        fflush(stdout);
        g_autofree char *word = g_strstrip(g_strdup(line));
        if (!strcmp(word, "quit") || !strcmp(word, "q"))
            prompt.is_open = false; /* it goes away; that is no loss */
        return true;
    }
    if (error->code != VMM_ERROR_REFUSED)
        lost_take(g_steal_pointer(&error));
    else
        fprintf(stderr, "%s\n", error->message);
    return false;
}

void monitor_prompt_event(void *opaque, JsonObject *event)
{
    const char *name = json_object_get_string_member_with_default(event, "event", "?");
    JsonNode *data = json_object_get_member(event, "data");
    g_autofree char *text = data ? json_to_string(data, FALSE) : NULL;
    FILE *stream = prompt.edit ? stdout : stderr; /* scripts read answers only */
    fprintf(stream, "%s[%s] %s\n", prompt.edit ? "\r\033[K" : "", name, text && strcmp(text, "{}") != 0 ? text : "");
    fflush(stream);
}

static char *history_path(void)
{
    g_autofree char *folder = g_build_filename(g_get_user_state_dir(), "segue", NULL);
    return g_mkdir_with_parents(folder, 0700) == 0 ? g_build_filename(folder, "monitor-history", NULL) : NULL;
}

/* Both at once: keys, and what the machine says. */
static int key_read(EditLine *edit, wchar_t *out_key)
{
    for (;;) {
        struct pollfd waits[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = qmp_client_fd(prompt.client), .events = POLLIN } };
        if (poll(waits, G_N_ELEMENTS(waits), -1) < 0 && errno != EINTR)
            return -1;
        g_autoptr(GError) error = NULL;
        if (waits[1].revents && !qmp_client_poll(prompt.client, &error)) {
            lost_take(g_steal_pointer(&error));
            return 0;
        }
        if (waits[1].revents)
            el_set(edit, EL_REFRESH);
        if (waits[0].revents)
            break;
    }
    mbstate_t state = { 0 };
    for (;;) {
        char byte;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return (int)n;
        if (byte == 0)
            byte = 'D' & 0x1f; /* Ctrl-D while a command ran: the terminal was still in line mode then, and keeps its end of file as NUL */
        size_t done = mbrtowc(out_key, &byte, 1, &state);
        if (done == (size_t)-1)
            state = (mbstate_t){ 0 }; /* not a character here: left out */
        else if (done != (size_t)-2)
            return 1;
    }
}

static char *prompt_text(EditLine *edit) { return (char *)PROMPT; }

static void terminal_loop(EditLine *edit)
{
    g_autofree char *path = history_path();
    History *lines = history_init();
    HistEvent event;
    history(lines, &event, H_SETSIZE, HISTORY_LINES);
    history(lines, &event, H_SETUNIQUE, 1);
    if (path)
        history(lines, &event, H_LOAD, path);
    el_set(edit, EL_PROMPT, prompt_text);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_SIGNAL, 1);
    el_set(edit, EL_HIST, history, lines);
    el_set(edit, EL_GETCFN, key_read);
    el_set(edit, EL_ADDFN, "complete-name", "complete a name", tab_typed);
    el_set(edit, EL_BIND, "^I", "complete-name", NULL);
    while (prompt.is_open) {
        g_autoptr(GError) error = NULL;
        int count = 0;
        const char *text = el_gets(edit, &count);
        if (!text || count <= 0) {
            putchar('\n');
            break;
        }
        g_autofree char *line = g_strstrip(g_strdup(text));
        if (!*line)
            continue;
        history(lines, &event, H_ENTER, line);
        line_run(line);
        if (prompt.is_open && !qmp_client_poll(prompt.client, &error)) /* an event may have come with an answer */
            lost_take(g_steal_pointer(&error));
    }
    if (path)
        history(lines, &event, H_SAVE, path);
    history_end(lines);
}

static int plain_loop(void)
{
    char *line = NULL;
    size_t room = 0;
    int status = 0;
    while (prompt.is_open && getline(&line, &room, stdin) >= 0)
        if (line[0] != '#' && !line_run(line))
            status = VMM_ERROR_REFUSED;
    free(line);
    return status;
}

int monitor_prompt(QmpClient *client, const MonitorNames *names, GError **error)
{
    int status = 0;
    prompt = (Prompt){ .client = client, .names = names, .is_open = true };
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        prompt.edit = el_init("segue", stdin, stdout, stderr);
    if (prompt.edit)
        terminal_loop(prompt.edit);
    else
        status = plain_loop();
    if (prompt.edit)
        el_end(prompt.edit);
    prompt.edit = NULL;
    if (prompt.lost)
        g_propagate_error(error, g_steal_pointer(&prompt.lost));
    return status;
}
