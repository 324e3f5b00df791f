#include "monitor/qmp-commands.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "monitor/hmp.h"
#include "monitor/qmp-migration.h"
#include "monitor/qmp-mode.h"
#include "monitor/qmp-query.h"

typedef JsonNode *(*Handler)(const QmpMachine *machine, JsonObject *args, char **out_text);

static JsonNode *object_node(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, object);
    return node;
}

static JsonNode *array_node(JsonArray *array)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    return node;
}

static JsonNode *nothing(void) { return object_node(json_object_new()); }

JsonNode *qmp_version(void)
{
    JsonObject *qemu = json_object_new(), *version = json_object_new();
    json_object_set_int_member(qemu, "micro", 0);
    json_object_set_int_member(qemu, "minor", 2);
    json_object_set_int_member(qemu, "major", 7);
    json_object_set_object_member(version, "qemu", qemu);
    json_object_set_string_member(version, "package", "Segue 0.1.0");
    return object_node(version);
}

/* --- asking --- */

static JsonNode *query_version(const QmpMachine *machine, JsonObject *args, char **out_text) { return qmp_version(); }

static JsonNode *query_status(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonObject *status = json_object_new();
    json_object_set_boolean_member(status, "running", vm_is_running(machine->vm));
    json_object_set_boolean_member(status, "singlestep", FALSE);
    json_object_set_string_member(status, "status", vm_state_name(machine->vm));
    return object_node(status);
}

static JsonNode *query_cpus_fast(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const Config *config = machine->config;
    JsonArray *cpus = json_array_new();
    for (unsigned i = 0; i < config->ncpus; i++) {
        JsonObject *cpu = json_object_new(), *props = json_object_new();
        g_autofree char *path = g_strdup_printf("/machine/cpu[%u]", i);
        unsigned in_core = config->nthreads, in_socket = config->ncores * in_core;
        json_object_set_int_member(props, "socket-id", i / in_socket);
        json_object_set_int_member(props, "core-id", i % in_socket / in_core);
        json_object_set_int_member(props, "thread-id", i % in_core);
        json_object_set_int_member(cpu, "cpu-index", i);
        json_object_set_int_member(cpu, "thread-id", vm_thread_id(machine->vm, i));
        json_object_set_string_member(cpu, "qom-path", path);
        json_object_set_string_member(cpu, "target", "x86_64");
        json_object_set_object_member(cpu, "props", props);
        json_array_add_object_element(cpus, cpu);
    }
    return array_node(cpus);
}

static JsonNode *query_kvm(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonObject *kvm = json_object_new();
    json_object_set_boolean_member(kvm, "enabled", strcmp(vm_mode_name(machine->vm), "bt") != 0);
    json_object_set_boolean_member(kvm, "present", machine->host()->kvm == HOST_KVM_USABLE);
    return object_node(kvm);
}

static JsonNode *query_name(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonObject *name = json_object_new();
    if (machine->config->name)
        json_object_set_string_member(name, "name", machine->config->name);
    return object_node(name);
}

static gint64 timeval_ns(struct timeval time) { return ((gint64)time.tv_sec * 1000000 + time.tv_usec) * 1000; }

static void counter_add(void *opaque, const char *name, uint64_t value)
{
    JsonObject *counters = opaque;
    gint64 before = json_object_has_member(counters, name) ? json_object_get_int_member(counters, name) : 0; /* another vCPU's */
    json_object_set_int_member(counters, name, before + (gint64)value);
}

static JsonNode *query_stats(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    JsonObject *stats = json_object_new(), *counters = json_object_new();
    vm_counters(machine->vm, counter_add, counters);
    json_object_set_string_member(stats, "mode", vm_mode_name(machine->vm));
    json_object_set_int_member(stats, "wall-ns", (g_get_monotonic_time() - machine->started_us) * 1000);
    json_object_set_int_member(stats, "host-user-ns", timeval_ns(usage.ru_utime));
    json_object_set_int_member(stats, "host-system-ns", timeval_ns(usage.ru_stime));
    json_object_set_int_member(stats, "host-peak-memory-bytes", (gint64)usage.ru_maxrss * 1024);
    qmp_mode_stats(vm_switcher(machine->vm), stats);
    json_object_set_object_member(stats, "counters", counters);
    return object_node(stats);
}

static JsonNode *query_profile(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    g_autofree char *text = vm_profile(machine->vm), *valid = text ? g_utf8_make_valid(text, -1) : NULL;
    JsonObject *profile = json_object_new();
    json_object_set_boolean_member(profile, "enabled", valid != NULL);
    if (valid)
        json_object_set_string_member(profile, "text", valid);
    return object_node(profile);
}

/* --- doing --- */

static JsonNode *do_stop(const QmpMachine *machine, JsonObject *args, char **out_text) { return vm_stop(machine->vm), nothing(); }
static JsonNode *do_cont(const QmpMachine *machine, JsonObject *args, char **out_text) { return vm_cont(machine->vm), nothing(); }
static JsonNode *do_quit(const QmpMachine *machine, JsonObject *args, char **out_text) { return vm_quit(machine->vm), nothing(); }
static JsonNode *do_reset(const QmpMachine *machine, JsonObject *args, char **out_text) { return vm_reset(machine->vm), nothing(); }
static JsonNode *do_powerdown(const QmpMachine *machine, JsonObject *args, char **out_text) { return vm_power_button(machine->vm), nothing(); }
static JsonNode *do_nmi(const QmpMachine *machine, JsonObject *args, char **out_text) { return vm_nmi(machine->vm), nothing(); }

static JsonNode *set_link(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonNode *name = args ? json_object_get_member(args, "name") : NULL, *up = args ? json_object_get_member(args, "up") : NULL;
    bool is_ok = name && up && json_object_get_size(args) == 2 && JSON_NODE_HOLDS_VALUE(name) && JSON_NODE_HOLDS_VALUE(up) &&
                 json_node_get_value_type(name) == G_TYPE_STRING && json_node_get_value_type(up) == G_TYPE_BOOLEAN;
    if (!is_ok)
        *out_text = g_strdup("set_link: 'name' must be a string and 'up' a boolean");
    else if (!pci_devices_set_link(vm_devices(machine->vm), json_node_get_string(name), json_node_get_boolean(up)))
        *out_text = g_strdup_printf("Device '%s' not found", json_node_get_string(name));
    return *out_text ? NULL : nothing();
}

static JsonNode *human_monitor_command(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    g_autofree char *text = hmp_execute(machine->vm, json_object_get_string_member(args, "command-line"));
    g_autofree char *valid = g_utf8_make_valid(text, -1), *crlf = NULL;
    g_auto(GStrv) lines = g_strsplit(valid, "\n", -1);
    crlf = g_strjoinv("\r\n", lines);
    JsonNode *node = json_node_new(JSON_NODE_VALUE);
    json_node_set_string(node, crlf);
    return node;
}

/* --- the table --- */

static JsonNode *query_commands(const QmpMachine *machine, JsonObject *args, char **out_text);

static const struct {
    const char *name;
    Handler run;
    const char *text_arg;   /* a string that must be there, or NULL */
    const char *number_arg; /* a number that may be there, without effect, or NULL */
    bool takes_any;         /* the handler looks at its arguments itself */
} commands[] = {
    { "migrate", qmp_migrate, .takes_any = true },
    { "migrate_cancel", qmp_migrate_cancel, .takes_any = true },
    { "migrate-incoming", qmp_migrate_incoming, .takes_any = true },
    { "query-migrate", qmp_query_migrate, .takes_any = true },
    { "migrate-set-parameters", qmp_set_migrate_parameters, .takes_any = true },
    { "query-migrate-parameters", qmp_query_migrate_parameters, .takes_any = true },
    { "migrate-set-capabilities", qmp_set_capabilities, .takes_any = true },
    { "query-migrate-capabilities", qmp_query_capabilities, .takes_any = true },
    { "savevm", qmp_savevm, .takes_any = true },
    { "loadvm", qmp_loadvm, .takes_any = true },
    { "delvm", qmp_delvm, .takes_any = true },
    { "query-snapshots", qmp_query_snapshots, .takes_any = true },
    { "query-version", query_version },
    { "query-commands", query_commands },
    { "query-status", query_status },
    { "query-cpus-fast", query_cpus_fast },
    { "query-kvm", query_kvm },
    { "query-name", query_name },
    { "query-mode", qmp_query_mode },
    { "query-stats", query_stats },
    { "x-query-profile", query_profile },
    { "switch-mode", qmp_switch_mode, "mode" },
    { "x-switch-engine", qmp_switch_engine, "engine" },
    { "stop", do_stop },
    { "cont", do_cont },
    { "quit", do_quit },
    { "system_reset", do_reset },
    { "system_powerdown", do_powerdown },
    { "inject-nmi", do_nmi },
    { .name = "query-command-line-options", .run = qmp_query_command_line_options, .takes_any = true },
    { "query-machines", qmp_query_machines },
    { "query-current-machine", qmp_query_current_machine },
    { "query-cpu-definitions", qmp_query_cpu_definitions },
    { "query-target", qmp_query_target },
    { "query-chardev", qmp_query_chardev },
    { "query-block", qmp_query_block },
    { "query-uuid", qmp_query_uuid },
    { "query-memory-size-summary", qmp_query_memory_size_summary },
    { "query-iothreads", qmp_query_nothing },
    { "query-memory-devices", qmp_query_nothing },
    { "query-jobs", qmp_query_nothing },
    { "query-block-jobs", qmp_query_nothing },
    { .name = "qom-list-types", .run = qmp_qom_list_types, .takes_any = true },
    { .name = "set_link", .run = set_link, .takes_any = true },
    { .name = "send-key", .run = qmp_send_key, .takes_any = true },
    { "human-monitor-command", human_monitor_command, "command-line", "cpu-index" },
};

static JsonNode *query_commands(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonArray *list = json_array_new();
    JsonObject *first = json_object_new();
    json_object_set_string_member(first, "name", "qmp_capabilities");
    json_array_add_object_element(list, first);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        JsonObject *row = json_object_new();
        json_object_set_string_member(row, "name", commands[i].name);
        json_array_add_object_element(list, row);
    }
    return array_node(list);
}

static char *args_check(JsonObject *args, const char *text_arg, const char *number_arg)
{
    if (text_arg) {
        JsonNode *node = args ? json_object_get_member(args, text_arg) : NULL;
        if (!node)
            return g_strdup_printf("Parameter '%s' is missing", text_arg);
        if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING)
            return g_strdup_printf("Invalid parameter type for '%s', expected: string", text_arg);
    }
    if (!args)
        return NULL;
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    json_object_iter_init(&iter, args);
    while (json_object_iter_next(&iter, &name, &node))
        if (g_strcmp0(name, text_arg) != 0 && g_strcmp0(name, number_arg) != 0)
            return g_strdup_printf("Parameter '%s' is unexpected", name);
    return NULL;
}

JsonNode *qmp_command_run(const QmpMachine *machine, const char *name, JsonObject *args, const char **out_class, char **out_text)
{
    *out_class = "GenericError";
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        if (!strcmp(commands[i].name, name)) {
            *out_text = commands[i].takes_any ? NULL : args_check(args, commands[i].text_arg, commands[i].number_arg);
            return *out_text ? NULL : commands[i].run(machine, args, out_text);
        }
    *out_class = "CommandNotFound";
    *out_text = g_strdup_printf("The command %s has not been found", name);
    return NULL;
}
