/* Character back ends in both spellings: "-serial unix:PATH,server=on" and "-chardev socket,id=x,path=PATH". */
#include <string.h>

#include "config/config.h"
#include "core/error.h"

/* Takes what both spellings have in common. */
static gboolean char_take_common(CharConfig *config, Opts *opts, GError **error)
{
    bool nowait = false, delay;
    config->wait = true;
    if (!opts_take_bool(opts, "server", &config->server, error) || !opts_take_bool(opts, "wait", &config->wait, error) ||
        !opts_take_bool(opts, "nowait", &nowait, error) || !opts_take_bool(opts, "nodelay", &delay, error) ||
        !opts_take_bool(opts, "delay", &delay, error) || !opts_take_bool(opts, "mux", &config->mux, error) ||
        !opts_take_bool(opts, "append", &config->append, error) ||
        !opts_take_bool(opts, "signal", &config->signal, error))
        return FALSE;
    if (nowait)
        config->wait = false;
    bool is_other_family = false;
    opts_take(opts, "ipv4");
    return opts_take_bool(opts, "ipv6", &is_other_family, error);
}

static gboolean path_required(const char *option, const CharConfig *config, GError **error)
{
    if (config->path && config->path[0])
        return TRUE;
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: a path is missing", option);
    return FALSE;
}

CharConfig *char_config_parse(const char *option, const char *text, GError **error)
{
    static const struct {
        const char *prefix;
        CharKind kind;
        bool has_rest;
    } kinds[] = {
        { "none", CHAR_NONE, false },  { "null", CHAR_NULL, false }, { "stdio", CHAR_STDIO, false }, { "vc", CHAR_NULL, false },
        { "pty", CHAR_PTY, false },    { "file:", CHAR_FILE, true }, { "pipe:", CHAR_PIPE, true },   { "unix:", CHAR_UNIX, true },
        { "tcp:", CHAR_TCP, true },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        size_t len = strlen(kinds[i].prefix);
        if (strncmp(text, kinds[i].prefix, len) != 0)
            continue;
        if (!kinds[i].has_rest && text[len] && text[len] != ',' && text[len] != ':')
            continue;
        g_autoptr(CharConfig) config = char_config_new(kinds[i].kind);
        if (!kinds[i].has_rest) {
            config->signal = config->kind == CHAR_STDIO;
            return g_steal_pointer(&config);
        }
        if (config->kind == CHAR_FILE || config->kind == CHAR_PIPE) {
            config->path = g_strdup(text + len); /* may hold commas */
            return path_required(option, config, error) ? g_steal_pointer(&config) : NULL;
        }
        g_autoptr(Opts) opts = opts_parse(option, text + len, "addr", error);
        if (!opts)
            return NULL;
        const char *addr = opts_take(opts, "addr");
        if (!char_take_common(config, opts, error) || !opts_done(opts, "server wait", error))
            return NULL;
        if (config->kind == CHAR_UNIX) {
            config->path = g_strdup(addr);
            return path_required(option, config, error) ? g_steal_pointer(&config) : NULL;
        }
        const char *colon = addr ? strrchr(addr, ':') : NULL;
        if (!colon || !colon[1]) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s %s: must be tcp:HOST:PORT", option, text);
            return NULL;
        }
        config->host = colon == addr ? NULL : g_strndup(addr, (gsize)(colon - addr));
        config->port = g_strdup(colon + 1);
        return g_steal_pointer(&config);
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE,
                "%s %s: unknown back end; known: stdio, mon:stdio, file:PATH, pipe:PATH, null, none, unix:PATH[,server=on][,wait=off], "
                "tcp:HOST:PORT[,server=on][,wait=off], chardev:ID",
                option, text);
    return NULL;
}

CharConfig *char_config_from_chardev(const char *text, GError **error)
{
    static const struct {
        const char *name;
        CharKind kind;
    } kinds[] = { { "stdio", CHAR_STDIO }, { "file", CHAR_FILE },    { "null", CHAR_NULL },
                  { "pipe", CHAR_PIPE },   { "socket", CHAR_UNIX }, { "pty", CHAR_PTY } };
    g_autoptr(Opts) opts = opts_parse("-chardev", text, "backend", error);
    if (!opts)
        return NULL;
    const char *backend = opts_take(opts, "backend");
    g_autoptr(CharConfig) config = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (backend && !strcmp(backend, kinds[i].name))
            config = char_config_new(kinds[i].kind);
    if (!config) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-chardev %s: unknown back end; known: stdio, file, null, socket, pipe",
                    backend ? backend : "");
        return NULL;
    }
    config->signal = config->kind == CHAR_STDIO;
    config->id = g_strdup(opts_take(opts, "id"));
    if (!config->id) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-chardev %s: id=NAME is missing", backend);
        return NULL;
    }
    config->path = g_strdup(opts_take(opts, "path"));
    config->host = g_strdup(opts_take(opts, "host"));
    config->port = g_strdup(opts_take(opts, "port"));
    if (!char_take_common(config, opts, error) ||
        !opts_done(opts, "id path host port server wait mux append signal", error))
        return NULL;
    if (config->kind == CHAR_UNIX && config->port) {
        if (config->path) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-chardev socket,id=%s: path and port exclude each other", config->id);
            return NULL;
        }
        config->kind = CHAR_TCP;
    }
    bool needs_path = config->kind == CHAR_FILE || config->kind == CHAR_PIPE || config->kind == CHAR_UNIX;
    if (needs_path && !path_required("-chardev", config, error))
        return NULL;
    return g_steal_pointer(&config);
}

CharConfig *config_gdb_parse(const char *option, const char *text, GError **error)
{
    g_autoptr(CharConfig) config = char_config_parse(option, text, error);
    if (!config)
        return NULL;
    if (config->kind != CHAR_UNIX && config->kind != CHAR_TCP && config->kind != CHAR_STDIO && config->kind != CHAR_PTY && config->kind != CHAR_PIPE) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s %s: a debugger cannot come there; write tcp::PORT, unix:PATH, pipe:PATH, pty or stdio", option, text);
        return NULL;
    }
    config->server = true;
    config->wait = false;
    return g_steal_pointer(&config);
}
