/* QMP about execution modes: query-mode, switch-mode, x-switch-engine, and the events. */
#pragma once

#include "monitor/qmp-commands.h"
#include "vm/adaptive-watch.h"
#include "vm/switch.h"

JsonNode *qmp_query_mode(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_switch_mode(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_switch_engine(const QmpMachine *machine, JsonObject *args, char **out_text);

/* qmp_mode_event: name and data of @event; (transfer full). */
JsonObject *qmp_mode_event(const SwitchEvent *event, const char **out_name);
/* qmp_adaptive_event: data of ADAPTIVE_DECISION; (transfer full). */
JsonObject *qmp_adaptive_event(const AdaptiveDecision *decision);
/* qmp_mode_stats: adds "switches" and what goes with it. */
void qmp_mode_stats(Switcher *switcher, JsonObject *stats);
