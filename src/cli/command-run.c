/* segue run: starts the guest of a .vmx file. */
#include "cli/command.h"

#include <stdio.h>

#include "config/vmx.h"
#include "core/error.h"
#include "vm/plan.h"

/* What the vCPU does when LMA becomes 1, in the words of Config. */
static void long_mode_from_plan(Config *config, const Plan *plan, const HostFacts *host)
{
    bool has_hardware = plan_list_has(&plan->allowed, PLAN_HV) || plan_list_has(&plan->allowed, PLAN_HWMMU);
    switch (plan->long_mode) {
    case PLAN_LONG_STAY:
        config->long_mode_action = CONFIG_LONG_STAY;
        if (plan->start == PLAN_BT && !has_hardware)
            config->long_mode_text = g_strdup("the host has no hardware mode to move to: the guest stays in bt");
        break;
    case PLAN_LONG_JUMP:
        config->long_mode_action = CONFIG_LONG_JUMP;
        config->long_mode_target = config->modes.virtual_mmu == MODE_SOFTWARE   ? CONFIG_ACCEL_HV
                                   : config->modes.virtual_mmu == MODE_HARDWARE ? CONFIG_ACCEL_HWMMU
                                                                                : CONFIG_ACCEL_KVM;
        break;
    case PLAN_LONG_STOP:
        config->long_mode_action = CONFIG_LONG_STOP;
        if (config->modes.long_mode == LONG_MODE_HARDWARE)
            config->long_mode_text = g_strdup_printf("the guest enters 64-bit mode, and %s",
                                                     (const char *)g_ptr_array_index(plan->warnings, plan->warnings->len - 1));
        else if (!host->is_64bit)
            config->long_mode_text = g_strdup("the guest enters 64-bit mode, and the host's CPU has none");
        else
            config->long_mode_text = g_strdup_printf("the guest enters 64-bit mode, for which config.dialect = \"%s\" needs hardware that this "
                                                     "host does not have; use config.dialect = \"current\"",
                                                     dialect_name((Dialect)config->modes.dialect));
        break;
    }
}

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
    long_mode_from_plan(config, plan, host);
    for (guint i = 0; i < plan->warnings->len; i++)
        g_ptr_array_add(config->notices, g_strdup(g_ptr_array_index(plan->warnings, i)));
    g_array_append_val(config->accels, accels[plan->start]);
    config->is_fallback = plan->is_fallback;
    config->may_fall_back = config->modes.fallback == FALLBACK_AUTO;
    if (plan->is_fallback)
        config->fallback_text = g_strdup(g_ptr_array_index(plan->warnings, plan->warnings->len - 1));
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
