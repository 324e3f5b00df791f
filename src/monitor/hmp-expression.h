/*
 * The numbers of the human monitor: "0x1000", "$rip + 4*($rcx & ~7)".  Registers are those of an X86State; arithmetic wraps at 64 bits.
 * Pure.  Nested at most 64 deep.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "x86/state.h"

/* expression_take: reads one from *text and moves it behind.  Returns: NULL, or what is wrong, static. */
const char *expression_take(const char **text, const X86State *state, uint64_t *out_value);
