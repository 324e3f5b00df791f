/*
 * Dialects: which generation's mode keys a .vmx file uses, and what each key may be.  The keys are rows of data; what a dialect lets
 * a guest do on a host is vm/plan.h.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef enum Dialect {
    DIALECT_WS55,    /* ws5.5, esx3.0 */
    DIALECT_WS60,    /* ws6.0, fusion1 */
    DIALECT_ESX35,   /* esx3.5 */
    DIALECT_WS65,    /* ws6.5, server2, esx4, fusion2 */
    DIALECT_CURRENT, /* current: ws6.5 and our own keys */
    DIALECT_COUNT,
} Dialect;

typedef enum ModeChoice { MODE_AUTOMATIC, MODE_SOFTWARE, MODE_HARDWARE } ModeChoice;
typedef enum LongModeChoice { LONG_MODE_AUTO, LONG_MODE_BT, LONG_MODE_HARDWARE } LongModeChoice;
typedef enum FallbackChoice { FALLBACK_AUTO, FALLBACK_NEVER } FallbackChoice;

/* What the mode keys say.  All ints, so that one table of keys can set any of them; booleans are 0 or 1. */
typedef struct ModeConfig {
    int dialect;                   /* Dialect */
    int vt32, enable_svm;          /* monitor_control.* */
    int virtual_exec, virtual_mmu; /* ModeChoice */
    int long_mode;                 /* LongModeChoice */
    int fallback;                  /* FallbackChoice */
    int adaptive;
} ModeConfig;

void mode_config_init(ModeConfig *modes); /* dialect current, everything automatic */

const char *dialect_name(Dialect dialect);
/* dialect_from_name: FALSE with VMM_ERROR_USAGE; the message lists the names. */
gboolean dialect_from_name(const char *name, Dialect *out_dialect, GError **error);

/* dialect_key: the mode keys in order, from 0; NULL behind the last.  *out_values: what it may be, the default first, ended by NULL. */
const char *dialect_key(unsigned index, const char *const **out_values);
bool dialect_has(Dialect dialect, const char *key); /* a mode key, any case; config.dialect is none */

/* dialect_is_mode_key: one of the rows, or in a name space that only they use; such a key is never ignored. */
bool dialect_is_mode_key(const char *key);

/**
 * dialect_set: one mode key of @modes, whose dialect is already set.  Keys and values ignore case.
 * FALSE with VMM_ERROR_USAGE: the dialect does not have the key (the message names those that do), no dialect has it, or the value is
 * none of those it may have.
 */
gboolean dialect_set(ModeConfig *modes, const char *key, const char *value, GError **error);

/* dialect_check: rules across mode keys.  FALSE with VMM_ERROR_USAGE; the message names both settings. */
gboolean dialect_check(const ModeConfig *modes, GError **error);

/* vmx_bool: TRUE or FALSE, any case. */
gboolean vmx_bool(const char *text, bool *out_value);
