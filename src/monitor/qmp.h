/*
 * The machine monitor for programs: JSON objects as QEMU's QMP has them, on any number of sockets and connections.
 * Thread: the default main context's, but for the machine's events, which any thread raises.
 */
#pragma once

#include "config/config.h"
#include "vm/plan.h"
#include "vm/vm.h"

typedef struct Qmp Qmp;

/* qmp_new: opens each of @config->controls and adds it to @servers (TransportServer), whose owner starts them behind qmp_attach() and frees
 * them before qmp_free().  NULL with VMM_ERROR_USAGE.  @config outlives it. */
Qmp *qmp_new(const Config *config, GPtrArray *servers, GError **error);
void qmp_free(Qmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_free)

/* qmp_attach: commands act on @vm from now on.  @host: what the host can do, asked when somebody wants to know. */
void qmp_attach(Qmp *qmp, Vm *vm, const HostFacts *(*host)(void));
void qmp_flush(Qmp *qmp); /* hands the last events to the servers */
