/* The subcommands, a file each.  They print what was asked for; errors go to main.c, which prints them. */
#pragma once

#include "config/config.h"
#include "config/vmx.h"
#include "vm/plan.h"

typedef struct Command {
    const char *name, *args, *summary;
    /* argv without the program and the subcommand.  Returns: exit status when *error stays unset.  @run: starts the guest. */
    int (*run)(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error);
    const char *help;
} Command;

extern const Command command_run, command_plan, command_set, command_edit, command_monitor, command_bench, command_stat;

const Command *command_find(const char *name); /* NULL: unknown */
char *command_help(const Command *command);    /* (transfer full) */
char *commands_list(void);                     /* "run, plan, …"; (transfer full) */

/* --- what several of them need --- */

/* command_usage: sets @error.  Returns: VMM_ERROR_USAGE. */
int command_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
void command_print_notices(const GPtrArray *lines); /* char *; to stderr */

/* command_plan_of: the file's wishes on a host: @profile, else config.host, else this one.  NULL with VMM_ERROR_USAGE. */
Plan *command_plan_of(const Config *config, const char *profile, const HostFacts **out_host, GError **error);

/* command_vmx_save: replaces the file at once, never half; its mode stays.  FALSE with VMM_ERROR_USAGE. */
gboolean command_vmx_save(const VmxFile *file, const char *path, GError **error);
