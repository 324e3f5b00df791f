#include "core/sections.h"

#include <libdeflate.h>
#include <string.h>

#include "core/error.h"

#define FORMAT_VERSION 1u
#define WRITE_SIZE (1u << 20)

static const char file_magic[8] = { 'S', 'e', 'g', 'u', 'e', ' ', 'V', 'M' };
static const char section_magic[4] = { 'S', 'E', 'C', 'T' };

struct SectionWriter {
    GOutputStream *out;
    GCancellable *cancellable;
    GByteArray *waiting; /* not given to @out yet: one write for many small pieces */
    uint32_t crc;
    uint64_t total;
};

struct SectionReader {
    GInputStream *in;
    GCancellable *cancellable;
    uint32_t crc;
    uint64_t total;
    bool has_ended;
    uint8_t *bytes;
    size_t capacity;
    char last[SECTION_NAME_MAX + 1]; /* for messages */
};

/* --- writing --- */

static gboolean write_out(SectionWriter *writer, GError **error)
{
    g_autoptr(GError) cause = NULL;
    if (!g_output_stream_write_all(writer->out, writer->waiting->data, writer->waiting->len, NULL, writer->cancellable, &cause)) {
        if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            g_propagate_error(error, g_steal_pointer(&cause));
        else
            g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "cannot write the guest's state: %s", cause->message);
        return FALSE;
    }
    g_byte_array_set_size(writer->waiting, 0);
    return TRUE;
}

static gboolean put_plain(SectionWriter *writer, const void *bytes, size_t size, GError **error)
{
    g_byte_array_append(writer->waiting, bytes, (guint)size);
    writer->total += size;
    return writer->waiting->len < WRITE_SIZE || write_out(writer, error);
}

static gboolean put(SectionWriter *writer, const void *bytes, size_t size, GError **error)
{
    if (size) /* no bytes may be no pointer, which is a wish to begin anew */
        writer->crc = libdeflate_crc32(writer->crc, bytes, size);
    return put_plain(writer, bytes, size, error);
}

static gboolean put_u32(SectionWriter *writer, uint32_t value, GError **error)
{
    value = GUINT32_TO_LE(value);
    return put(writer, &value, sizeof value, error);
}

SectionWriter *section_writer_new(GOutputStream *out, GCancellable *cancellable)
{
    SectionWriter *writer = g_new0(SectionWriter, 1);
    writer->out = out;
    writer->cancellable = cancellable;
    writer->waiting = g_byte_array_new();
    return writer;
}

void section_writer_free(SectionWriter *writer)
{
    if (!writer)
        return;
    g_byte_array_unref(writer->waiting);
    g_free(writer);
}

gboolean section_write(SectionWriter *writer, const char *name, uint32_t version, const void *bytes, size_t size, GError **error)
{
    uint8_t head[sizeof section_magic + 1 + SECTION_NAME_MAX + 8];
    size_t length = strlen(name), used = 0;
    g_assert(length <= SECTION_NAME_MAX && size <= SECTION_MAX_BYTES);
    if (!writer->total && !(put(writer, file_magic, sizeof file_magic, error) && put_u32(writer, FORMAT_VERSION, error)))
        return FALSE;
    memcpy(head, section_magic, sizeof section_magic);
    used += sizeof section_magic;
    head[used++] = (uint8_t)length;
    memcpy(head + used, name, length);
    used += length;
    uint32_t numbers[2] = { GUINT32_TO_LE(version), GUINT32_TO_LE((uint32_t)size) };
    memcpy(head + used, numbers, sizeof numbers);
    if (!put(writer, head, used + sizeof numbers, error) || !put(writer, bytes, size, error))
        return FALSE;
    /* Not itself under the checksum: a CRC over its own value is a constant, and the chain would end here. */
    uint32_t crc = GUINT32_TO_LE(writer->crc);
    return put_plain(writer, &crc, sizeof crc, error);
}

void section_name(char out_name[SECTION_NAME_MAX + 1], const StateOps *ops, int instance)
{
    if (instance < 0)
        g_snprintf(out_name, SECTION_NAME_MAX + 1, "%s", ops->name);
    else
        g_snprintf(out_name, SECTION_NAME_MAX + 1, "%s.%d", ops->name, instance);
}

gboolean section_write_state(SectionWriter *writer, const StateOps *ops, int instance, void *device, GError **error)
{
    char name[SECTION_NAME_MAX + 1];
    section_name(name, ops, instance);
    g_autoptr(Stream) stream = stream_new_save();
    ops->visit(device, stream);
    size_t size;
    const uint8_t *bytes = stream_saved(stream, &size);
    return section_write(writer, name, ops->version, bytes, size, error);
}

gboolean section_write_end(SectionWriter *writer, GError **error)
{
    return section_write(writer, "end", 1, "", 0, error) && write_out(writer, error);
}

uint64_t section_writer_total(const SectionWriter *writer) { return writer->total; }

/* --- reading --- */

static gboolean get_plain(SectionReader *reader, void *bytes, size_t size, GError **error)
{
    g_autoptr(GError) cause = NULL;
    gsize done = 0;
    if (!g_input_stream_read_all(reader->in, bytes, size, &done, reader->cancellable, &cause)) {
        if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            g_propagate_error(error, g_steal_pointer(&cause));
        else
            g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "cannot read the saved state: %s", cause->message);
        return FALSE;
    }
    reader->total += done;
    if (done < size) {
        if (reader->total == 0)
            g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, "the saved state is empty");
        else
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "the saved state is truncated: it ends after %" G_GUINT64_FORMAT " bytes%s%s%s",
                        reader->total, *reader->last ? ", after section \"" : "", reader->last, *reader->last ? "\"" : "");
        return FALSE;
    }
    return TRUE;
}

static gboolean get(SectionReader *reader, void *bytes, size_t size, GError **error)
{
    if (!size) /* there may be no room for no bytes, and GIO and the checksum want a pointer */
        return TRUE;
    if (!get_plain(reader, bytes, size, error))
        return FALSE;
    reader->crc = libdeflate_crc32(reader->crc, bytes, size);
    return TRUE;
}

static gboolean damaged(const SectionReader *reader, const char *why, GError **error)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "the saved state is damaged before byte %" G_GUINT64_FORMAT ": %s", reader->total, why);
    return FALSE;
}

static gboolean get_u32(SectionReader *reader, uint32_t *out_value, GError **error)
{
    uint32_t value;
    if (!get(reader, &value, sizeof value, error))
        return FALSE;
    *out_value = GUINT32_FROM_LE(value);
    return TRUE;
}

static gboolean head_read(SectionReader *reader, GError **error)
{
    char magic[sizeof file_magic];
    uint32_t version;
    if (!get(reader, magic, sizeof magic, error))
        return FALSE;
    if (memcmp(magic, file_magic, sizeof magic) != 0) {
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, "this is not a saved guest of Segue: it does not begin with \"Segue VM\"");
        return FALSE;
    }
    if (!get_u32(reader, &version, error))
        return FALSE;
    if (version != FORMAT_VERSION) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "the saved state has format version %u; this Segue reads version %u only", version,
                    FORMAT_VERSION);
        return FALSE;
    }
    return TRUE;
}

SectionReader *section_reader_new(GInputStream *in, GCancellable *cancellable)
{
    SectionReader *reader = g_new0(SectionReader, 1);
    reader->in = in;
    reader->cancellable = cancellable;
    return reader;
}

void section_reader_free(SectionReader *reader)
{
    if (!reader)
        return;
    g_free(reader->bytes);
    g_free(reader);
}

static bool is_name(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return length > 0;
}

gboolean section_read(SectionReader *reader, Section *out_section, GError **error)
{
    Section section = { 0 };
    char magic[sizeof section_magic];
    uint8_t length;
    if (reader->has_ended)
        return damaged(reader, "a section is missing", error);
    if (!reader->total && !head_read(reader, error))
        return FALSE;
    if (!get(reader, magic, sizeof magic, error) || !get(reader, &length, 1, error))
        return FALSE;
    if (memcmp(magic, section_magic, sizeof magic) != 0 || length > SECTION_NAME_MAX)
        return damaged(reader, "no section begins where one should", error);
    if (!get(reader, section.name, length, error))
        return FALSE;
    if (!is_name(section.name, length))
        return damaged(reader, "a section without a proper name", error);
    if (!get_u32(reader, &section.version, error) || !get_u32(reader, &section.size, error))
        return FALSE;
    if (section.size > SECTION_MAX_BYTES)
        return damaged(reader, "a section is larger than any can be", error);
    if (section.size > reader->capacity) {
        reader->bytes = g_realloc(reader->bytes, section.size);
        reader->capacity = section.size;
    }
    if (!get(reader, reader->bytes, section.size, error))
        return FALSE;
    uint32_t crc;
    if (!get_plain(reader, &crc, sizeof crc, error))
        return FALSE;
    if (GUINT32_FROM_LE(crc) != reader->crc) {
        g_autofree char *why = g_strdup_printf("the checksum after section \"%s\" is wrong", section.name);
        return damaged(reader, why, error);
    }
    section.bytes = reader->bytes;
    memcpy(reader->last, section.name, sizeof reader->last);
    reader->has_ended = section_is_end(&section);
    *out_section = section;
    return TRUE;
}

bool section_is_end(const Section *section) { return !strcmp(section->name, "end"); }

uint64_t section_reader_total(const SectionReader *reader) { return reader->total; }

gboolean section_load_state(const Section *section, const StateOps *ops, void *device, GError **error)
{
    if (section->version > ops->version || section->version == 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\" has version %u; this Segue reads up to version %u", section->name,
                    section->version, ops->version);
        return FALSE;
    }
    g_autoptr(Stream) stream = stream_new_load(section->name, section->version, section->bytes, section->size);
    ops->visit(device, stream);
    return stream_finish(stream, error);
}
