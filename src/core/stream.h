/*
 * Stream: the fields of one section of saved state, in the order in which one function visits them.
 *
 * The same function saves and loads, so that the two cannot differ: stream_u32(stream, &chip->count) appends the field when saving and
 * overwrites it when loading.  Fields are little-endian and without padding.  What is loaded may be hostile: reads are bounded, and
 * a function checks with stream_check() whatever it uses as an index, a size or a divisor.  The first thing that is wrong is
 * remembered; all fields after it read as zero.  Thread: one at a time.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Stream Stream;

/* What a chip gives to be saved and loaded.  @visit runs with the machine lock held, the guest standing still and, when loading, the
 * clock already at the saved time; it moves no interrupt line: the levels are part of the state on both ends of each line. */
typedef struct StateOps {
    const char *name; /* of the section: at most 32 characters */
    uint32_t version; /* of what @visit writes; older ones are its business, newer ones are refused */
    void (*visit)(void *device, Stream *stream);
} StateOps;

Stream *stream_new_save(void);
/* stream_new_load: @bytes outlive the stream; @name is for messages; @version is what stream_version() says. */
Stream *stream_new_load(const char *name, uint32_t version, const void *bytes, size_t size);
void stream_free(Stream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stream, stream_free)

bool stream_is_loading(const Stream *stream);
uint32_t stream_version(const Stream *stream); /* when loading */
bool stream_is_ok(const Stream *stream);

void stream_u8(Stream *stream, uint8_t *value);
void stream_u16(Stream *stream, uint16_t *value);
void stream_u32(Stream *stream, uint32_t *value);
void stream_u64(Stream *stream, uint64_t *value);
void stream_i64(Stream *stream, int64_t *value);
void stream_bool(Stream *stream, bool *value); /* one byte; 2 to 255 are refused */
void stream_bytes(Stream *stream, void *bytes, size_t size);
void stream_skip(Stream *stream, size_t size); /* saves zeros; loading leaves them out */
/* stream_text: up to @limit bytes of UTF-8 without zeros, after their count (2 bytes).  Loading frees *text first; (transfer full). */
void stream_text(Stream *stream, char **text, size_t limit);

/* stream_check: when loading and @is_fine is false, the stream fails because of @what ("FIFO count").  Returns: whether all is well. */
bool stream_check(Stream *stream, bool is_fine, const char *what);

/* stream_saved: what was saved; owned by the stream.   stream_left: loading: what has not been read. */
const uint8_t *stream_saved(const Stream *stream, size_t *out_size);
const uint8_t *stream_left(const Stream *stream, size_t *out_size);

/* stream_finish: FALSE with VMM_ERROR_USAGE when loading failed or left bytes over. */
gboolean stream_finish(const Stream *stream, GError **error);
