/* QMP's questions about what there is: options, machines, CPU models, devices, back ends, disks.  What management tools ask before they do
 * anything. */
#pragma once

#include "monitor/qmp-commands.h"

JsonNode *qmp_query_command_line_options(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_machines(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_current_machine(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_cpu_definitions(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_target(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_chardev(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_block(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_uuid(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_memory_size_summary(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_query_nothing(const QmpMachine *machine, JsonObject *args, char **out_text); /* a list that is always empty here */
JsonNode *qmp_qom_list_types(const QmpMachine *machine, JsonObject *args, char **out_text);
JsonNode *qmp_send_key(const QmpMachine *machine, JsonObject *args, char **out_text); /* there is no keyboard to press */
