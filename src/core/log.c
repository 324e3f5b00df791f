#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"

uint32_t log_mask;
static FILE *log_file;

static const struct {
    const char *name;
    uint32_t mask;
    const char *what;
} categories[] = {
    { "opts", LOG_OPTS, "options that were accepted without effect" },
    { "int", LOG_INT, "interrupts and exceptions" },
    { "guest_errors", LOG_GUEST_ERRORS, "wrong use of a device by the guest" },
    { "unimp", LOG_UNIMP, "use of something that does not exist here" },
    { "bt", LOG_BT, "every block translated: guest and host code" },
    { "verify", LOG_VERIFY, "every block translated is decoded again and its memory accesses and branches proven safe; counted at the end (slow)" },
    { "exec", LOG_EXEC, "every block entered; blocks are not chained (slow)" },
    { "prof", LOG_PROF, "statistics at the end, and where host time went" },
    { "switch", LOG_SWITCH, "every switch to another mode, with its times" },
    { "kvm", LOG_KVM, "what is asked of KVM" },
    { "cpu", LOG_CPU, "registers at every block entered (with exec)" },
    { "cpu_reset", LOG_CPU_RESET, "registers at reset and triple fault" },
};

gboolean log_open(uint32_t mask, const char *path, GError **error)
{
    if (path) {
        FILE *file = fopen(path, "we");
        if (!file) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-D %s: %s", path, g_strerror(errno));
            return FALSE;
        }
        setvbuf(file, NULL, _IOLBF, 0);
        log_file = file;
    }
    log_mask = mask;
    return TRUE;
}

void log_text(uint32_t category, const char *format, ...)
{
    if (!log_on(category))
        return;
    FILE *file = log_file ? log_file : stderr;
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    size_t len = strlen(text);
    fprintf(file, "%s%s", text, len && text[len - 1] == '\n' ? "" : "\n");
}

gboolean log_parse(const char *list, uint32_t *out_mask, GError **error)
{
    uint32_t mask = 0;
    g_auto(GStrv) words = g_strsplit(list, ",", -1);
    for (char **word = words; *word; word++) {
        uint32_t found = 0;
        for (size_t i = 0; i < G_N_ELEMENTS(categories); i++)
            if (!strcmp(*word, categories[i].name) || !strcmp(*word, "all"))
                found |= categories[i].mask;
        if (!found) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-d: unknown category '%s'; see -d help", *word);
            return FALSE;
        }
        mask |= found;
    }
    *out_mask = mask;
    return TRUE;
}

char *log_help(void)
{
    GString *text = g_string_new("Log categories (comma-separated, or all):\n");
    for (size_t i = 0; i < G_N_ELEMENTS(categories); i++)
        g_string_append_printf(text, "  %-14s %s\n", categories[i].name, categories[i].what);
    return g_string_free(text, FALSE);
}
