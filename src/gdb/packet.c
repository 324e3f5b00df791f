#include "gdb/packet.h"

#include <string.h>

enum { BETWEEN, IN_BODY, FIRST_DIGIT, SECOND_DIGIT };

void gdb_parser_init(GdbParser *parser) { *parser = (GdbParser){ .body = g_byte_array_new() }; }

void gdb_parser_clear(GdbParser *parser) { g_byte_array_unref(parser->body); }

static void body_begin(GdbParser *parser)
{
    g_byte_array_set_size(parser->body, 0);
    parser->state = IN_BODY;
    parser->sum = 0;
    parser->is_too_long = parser->is_escaped = false;
}

static void body_byte(GdbParser *parser, uint8_t byte)
{
    parser->sum = (uint8_t)(parser->sum + byte);
    if (byte == '}' && !parser->is_escaped) {
        parser->is_escaped = true;
        return;
    }
    if (parser->is_escaped)
        byte ^= 0x20;
    parser->is_escaped = false;
    if (parser->body->len >= GDB_PACKET_MAX)
        parser->is_too_long = true;
    else
        g_byte_array_append(parser->body, &byte, 1);
}

static GdbEvent body_end(GdbParser *parser, int digit)
{
    static const uint8_t zero;
    parser->state = BETWEEN;
    parser->wanted = (uint8_t)(parser->wanted | digit);
    if (digit < 0 || parser->wanted != parser->sum || parser->is_too_long)
        return GDB_EVENT_DAMAGED;
    g_byte_array_append(parser->body, &zero, 1);
    g_byte_array_set_size(parser->body, parser->body->len - 1);
    return GDB_EVENT_PACKET;
}

GdbEvent gdb_parser_byte(GdbParser *parser, uint8_t byte)
{
    switch (parser->state) {
    case BETWEEN:
        if (byte == '$')
            body_begin(parser);
        return byte == 3 ? GDB_EVENT_INTERRUPT : byte == '-' ? GDB_EVENT_NAK : GDB_EVENT_NONE;
    case IN_BODY:
        if (byte == '#')
            parser->state = FIRST_DIGIT;
        else if (byte == '$')
            body_begin(parser); /* the end of the last one is lost */
        else
            body_byte(parser, byte);
        return GDB_EVENT_NONE;
    case FIRST_DIGIT:
        parser->state = SECOND_DIGIT;
        if (g_ascii_xdigit_value((char)byte) < 0) {
            parser->state = BETWEEN;
            return GDB_EVENT_DAMAGED;
        }
        parser->wanted = (uint8_t)(g_ascii_xdigit_value((char)byte) << 4);
        return GDB_EVENT_NONE;
    default:
        return body_end(parser, g_ascii_xdigit_value((char)byte));
    }
}

GString *gdb_frame(const void *body, size_t count)
{
    const uint8_t *bytes = body;
    GString *text = g_string_new("$");
    uint8_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t byte = bytes[i];
        if (byte == '$' || byte == '#' || byte == '}' || byte == '*') {
            g_string_append_c(text, '}');
            sum = (uint8_t)(sum + '}');
            byte ^= 0x20;
        }
        g_string_append_c(text, (char)byte);
        sum = (uint8_t)(sum + byte);
    }
    g_string_append_printf(text, "#%02x", sum);
    return text;
}

void gdb_hex_append(GString *text, const void *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = bytes;
    for (size_t i = 0; i < count; i++) {
        g_string_append_c(text, digits[from[i] >> 4]);
        g_string_append_c(text, digits[from[i] & 15]);
    }
}

bool gdb_hex_bytes(const char *digits, void *out_bytes, size_t count)
{
    uint8_t *to = out_bytes;
    for (size_t i = 0; i < count; i++) {
        int high = g_ascii_xdigit_value(digits[2 * i]);
        int low = high < 0 ? -1 : g_ascii_xdigit_value(digits[2 * i + 1]);
        if (low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool gdb_number(const char **text, uint64_t *out_number)
{
    uint64_t number = 0;
    unsigned ndigits = 0;
    for (; g_ascii_xdigit_value(**text) >= 0 && ndigits <= 16; ndigits++, (*text)++)
        number = number << 4 | (uint64_t)g_ascii_xdigit_value(**text);
    *out_number = number;
    return ndigits >= 1 && ndigits <= 16;
}
