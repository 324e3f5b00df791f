/* The subcommands: `segue run`, `plan`, `set`.  They print what was asked for; errors go to main.c, which prints them. */
#pragma once

#include "config/config.h"

typedef struct Command {
    const char *name, *args, *summary;
    /* argv without the program and the subcommand.  Returns: exit status when *error stays unset.  @run: starts the guest. */
    int (*run)(int argc, const char *const *argv, int (*guest_run)(Config *config), GError **error);
    const char *help;
} Command;

const Command *command_find(const char *name); /* NULL: unknown */
char *command_help(const Command *command);    /* (transfer full) */
char *commands_list(void);                     /* "run, plan, …"; (transfer full) */
