#include "monitor/qmp-query.h"

#include <string.h>

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

/* --- options --- */

/* Options whose value has properties that tools look for before they use them. */
static const struct {
    const char *option, *parameters; /* words */
} options[] = {
    { "accel", "accel thread tb-size one-insn-per-tb" },
    { "machine", "type accel acpi hpet pit i8042 usb smm" },
    { "memory", "size slots maxmem" },
    { "smp-opts", "cpus maxcpus sockets dies cores threads" },
    { "name", "guest process debug-threads" },
    { "chardev", "backend id path host port server wait mux append signal" },
    { "mon", "chardev mode pretty" },
    { "drive", "file if format id snapshot readonly cache discard media serial" },
    { "device", "driver id bus addr" },
    { "object", "qom-type id" },
    { "rtc", "base clock driftfix" },
    { "netdev", "type id hostfwd restrict" },
    { "boot-opts", "order once menu" },
};

JsonNode *qmp_query_command_line_options(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonNode *wanted = args ? json_object_get_member(args, "option") : NULL;
    if (wanted && (!JSON_NODE_HOLDS_VALUE(wanted) || json_node_get_value_type(wanted) != G_TYPE_STRING)) {
        *out_text = g_strdup("Invalid parameter type for 'option', expected: string");
        return NULL;
    }
    JsonArray *list = json_array_new();
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (wanted && strcmp(json_node_get_string(wanted), options[i].option) != 0)
            continue;
        JsonObject *row = json_object_new();
        JsonArray *parameters = json_array_new();
        g_auto(GStrv) names = g_strsplit(options[i].parameters, " ", -1);
        for (char **name = names; *name; name++) {
            JsonObject *parameter = json_object_new();
            json_object_set_string_member(parameter, "name", *name);
            json_object_set_string_member(parameter, "type", "string");
            json_array_add_object_element(parameters, parameter);
        }
        json_object_set_string_member(row, "option", options[i].option);
        json_object_set_array_member(row, "parameters", parameters);
        json_array_add_object_element(list, row);
    }
    if (!wanted || json_array_get_length(list))
        return array_node(list);
    json_array_unref(list);
    *out_text = g_strdup_printf("invalid option name: %s", json_node_get_string(wanted));
    return NULL;
}

/* --- machines and CPUs --- */

JsonNode *qmp_query_machines(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    static const char *const names[] = { "pc", "q35", "microvm" };
    JsonArray *list = json_array_new();
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        JsonObject *row = json_object_new();
        json_object_set_string_member(row, "name", names[i]);
        json_object_set_int_member(row, "cpu-max", CONFIG_MAX_CPUS);
        json_object_set_boolean_member(row, "hotpluggable-cpus", FALSE);
        json_object_set_boolean_member(row, "numa-mem-supported", FALSE);
        json_object_set_boolean_member(row, "deprecated", FALSE);
        json_object_set_string_member(row, "default-cpu-type", "max-x86_64-cpu");
        if (i == 0)
            json_object_set_boolean_member(row, "is-default", TRUE);
        json_array_add_object_element(list, row);
    }
    return array_node(list);
}

JsonNode *qmp_query_current_machine(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonObject *row = json_object_new();
    json_object_set_boolean_member(row, "wakeup-suspend-support", FALSE);
    return object_node(row);
}

JsonNode *qmp_query_cpu_definitions(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonArray *list = json_array_new();
    for (unsigned i = 0; cpu_model_name(i); i++) {
        JsonObject *row = json_object_new();
        g_autofree char *type = g_strdup_printf("%s-x86_64-cpu", cpu_model_name(i));
        json_object_set_string_member(row, "name", cpu_model_name(i));
        json_object_set_string_member(row, "typename", type);
        json_object_set_array_member(row, "unavailable-features", json_array_new());
        json_object_set_boolean_member(row, "static", FALSE);
        json_object_set_boolean_member(row, "migration-safe", TRUE);
        json_object_set_boolean_member(row, "deprecated", FALSE);
        json_array_add_object_element(list, row);
    }
    return array_node(list);
}

JsonNode *qmp_query_target(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonObject *row = json_object_new();
    json_object_set_string_member(row, "arch", "x86_64");
    return object_node(row);
}

JsonNode *qmp_query_memory_size_summary(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonObject *row = json_object_new();
    json_object_set_int_member(row, "base-memory", (gint64)machine->config->ram_bytes);
    json_object_set_int_member(row, "plugged-memory", 0);
    return object_node(row);
}

JsonNode *qmp_query_uuid(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonObject *row = json_object_new();
    json_object_set_string_member(row, "UUID", "00000000-0000-0000-0000-000000000000");
    return object_node(row);
}

/* --- back ends and disks --- */

static void chardev_add(JsonArray *list, const char *label, const CharConfig *chardev)
{
    static const char *const kinds[] = { [CHAR_NONE] = "none", [CHAR_NULL] = "null", [CHAR_STDIO] = "stdio", [CHAR_FILE] = "file",
                                         [CHAR_PIPE] = "pipe", [CHAR_UNIX] = "unix",  [CHAR_TCP] = "tcp",     [CHAR_PTY] = "pty" };
    if (!chardev || chardev->kind == CHAR_NONE)
        return;
    JsonObject *row = json_object_new();
    g_autofree char *address = chardev->port ? g_strdup_printf("%s:%s", chardev->host ? chardev->host : "", chardev->port) : g_strdup(chardev->path);
    g_autofree char *name = g_strconcat(kinds[chardev->kind], address ? ":" : "", address ? address : "", NULL);
    json_object_set_string_member(row, "label", chardev->id ? chardev->id : label);
    json_object_set_string_member(row, "filename", name);
    json_object_set_boolean_member(row, "frontend-open", TRUE);
    json_array_add_object_element(list, row);
}

JsonNode *qmp_query_chardev(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const Config *config = machine->config;
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < config->nserials; i++) {
        g_autofree char *label = g_strdup_printf("serial%u", i);
        chardev_add(list, label, config->serial[i]);
    }
    chardev_add(list, "monitor", config->monitor);
    for (guint i = 0; i < config->monitors->len; i++)
        chardev_add(list, "compat_monitor", g_ptr_array_index(config->monitors, i));
    for (guint i = 0; i < config->controls->len; i++)
        chardev_add(list, "qmp", g_ptr_array_index(config->controls, i));
    chardev_add(list, "debugcon", config->debugcon);
    return array_node(list);
}

JsonNode *qmp_query_block(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const Config *config = machine->config;
    JsonArray *list = json_array_new();
    for (guint i = 0; i < config->drives->len; i++) {
        const DriveConfig *drive = g_ptr_array_index(config->drives, i);
        JsonObject *row = json_object_new(), *inserted = json_object_new();
        g_autofree char *label = g_strdup_printf("virtio%u", i);
        json_object_set_string_member(inserted, "file", drive->path);
        json_object_set_boolean_member(inserted, "ro", drive->is_read_only);
        json_object_set_string_member(inserted, "drv", drive->format ? drive->format : "raw");
        json_object_set_boolean_member(inserted, "encrypted", FALSE);
        json_object_set_string_member(row, "device", drive->id ? drive->id : label);
        json_object_set_string_member(row, "type", "unknown");
        json_object_set_boolean_member(row, "removable", FALSE);
        json_object_set_boolean_member(row, "locked", FALSE);
        json_object_set_object_member(row, "inserted", inserted);
        json_array_add_object_element(list, row);
    }
    return array_node(list);
}

JsonNode *qmp_query_nothing(const QmpMachine *machine, JsonObject *args, char **out_text) { return array_node(json_array_new()); }

/* --- types --- */

/* The rows of -device help: name "…", bus … */
JsonNode *qmp_qom_list_types(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonArray *list = json_array_new();
    g_autofree char *help = config_device_help();
    g_auto(GStrv) lines = g_strsplit(help, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!g_str_has_prefix(*line, "name \""))
            continue;
        const char *name = *line + strlen("name \"");
        g_autofree char *text = g_strndup(name, strcspn(name, "\""));
        JsonObject *row = json_object_new();
        json_object_set_string_member(row, "name", text);
        json_object_set_string_member(row, "parent", "device");
        json_array_add_object_element(list, row);
    }
    return array_node(list);
}

JsonNode *qmp_send_key(const QmpMachine *machine, JsonObject *args, char **out_text) { return object_node(json_object_new()); }
