#include "cli/command.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/error.h"
#include "host.h"

static const Command *const commands[] = { &command_run, &command_plan, &command_set, &command_edit, &command_monitor, &command_bench, &command_stat };

const Command *command_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        if (!strcmp(name, commands[i]->name))
            return commands[i];
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
        g_string_append_printf(text, "%s%s", i ? ", " : "", commands[i]->name);
    return g_string_free(text, FALSE);
}

/* --- what several of them need --- */

int command_usage(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, text);
    return VMM_ERROR_USAGE;
}

void command_print_notices(const GPtrArray *lines)
{
    for (guint i = 0; i < lines->len; i++)
        fprintf(stderr, "segue: warning: %s\n", (const char *)g_ptr_array_index(lines, i));
}

Plan *command_plan_of(const Config *config, const char *profile, const HostFacts **out_host, GError **error)
{
    const HostFacts *host = host_find(profile ? profile : config->plan_host ? config->plan_host : "this", error);
    if (!host)
        return NULL;
    *out_host = host;
    return plan_new(&(PlanInput){ .modes = &config->modes, .guest_os = config->guest_os, .is_vmi = config->is_vmi }, host);
}

gboolean command_vmx_save(const VmxFile *file, const char *path, GError **error)
{
    g_autofree char *text = vmx_text(file);
    g_autoptr(GError) cause = NULL;
    struct stat info;
    int mode = stat(path, &info) == 0 ? (int)(info.st_mode & 0777) : 0644;
    if (g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, mode, &cause))
        return TRUE;
    command_usage(error, "%s", cause->message);
    return FALSE;
}
