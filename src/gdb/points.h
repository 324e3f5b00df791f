/* The break- and watchpoints that a debugger has set, for all vCPUs. */
#pragma once

#include "core/cpu.h"

#define GDB_MAX_POINTS 4096u

typedef enum GdbPointKind { GDB_POINT_SOFT, GDB_POINT_HARD, GDB_POINT_WRITE, GDB_POINT_READ, GDB_POINT_ACCESS, GDB_POINT_NKINDS } GdbPointKind;

typedef struct GdbPoints GdbPoints;

GdbPoints *gdb_points_new(void);
void gdb_points_free(GdbPoints *points);
/* gdb_points_add: what is there already stays.  False: too many, or a watchpoint of no bytes or more than 4096.   gdb_points_remove: nothing
 * happens when there is none. */
bool gdb_points_add(GdbPoints *points, GdbPointKind kind, Gva gva, uint64_t size);
void gdb_points_remove(GdbPoints *points, GdbPointKind kind, Gva gva, uint64_t size);
void gdb_points_clear(GdbPoints *points);
/* gdb_points_debug: for CpuOps.debug; valid until the next call. */
CpuDebug gdb_points_debug(GdbPoints *points);
/* gdb_points_find: the kind of what a vCPU has come to at @gva. */
GdbPointKind gdb_points_find(const GdbPoints *points, Gva gva, bool is_watch);
