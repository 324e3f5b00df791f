/*
 * GdbServer: where a debugger comes to (-gdb, -s, "gdbserver" of the human monitor): one at a time; its coming stops the guest, its going lets it
 * go on.  Thread: the default main context's.
 */
#pragma once

#include "config/config.h"
#include "vm/vm.h"

typedef struct GdbServer GdbServer;

/* gdb_server_new: listens if @config says so; NULL with VMM_ERROR_USAGE.  @config outlives it.
 * gdb_server_attach: the machine is there.   gdb_server_free: it does not run any more, and may be gone. */
GdbServer *gdb_server_new(const Config *config, GError **error);
void gdb_server_free(GdbServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GdbServer, gdb_server_free)
void gdb_server_attach(GdbServer *server, Vm *vm);
