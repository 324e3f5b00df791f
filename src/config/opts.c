#include "config/opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

typedef struct Pair {
    char *key, *value;
    bool taken;
} Pair;

struct Opts {
    char *option;
    GArray *pairs; /* Pair */
};

static void pair_clear(gpointer data)
{
    Pair *pair = data;
    g_free(pair->key);
    g_free(pair->value);
}

/* Copies up to the first single comma; "@text" ends behind it. */
static char *word_take(const char **text)
{
    GString *word = g_string_new(NULL);
    const char *p = *text;
    while (*p) {
        if (*p == ',') {
            if (p[1] != ',')
                break;
            p++;
        }
        g_string_append_c(word, *p++);
    }
    *text = *p ? p + 1 : p;
    return g_string_free(word, FALSE);
}

Opts *opts_parse(const char *option, const char *text, const char *implied_key, GError **error)
{
    Opts *opts = g_new0(Opts, 1);
    opts->option = g_strdup(option);
    opts->pairs = g_array_new(FALSE, TRUE, sizeof(Pair));
    g_array_set_clear_func(opts->pairs, pair_clear);
    const char *rest = text;
    for (bool is_first = true; *rest; is_first = false) {
        g_autofree char *word = word_take(&rest);
        char *equals = strchr(word, '=');
        Pair pair = { 0 };
        if (is_first && implied_key && !equals) {
            pair.key = g_strdup(implied_key);
            pair.value = g_strdup(word);
        } else if (equals) {
            pair.key = g_strndup(word, (gsize)(equals - word));
            pair.value = g_strdup(equals + 1);
        } else {
            pair.key = g_strdup(word);
            pair.value = g_strdup("on");
        }
        g_array_append_val(opts->pairs, pair);
        if (!pair.key[0]) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s %s: empty name before '=' or between commas", option, text);
            opts_free(opts);
            return NULL;
        }
    }
    return opts;
}

void opts_free(Opts *opts)
{
    if (!opts)
        return;
    g_array_free(opts->pairs, TRUE);
    g_free(opts->option);
    g_free(opts);
}

const char *opts_take(Opts *opts, const char *key)
{
    const char *value = NULL;
    for (guint i = 0; i < opts->pairs->len; i++) {
        Pair *pair = &g_array_index(opts->pairs, Pair, i);
        if (!strcmp(pair->key, key)) {
            pair->taken = true;
            value = pair->value;
        }
    }
    return value;
}

gboolean opts_take_bool(Opts *opts, const char *key, bool *out_value, GError **error)
{
    const char *value = opts_take(opts, key);
    if (value && !parse_bool(value, out_value)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: %s=%s must be on or off", opts->option, key, value);
        return FALSE;
    }
    return TRUE;
}

gboolean opts_take_uint(Opts *opts, const char *key, uint64_t max, uint64_t *out_value, GError **error)
{
    const char *value = opts_take(opts, key);
    if (value && !parse_uint(value, max, out_value)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: %s=%s must be a number up to %" G_GUINT64_FORMAT, opts->option, key,
                    value, (guint64)max);
        return FALSE;
    }
    return TRUE;
}

gboolean opts_next(Opts *opts, const char **out_key, const char **out_value)
{
    for (guint i = 0; i < opts->pairs->len; i++) {
        Pair *pair = &g_array_index(opts->pairs, Pair, i);
        if (!pair->taken) {
            pair->taken = true;
            *out_key = pair->key;
            *out_value = pair->value;
            return TRUE;
        }
    }
    return FALSE;
}

gboolean opts_done(Opts *opts, const char *known, GError **error)
{
    const char *key, *value;
    if (!opts_next(opts, &key, &value))
        return TRUE;
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: unknown property '%s'%s%s", opts->option, key,
                known ? "; known: " : "", known ? known : "");
    return FALSE;
}

gboolean parse_bool(const char *text, bool *out_value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = { { "on", true },   { "yes", true }, { "true", true },   { "1", true }, { "y", true },
                  { "off", false }, { "no", false }, { "false", false }, { "0", false }, { "n", false } };
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        if (!g_ascii_strcasecmp(text, words[i].word)) {
            *out_value = words[i].value;
            return TRUE;
        }
    return FALSE;
}

gboolean parse_uint(const char *text, uint64_t max, uint64_t *out_value)
{
    if (!g_ascii_isdigit(text[0]))
        return FALSE;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (errno || *end || value > max)
        return FALSE;
    *out_value = value;
    return TRUE;
}

gboolean parse_size(const char *text, uint64_t unit, uint64_t *out_bytes)
{
    if (!g_ascii_isdigit(text[0]))
        return FALSE;
    char *end;
    errno = 0;
    double fraction = g_ascii_strtod(text, &end);
    if (errno || end == text || fraction < 0)
        return FALSE;
    uint64_t scale = unit;
    if (*end) {
        static const char suffixes[] = "BKMGT";
        const char *suffix = strchr(suffixes, g_ascii_toupper(*end));
        if (!suffix)
            return FALSE;
        scale = UINT64_C(1) << (10 * (suffix - suffixes));
        end++;
        if (*end && scale > 1 && g_ascii_toupper(*end) == 'B')
            end++;
        if (*end)
            return FALSE;
    }
    double bytes = fraction * (double)scale;
    if (!(bytes < 9e18))
        return FALSE;
    *out_bytes = (uint64_t)bytes;
    return TRUE;
}
