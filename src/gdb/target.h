/*
 * GdbTarget: what a debugger asks and does between two runs of the guest: one thread a vCPU (thread 1 is vCPU 0), registers, memory by
 * the guest's own page tables, break- and watchpoints.  A command in, an answer out; who may run next is left in GdbTarget.
 * Thread: the default main context's.
 */
#pragma once

#include "gdb/points.h"
#include "vm/vm.h"

typedef enum GdbAction {
    GDB_ACTION_NONE,
    GDB_ACTION_RESUME, /* no answer now: it comes when the guest stops */
    GDB_ACTION_DETACH, /* answer, and let the guest go */
    GDB_ACTION_KILL,
} GdbAction;

typedef struct GdbTarget GdbTarget;

GdbTarget *gdb_target_new(Vm *vm);
void gdb_target_free(GdbTarget *target);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GdbTarget, gdb_target_free)

/**
 * gdb_target_command:
 * @body: a packet's, ended by a zero that does not count; hostile
 * @reply: the answer's body is appended; empty means "not supported"
 */
GdbAction gdb_target_command(GdbTarget *target, const char *body, size_t count, GString *reply);

/* gdb_target_stopped: the answer to a RESUME, or to "?": vCPU @index stands because of @exit; NULL: because of @signal (as in POSIX). */
void gdb_target_stopped(GdbTarget *target, unsigned index, const CpuExit *exit, unsigned signal, GString *reply);

/* gdb_target_release: break- and watchpoints are gone, every vCPU may run. */
void gdb_target_release(GdbTarget *target);
bool gdb_target_wants_acks(const GdbTarget *target);
void gdb_target_begin(GdbTarget *target); /* a new debugger has come */
