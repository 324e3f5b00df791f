/* segue monitor: talks to a running machine. */
#include "cli/command.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cli/monitor-prompt.h"
#include "cli/monitor-watch.h"
#include "core/error.h"

static int monitor_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    MonitorWatchParams watch = { .interval = 1 };
    bool is_watch = false;
    int i = 0;
    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *number = i + 1 < argc ? argv[i + 1] : "";
        uint64_t count = 0;
        if (!strcmp(argv[i], "--watch")) {
            is_watch = true;
        } else if (!strcmp(argv[i], "--count") && parse_uint(number, 1000000000, &count)) {
            watch.count = (unsigned)count;
            i++;
        } else if (!strcmp(argv[i], "--interval") && g_ascii_strtod(number, NULL) >= 0.05 && g_ascii_strtod(number, NULL) <= 3600) {
            watch.interval = g_ascii_strtod(number, NULL);
            i++;
        } else {
            return command_usage(error, "monitor: '%s' is not understood; see segue monitor --help", argv[i]);
        }
    }
    if (i == argc)
        return command_usage(error, "monitor: the socket of a machine's -qmp is missing; see segue monitor --help");
    setlocale(LC_CTYPE, ""); /* what people type and what is drawn may be UTF-8 */
    watch.address = argv[i++];
    if (is_watch && i < argc)
        return command_usage(error, "monitor: --watch takes no command");
    if (is_watch) {
        monitor_watch(&watch, error);
        return 0;
    }
    g_autoptr(QmpClient) client = qmp_client_new(watch.address, monitor_prompt_event, NULL, error);
    if (!client)
        return 0;
    g_autoptr(MonitorNames) names = monitor_names_new(client, error);
    if (!names)
        return 0;
    if (i == argc)
        return monitor_prompt(client, names, error);
    g_autofree char *text = monitor_words_run(client, names, argv + i, error);
    if (text)
        fputs(text, stdout);
    return 0;
}

const Command command_monitor = {
    "monitor", "[--watch [--interval SECONDS] [--count N]] SOCKET [COMMAND…]", "talk to a running machine", monitor_run,
    "SOCKET is that of -qmp: a path, unix:PATH or tcp:HOST:PORT. COMMAND is a line of the human monitor (info registers) or a QMP command\n"
    "with key=value words (switch-mode mode=bt). Without one, lines are read from the terminal, with completion (Tab) and history, or\n"
    "from a pipe. Exit status: 0 done, 1 the machine refused, 2 nobody there.\n"
    "  --watch      mode, host CPU and counters, live; b, v, h switch the mode, s stops and goes on, q leaves. In a pipe: plain lines\n",
};
