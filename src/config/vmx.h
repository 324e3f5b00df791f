/*
 * .vmx files: lines of key = "value", read into a list that keeps comments and order, so that a changed file is the old one but for
 * the changed line.  Keys ignore case.  In a value |XX is a character by its two hex digits, as the files' own writer has it.
 *
 * Files are hostile input: at most 1 MiB, UTF-8, and every complaint has file:line.
 */
#pragma once

#include <glib.h>

#include "config/config.h"

#define VMX_MAX_LINES 50000u

typedef struct VmxFile VmxFile;

/* vmx_load: NULL with VMM_ERROR_USAGE: unreadable, malformed line, or a key that is given twice.   vmx_parse: @name is for messages. */
VmxFile *vmx_load(const char *path, GError **error);
VmxFile *vmx_parse(const char *name, const char *text, gsize size, GError **error);
void vmx_free(VmxFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmxFile, vmx_free)

/* vmx_get: NULL when the key is not there; owned by @file.   vmx_line: its line, from 1; 0: not there. */
const char *vmx_get(const VmxFile *file, const char *key);
unsigned vmx_line(const VmxFile *file, const char *key);

/* vmx_set: changes the line of @key or adds one.  FALSE with VMM_ERROR_USAGE when @key cannot be a key. */
gboolean vmx_set(VmxFile *file, const char *key, const char *value, GError **error);
void vmx_remove(VmxFile *file, const char *key); /* its line goes; nothing when it is not there */
char *vmx_text(const VmxFile *file); /* (transfer full) */

/**
 * vmx_apply: fills @config from the file.  File names are relative to the file's folder.
 *
 * Mode keys go through the dialect of config.dialect; hardware keys go where the equal option goes; keys of hardware that changes
 * nothing here are added to @config->ignored; unknown keys, and hardware that is not in this version, to @config->notices, each with
 * file:line.
 * Returns: FALSE with VMM_ERROR_USAGE and file:line.
 */
gboolean vmx_apply(const VmxFile *file, Config *config, GError **error);

/* vmx_next: steps through all keys, in order; *cursor is 0 at first.  FALSE behind the last one. */
gboolean vmx_next(const VmxFile *file, guint *cursor, const char **out_key, const char **out_value, unsigned *out_line);
const char *vmx_name(const VmxFile *file);
