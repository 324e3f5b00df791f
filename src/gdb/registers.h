/*
 * The registers as debuggers number them, and the target description that says so: gdb's core and SSE features of x86-64 or i386, the bases of FS and
 * GS, and control registers to look at.  Pure over an X86State.   Source: GDB manual, appendix G.5.3 (features), SDM 1 10.5.1 (FXSAVE).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "x86/state.h"

#define GDB_REGISTER_MAX_BYTES 16u

typedef struct GdbRegister GdbRegister;

/* gdb_registers: of a CPU with (@is_64) or without long mode, in gdb's order. */
const GdbRegister *gdb_registers(bool is_64, unsigned *out_count);
const GdbRegister *gdb_register_at(const GdbRegister *registers, unsigned index);
const char *gdb_register_name(const GdbRegister *reg);

/* gdb_register_get: little-endian.  Returns: how many bytes it has. */
unsigned gdb_register_get(const GdbRegister *reg, const X86State *state, uint8_t out_bytes[GDB_REGISTER_MAX_BYTES]);
/* gdb_register_set: False: it can only be looked at.  Bits that a CPU would not take stay as they are. */
bool gdb_register_set(const GdbRegister *reg, X86State *state, const uint8_t *bytes);
unsigned gdb_register_size(const GdbRegister *reg);

char *gdb_target_xml(bool is_64); /* (transfer full) */
