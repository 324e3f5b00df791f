#include "monitor/qmp-frame.h"

void qmp_frame_init(QmpFrame *frame) { *frame = (QmpFrame){ .object = g_byte_array_new() }; }
void qmp_frame_clear(QmpFrame *frame) { g_clear_pointer(&frame->object, g_byte_array_unref); }

static void frame_restart(QmpFrame *frame)
{
    g_byte_array_set_size(frame->object, 0);
    frame->depth = 0;
    frame->in_string = frame->is_escaped = frame->is_handed_out = false;
}

/* Inside a string only its end matters. */
static void string_scan(QmpFrame *frame, uint8_t byte)
{
    if (frame->is_escaped)
        frame->is_escaped = false;
    else if (byte == '\\')
        frame->is_escaped = true;
    else if (byte == '"')
        frame->in_string = false;
}

/* Looks at one byte outside of strings.  Returns: what is wrong, or NULL; *out_is_complete: it closed the object. */
static const char *byte_scan(QmpFrame *frame, uint8_t byte, bool *out_is_complete)
{
    switch (byte) {
    case '"':
        frame->in_string = true;
        return NULL;
    case '{':
    case '[':
        return ++frame->depth > QMP_MAX_DEPTH ? "JSON parse error: nested too deeply" : NULL;
    case '}':
    case ']':
        if (--frame->depth < 0)
            return "JSON parse error: a bracket too many";
        *out_is_complete = frame->depth == 0;
        return NULL;
    default:
        return NULL;
    }
}

QmpFrameKind qmp_frame_take(QmpFrame *frame, const uint8_t *bytes, size_t count, size_t *out_taken, const char **out_text, size_t *out_size)
{
    if (frame->is_handed_out)
        frame_restart(frame);
    for (size_t i = 0; i < count; i++) {
        uint8_t byte = bytes[i];
        *out_taken = i + 1;
        if (byte == '\n') {
            bool is_broken = frame->object->len > 0 && !frame->is_skipping;
            frame_restart(frame);
            frame->is_skipping = false;
            *out_text = "JSON parse error: the object is not complete at the end of the line";
            if (is_broken)
                return QMP_FRAME_MALFORMED;
            continue;
        }
        if (frame->is_skipping || (!frame->object->len && g_ascii_isspace(byte)))
            continue;
        bool is_complete = false;
        const char *wrong = NULL;
        g_byte_array_append(frame->object, &byte, 1);
        if (frame->in_string)
            string_scan(frame, byte);
        else
            wrong = byte_scan(frame, byte, &is_complete);
        if (!wrong && frame->object->len > QMP_OBJECT_MAX_BYTES)
            wrong = "the command is longer than 256 KiB";
        if (wrong) {
            frame_restart(frame);
            frame->is_skipping = true;
            *out_text = wrong;
            return QMP_FRAME_MALFORMED;
        }
        if (is_complete) {
            *out_size = frame->object->len;
            g_byte_array_append(frame->object, (const guint8 *)"", 1);
            *out_text = (const char *)frame->object->data;
            frame->is_handed_out = true;
            return QMP_FRAME_OBJECT;
        }
    }
    *out_taken = count;
    return QMP_FRAME_MORE;
}
