#include "commands.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "config/vmx.h"
#include "core/error.h"
#include "host.h"
#include "vm/plan.h"

static int usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static int usage(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, text);
    return VMM_ERROR_USAGE;
}

static void print_notices(const GPtrArray *lines)
{
    for (guint i = 0; i < lines->len; i++)
        fprintf(stderr, "segue: warning: %s\n", (const char *)g_ptr_array_index(lines, i));
}

/* The file's wishes on a host: @profile, else config.host, else this one. */
static Plan *plan_of(const Config *config, const char *profile, const HostFacts **out_host, GError **error)
{
    const HostFacts *host = host_find(profile ? profile : config->plan_host ? config->plan_host : "this", error);
    if (!host)
        return NULL;
    *out_host = host;
    return plan_new(&(PlanInput){ .modes = &config->modes, .guest_os = config->guest_os, .is_vmi = config->is_vmi }, host);
}

/* --- plan --- */

static int command_plan(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
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
            return usage(error, "plan: '%s' is not understood; see segue plan --help", argv[i]);
        else
            path = argv[i];
    }
    if (!path)
        return usage(error, "plan: a .vmx file is missing; see segue plan --help");
    g_autoptr(Config) config = config_new();
    g_autoptr(VmxFile) file = vmx_load(path, error);
    const HostFacts *host;
    if (!file || !vmx_apply(file, config, error))
        return 0;
    g_autoptr(Plan) plan = plan_of(config, profile, &host, error);
    if (!plan)
        return 0;
    for (guint i = 0; i < config->notices->len; i++)
        g_ptr_array_insert(plan->warnings, (int)i, g_strdup(g_ptr_array_index(config->notices, i)));
    g_autofree char *text = is_json ? plan_json(plan, host) : plan_text(plan, host);
    fputs(text, stdout);
    return plan->has_start ? 0 : VMM_ERROR_NO_MODE;
}

/* --- run --- */

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
    g_autoptr(Plan) plan = plan_of(config, NULL, &host, error);
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
    if (config->modes.adaptive)
        g_ptr_array_add(config->notices, g_strdup("monitor.adaptive: switching a running guest is not in this version: it stays in its start mode"));
    g_array_append_val(config->accels, accels[plan->start]);
    config->is_fallback = plan->is_fallback;
    config->may_fall_back = config->modes.fallback == FALLBACK_AUTO;
    if (plan->is_fallback)
        config->fallback_text = g_strdup(g_ptr_array_index(plan->warnings, plan->warnings->len - 1));
    return TRUE;
}

static int command_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    if (!argc || argv[0][0] == '-')
        return usage(error, "run: the first word must be a .vmx file; see segue run --help");
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
    print_notices(config->notices);
    return guest_run(config);
}

/* --- set --- */

static int command_set(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    if (argc < 2)
        return usage(error, "set: a .vmx file and key=value are needed; see segue set --help");
    g_autoptr(VmxFile) file = vmx_load(argv[0], error);
    if (!file)
        return 0;
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (!equals)
            return usage(error, "set: '%s': must be key=value", argv[i]);
        g_autofree char *key = g_strstrip(g_strndup(argv[i], (gsize)(equals - argv[i])));
        if (!g_utf8_validate(equals, -1, NULL))
            return usage(error, "set: %s: the value is not UTF-8", key);
        if (!vmx_set(file, key, equals + 1, error))
            return 0;
    }
    /* What could not be read again is not written. */
    g_autoptr(Config) scratch = config_new();
    if (!vmx_apply(file, scratch, error))
        return 0;
    g_autofree char *text = vmx_text(file);
    g_autoptr(GError) cause = NULL;
    struct stat info;
    int mode = stat(argv[0], &info) == 0 ? (int)(info.st_mode & 0777) : 0644;
    if (!g_file_set_contents_full(argv[0], text, -1, G_FILE_SET_CONTENTS_CONSISTENT, mode, &cause))
        return usage(error, "set: %s", cause->message);
    print_notices(scratch->notices);
    return 0;
}

/* --- the table --- */

static const Command commands[] = {
    { "run", "guest.vmx [QEMU-style options]", "start the guest of a .vmx file", command_run,
      "Starts the guest in the mode that `segue plan` names. QEMU-style options may follow the file and add to it, for example\n"
      "-qmp unix:PATH,server=on,wait=off, -nographic or -d opts; -accel takes the place of the file's mode keys.\n"
      "Direct boot: segue.kernel, segue.initrd, segue.append. File names are relative to the file's folder.\n" },
    { "plan", "guest.vmx [--host PROFILE] [--json]", "say which mode would be used, and why", command_plan,
      "Prints the four lists (allowed, requested, preferred, filtered), the start mode, what happens when the guest enters long mode,\n"
      "and one reason for each mode that is not used. Starts nothing. Exit status 3 when no mode is left.\n"
      "  --json          for programs\n"
      "  --host PROFILE  this (default), intel-nehalem, intel-core2-45nm, intel-core2-65nm-flexpri, intel-core2-65nm, intel-p4-vt,\n"
      "                  intel-em64t-novt, intel-32bit, intel-modern, amd-32bit, amd-0fh-pre-d, amd-0fh-d, amd-10h, amd-modern, none\n" },
    { "set", "guest.vmx key=value…", "change keys of a .vmx file", command_set,
      "Changes or adds the keys; comments and the order of the file stay. A value that `segue run` would refuse is not written.\n"
      "Example: segue set guest.vmx monitor.virtual_mmu=software memsize=1024\n" },
};

const Command *command_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        if (!strcmp(name, commands[i].name))
            return &commands[i];
    return NULL;
}

char *command_help(const Command *command)
{
    return g_strdup_printf("usage: segue %s %s\n%s.\n\n%s", command->name, command->args, command->summary, command->help);
}

char *commands_list(void)
{
    GString *text = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        g_string_append_printf(text, "%s%s", i ? ", " : "", commands[i].name);
    return g_string_free(text, FALSE);
}
