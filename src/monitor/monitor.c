#include "monitor/monitor.h"

#include <glib-unix.h>
#include <signal.h>

#include "core/error.h"
#include "monitor/hmp.h"
#include "monitor/qmp.h"
#include "monitor/transport.h"

struct Monitor {
    const Config *config;
    GPtrArray *servers; /* TransportServer: QMP's first */
    Qmp *qmp;
    HmpServer *human;
    Hmp *console; /* NULL: no human monitor on the terminal or a serial port */
};

static gboolean signal_arrived(gpointer data)
{
    *(bool *)data = true;
    return G_SOURCE_CONTINUE;
}

/* Until each server with wait=on has a peer.  FALSE: a signal came. */
static gboolean peers_wait(Monitor *monitor, GError **error)
{
    bool is_interrupted = false;
    guint sources[] = { g_unix_signal_add(SIGINT, signal_arrived, &is_interrupted),
                        g_unix_signal_add(SIGTERM, signal_arrived, &is_interrupted),
                        g_unix_signal_add(SIGHUP, signal_arrived, &is_interrupted) };
    for (guint i = 0; i < monitor->servers->len; i++)
        while (transport_server_waits(g_ptr_array_index(monitor->servers, i)) && !is_interrupted)
            g_main_context_iteration(NULL, TRUE);
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++)
        g_source_remove(sources[i]);
    if (is_interrupted)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, "monitor: ended by a signal while waiting for a connection; wait=off does not wait");
    return !is_interrupted;
}

Monitor *monitor_new(const Config *config, GError **error)
{
    g_autoptr(Monitor) monitor = g_new0(Monitor, 1);
    monitor->config = config;
    monitor->servers = g_ptr_array_new_with_free_func((GDestroyNotify)transport_server_free);
    if (config->controls->len || config->monitors->len)
        signal(SIGPIPE, SIG_IGN);
    monitor->qmp = qmp_new(config, monitor->servers, error);
    if (!monitor->qmp)
        return NULL;
    monitor->human = hmp_server_new(config, monitor->servers, error);
    if (!monitor->human || !peers_wait(monitor, error))
        return NULL;
    return g_steal_pointer(&monitor);
}

void monitor_attach(Monitor *monitor, Vm *vm, const HostFacts *(*host)(void))
{
    Chardev *chardev = vm_monitor_chardev(vm);
    monitor->console = chardev ? hmp_new(vm, chardev) : NULL;
    hmp_server_attach(monitor->human, vm);
    qmp_attach(monitor->qmp, vm, host);
    for (guint i = 0; i < monitor->servers->len; i++)
        transport_server_start(g_ptr_array_index(monitor->servers, i));
}

void monitor_free(Monitor *monitor)
{
    if (!monitor)
        return;
    if (monitor->qmp)
        qmp_flush(monitor->qmp);
    g_ptr_array_free(monitor->servers, TRUE);
    qmp_free(monitor->qmp);
    hmp_server_free(monitor->human);
    hmp_free(monitor->console);
    g_free(monitor);
}
