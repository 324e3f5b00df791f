/* segue set: changes keys of a .vmx file. */
#include "cli/command.h"

#include <string.h>

#include "config/vmx.h"

static int set_run(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error)
{
    if (argc < 2)
        return command_usage(error, "set: a .vmx file and key=value are needed; see segue set --help");
    g_autoptr(VmxFile) file = vmx_load(argv[0], error);
    if (!file)
        return 0;
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (!equals)
            return command_usage(error, "set: '%s': must be key=value", argv[i]);
        g_autofree char *key = g_strstrip(g_strndup(argv[i], (gsize)(equals - argv[i])));
        if (!g_utf8_validate(equals, -1, NULL))
            return command_usage(error, "set: %s: the value is not UTF-8", key);
        if (!vmx_set(file, key, equals + 1, error))
            return 0;
    }
    g_autoptr(Config) scratch = config_new();
    if (!vmx_apply(file, scratch, error)) /* what could not be read again is not written */
        return 0;
    if (command_vmx_save(file, argv[0], error))
        command_print_notices(scratch->notices);
    return 0;
}

const Command command_set = {
    "set", "guest.vmx key=value…", "change keys of a .vmx file", set_run,
    "Changes or adds the keys; comments and the order of the file stay. A value that `segue run` would refuse is not written.\n"
    "Example: segue set guest.vmx monitor.virtual_mmu=software memsize=1024\n",
};
