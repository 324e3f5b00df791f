/* -action and -watchdog-action: what is done when a guest dies, resets or powers off. */
#include <string.h>

#include "config/config.h"
#include "core/error.h"

static gboolean usage(GError **error, const char *option, const char *key, const char *value, const char *known)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s %s=%s: unknown action; known: %s", option, key, value, known);
    return FALSE;
}

static gboolean watchdog_parse(Config *config, const char *option, const char *value, GError **error)
{
    for (WatchdogAction action = 0; action < WATCHDOG_NACTIONS; action++)
        if (!strcmp(value, config_watchdog_name(action))) {
            config->watchdog_action = action;
            return TRUE;
        }
    return usage(error, option, "watchdog", value, "reset, shutdown, poweroff, pause, inject-nmi, debug, none");
}

static gboolean panic_parse(Config *config, const char *value, GError **error)
{
    static const struct {
        const char *name;
        PanicAction action;
    } rows[] = { { "shutdown", PANIC_SHUTDOWN }, { "exit-failure", PANIC_SHUTDOWN }, { "pause", PANIC_PAUSE }, { "none", PANIC_NONE } };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (!strcmp(value, rows[i].name)) {
            config->panic_action = rows[i].action;
            return TRUE;
        }
    return usage(error, "-action", "panic", value, "shutdown, pause, exit-failure, none");
}

/* A word that is one of two.  @value NULL: leaves *out_is_second alone. */
static gboolean either(const char *key, const char *value, const char *first, const char *second, bool *out_is_second, GError **error)
{
    if (!value)
        return TRUE;
    if (strcmp(value, first) != 0 && strcmp(value, second) != 0) {
        g_autofree char *known = g_strdup_printf("%s, %s", first, second);
        return usage(error, "-action", key, value, known);
    }
    *out_is_second = !strcmp(value, second);
    return TRUE;
}

const char *config_watchdog_name(WatchdogAction action)
{
    static const char *const names[WATCHDOG_NACTIONS] = {
        [WATCHDOG_RESET] = "reset",           [WATCHDOG_SHUTDOWN] = "shutdown", [WATCHDOG_POWEROFF] = "poweroff", [WATCHDOG_PAUSE] = "pause",
        [WATCHDOG_INJECT_NMI] = "inject-nmi", [WATCHDOG_DEBUG] = "debug",       [WATCHDOG_NONE] = "none",
    };
    return names[action];
}

gboolean watchdog_args_parse(Config *config, const char *value, GError **error)
{
    return watchdog_parse(config, "-watchdog-action", value, error);
}

gboolean action_args_parse(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-action", value, NULL, error);
    if (!opts)
        return FALSE;
    const char *panic = opts_take(opts, "panic"), *watchdog = opts_take(opts, "watchdog");
    const char *reboot = opts_take(opts, "reboot"), *shutdown = opts_take(opts, "shutdown");
    return (!panic || panic_parse(config, panic, error)) && (!watchdog || watchdog_parse(config, "-action", watchdog, error)) &&
           either("reboot", reboot, "reset", "shutdown", &config->no_reboot, error) &&
           either("shutdown", shutdown, "poweroff", "pause", &config->no_shutdown, error) &&
           opts_done(opts, "panic watchdog reboot shutdown", error);
}
