/* The commands of QMP as a table: names, arguments, handlers. */
#pragma once

#include <json-glib/json-glib.h>

#include "config/config.h"
#include "vm/plan.h"
#include "vm/vm.h"

typedef struct QmpMachine {
    Vm *vm;
    const Config *config;
    const HostFacts *(*host)(void);
    gint64 started_us; /* monotonic */
} QmpMachine;

/* qmp_command_run: @args may be NULL.  Returns: the value of "return", or NULL with *out_class and *out_text set; (transfer full). */
JsonNode *qmp_command_run(const QmpMachine *machine, const char *name, JsonObject *args, const char **out_class, char **out_text);

/* qmp_version: the object that greeting and query-version share; (transfer full). */
JsonNode *qmp_version(void);
