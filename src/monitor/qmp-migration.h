/* QMP about saved guests: migrate and what belongs to it, savevm, loadvm, delvm, query-snapshots. */
#pragma once

#include "monitor/qmp-commands.h"

typedef JsonNode *QmpMigrationHandler(const QmpMachine *machine, JsonObject *args, char **out_text);

/* Each checks its arguments itself. */
QmpMigrationHandler qmp_migrate, qmp_migrate_cancel, qmp_query_migrate, qmp_migrate_incoming, qmp_set_capabilities, qmp_query_capabilities,
    qmp_set_migrate_parameters, qmp_query_migrate_parameters, qmp_savevm, qmp_loadvm, qmp_delvm, qmp_query_snapshots;
