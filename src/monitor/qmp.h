/*
 * The machine monitor for programs: JSON objects as QEMU's QMP has them, on any number of sockets and connections.
 *
 * Order of use: qmp_new() before anything slow, so that a driver can connect; qmp_attach() when the machine exists; qmp_free() behind
 * vm_run(), which writes out the last events.  Thread: the default main context's, but for the machine's events, which any thread raises.
 */
#pragma once

#include "config/config.h"
#include "vm/plan.h"
#include "vm/vm.h"

typedef struct Qmp Qmp;

/* qmp_new: listens on each of @config->controls, and waits for a peer where one says wait=on (or for a signal).  NULL with VMM_ERROR_USAGE
 * when a socket cannot be had, VMM_ERROR_HOST when a signal came.  @config outlives it. */
Qmp *qmp_new(const Config *config, GError **error);
void qmp_free(Qmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_free)

/* qmp_attach: commands act on @vm from now on.  @host: what the host can do, asked when somebody wants to know. */
void qmp_attach(Qmp *qmp, Vm *vm, const HostFacts *(*host)(void));
