/*
 * Cuts a byte stream into JSON objects, as QMP's peers send them: one a line, or several on one.  What arrives is hostile: at most 256 KiB
 * and 128 levels an object, and a newline ends whatever is malformed, so that the next line is understood again.
 * Pure: no transport, no JSON library.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QMP_OBJECT_MAX_BYTES (256u << 10)
#define QMP_MAX_DEPTH 128

typedef struct QmpFrame {
    GByteArray *object; /* what has come of it; empty between objects */
    int depth;
    bool in_string, is_escaped, is_skipping; /* skipping: to the next newline */
    bool is_handed_out; /* @object was returned by the last call */
} QmpFrame;

void qmp_frame_init(QmpFrame *frame);
void qmp_frame_clear(QmpFrame *frame);

typedef enum QmpFrameKind { QMP_FRAME_MORE, QMP_FRAME_OBJECT, QMP_FRAME_MALFORMED } QmpFrameKind;

/**
 * qmp_frame_take:
 * @out_text: OBJECT: the object, NUL-terminated, braces and quotes balance and no more is known of it; MALFORMED: why, static.
 *            Valid until the next call
 *
 * Takes bytes until an object is complete or spoilt.
 * Returns: OBJECT, MALFORMED, or MORE when all bytes were taken; *out_taken of @count bytes are used up in each case.
 */
QmpFrameKind qmp_frame_take(QmpFrame *frame, const uint8_t *bytes, size_t count, size_t *out_taken, const char **out_text, size_t *out_size);
