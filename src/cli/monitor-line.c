#include "cli/monitor-line.h"

#include <string.h>

#include "core/error.h"

static bool has_name(const GPtrArray *names, const char *name)
{
    for (guint i = 0; i < names->len; i++)
        if (!strcmp(g_ptr_array_index(names, i), name))
            return true;
    return false;
}

/* The first word of each line of @text behind @prefix; "stop|s …" gives both. */
static void words_add(GPtrArray *names, const char *text, const char *prefix)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!g_str_has_prefix(*line, prefix))
            continue;
        const char *at = *line + strlen(prefix);
        g_autofree char *word = g_strndup(at, strcspn(at, " \t\r"));
        g_auto(GStrv) aliases = g_strsplit(word, "|", -1);
        for (char **alias = aliases; *alias; alias++)
            if (**alias)
                g_ptr_array_add(names, g_strdup(*alias));
    }
}

MonitorNames *monitor_names_new(QmpClient *client, GError **error)
{
    g_autoptr(MonitorNames) names = g_new0(MonitorNames, 1);
    names->qmp = g_ptr_array_new_with_free_func(g_free);
    names->human = g_ptr_array_new_with_free_func(g_free);
    names->infos = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(JsonNode) list = qmp_client_call(client, "query-commands", NULL, error);
    if (!list)
        return NULL;
    JsonArray *rows = JSON_NODE_HOLDS_ARRAY(list) ? json_node_get_array(list) : NULL;
    for (guint i = 0; rows && i < json_array_get_length(rows); i++) {
        JsonNode *row = json_array_get_element(rows, i);
        const char *name = JSON_NODE_HOLDS_OBJECT(row) ? json_object_get_string_member_with_default(json_node_get_object(row), "name", NULL) : NULL;
        if (name)
            g_ptr_array_add(names->qmp, g_strdup(name));
    }
    g_autofree char *help = qmp_client_human(client, "help", error);
    g_autofree char *info = help ? qmp_client_human(client, "info", error) : NULL;
    if (!info)
        return NULL;
    words_add(names->human, help, "");
    words_add(names->infos, info, "info ");
    return g_steal_pointer(&names);
}

void monitor_names_free(MonitorNames *names)
{
    if (!names)
        return;
    g_clear_pointer(&names->qmp, g_ptr_array_unref);
    g_clear_pointer(&names->human, g_ptr_array_unref);
    g_clear_pointer(&names->infos, g_ptr_array_unref);
    g_free(names);
}

/* "key=value" words as arguments; values that are JSON (numbers, true, [1]) are that, others are strings.  NULL: a word is none. */
static JsonObject *arguments_of(const char *const *words)
{
    g_autoptr(JsonObject) args = json_object_new();
    for (; *words; words++) {
        const char *equals = strchr(*words, '=');
        if (!equals || equals == *words)
            return NULL;
        g_autofree char *key = g_strndup(*words, (gsize)(equals - *words));
        g_autoptr(JsonNode) value = json_from_string(equals + 1, NULL);
        if (value && !JSON_NODE_HOLDS_NULL(value))
            json_object_set_member(args, key, g_steal_pointer(&value));
        else
            json_object_set_string_member(args, key, equals + 1);
    }
    return g_steal_pointer(&args);
}

static char *result_text(JsonNode *result)
{
    if (JSON_NODE_HOLDS_VALUE(result) && json_node_get_value_type(result) == G_TYPE_STRING)
        return g_strconcat(json_node_get_string(result), "\n", NULL);
    if (JSON_NODE_HOLDS_OBJECT(result) && !json_object_get_size(json_node_get_object(result)))
        return g_strdup("");
    g_autofree char *text = json_to_string(result, TRUE);
    return g_strconcat(text, "\n", NULL);
}

static char *human_run(QmpClient *client, const char *line, const char *name, GError **error)
{
    g_autofree char *text = qmp_client_human(client, line, error);
    g_autofree char *complaint = g_strconcat(name, ": ", NULL);
    if (!text || (!g_str_has_prefix(text, complaint) && !g_str_has_prefix(text, "unknown command: ")))
        return g_steal_pointer(&text);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_REFUSED, g_strchomp(text));
    return NULL;
}

char *monitor_words_run(QmpClient *client, const MonitorNames *names, const char *const *words, GError **error)
{
    g_autofree char *text = g_strjoinv(" ", (char **)words);
    if (!words[0] || !*words[0])
        return g_strdup("");
    if (!g_utf8_validate(text, -1, NULL)) {
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_REFUSED, "the line is not UTF-8");
        return NULL;
    }
    JsonObject *args = has_name(names->qmp, words[0]) ? arguments_of(words + 1) : NULL;
    if (!args)
        return human_run(client, text, words[0], error);
    g_autoptr(JsonNode) result = qmp_client_call(client, words[0], args, error);
    return result ? result_text(result) : NULL;
}

char *monitor_line_run(QmpClient *client, const MonitorNames *names, const char *line, GError **error)
{
    g_autofree char *text = g_strstrip(g_strdup(line));
    g_auto(GStrv) words = g_strsplit_set(text, " \t", -1);
    return monitor_words_run(client, names, (const char *const *)words, error);
}

static void matches_add(GPtrArray *matches, const GPtrArray *names, const char *prefix)
{
    for (guint i = 0; i < names->len; i++)
        if (g_str_has_prefix(g_ptr_array_index(names, i), prefix))
            g_ptr_array_add(matches, g_ptr_array_index(names, i));
}

GPtrArray *monitor_line_complete(const MonitorNames *names, const char *line, size_t start)
{
    static const char *const modes[] = { "bt", "hv", "hwmmu" }, *const mode_args[] = { "mode=bt", "mode=hv", "mode=hwmmu" };
    GPtrArray *matches = g_ptr_array_new();
    g_autofree char *before = g_strstrip(g_strndup(line, start));
    const char *prefix = line + start;
    if (!*before) {
        matches_add(matches, names->human, prefix);
        for (guint i = 0; i < names->qmp->len; i++) { /* some are both */
            char *name = g_ptr_array_index(names->qmp, i);
            if (g_str_has_prefix(name, prefix) && !has_name(names->human, name))
                g_ptr_array_add(matches, name);
        }
    } else if (!strcmp(before, "info")) {
        matches_add(matches, names->infos, prefix);
    } else if (!strcmp(before, "mode") || !strcmp(before, "switch-mode")) {
        const char *const *words = before[0] == 'm' ? modes : mode_args;
        for (size_t i = 0; i < G_N_ELEMENTS(modes); i++)
            if (g_str_has_prefix(words[i], prefix))
                g_ptr_array_add(matches, (char *)words[i]);
    }
    return matches;
}
