/* segue run: starts the guest of a .vmx file. */
#include "cli/command.h"

#include <stdio.h>

#include "config/vmx.h"
#include "core/error.h"
#include "vm/plan.h"

/* Turns the plan into the list of modes that main.c tries. */
static gboolean accel_from_plan(Config *config, GError **error)
{
    static const ConfigAccel accels[] = { [PLAN_BT] = CONFIG_ACCEL_BT, [PLAN_HV] = CONFIG_ACCEL_HV, [PLAN_HWMMU] = CONFIG_ACCEL_HWMMU };
    const HostFacts *host;
    g_autoptr(Plan) plan = command_plan_of(config, NULL, &host, error);
    if (!plan)
        return FALSE;
    if (!plan->has_start) {
        const char *why = g_ptr_array_index(plan->warnings, plan->warnings->len - 1);
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_MODE, "%s; see segue plan", why);
        return FALSE;
    }
    if (plan->long_mode != PLAN_LONG_STAY && config->modes.long_mode == LONG_MODE_HARDWARE) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_MODE, "monitor.long_mode = \"hardware\": moving a running guest to hardware is not in this "
                                                         "version; use \"auto\", or monitor.virtual_exec = \"hardware\" from the start");
        return FALSE;
    }
    for (guint i = 0; i < plan->warnings->len; i++)
        g_ptr_array_add(config->notices, g_strdup(g_ptr_array_index(plan->warnings, i)));
    if (config->modes.adaptive)
        g_ptr_array_add(config->notices, g_strdup("monitor.adaptive: switching a running guest is not in this version: it stays in its start mode"));
    g_array_append_val(config->accels, accels[plan->start]);
    config->is_fallback = plan->is_fallback;
    return TRUE;
}

static int run_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    if (!argc || argv[0][0] == '-')
        return command_usage(error, "run: the first word must be a .vmx file; see segue run --help");
    g_autoptr(Config) config = config_new();
    g_autoptr(VmxFile) file = vmx_load(argv[0], error);
    if (!file || !vmx_apply(file, config, error) || !args_parse(config, argc - 1, argv + 1, error))
        return 0;
    if (config->action == CONFIG_TEXT) {
        fputs(config->text, stdout);
        return 0;
    }
    if ((!config->accels->len && !accel_from_plan(config, error)) || !config_check(config, error))
        return 0;
    command_print_notices(config->notices);
    return guest_run(config);
}

const Command command_run = {
    "run", "guest.vmx [QEMU-style options]", "start the guest of a .vmx file", run_run,
    "Starts the guest in the mode that `segue plan` names. QEMU-style options may follow the file and add to it, for example\n"
    "-qmp unix:PATH,server=on,wait=off, -nographic or -d opts; -accel takes the place of the file's mode keys.\n"
    "Direct boot: segue.kernel, segue.initrd, segue.append. File names are relative to the file's folder.\n",
};
