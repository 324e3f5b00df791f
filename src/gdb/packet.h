/*
 * Packets of the remote protocol: "$body#cc", acknowledgements, and the bytes in between.  Pure; what comes in is hostile: a body that is
 * longer than GDB_PACKET_MAX is dropped whole, and everything that is no packet is skipped.
 * Source: GDB manual, appendix E.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define GDB_PACKET_MAX 16384u

typedef enum GdbEvent {
    GDB_EVENT_NONE,
    GDB_EVENT_PACKET,    /* GdbParser.body is one, unescaped */
    GDB_EVENT_DAMAGED,   /* one with a wrong checksum, or too long: ask for it again */
    GDB_EVENT_NAK,       /* the other side wants the last one again */
    GDB_EVENT_INTERRUPT, /* Ctrl-C */
} GdbEvent;

typedef struct GdbParser {
    GByteArray *body; /* ended by a zero that does not count */
    int state;
    uint8_t sum, wanted;
    bool is_too_long, is_escaped;
} GdbParser;

void gdb_parser_init(GdbParser *parser);
void gdb_parser_clear(GdbParser *parser);
GdbEvent gdb_parser_byte(GdbParser *parser, uint8_t byte);

/* gdb_frame: @count bytes as a packet, escaped.   gdb_hex_append: two digits a byte. */
GString *gdb_frame(const void *body, size_t count);
void gdb_hex_append(GString *text, const void *bytes, size_t count);
/* gdb_hex_bytes: @count bytes from 2 * @count digits.  False: there are others. */
bool gdb_hex_bytes(const char *digits, void *out_bytes, size_t count);
/* gdb_number: a hexadecimal number of 1 to 16 digits at **text, which moves behind it.  False: there is none. */
bool gdb_number(const char **text, uint64_t *out_number);
