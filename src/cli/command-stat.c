/* segue stat: where a running machine's host time goes. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

#include "cli/monitor-sample.h"

static void counters_print(const MonitorSample *now, const MonitorSample *before)
{
    printf("mode %s, %s; host CPUs in use %.2f\n", now->mode, now->state, monitor_sample_load(now, before));
    printf("%-26s %16s %14s\n", "counter", "total", "per second");
    for (guint i = 0; i < now->names->len; i++) {
        const char *name = g_ptr_array_index(now->names, i);
        printf("%-26s %16.0f %14.0f\n", name, monitor_sample_value(now, name), monitor_sample_rate(now, before, name));
    }
}

static gboolean profile_print(QmpClient *client, GError **error)
{
    g_autoptr(JsonNode) node = qmp_client_call(client, "x-query-profile", NULL, error);
    if (!node)
        return FALSE;
    JsonObject *profile = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    const char *text = profile ? json_object_get_string_member_with_default(profile, "text", NULL) : NULL;
    printf("\n%s", text ? text : "no profile: the machine was started without -d prof, or is not in mode bt\n");
    return TRUE;
}

static int stat_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    double interval = 1;
    int i = 0;
    for (; i < argc && argv[i][0] == '-'; i++) {
        double number = i + 1 < argc ? g_ascii_strtod(argv[i + 1], NULL) : 0;
        if (strcmp(argv[i], "--interval") != 0 || !(number >= 0.05 && number <= 3600))
            return command_usage(error, "stat: '%s' is not understood; --interval takes 0.05 to 3600 seconds", argv[i]);
        interval = number;
        i++;
    }
    if (argc - i != 1)
        return command_usage(error, "stat: the socket of one machine's -qmp is needed; see segue stat --help");
    g_autoptr(QmpClient) client = qmp_client_new(argv[i], NULL, NULL, error);
    g_autoptr(MonitorSample) before = client ? monitor_sample_new(client, error) : NULL;
    if (!before)
        return 0;
    g_usleep((gulong)(interval * 1e6));
    g_autoptr(MonitorSample) now = monitor_sample_new(client, error);
    if (!now)
        return 0;
    counters_print(now, before);
    profile_print(client, error);
    return 0;
}

const Command command_stat = {
    "stat", "[--interval SECONDS] SOCKET", "where a running machine's host time goes", stat_run,
    "SOCKET is that of -qmp: a path, unix:PATH or tcp:HOST:PORT. Prints the engine's counters with their rates over the interval (1 s) and, when\n"
    "the machine was started with -d prof, the profile: translated code by guest function, translation, TLB fills, helpers, devices.\n"
    "-symbols FILE at the machine's start names the guest kernel's functions. Exit status: 0 done, 2 nobody there.\n",
};
