#include "monitor/hmp.h"

#include <string.h>

#include "monitor/hmp-info.h"
#include "monitor/hmp-inspect.h"
#include "monitor/hmp-migration.h"
#include "monitor/hmp-net.h"

typedef struct HmpCommand {
    const char *name, *alias, *args, *help;
    void (*run)(Vm *vm, const char *args, GString *out);
} HmpCommand;

static void info_status(Vm *vm, GString *out) { g_string_append_printf(out, "VM status: %s\n", vm_is_running(vm) ? "running" : "paused"); }

static void info_registers(Vm *vm, GString *out)
{
    g_autofree char *text = vm_describe_cpu(vm, 0);
    g_string_append(out, text);
    if (!g_str_has_suffix(text, "\n"))
        g_string_append_c(out, '\n');
}

static void info_cpus(Vm *vm, GString *out)
{
    for (unsigned i = 0; i < vm_config(vm)->ncpus; i++)
        g_string_append_printf(out, "%c CPU #%u: thread_id=%d\n", i == 0 ? '*' : ' ', i, vm_thread_id(vm, i));
}

static void info_mode(Vm *vm, GString *out)
{
    Switcher *switcher = vm_switcher(vm);
    PlanMode mode = switcher_mode(switcher);
    const SwitchStats *stats = switcher_stats(switcher);
    g_string_append_printf(out, "mode: %s (virtual exec %s, virtual MMU %s), because: %s\n", plan_mode_name(mode),
                           mode == PLAN_BT ? "software" : "hardware", mode == PLAN_HWMMU ? "hardware" : "software",
                           switch_reason_name(switcher_reason(switcher)));
    for (PlanMode other = 0; other < PLAN_NMODES; other++) {
        g_autoptr(GError) error = NULL;
        if (!switcher_can(switcher, other, &error))
            g_string_append_printf(out, "not %s: %s\n", plan_mode_name(other), error->message);
    }
    g_string_append_printf(out, "switches: %" G_GUINT64_FORMAT ", failed: %" G_GUINT64_FORMAT, stats->count, stats->failed);
    if (stats->count)
        g_string_append_printf(out, "; downtime: mean %.3f ms, longest %.3f ms", (double)stats->downtime_ns / (double)stats->count / 1e6,
                               (double)stats->downtime_max_ns / 1e6);
    g_string_append_c(out, '\n');
}

static void info_version(Vm *vm, GString *out) { g_string_append(out, "7.2.0 (Segue 0.1.0)\n"); }

static void info_kvm(Vm *vm, GString *out) { g_string_append_printf(out, "kvm support: %s\n", switcher_mode(vm_switcher(vm)) == PLAN_BT ? "disabled" : "enabled"); }

static const struct {
    const char *name, *help;
    void (*run)(Vm *vm, GString *out);
} infos[] = {
    { "status", "running or paused", info_status },       { "registers", "the CPU's registers", info_registers },
    { "cpus", "the virtual CPUs", info_cpus },            { "mode", "the execution mode", info_mode },
    { "snapshots", "what savevm kept", hmp_info_snapshots },    { "migrate", "the migration on its way, or the last one", hmp_info_migrate },
    { "migrate_parameters", "its limits", hmp_info_migrate_parameters },
    { "version", "version", info_version },               { "kvm", "whether KVM runs the guest", info_kvm },
    { "name", "the guest's name", hmp_info_name },        { "block", "disks", hmp_info_block },
    { "network", "network cards", hmp_info_network },      { "usernet", "open connections", hmp_info_usernet },
    { "chardev", "back ends", hmp_info_chardev },         { "qtree", "devices", hmp_info_devices },
    { "stats", "the engine's counters", hmp_info_stats }, { "mtree", "memory", hmp_info_mtree },
    { "profile", "where host time goes (with -d prof)", hmp_info_profile },
    { "mem", "mapped linear ranges", hmp_info_mem },      { "tlb", "mapped pages", hmp_info_tlb },
};

static void cmd_gdbserver(Vm *vm, const char *args, GString *out)
{
    g_autoptr(GError) error = NULL;
    const char *where = *args ? args : "tcp::1234";
    if (!vm_gdbserver(vm, where, &error))
        g_string_append_printf(out, "Error: %s\n", error->message);
    else if (!strcmp(where, "none"))
        g_string_append(out, "Disabled gdbserver\n");
    else
        g_string_append_printf(out, "Waiting for gdb connection on device '%s'\n", where);
}

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
static void cmd_mode(Vm *vm, const char *args, GString *out)
{
    g_autoptr(GError) error = NULL;
    PlanMode mode;
    SwitchDone done;
    if (!plan_mode_from_name(args, &mode))
        g_string_append_printf(out, "mode: '%s' is not a mode; known: bt, hv, hwmmu\n", args);
    else if (!switcher_switch(vm_switcher(vm), mode, SWITCH_MONITOR, &done, &error))
        g_string_append_printf(out, "%s; the guest goes on in %s\n", error->message, vm_mode_name(vm));
    else
        g_string_append_printf(out, "%s to %s, downtime %.3f ms\n", plan_mode_name(done.from), plan_mode_name(done.to),
                               (double)done.times.downtime_ns / 1e6);
}

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
    { "mode", NULL, "bt|hv|hwmmu", "move the running guest to another execution mode", cmd_mode },
    { "x", NULL, "/FMT ADDRESS", "memory at a linear address; FMT: count, one of x d u o c i, one of b h w g", hmp_x },
    { "xp", NULL, "/FMT ADDRESS", "memory at a physical address", hmp_xp },
    { "print", "p", "/FMT EXPRESSION", "numbers, $registers, + - * / % & | ^ ~ ( )", hmp_print },
    { "gva2gpa", NULL, "ADDRESS", "the physical address of a linear one", hmp_gva2gpa },
    { "memsave", NULL, "ADDRESS SIZE FILE", "linear memory to a file", hmp_memsave },
    { "pmemsave", NULL, "ADDRESS SIZE FILE", "physical memory to a file", hmp_pmemsave },
    { "savevm", NULL, "TAG", "keep the guest as it is now (-snapshot-dir)", hmp_savevm },
    { "loadvm", NULL, "TAG", "go back to what savevm kept", hmp_loadvm },
    { "delvm", NULL, "TAG", "forget what savevm kept", hmp_delvm },
    { "gdbserver", NULL, "[BACKEND|none]", "let a debugger come at tcp::1234, or elsewhere, or nowhere", cmd_gdbserver },
    { "migrate", NULL, "URI", "send the guest to file:PATH, unix:PATH, tcp:HOST:PORT, fd:N or exec:COMMAND", hmp_migrate },
    { "migrate_cancel", NULL, "", "end a migration; the guest goes on here", hmp_migrate_cancel },
    { "migrate_set_parameter", NULL, "NAME VALUE", "max-bandwidth N[K|M|G] a second, or downtime-limit N milliseconds", hmp_migrate_set_parameter },
    { "migrate_incoming", NULL, "URI", "under -incoming defer: where the guest comes from", hmp_migrate_incoming },
    { "hostfwd_add", NULL, "[NETWORK] tcp|udp:[ADDRESS]:PORT-[ADDRESS]:PORT", "a port of the host that leads to the guest", hmp_hostfwd_add },
    { "hostfwd_remove", NULL, "[NETWORK] tcp|udp:[ADDRESS]:PORT", "closes it", hmp_hostfwd_remove },
    { "set_link", NULL, "NAME on|off", "pulls the cable out of a network card, or puts it in", hmp_set_link },
    { "sendkey", NULL, "KEYS", "accepted; there is no keyboard to press", cmd_sendkey },
};

/* Commands that scripts know from QEMU, and why they do nothing here. */
static const struct {
    const char *names; /* words */
    const char *why;
} absent[] = {
    { "device_add device_del drive_add drive_del netdev_add netdev_del chardev-add chardev-remove object_add object_del cpu-add "
      "block_resize change eject", "devices and disks cannot be changed while the guest runs; give them on the command line" },
    { "screendump vnc set_password expire_password mouse_move mouse_button", "there is no display" },
    { "commit block_job_cancel drive_mirror drive_backup snapshot_blkdev", "disk images have no layers" },
    { "i o", "ports are read by the guest only, because reading one may change the device" },
    { "dump-guest-memory trace-event wavcapture stopcapture cpu singlestep ringbuf_write", "not in this version" },
};

static const char *absent_why(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++) {
        g_auto(GStrv) names = g_strsplit(absent[i].names, " ", -1);
        if (g_strv_contains((const char *const *)names, name))
            return absent[i].why;
    }
    return NULL;
}

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
    size_t length = strcspn(text, " \t/"); /* x/4x and x /4x are the same */
    g_autofree char *name = g_strndup(text, length);
    const char *args = text + length + strspn(text + length, " \t");
    if (!*name)
        return g_string_free(out, FALSE);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        if (!strcmp(name, commands[i].name) || !g_strcmp0(name, commands[i].alias)) {
            commands[i].run(vm, args, out);
            return g_string_free(out, FALSE);
        }
    const char *why = absent_why(name);
    if (why)
        g_string_append_printf(out, "%s: %s\n", name, why);
    else
        g_string_append_printf(out, "unknown command: '%s'\n", name);
    return g_string_free(out, FALSE);
}
