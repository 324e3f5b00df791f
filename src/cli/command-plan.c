/* segue plan: says which mode would be used, and starts nothing. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

#include "config/vmx.h"
#include "core/error.h"
#include "vm/plan.h"

static int plan_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    const char *path = NULL, *profile = NULL;
    bool is_json = false;
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--json"))
            is_json = true;
        else if (!strcmp(argv[i], "--host") && i + 1 < argc)
            profile = argv[++i];
        else if (g_str_has_prefix(argv[i], "--host="))
            profile = argv[i] + 7;
        else if (argv[i][0] == '-' || path)
            return command_usage(error, "plan: '%s' is not understood; see segue plan --help", argv[i]);
        else
            path = argv[i];
    }
    if (!path)
        return command_usage(error, "plan: a .vmx file is missing; see segue plan --help");
    g_autoptr(Config) config = config_new();
    g_autoptr(VmxFile) file = vmx_load(path, error);
    const HostFacts *host;
    if (!file || !vmx_apply(file, config, error))
        return 0;
    g_autoptr(Plan) plan = command_plan_of(config, profile, &host, error);
    if (!plan)
        return 0;
    for (guint i = 0; i < config->notices->len; i++)
        g_ptr_array_insert(plan->warnings, (int)i, g_strdup(g_ptr_array_index(config->notices, i)));
    g_autofree char *text = is_json ? plan_json(plan, host) : plan_text(plan, host);
    fputs(text, stdout);
    return plan->has_start ? 0 : VMM_ERROR_NO_MODE;
}

const Command command_plan = {
    "plan", "guest.vmx [--host PROFILE] [--json]", "say which mode would be used, and why", plan_run,
    "Prints the four lists (allowed, requested, preferred, filtered), the start mode, what happens when the guest enters long mode,\n"
    "and one reason for each mode that is not used. Starts nothing. Exit status 3 when no mode is left.\n"
    "  --json          for programs\n"
    "  --host PROFILE  this (default), intel-nehalem, intel-core2-45nm, intel-core2-65nm-flexpri, intel-core2-65nm, intel-p4-vt,\n"
    "                  intel-em64t-novt, intel-32bit, intel-modern, amd-32bit, amd-0fh-pre-d, amd-0fh-d, amd-10h, amd-modern, none\n",
};
