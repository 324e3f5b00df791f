#include "cli/monitor-sample.h"

#include "core/error.h"

static JsonObject *object_of(JsonNode *node) { return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL; }

static char *words_of(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);
    GString *text = g_string_new(NULL);
    JsonArray *list = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
    for (guint i = 0; list && i < json_array_get_length(list); i++)
        g_string_append_printf(text, "%s%s", i ? " " : "", json_array_get_string_element(list, i));
    return g_string_free(text, FALSE);
}

static void counters_take(MonitorSample *sample, JsonObject *counters)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    json_object_iter_init_ordered(&iter, counters);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        if (!JSON_NODE_HOLDS_VALUE(node))
            continue;
        double *value = g_new(double, 1);
        *value = json_node_get_double(node);
        g_ptr_array_add(sample->names, g_strdup(name));
        g_hash_table_insert(sample->values, g_strdup(name), value);
    }
}

MonitorSample *monitor_sample_new(QmpClient *client, GError **error)
{
    g_autoptr(JsonNode) status = qmp_client_call(client, "query-status", NULL, error);
    g_autoptr(JsonNode) mode = status ? qmp_client_call(client, "query-mode", NULL, error) : NULL;
    g_autoptr(JsonNode) stats = mode ? qmp_client_call(client, "query-stats", NULL, error) : NULL;
    if (!stats)
        return NULL;
    JsonObject *what = object_of(status), *how = object_of(mode), *counts = object_of(stats);
    if (!what || !how || !counts) {
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, "the machine answers in another form: it is no Segue, or another version");
        return NULL;
    }
    MonitorSample *sample = g_new0(MonitorSample, 1);
    sample->is_running = json_object_get_boolean_member_with_default(what, "running", FALSE);
    sample->state = g_strdup(json_object_get_string_member_with_default(what, "status", "?"));
    sample->mode = g_strdup(json_object_get_string_member_with_default(how, "mode", "?"));
    sample->reason = g_strdup(json_object_get_string_member_with_default(how, "reason", "?"));
    sample->allowed = words_of(how, "allowed");
    sample->switches = json_object_get_int_member_with_default(how, "switches", 0);
    sample->wall = (double)json_object_get_int_member_with_default(counts, "wall-ns", 0) / 1e9;
    sample->host_cpu = (double)(json_object_get_int_member_with_default(counts, "host-user-ns", 0) +
                                json_object_get_int_member_with_default(counts, "host-system-ns", 0)) / 1e9;
    sample->downtime_ms = (double)json_object_get_int_member_with_default(counts, "switches-downtime-ns", 0) / 1e6;
    sample->names = g_ptr_array_new_with_free_func(g_free);
    sample->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    JsonObject *counters = object_of(json_object_get_member(counts, "counters"));
    if (counters)
        counters_take(sample, counters);
    return sample;
}

void monitor_sample_free(MonitorSample *sample)
{
    if (!sample)
        return;
    g_free(sample->mode);
    g_free(sample->state);
    g_free(sample->reason);
    g_free(sample->allowed);
    g_ptr_array_unref(sample->names);
    g_hash_table_unref(sample->values);
    g_free(sample);
}

double monitor_sample_value(const MonitorSample *sample, const char *name)
{
    const double *value = g_hash_table_lookup(sample->values, name);
    return value ? *value : 0;
}

double monitor_sample_rate(const MonitorSample *now, const MonitorSample *before, const char *name)
{
    double seconds = before ? now->wall - before->wall : 0;
    double change = before ? monitor_sample_value(now, name) - monitor_sample_value(before, name) : 0;
    return seconds > 0 && change > 0 ? change / seconds : 0;
}

double monitor_sample_load(const MonitorSample *now, const MonitorSample *before)
{
    double seconds = now->wall - (before ? before->wall : 0), used = now->host_cpu - (before ? before->host_cpu : 0);
    return seconds > 0 && used > 0 ? used / seconds : 0;
}
