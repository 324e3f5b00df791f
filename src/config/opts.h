/*
 * Opts: "first,key=value,flag,text=a,,b" as QEMU's users write it.  A comma is doubled inside a value; a key without a value is "on".
 * Keys are taken one by one; what nobody took is an error, so that a misspelt property is never ignored.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Opts Opts;

/* opts_parse: @option ("-device") is for messages; a first word without "=" gets @implied_key when that is not NULL. */
Opts *opts_parse(const char *option, const char *text, const char *implied_key, GError **error);
void opts_free(Opts *opts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Opts, opts_free)

/* opts_take: the last value given for @key, or NULL; owned by @opts. */
const char *opts_take(Opts *opts, const char *key);
/* opts_take_bool, _uint: leave @out_value alone when @key is absent.  FALSE with VMM_ERROR_USAGE when the value is malformed. */
gboolean opts_take_bool(Opts *opts, const char *key, bool *out_value, GError **error);
gboolean opts_take_uint(Opts *opts, const char *key, uint64_t max, uint64_t *out_value, GError **error);
/* opts_next: the first pair that was not taken yet, and takes it; FALSE at the end.  For options with free keys. */
gboolean opts_next(Opts *opts, const char **out_key, const char **out_value);
/* opts_done: FALSE when a key was not taken; the message names it and lists @known (words, may be NULL). */
gboolean opts_done(Opts *opts, const char *known, GError **error);

/* parse_bool: on|yes|true|1 and off|no|false|0.  parse_size: bytes with suffix B K M G T; no suffix means @unit bytes. */
gboolean parse_bool(const char *text, bool *out_value);
gboolean parse_size(const char *text, uint64_t unit, uint64_t *out_bytes);
gboolean parse_uint(const char *text, uint64_t max, uint64_t *out_value);
