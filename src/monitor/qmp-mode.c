#include "monitor/qmp-mode.h"

#include <string.h>

static JsonNode *object_node(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, object);
    return node;
}

static JsonObject *done_object(const SwitchDone *done)
{
    JsonObject *object = json_object_new();
    json_object_set_string_member(object, "from", plan_mode_name(done->from));
    json_object_set_string_member(object, "to", plan_mode_name(done->to));
    json_object_set_string_member(object, "reason", switch_reason_name(done->reason));
    json_object_set_int_member(object, "downtime-ns", (gint64)done->times.downtime_ns);
    json_object_set_int_member(object, "stop-ns", (gint64)done->times.stop_ns);
    json_object_set_int_member(object, "save-ns", (gint64)done->times.handover.save_ns);
    json_object_set_int_member(object, "load-ns", (gint64)done->times.handover.load_ns);
    json_object_set_int_member(object, "connect-ns", (gint64)done->times.connect_ns);
    json_object_set_int_member(object, "create-ns", (gint64)done->times.handover.create_ns);
    return object;
}

JsonNode *qmp_query_mode(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    Switcher *switcher = vm_switcher(machine->vm);
    PlanMode mode = switcher_mode(switcher);
    JsonObject *result = json_object_new();
    JsonArray *allowed = json_array_new();
    for (PlanMode other = 0; other < PLAN_NMODES; other++)
        if (switcher_can(switcher, other, NULL))
            json_array_add_string_element(allowed, plan_mode_name(other));
    json_object_set_string_member(result, "mode", plan_mode_name(mode));
    json_object_set_string_member(result, "exec", mode == PLAN_BT ? "software" : "hardware");
    json_object_set_string_member(result, "mmu", mode == PLAN_HWMMU ? "hardware" : "software");
    json_object_set_array_member(result, "allowed", allowed);
    json_object_set_string_member(result, "reason", switch_reason_name(switcher_reason(switcher)));
    json_object_set_int_member(result, "switches", (gint64)switcher_stats(switcher)->count);
    return object_node(result);
}

JsonNode *qmp_switch_mode(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    const char *wanted = json_object_get_string_member(args, "mode");
    g_autoptr(GError) error = NULL;
    PlanMode mode;
    SwitchDone done;
    if (!plan_mode_from_name(wanted, &mode)) {
        *out_text = g_strdup_printf("Parameter 'mode': '%s' is not a mode; known: bt, hv, hwmmu", wanted);
        return NULL;
    }
    Switcher *switcher = vm_switcher(machine->vm);
    if (switcher_switch(switcher, mode, SWITCH_MONITOR, &done, &error))
        return object_node(done_object(&done));
    *out_text = g_strdup_printf("%s; the guest goes on in %s", error->message, plan_mode_name(switcher_mode(switcher)));
    return NULL;
}

JsonNode *qmp_switch_engine(const QmpMachine *machine, JsonObject *args, char **out_text)
{
    g_autoptr(GError) error = NULL;
    SwitchDone done;
    if (switcher_renew(vm_switcher(machine->vm), json_object_get_string_member(args, "engine"), &done, &error))
        return object_node(done_object(&done));
    *out_text = g_strdup(error->message);
    return NULL;
}

JsonObject *qmp_mode_event(const SwitchEvent *event, const char **out_name)
{
    static const char *const names[] = { [SWITCH_EVENT_SWITCHED] = "MODE_SWITCHED", [SWITCH_EVENT_FALLBACK] = "MODE_FALLBACK",
                                         [SWITCH_EVENT_LONG_MODE] = "LONG_MODE_ENTERED" };
    *out_name = names[event->kind];
    JsonObject *data = event->kind == SWITCH_EVENT_SWITCHED ? done_object(&event->done) : json_object_new();
    if (event->kind != SWITCH_EVENT_SWITCHED)
        json_object_set_string_member(data, "mode", plan_mode_name(event->mode));
    if (event->kind == SWITCH_EVENT_LONG_MODE)
        json_object_set_string_member(data, "action", plan_long_mode_name(event->action));
    if (event->text)
        json_object_set_string_member(data, event->kind == SWITCH_EVENT_LONG_MODE ? "warning" : "reason", event->text);
    return data;
}

JsonObject *qmp_adaptive_event(const AdaptiveDecision *decision)
{
    JsonObject *data = json_object_new(), *costs = json_object_new();
    for (PlanMode mode = 0; mode < PLAN_NMODES; mode++)
        if (decision->cost[mode] > 0)
            json_object_set_double_member(costs, plan_mode_name(mode), decision->cost[mode]);
    const struct {
        const char *name;
        double value;
    } rows[] = { { "gain", decision->gain },       { "load", decision->load },           { "exits-per-second", decision->exits },
                 { "table-events-per-second", decision->tables }, { "tlb-misses-per-second", decision->misses },
                 { "tpr-accesses-per-second", decision->tpr },    { "exit-ns", decision->exit_ns },
                 { "switch-ns", decision->switch_s * 1e9 } };
    json_object_set_string_member(data, "action", adaptive_action_name(decision->action));
    json_object_set_string_member(data, "mode", plan_mode_name(decision->from));
    json_object_set_string_member(data, "best", plan_mode_name(decision->to));
    json_object_set_string_member(data, "reason", decision->reason);
    json_object_set_object_member(data, "costs", costs);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        json_object_set_double_member(data, rows[i].name, rows[i].value);
    return data;
}

void qmp_mode_stats(Switcher *switcher, JsonObject *stats)
{
    const SwitchStats *switches = switcher_stats(switcher);
    json_object_set_int_member(stats, "switches", (gint64)switches->count);
    json_object_set_int_member(stats, "switches-failed", (gint64)switches->failed);
    json_object_set_int_member(stats, "switches-downtime-ns", (gint64)switches->downtime_ns);
    json_object_set_int_member(stats, "switches-downtime-max-ns", (gint64)switches->downtime_max_ns);
}
