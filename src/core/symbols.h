/*
 * Symbols: names of functions by address, read once from an ELF file's symbol table or from text lines as in System.map and /proc/kallsyms
 * ("ffffffff81000000 T _text").  For profiles; nothing depends on a name.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct Symbols Symbols;

typedef struct Symbol {
    uint64_t address;
    const char *name;
    const char *file; /* source file, where the table tells (local symbols of an ELF file), else NULL */
} Symbol;

/**
 * symbols_load: the functions in @path.  NULL with VMM_ERROR_USAGE when it cannot be read, is neither format, or has no function.
 */
Symbols *symbols_load(const char *path, GError **error);
void symbols_free(Symbols *symbols);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Symbols, symbols_free)

/* symbols_find: the last symbol at or below @address; NULL when there is none.  @symbols may be NULL.  Owned by @symbols. */
const Symbol *symbols_find(const Symbols *symbols, uint64_t address);
