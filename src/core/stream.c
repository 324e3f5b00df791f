#include "core/stream.h"

#include <string.h>

#include "core/error.h"

struct Stream {
    bool is_loading;
    GByteArray *saved;
    const uint8_t *bytes; /* loading: size of them, next is at position */
    size_t size, position;
    char *name;
    uint32_t version;
    char *wrong; /* NULL: all is well */
};

Stream *stream_new_save(void)
{
    Stream *stream = g_new0(Stream, 1);
    stream->saved = g_byte_array_new();
    return stream;
}

Stream *stream_new_load(const char *name, uint32_t version, const void *bytes, size_t size)
{
    Stream *stream = g_new0(Stream, 1);
    stream->is_loading = true;
    stream->bytes = bytes;
    stream->size = size;
    stream->name = g_strdup(name);
    stream->version = version;
    return stream;
}

void stream_free(Stream *stream)
{
    if (!stream)
        return;
    if (stream->saved)
        g_byte_array_unref(stream->saved);
    g_free(stream->name);
    g_free(stream->wrong);
    g_free(stream);
}

bool stream_is_loading(const Stream *stream) { return stream->is_loading; }
uint32_t stream_version(const Stream *stream) { return stream->version; }
bool stream_is_ok(const Stream *stream) { return !stream->wrong; }

bool stream_check(Stream *stream, bool is_fine, const char *what)
{
    if (stream->is_loading && !is_fine && !stream->wrong)
        stream->wrong = g_strdup_printf("impossible value: %s", what);
    return !stream->wrong;
}

/* take: the next @size bytes, or NULL once anything is wrong. */
static const uint8_t *take(Stream *stream, size_t size)
{
    if (!stream->wrong && size > stream->size - stream->position)
        stream->wrong = g_strdup_printf("it ends after %" G_GSIZE_FORMAT " bytes, within a field", stream->size);
    if (stream->wrong)
        return NULL;
    const uint8_t *bytes = stream->bytes + stream->position;
    stream->position += size;
    return bytes;
}

void stream_bytes(Stream *stream, void *bytes, size_t size)
{
    if (!stream->is_loading) {
        g_byte_array_append(stream->saved, bytes, (guint)size);
        return;
    }
    const uint8_t *from = take(stream, size);
    if (from)
        memcpy(bytes, from, size);
    else
        memset(bytes, 0, size);
}

void stream_skip(Stream *stream, size_t size)
{
    if (stream->is_loading) {
        take(stream, size);
        return;
    }
    guint old = stream->saved->len;
    g_byte_array_set_size(stream->saved, old + (guint)size);
    memset(stream->saved->data + old, 0, size);
}

/* number: @size bytes, little-endian. */
static uint64_t number(Stream *stream, uint64_t value, unsigned size)
{
    value = GUINT64_TO_LE(value);
    if (!stream->is_loading) {
        stream_bytes(stream, &value, size);
    } else {
        value = 0;
        stream_bytes(stream, &value, size);
    }
    return GUINT64_FROM_LE(value);
}

void stream_u8(Stream *stream, uint8_t *value) { *value = (uint8_t)number(stream, *value, 1); }
void stream_u16(Stream *stream, uint16_t *value) { *value = (uint16_t)number(stream, *value, 2); }
void stream_u32(Stream *stream, uint32_t *value) { *value = (uint32_t)number(stream, *value, 4); }
void stream_u64(Stream *stream, uint64_t *value) { *value = number(stream, *value, 8); }
void stream_i64(Stream *stream, int64_t *value) { *value = (int64_t)number(stream, (uint64_t)*value, 8); }

void stream_bool(Stream *stream, bool *value)
{
    uint8_t byte = *value;
    stream_u8(stream, &byte);
    *value = stream_check(stream, byte <= 1, "a flag that is neither 0 nor 1") && byte;
}

void stream_text(Stream *stream, char **text, size_t limit)
{
    uint16_t size = stream->is_loading ? 0 : (uint16_t)strlen(*text);
    g_assert(limit <= UINT16_MAX && size <= limit);
    stream_u16(stream, &size);
    if (!stream->is_loading) {
        stream_bytes(stream, *text, size);
        return;
    }
    g_free(*text);
    *text = NULL;
    const uint8_t *bytes = stream_check(stream, size <= limit, "length of a text") ? take(stream, size) : NULL;
    if (bytes && stream_check(stream, g_utf8_validate_len((const char *)bytes, size, NULL), "a text that is not UTF-8"))
        *text = g_strndup((const char *)bytes, size);
    else
        *text = g_strdup("");
}

const uint8_t *stream_saved(const Stream *stream, size_t *out_size)
{
    *out_size = stream->saved->len;
    return stream->saved->data;
}

const uint8_t *stream_left(const Stream *stream, size_t *out_size)
{
    *out_size = stream->wrong ? 0 : stream->size - stream->position;
    return stream->bytes + stream->position;
}

gboolean stream_finish(const Stream *stream, GError **error)
{
    if (!stream->is_loading)
        return TRUE;
    if (stream->wrong)
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\": %s", stream->name, stream->wrong);
    else if (stream->position != stream->size)
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\": %" G_GSIZE_FORMAT " bytes too many", stream->name,
                    stream->size - stream->position);
    return !stream->wrong && stream->position == stream->size;
}
