/*
 * Monitor: all ways to talk to one machine: QMP and the human monitor on sockets, and the human one on the terminal or shared with a serial
 * port.
 *
 * Order of use: monitor_new() before anything slow, so that a driver can connect; monitor_attach() when the machine exists;
 * monitor_free() behind vm_run(), which writes out what waits.  Thread: the default main context's.
 */
#pragma once

#include "config/config.h"
#include "vm/plan.h"
#include "vm/vm.h"

typedef struct Monitor Monitor;

/* monitor_new: listens on each of @config->controls and ->monitors, and waits for a peer where one says wait=on (or for a signal).  NULL
 * with VMM_ERROR_USAGE when a socket cannot be had, VMM_ERROR_HOST when a signal came.  @config outlives it. */
Monitor *monitor_new(const Config *config, GError **error);
void monitor_free(Monitor *monitor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Monitor, monitor_free)

/* monitor_attach: commands act on @vm, which outlives the last command.  @host: what the host can do, asked when somebody wants to know. */
void monitor_attach(Monitor *monitor, Vm *vm, const HostFacts *(*host)(void));
