#include "monitor/qmp-migration.h"

#include <string.h>

#include "vm/snapshot-store.h"

static JsonNode *object_node(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, object);
    return node;
}

/* @error: where the call that gave @is_ok left its reason. */
static JsonNode *done(gboolean is_ok, GError *const *error, char **out_text)
{
    if (is_ok)
        return object_node(json_object_new());
    *out_text = g_strdup((*error)->message);
    return NULL;
}

/* The string argument @name; NULL with *out_text set.  Booleans in @flags (ended by NULL) may be there as long as they are false. */
static const char *text_take(JsonObject *args, const char *name, const char *const *flags, char **out_text)
{
    JsonObjectIter iter;
    const char *other, *text = NULL;
    JsonNode *node;
    if (args) {
        json_object_iter_init(&iter, args);
        while (json_object_iter_next(&iter, &other, &node)) {
            bool is_value = JSON_NODE_HOLDS_VALUE(node);
            if (!strcmp(other, name) && is_value && json_node_get_value_type(node) == G_TYPE_STRING) {
                text = json_node_get_string(node);
            } else if (!strcmp(other, name)) {
                *out_text = g_strdup_printf("Invalid parameter type for '%s', expected: string", name);
                return NULL;
            } else if (!g_strv_contains(flags, other)) {
                *out_text = g_strdup_printf("Parameter '%s' is unexpected", other);
                return NULL;
            } else if (!is_value || json_node_get_value_type(node) != G_TYPE_BOOLEAN) {
                *out_text = g_strdup_printf("Invalid parameter type for '%s', expected: boolean", other);
                return NULL;
            } else if (json_node_get_boolean(node) && strcmp(other, "detach") != 0) {
                *out_text = g_strdup_printf("Parameter '%s': this Segue moves memory and devices only; leave it out", other);
                return NULL;
            }
        }
    }
    if (!text)
        *out_text = g_strdup_printf("Parameter '%s' is missing", name);
    return text;
}

static const char *const no_flags[] = { NULL };

static bool is_empty(JsonObject *args, char **out_text)
{
    if (!args || !json_object_get_size(args))
        return true;
    g_autoptr(GList) names = json_object_get_members(args);
    *out_text = g_strdup_printf("Parameter '%s' is unexpected", (const char *)names->data);
    return false;
}

/* --- migration --- */

JsonNode *qmp_migrate(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    static const char *const flags[] = { "blk", "inc", "detach", "resume", NULL };
    const char *uri = text_take(args, "uri", flags, out_text);
    g_autoptr(GError) error = NULL;
    if (!uri)
        return NULL;
    if (!strcmp(vm_state_name(machine->vm), "inmigrate")) {
        *out_text = g_strdup("Guest is waiting for an incoming migration");
        return NULL;
    }
    return done(migration_start(vm_migration(machine->vm), uri, &error), &error, out_text);
}

JsonNode *qmp_migrate_cancel(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    if (!is_empty(args, out_text))
        return NULL;
    migration_cancel(vm_migration(machine->vm));
    return object_node(json_object_new());
}

JsonNode *qmp_migrate_incoming(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const char *uri = text_take(args, "uri", no_flags, out_text);
    g_autoptr(GError) error = NULL;
    if (!uri)
        return NULL;
    if (strcmp(vm_state_name(machine->vm), "inmigrate") != 0) {
        *out_text = g_strdup("'-incoming' was not specified on the command line");
        return NULL;
    }
    return done(migration_receive(vm_migration(machine->vm), uri, &error), &error, out_text);
}

static JsonObject *ram_object(const MigrationNumbers *numbers)
{
    const SnapshotProgress *progress = &numbers->progress;
    JsonObject *ram = json_object_new();
    json_object_set_int_member(ram, "total", (gint64)progress->ram_total);
    json_object_set_int_member(ram, "remaining", (gint64)progress->ram_left);
    json_object_set_int_member(ram, "transferred", (gint64)progress->transferred);
    json_object_set_int_member(ram, "duplicate", (gint64)progress->zero_pages);
    json_object_set_int_member(ram, "normal", (gint64)progress->full_pages);
    json_object_set_int_member(ram, "normal-bytes", (gint64)progress->full_pages * 4096);
    json_object_set_int_member(ram, "page-size", 4096);
    json_object_set_int_member(ram, "dirty-sync-count", (gint64)numbers->rounds);
    json_object_set_int_member(ram, "dirty-pages-rate", (gint64)numbers->dirty_pages_per_s);
    json_object_set_double_member(ram, "mbps", numbers->total_ms > 0 ? (double)progress->transferred * 8 / 1000 / (double)numbers->total_ms : 0);
    return ram;
}

JsonNode *qmp_query_migrate(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    if (!is_empty(args, out_text))
        return NULL;
    const Migration *migration = vm_migration(machine->vm);
    const char *status = migration_status_name(migration);
    JsonObject *object = json_object_new();
    if (!status)
        return object_node(object);
    MigrationNumbers numbers;
    migration_numbers(migration, &numbers);
    json_object_set_string_member(object, "status", status);
    if (migration_failure(migration)) {
        g_autofree char *valid = g_utf8_make_valid(migration_failure(migration), -1);
        json_object_set_string_member(object, "error-desc", valid);
    }
    if (migration_is_incoming(migration))
        return object_node(object);
    json_object_set_int_member(object, "total-time", numbers.total_ms);
    json_object_set_int_member(object, "setup-time", numbers.setup_ms);
    json_object_set_int_member(object, migration_status(migration) == MIGRATION_COMPLETED ? "downtime" : "expected-downtime",
                               numbers.downtime_ms);
    json_object_set_object_member(object, "ram", ram_object(&numbers));
    return object_node(object);
}

/* --- capabilities --- */

JsonNode *qmp_set_capabilities(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    JsonNode *list = args ? json_object_get_member(args, "capabilities") : NULL;
    if (!list || !JSON_NODE_HOLDS_ARRAY(list)) {
        *out_text = g_strdup("Parameter 'capabilities' is missing, or no array");
        return NULL;
    }
    JsonArray *array = json_node_get_array(list);
    bool has_events = vm_migration_events(machine->vm);
    for (guint i = 0; i < json_array_get_length(array); i++) {
        JsonNode *item = json_array_get_element(array, i);
        JsonObject *object = JSON_NODE_HOLDS_OBJECT(item) ? json_node_get_object(item) : NULL;
        const char *name = object ? json_object_get_string_member_with_default(object, "capability", NULL) : NULL;
        if (!name || !json_object_has_member(object, "state")) {
            *out_text = g_strdup("Parameter 'capabilities': an element without 'capability' and 'state'");
            return NULL;
        }
        bool is_on = json_object_get_boolean_member_with_default(object, "state", FALSE);
        if (!strcmp(name, "events")) {
            has_events = is_on;
        } else if (is_on) {
            *out_text = g_strdup_printf("Capability '%.60s' is not in this version; known: events", name);
            return NULL;
        }
    }
    vm_set_migration_events(machine->vm, has_events);
    return object_node(json_object_new());
}

JsonNode *qmp_query_capabilities(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    if (!is_empty(args, out_text))
        return NULL;
    JsonArray *array = json_array_new();
    JsonObject *events = json_object_new();
    json_object_set_string_member(events, "capability", "events");
    json_object_set_boolean_member(events, "state", vm_migration_events(machine->vm));
    json_array_add_object_element(array, events);
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    return node;
}

/* --- parameters --- */

/* A whole number that is not negative; FALSE with *out_text set when @name is there and is none. */
static bool number_take(JsonObject *args, const char *name, int64_t *out_value, char **out_text)
{
    JsonNode *node = args ? json_object_get_member(args, name) : NULL;
    if (!node)
        return true;
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64 || json_node_get_int(node) < 0) {
        *out_text = g_strdup_printf("Invalid parameter type for '%s', expected: a whole number from 0 up", name);
        return false;
    }
    *out_value = json_node_get_int(node);
    return true;
}

JsonNode *qmp_set_migrate_parameters(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    Migration *migration = vm_migration(machine->vm);
    MigrationParameters parameters = migration_parameters(migration);
    int64_t bandwidth = (int64_t)parameters.max_bandwidth;
    g_autoptr(GError) error = NULL;
    g_autoptr(GList) names = args ? json_object_get_members(args) : NULL;
    for (GList *name = names; name; name = name->next)
        if (strcmp(name->data, "max-bandwidth") != 0 && strcmp(name->data, "downtime-limit") != 0) {
            *out_text = g_strdup_printf("Parameter '%.60s' is unexpected; there are max-bandwidth and downtime-limit", (const char *)name->data);
            return NULL;
        }
    if (!number_take(args, "max-bandwidth", &bandwidth, out_text) ||
        !number_take(args, "downtime-limit", &parameters.downtime_limit_ms, out_text))
        return NULL;
    parameters.max_bandwidth = (uint64_t)bandwidth;
    return done(migration_set_parameters(migration, &parameters, &error), &error, out_text);
}

JsonNode *qmp_query_migrate_parameters(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    if (!is_empty(args, out_text))
        return NULL;
    MigrationParameters parameters = migration_parameters(vm_migration(machine->vm));
    JsonObject *object = json_object_new();
    json_object_set_int_member(object, "max-bandwidth", (gint64)parameters.max_bandwidth);
    json_object_set_int_member(object, "downtime-limit", parameters.downtime_limit_ms);
    return object_node(object);
}

/* --- snapshots --- */

JsonNode *qmp_savevm(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const char *tag = text_take(args, "tag", no_flags, out_text);
    g_autoptr(GError) error = NULL;
    return tag ? done(migration_save_snapshot(vm_migration(machine->vm), tag, &error), &error, out_text) : NULL;
}

JsonNode *qmp_loadvm(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const char *tag = text_take(args, "tag", no_flags, out_text);
    g_autoptr(GError) error = NULL;
    return tag ? done(migration_load_snapshot(vm_migration(machine->vm), tag, true, &error), &error, out_text) : NULL;
}

JsonNode *qmp_delvm(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const char *tag = text_take(args, "tag", no_flags, out_text);
    g_autoptr(GError) error = NULL;
    return tag ? done(snapshot_store_delete(machine->config->snapshot_dir, tag, &error), &error, out_text) : NULL;
}

JsonNode *qmp_query_snapshots(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    g_autoptr(GError) error = NULL;
    if (!is_empty(args, out_text))
        return NULL;
    g_autoptr(GPtrArray) list = snapshot_store_list(machine->config->snapshot_dir, &error);
    if (!list)
        return done(FALSE, &error, out_text);
    JsonArray *array = json_array_new();
    for (guint i = 0; i < list->len; i++) {
        const SnapshotInfo *info = g_ptr_array_index(list, i);
        JsonObject *object = json_object_new();
        json_object_set_string_member(object, "tag", info->tag);
        json_object_set_int_member(object, "size", (gint64)info->size_bytes);
        json_object_set_int_member(object, "date-sec", info->date_s);
        if (info->wrong) {
            g_autofree char *valid = g_utf8_make_valid(info->wrong, -1);
            json_object_set_string_member(object, "error", valid);
        } else {
            json_object_set_string_member(object, "mode", info->mode);
            json_object_set_int_member(object, "vm-clock-sec", info->guest_ns / 1000000000);
            json_object_set_int_member(object, "vm-clock-nsec", info->guest_ns % 1000000000);
        }
        json_array_add_object_element(array, object);
    }
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    return node;
}
