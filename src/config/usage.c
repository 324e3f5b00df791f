#include "config/usage.h"

#include "core/error.h"

gboolean usage(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, text);
    return FALSE;
}

void text_replace(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
}
