/* What every reader of options does: refuse with a sentence, put one text in the place of another. */
#pragma once

#include <glib.h>

/* usage: sets VMM_ERROR_USAGE; the text names the option and the remedy.  Returns: FALSE, for "return usage(error, …)". */
gboolean usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* text_replace: frees *field and puts a copy of @value there (NULL: nothing). */
void text_replace(char **field, const char *value);
