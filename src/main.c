/* argv → Config → Vm → run → exit status.  The only place that prints for the user, and the only one that ends the process. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bt/bt.h"
#include "bt/dump.h"
#include "cli/command.h"
#include "config/config.h"
#include "core/error.h"
#include "core/log.h"
#include "core/sandbox.h"
#include "host.h"
#include "gdb/server.h"
#include "kvm/kvm.h"
#include "kvm/slat.h"
#include "monitor/monitor.h"
#include "vm/terminal.h"
#include "vm/tsc.h"
#include "vm/vm.h"

static int fail(const GError *error)
{
    fprintf(stderr, "segue: %s\n", error->message);
    return error->domain == VMM_ERROR ? error->code : VMM_ERROR_HOST;
}

static gboolean pidfile_write(const char *path, GError **error)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());
    g_autoptr(GError) cause = NULL;
    if (!path || g_file_set_contents(path, text, -1, &cause))
        return TRUE;
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-pidfile: %s", cause->message);
    return FALSE;
}

/* The first of the wanted modes that this host has; the first one's error when there is none. `auto` is KVM where it can be used, else bt. */
static const CpuOps *engine_choose(Config *config, GError **error)
{
    g_autoptr(GError) first = NULL;
    for (guint i = 0; i < config->accels->len; i++) {
        ConfigAccel accel = g_array_index(config->accels, ConfigAccel, i);
        g_autoptr(GError) cause = NULL;
        if (accel == CONFIG_ACCEL_AUTO)
            accel = kvm_require(KVM_MMU_ANY, NULL) ? CONFIG_ACCEL_KVM : CONFIG_ACCEL_BT;
        bool is_bt = accel == CONFIG_ACCEL_BT;
        KvmMmu mmu = accel == CONFIG_ACCEL_HV ? KVM_MMU_SHADOW : accel == CONFIG_ACCEL_HWMMU ? KVM_MMU_NESTED : KVM_MMU_ANY;
        if (is_bt || kvm_require(mmu, &cause)) {
            if (accel == CONFIG_ACCEL_KVM)
                accel = kvm_require(KVM_MMU_NESTED, NULL) ? CONFIG_ACCEL_HWMMU : CONFIG_ACCEL_HV;
            config->accel = is_bt ? CONFIG_ACCEL_BT : accel;
            config->may_fall_back = config->may_fall_back || config->accel_is_list;
            if (first) {
                config->is_fallback = true;
                config->fallback_text = g_strdup(first->message);
            }
            return !is_bt ? &kvm_cpu_ops : config->one_insn ? &bt_one_cpu_ops : &bt_cpu_ops;
        }
        log_text(LOG_KVM, "%s", cause->message);
        if (!first)
            first = g_steal_pointer(&cause);
    }
    if (!first)
        return config->one_insn ? &bt_one_cpu_ops : &bt_cpu_ops;
    g_propagate_error(error, g_steal_pointer(&first));
    return NULL;
}

/* What the main thread may still do follows from what may be asked of it: by monitors, and by a change of mode. */
static gboolean sandbox_begin(const Config *config, GError **error)
{
    bool has_monitor = config->monitor || config->monitors->len || config->controls->len;
    for (unsigned i = 0; i < config->nserials; i++)
        has_monitor = has_monitor || config->serial_mon[i];
    bool has_modes = config->accel != CONFIG_ACCEL_BT || config->long_mode_action == CONFIG_LONG_JUMP || config->modes.adaptive;
    bool has_guest_files = config->incoming || config->loadvm;
    bool has_program = config->incoming && g_str_has_prefix(config->incoming, "exec:");
    const SandboxConfig *sandbox = &config->sandbox;
    SandboxParams params = {
        .is_required = sandbox->is_required, .may_spawn = sandbox->spawn || has_program, .may_set_limits = sandbox->resources, .at_end = terminal_restore,
        .may_network = config->netdevs->len != 0,
        .may_open = sandbox->files == SANDBOX_FILES_ALLOW || (sandbox->files == SANDBOX_FILES_AUTO && (has_monitor || has_modes || has_guest_files)),
    };
    return sandbox->is_off || sandbox_start(&params, error);
}

/* Listings of code are asked for by logs and by monitors; of a monitor behind Ctrl-A when standard input is what somebody may type or write into. */
static bool wants_listings(const Config *config)
{
    struct stat input;
    bool shares_terminal = false, may_ask = isatty(STDIN_FILENO) || (fstat(STDIN_FILENO, &input) == 0 && (S_ISFIFO(input.st_mode) || S_ISSOCK(input.st_mode)));
    for (unsigned i = 0; i < config->nserials; i++)
        shares_terminal = shares_terminal || config->serial_mon[i];
    return config->log_mask & (LOG_BT | LOG_VERIFY) || config->monitor || config->monitors->len || config->controls->len ||
           (shares_terminal && may_ask);
}

static int guest_run(Config *config)
{
    g_autoptr(GError) error = NULL;
    tsc_begin();
    if (!log_open(config->log_mask, config->log_path, &error))
        return fail(error);
    for (guint i = 0; i < config->ignored->len; i++)
        log_text(LOG_OPTS, "%s: accepted, without effect here", (const char *)g_ptr_array_index(config->ignored, i));
    const CpuOps *engine = engine_choose(config, &error);
    if (!engine)
        return fail(error);
    g_autoptr(SlatHelper) slat_helper = slat_helper_new(); /* before threads and sockets */
    terminal_guard();
    /* Sockets before anything slow: a driver may connect at once. */
    g_autoptr(Monitor) monitor = monitor_new(config, &error);
    if (!monitor)
        return fail(error);
    g_autoptr(GdbServer) gdb = gdb_server_new(config, &error);
    if (!gdb)
        return fail(error);
    g_autoptr(Vm) vm = vm_new(config, engine, &error);
    if (!vm || !pidfile_write(config->pidfile, &error))
        return fail(error);
    switcher_set_helper(vm_switcher(vm), slat_helper);
    monitor_attach(monitor, vm, host_this);
    gdb_server_attach(gdb, vm);
    dump_prepare(wants_listings(config));
    if (!sandbox_begin(config, &error))
        return fail(error);
    g_autofree char *message = NULL;
    int status = vm_run(vm, &message);
    vm_set_debug_func(vm, NULL, NULL);
    terminal_restore();
    if (message)
        fprintf(stderr, "segue: %s\n", message);
    if (config->pidfile)
        unlink(config->pidfile);
    return status;
}

/* "segue slat on|off|status" */
static int slat(const char *verb)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    bool is_on = !g_strcmp0(verb, "on");
    if (!g_strcmp0(verb, "status")) {
        text = kvm_slat_status();
    } else if (!is_on && g_strcmp0(verb, "off") != 0) {
        fprintf(stderr, "segue: slat: on, off or status is missing: second-level address translation of the host's KVM\n");
        return VMM_ERROR_USAGE;
    } else if (!kvm_slat_set(is_on, &text, &error)) {
        return fail(error);
    }
    fputs(text, stdout);
    return 0;
}

/* "segue WORD …"; @argv is what follows, ended by NULL */
static int subcommand(const char *word, int argc, const char *const *argv)
{
    g_autofree char *text = NULL;
    const Command *command = command_find(word);
    if (!strcmp(word, "slat"))
        return slat(argv[0]);
    if (!strcmp(word, "version"))
        text = args_version();
    else if (!strcmp(word, "help"))
        text = args_help();
    for (int i = 0; command && i < argc && !text; i++)
        if (!strcmp(argv[i], "--help"))
            text = command_help(command);
    if (text) {
        fputs(text, stdout);
        return 0;
    }
    if (!command) {
        g_autofree char *list = commands_list();
        fprintf(stderr, "segue: '%s': unknown command; known: version, help, slat, %s; or QEMU-style options, see segue -help\n", word, list);
        return VMM_ERROR_USAGE;
    }
    g_autoptr(GError) error = NULL;
    int status = command->run(argc, argv, guest_run, &error);
    return error ? fail(error) : status;
}

int main(int argc, char **argv)
{
    g_autofree char *program = g_path_get_basename(argv[0]);
    bool is_qemu = g_str_has_prefix(program, "qemu-system-") || !strcmp(program, "kvm");
    if (argc > 1 && argv[1][0] != '-' && !is_qemu)
        return subcommand(argv[1], argc - 2, (const char *const *)argv + 2);
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    if (!args_parse(config, argc - 1, (const char *const *)argv + 1, &error))
        return fail(error);
    if (config->action == CONFIG_TEXT) {
        fputs(config->text, stdout);
        return 0;
    }
    if (!config_check(config, &error))
        return fail(error);
    return guest_run(config);
}
