#include "config/dialect.h"
#include "config/usage.h"

#include <stddef.h>
#include <string.h>


#define D(name) (1u << DIALECT_##name)

static const struct {
    const char *name;
    Dialect dialect;
} names[] = {
    /* The first name of a dialect is the one that messages use. */
    { "ws5.5", DIALECT_WS55 },   { "esx3.0", DIALECT_WS55 }, { "ws6.0", DIALECT_WS60 },   { "fusion1", DIALECT_WS60 },
    { "esx3.5", DIALECT_ESX35 }, { "ws6.5", DIALECT_WS65 },  { "server2", DIALECT_WS65 }, { "esx4", DIALECT_WS65 },
    { "fusion2", DIALECT_WS65 }, { "current", DIALECT_CURRENT },
};

static const char *const booleans[] = { "FALSE", "TRUE", NULL };
static const char *const choices[] = { [MODE_AUTOMATIC] = "automatic", [MODE_SOFTWARE] = "software", [MODE_HARDWARE] = "hardware", NULL };
static const char *const long_modes[] = { [LONG_MODE_AUTO] = "auto", [LONG_MODE_BT] = "bt", [LONG_MODE_HARDWARE] = "hardware", NULL };
static const char *const fallbacks[] = { [FALLBACK_AUTO] = "auto", [FALLBACK_NEVER] = "never", NULL };

static const struct {
    const char *key;
    unsigned dialects;
    const char *const *values; /* index = value of the field */
    size_t field;
} keys[] = {
    { "monitor_control.vt32", D(WS55) | D(WS60), booleans, offsetof(ModeConfig, vt32) },
    { "monitor_control.enable_svm", D(WS60), booleans, offsetof(ModeConfig, enable_svm) },
    { "monitor.virtual_exec", D(WS65) | D(CURRENT), choices, offsetof(ModeConfig, virtual_exec) },
    { "monitor.virtual_mmu", D(ESX35) | D(WS65) | D(CURRENT), choices, offsetof(ModeConfig, virtual_mmu) },
    { "monitor.long_mode", D(CURRENT), long_modes, offsetof(ModeConfig, long_mode) },
    { "monitor.fallback", D(CURRENT), fallbacks, offsetof(ModeConfig, fallback) },
    { "monitor.adaptive", D(CURRENT), booleans, offsetof(ModeConfig, adaptive) },
};

void mode_config_init(ModeConfig *modes) { *modes = (ModeConfig){ .dialect = DIALECT_CURRENT }; }

/* "ws6.5 (also server2, esx4, fusion2), current": the names of the dialects in @mask. */
static char *names_list(unsigned mask)
{
    GString *text = g_string_new(NULL);
    for (unsigned dialect = 0; dialect < DIALECT_COUNT; dialect++) {
        if (!(mask >> dialect & 1))
            continue;
        unsigned seen = 0;
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
            if (names[i].dialect == dialect) {
                const char *before = seen == 0 ? (text->len ? ", " : "") : seen == 1 ? " (also " : ", ";
                g_string_append_printf(text, "%s%s", before, names[i].name);
                seen++;
            }
        if (seen > 1)
            g_string_append_c(text, ')');
    }
    return g_string_free(text, FALSE);
}

const char *dialect_name(Dialect dialect)
{
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].dialect == dialect)
            return names[i].name;
    g_assert_not_reached();
}

gboolean dialect_from_name(const char *name, Dialect *out_dialect, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (!g_ascii_strcasecmp(name, names[i].name)) {
            *out_dialect = names[i].dialect;
            return TRUE;
        }
    g_autofree char *list = names_list(~0u);
    return usage(error, "config.dialect = \"%s\": unknown dialect; known: %s", name, list);
}

bool dialect_is_mode_key(const char *key)
{
    return !g_ascii_strncasecmp(key, "monitor_control.", 16) || !g_ascii_strncasecmp(key, "monitor.", 8);
}

const char *dialect_key(unsigned index, const char *const **out_values)
{
    if (index >= G_N_ELEMENTS(keys))
        return NULL;
    *out_values = keys[index].values;
    return keys[index].key;
}

bool dialect_has(Dialect dialect, const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!g_ascii_strcasecmp(key, keys[i].key))
            return keys[i].dialects >> dialect & 1;
    return false;
}

gboolean dialect_set(ModeConfig *modes, const char *key, const char *value, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (g_ascii_strcasecmp(key, keys[i].key) != 0)
            continue;
        if (!(keys[i].dialects >> modes->dialect & 1)) {
            g_autofree char *list = names_list(keys[i].dialects);
            return usage(error, "%s: dialect %s does not have this key; it belongs to %s; set config.dialect", keys[i].key,
                         dialect_name((Dialect)modes->dialect), list);
        }
        for (int j = 0; keys[i].values[j]; j++)
            if (!g_ascii_strcasecmp(value, keys[i].values[j])) {
                *(int *)((char *)modes + keys[i].field) = j;
                return TRUE;
            }
        g_autofree char *list = g_strjoinv(", ", (char **)keys[i].values);
        return usage(error, "%s = \"%s\": must be one of %s", keys[i].key, value, list);
    }
    GString *list = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        if (keys[i].dialects >> modes->dialect & 1)
            g_string_append_printf(list, "%s%s", list->len ? ", " : "", keys[i].key);
    usage(error, "%s: unknown key; dialect %s has %s", key, dialect_name((Dialect)modes->dialect), list->str);
    g_string_free(list, TRUE);
    return FALSE;
}

gboolean dialect_check(const ModeConfig *modes, GError **error)
{
    if (modes->virtual_exec == MODE_SOFTWARE && modes->virtual_mmu == MODE_HARDWARE)
        return usage(error, "monitor.virtual_exec = \"software\" and monitor.virtual_mmu = \"hardware\" contradict each other: translated "
                            "code cannot use nested paging; make one of them automatic");
    return TRUE;
}

gboolean vmx_bool(const char *text, bool *out_value)
{
    bool is_true = !g_ascii_strcasecmp(text, "TRUE");
    if (!is_true && g_ascii_strcasecmp(text, "FALSE") != 0)
        return FALSE;
    *out_value = is_true;
    return TRUE;
}
