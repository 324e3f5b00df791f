/*
 * What a monitor's client types: QMP's framing and JSON, the human monitor's numbers.  The first byte says how long the pieces are in which the bytes
 * arrive; however they are cut, the same objects come out.
 */
#include "fuzz.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "monitor/hmp-expression.h"
#include "monitor/qmp-frame.h"

size_t fuzz_seeds(FuzzSeed out_seeds[64])
{
    static const FuzzSeed seeds[] = {
        FUZZ_TEXT("\7{\"execute\": \"qmp_capabilities\", \"id\": [1, {\"a\": null}]}\n{\"execute\":\"query-status\"}"),
        FUZZ_TEXT("\1{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"x /4i \\\"$pc\\u00e4\"}}"),
        FUZZ_TEXT("\377{{{{[[[[]]]]}}}} x } \n {\"a\": 1e400, \"b\": -0}"),
        FUZZ_TEXT("\3$rip + 4*($rcx & ~7) - 0x1000/2"),
        FUZZ_TEXT("\3((((((-~-~1))))))%0"),
    };
    for (size_t i = 0; i < G_N_ELEMENTS(seeds); i++)
        out_seeds[i] = seeds[i];
    return G_N_ELEMENTS(seeds);
}

/* Hash of the kinds and texts that come out when @data arrives in pieces of @step bytes. */
static guint frames(const uint8_t *data, size_t size, size_t step, bool with_json)
{
    QmpFrame frame;
    guint hash = 0;
    qmp_frame_init(&frame);
    for (size_t at = 0; at < size;) {
        size_t taken, length = 0;
        const char *text = NULL;
        QmpFrameKind kind = qmp_frame_take(&frame, data + at, MIN(step, size - at), &taken, &text, &length);
        g_assert(taken <= MIN(step, size - at) && (taken || kind != QMP_FRAME_MORE));
        at += taken;
        if (kind == QMP_FRAME_MORE)
            continue;
        hash = hash * 31 + (guint)kind + g_str_hash(text);
        if (with_json && kind == QMP_FRAME_OBJECT && g_utf8_validate_len(text, length, NULL)) {
            g_autoptr(JsonParser) parser = json_parser_new();
            json_parser_load_from_data(parser, text, (gssize)length, NULL);
        }
    }
    qmp_frame_clear(&frame);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    guint whole = frames(data + 1, size - 1, size, true);
    g_assert_cmpuint(whole, ==, frames(data + 1, size - 1, 1u + data[0], false));
    g_autofree char *text = g_strndup((const char *)data + 1, size - 1);
    static const X86State state = { .rip = 0x1234 };
    uint64_t value;
    for (const char *p = text; *p; p++) {
        const char *end = p;
        if (!expression_take(&end, &state, &value))
            g_assert(end > p && end <= text + strlen(text));
        p = end > p ? end - 1 : p;
    }
    return 0;
}
