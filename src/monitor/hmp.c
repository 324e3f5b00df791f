#include "monitor/hmp.h"

#include <string.h>

typedef struct HmpCommand {
    const char *name, *alias, *args, *help;
    void (*run)(Vm *vm, const char *args, GString *out);
} HmpCommand;

static void info_status(Vm *vm, GString *out) { g_string_append_printf(out, "VM status: %s\n", vm_is_running(vm) ? "running" : "paused"); }

static void info_registers(Vm *vm, GString *out)
{
    g_autofree char *text = vm_describe_cpu(vm);
    g_string_append(out, text);
    if (!g_str_has_suffix(text, "\n"))
        g_string_append_c(out, '\n');
}

static void info_cpus(Vm *vm, GString *out) { g_string_append(out, "* CPU #0: thread_id=0\n"); }

static void info_mode(Vm *vm, GString *out)
{
    g_string_append_printf(out, "mode: %s (virtual exec software, virtual MMU software)\n", vm_mode_name(vm));
}

static void info_version(Vm *vm, GString *out) { g_string_append(out, "7.2.0 (Segue 0.1.0)\n"); }

static void info_kvm(Vm *vm, GString *out) { g_string_append(out, "kvm support: disabled\n"); }

static const struct {
    const char *name, *help;
    void (*run)(Vm *vm, GString *out);
} infos[] = {
    { "status", "running or paused", info_status },       { "registers", "the CPU's registers", info_registers },
    { "cpus", "the virtual CPUs", info_cpus },            { "mode", "the execution mode", info_mode },
    { "version", "version", info_version },               { "kvm", "whether KVM runs the guest", info_kvm },
};

static void cmd_info(Vm *vm, const char *args, GString *out)
{
    for (size_t i = 0; i < G_N_ELEMENTS(infos); i++)
        if (!strcmp(args, infos[i].name)) {
            infos[i].run(vm, out);
            return;
        }
    if (*args)
        g_string_append_printf(out, "info: unknown subject '%s'\n", args);
    for (size_t i = 0; i < G_N_ELEMENTS(infos); i++)
        g_string_append_printf(out, "info %-12s -- %s\n", infos[i].name, infos[i].help);
}

static void cmd_quit(Vm *vm, const char *args, GString *out) { vm_quit(vm); }
static void cmd_stop(Vm *vm, const char *args, GString *out) { vm_stop(vm); }
static void cmd_cont(Vm *vm, const char *args, GString *out) { vm_cont(vm); }
static void cmd_reset(Vm *vm, const char *args, GString *out) { vm_reset(vm); }
static void cmd_powerdown(Vm *vm, const char *args, GString *out) { vm_power_button(vm); }
static void cmd_nmi(Vm *vm, const char *args, GString *out) { vm_nmi(vm); }
static void cmd_sendkey(Vm *vm, const char *args, GString *out) {}
static void cmd_help(Vm *vm, const char *args, GString *out);

static const HmpCommand commands[] = {
    { "help", "?", "", "this list", cmd_help },
    { "info", NULL, "SUBJECT", "show something; info alone lists the subjects", cmd_info },
    { "quit", "q", "", "end the machine at once", cmd_quit },
    { "stop", "s", "", "stop the guest and its time", cmd_stop },
    { "cont", "c", "", "go on", cmd_cont },
    { "system_reset", NULL, "", "reset the machine", cmd_reset },
    { "system_powerdown", NULL, "", "press the power button", cmd_powerdown },
    { "nmi", NULL, "", "inject an NMI", cmd_nmi },
    { "sendkey", NULL, "KEYS", "accepted; there is no keyboard to press", cmd_sendkey },
};

static void cmd_help(Vm *vm, const char *args, GString *out)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        const HmpCommand *command = &commands[i];
        g_string_append_printf(out, "%s%s%s%s%s -- %s\n", command->name, command->alias ? "|" : "", command->alias ? command->alias : "",
                               *command->args ? " " : "", command->args, command->help);
    }
}

char *hmp_execute(Vm *vm, const char *line)
{
    GString *out = g_string_new(NULL);
    g_autofree char *text = g_strstrip(g_strdup(line));
    char *args = text + strcspn(text, " \t");
    if (*args) {
        *args++ = 0;
        args += strspn(args, " \t");
    }
    if (!*text)
        return g_string_free(out, FALSE);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        if (!strcmp(text, commands[i].name) || (commands[i].alias && !strcmp(text, commands[i].alias))) {
            commands[i].run(vm, args, out);
            return g_string_free(out, FALSE);
        }
    g_string_append_printf(out, "unknown command: '%s'\n", text);
    return g_string_free(out, FALSE);
}
