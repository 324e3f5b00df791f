#include "config/vmx.h"

#include <string.h>

#include "core/error.h"

#define MAX_FILE_BYTES (1u << 20)

typedef struct Line {
    char *raw;   /* as it stands in the file, without the newline */
    char *key;   /* NULL: comment or empty */
    char *value; /* decoded */
} Line;

struct VmxFile {
    char *name;
    GPtrArray *lines; /* Line */
    GHashTable *keys; /* lower-case key → line number from 1 */
};

static void line_free(gpointer data)
{
    Line *line = data;
    g_free(line->raw);
    g_free(line->key);
    g_free(line->value);
    g_free(line);
}

static gboolean fail(const VmxFile *file, unsigned number, GError **error, const char *text)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s:%u: %s", file->name, number, text);
    return FALSE;
}

static bool is_key_char(char c) { return g_ascii_isalnum(c) || (c && strchr("._:-", c)); }

static bool is_key(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!is_key_char(*c))
            return false;
    return *text != 0;
}

/* Undoes |XX. */
static char *value_decode(const char *text, gsize size)
{
    GString *value = g_string_new(NULL);
    for (gsize i = 0; i < size; i++) {
        if (text[i] == '|' && i + 2 < size && g_ascii_isxdigit(text[i + 1]) && g_ascii_isxdigit(text[i + 2])) {
            char c = (char)(g_ascii_xdigit_value(text[i + 1]) << 4 | g_ascii_xdigit_value(text[i + 2]));
            if (c)
                g_string_append_c(value, c);
            i += 2;
        } else {
            g_string_append_c(value, text[i]);
        }
    }
    return g_string_free(value, FALSE);
}

static char *value_encode(const char *value)
{
    GString *text = g_string_new(NULL);
    for (const char *c = value; *c; c++)
        if (*c == '"' || *c == '|' || (unsigned char)*c < 32)
            g_string_append_printf(text, "|%02X", (unsigned char)*c);
        else
            g_string_append_c(text, *c);
    return g_string_free(text, FALSE);
}

/* Takes @line->raw apart.  Returns: what is wrong, or NULL. */
static const char *line_parse(Line *line)
{
    const char *at = line->raw;
    at += strspn(at, " \t");
    if (!*at || *at == '#')
        return NULL;
    const char *start = at;
    while (is_key_char(*at))
        at++;
    if (at == start)
        return "a key is expected; write key = \"value\"";
    g_autofree char *key = g_strndup(start, (gsize)(at - start));
    at += strspn(at, " \t");
    if (*at != '=')
        return "'=' is missing; write key = \"value\"";
    at++;
    at += strspn(at, " \t");
    if (*at == '"') {
        const char *end = strchr(at + 1, '"');
        if (!end)
            return "the closing quote is missing; write key = \"value\"";
        const char *rest = end + 1 + strspn(end + 1, " \t");
        if (*rest && *rest != '#')
            return "there is text behind the value; a quote inside a value is written |22";
        line->value = value_decode(at + 1, (gsize)(end - at - 1));
    } else {
        gsize size = strcspn(at, " \t#");
        if (!size)
            return "the value is missing; write key = \"value\"";
        if (at[size + strspn(at + size, " \t")] && at[size + strspn(at + size, " \t")] != '#')
            return "a value with blanks needs quotes; write key = \"value\"";
        line->value = value_decode(at, size);
    }
    line->key = g_steal_pointer(&key);
    return NULL;
}

static gboolean line_add(VmxFile *file, const char *raw, gsize size, GError **error)
{
    Line *line = g_new0(Line, 1);
    line->raw = g_strndup(raw, size);
    g_ptr_array_add(file->lines, line);
    unsigned number = file->lines->len;
    if (number > VMX_MAX_LINES)
        return fail(file, number, error, "too many lines: this is not a .vmx file");
    const char *wrong = line_parse(line);
    if (wrong)
        return fail(file, number, error, wrong);
    if (!line->key)
        return TRUE;
    char *lower = g_ascii_strdown(line->key, -1);
    unsigned before = GPOINTER_TO_UINT(g_hash_table_lookup(file->keys, lower));
    if (before) {
        g_autofree char *text = g_strdup_printf("%s is given twice; it is in line %u already", line->key, before);
        g_free(lower);
        return fail(file, number, error, text);
    }
    g_hash_table_insert(file->keys, lower, GUINT_TO_POINTER(number));
    return TRUE;
}

VmxFile *vmx_parse(const char *name, const char *text, gsize size, GError **error)
{
    g_autoptr(VmxFile) file = g_new0(VmxFile, 1);
    file->name = g_strdup(name);
    file->lines = g_ptr_array_new_with_free_func(line_free);
    file->keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (size > MAX_FILE_BYTES) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: larger than 1 MiB: this is not a .vmx file", name);
        return NULL;
    }
    const char *end = text + size;
    if (size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        text += 3;
    while (text < end) {
        const char *newline = memchr(text, '\n', (gsize)(end - text)), *stop = newline ? newline : end;
        gsize length = (gsize)(stop - text);
        if (length && text[length - 1] == '\r')
            length--;
        if (!g_utf8_validate_len(text, length, NULL)) {
            fail(file, file->lines->len + 1, error, "this is not UTF-8 text");
            return NULL;
        }
        if (!line_add(file, text, length, error))
            return NULL;
        text = newline ? newline + 1 : end;
    }
    return g_steal_pointer(&file);
}

VmxFile *vmx_load(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize size;
    g_autoptr(GError) cause = NULL;
    if (!g_file_test(path, G_FILE_TEST_IS_REGULAR) && g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: not a regular file", path);
        return NULL;
    }
    if (!g_file_get_contents(path, &text, &size, &cause)) {
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, cause->message);
        return NULL;
    }
    return vmx_parse(path, text, size, error);
}

void vmx_free(VmxFile *file)
{
    if (!file)
        return;
    g_free(file->name);
    g_ptr_array_free(file->lines, TRUE);
    g_hash_table_destroy(file->keys);
    g_free(file);
}

const char *vmx_name(const VmxFile *file) { return file->name; }

unsigned vmx_line(const VmxFile *file, const char *key)
{
    g_autofree char *lower = g_ascii_strdown(key, -1);
    return GPOINTER_TO_UINT(g_hash_table_lookup(file->keys, lower));
}

const char *vmx_get(const VmxFile *file, const char *key)
{
    unsigned number = vmx_line(file, key);
    return number ? ((const Line *)g_ptr_array_index(file->lines, number - 1))->value : NULL;
}

gboolean vmx_next(const VmxFile *file, guint *cursor, const char **out_key, const char **out_value, unsigned *out_line)
{
    while (*cursor < file->lines->len) {
        const Line *line = g_ptr_array_index(file->lines, *cursor);
        ++*cursor;
        if (!line->key)
            continue;
        *out_key = line->key;
        *out_value = line->value;
        *out_line = *cursor;
        return TRUE;
    }
    return FALSE;
}

void vmx_remove(VmxFile *file, const char *key)
{
    unsigned number = vmx_line(file, key);
    if (!number)
        return;
    g_ptr_array_remove_index(file->lines, number - 1);
    g_hash_table_remove_all(file->keys);
    for (guint i = 0; i < file->lines->len; i++) {
        const Line *line = g_ptr_array_index(file->lines, i);
        if (line->key)
            g_hash_table_insert(file->keys, g_ascii_strdown(line->key, -1), GUINT_TO_POINTER(i + 1));
    }
}

gboolean vmx_set(VmxFile *file, const char *key, const char *value, GError **error)
{
    if (!is_key(key)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "'%s' cannot be a key: letters, digits and . _ : - only", key);
        return FALSE;
    }
    g_autofree char *encoded = value_encode(value);
    unsigned number = vmx_line(file, key);
    if (!number) {
        g_autofree char *raw = g_strdup_printf("%s = \"%s\"", key, encoded);
        return line_add(file, raw, strlen(raw), error);
    }
    Line *line = g_ptr_array_index(file->lines, number - 1);
    g_free(line->raw);
    g_free(line->value);
    line->raw = g_strdup_printf("%s = \"%s\"", line->key, encoded);
    line->value = g_strdup(value);
    return TRUE;
}

char *vmx_text(const VmxFile *file)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < file->lines->len; i++)
        g_string_append_printf(text, "%s\n", ((const Line *)g_ptr_array_index(file->lines, i))->raw);
    return g_string_free(text, FALSE);
}
