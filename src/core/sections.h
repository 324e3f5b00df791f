/*
 * Sections: the file format of snapshots and migration: named, versioned pieces one after another on any GIO stream.
 *
 *   "Segue VM", format version (4 bytes)
 *   each section: "SECT", length of the name (1), name, its version (4), size (4), size bytes, CRC-32 (4) of all bytes up to here but other CRCs
 *   the last section is called "end" and is empty
 *
 * All numbers are little-endian.  Because the checksum runs on from section to section, none can be left out, doubled or moved unseen,
 * and what a section says has been checked before anybody looks at it.  A checksum is against accidents: the content of a section may
 * still be hostile.  Blocks its caller; takes no lock.
 */
#pragma once

#include <gio/gio.h>
#include <stdint.h>

#include "core/stream.h"

#define SECTION_MAX_BYTES (4u << 20)
#define SECTION_NAME_MAX 32u

typedef struct SectionWriter SectionWriter;
typedef struct SectionReader SectionReader;

/* section_writer_new, section_reader_new: @out, @in and @cancellable (may be NULL) outlive them. */
SectionWriter *section_writer_new(GOutputStream *out, GCancellable *cancellable);
void section_writer_free(SectionWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SectionWriter, section_writer_free)

/* section_write: @size up to SECTION_MAX_BYTES.  FALSE with VMM_ERROR_HOST, or G_IO_ERROR_CANCELLED. */
gboolean section_write(SectionWriter *writer, const char *name, uint32_t version, const void *bytes, size_t size, GError **error);
/* section_write_state: what @ops has to say about @device; @instance tells several of a kind apart, -1: there is only one. */
gboolean section_write_state(SectionWriter *writer, const StateOps *ops, int instance, void *device, GError **error);
/* section_write_end: also writes out what waits; before, some of it may. */
gboolean section_write_end(SectionWriter *writer, GError **error);
uint64_t section_writer_total(const SectionWriter *writer); /* bytes so far */

SectionReader *section_reader_new(GInputStream *in, GCancellable *cancellable);
void section_reader_free(SectionReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SectionReader, section_reader_free)

typedef struct Section {
    char name[SECTION_NAME_MAX + 1];
    uint32_t version, size;
    const uint8_t *bytes; /* owned by the reader, until the next call */
} Section;

/* section_read: the next one; an "end" is given like any other and nothing may be read after it.
 * FALSE with VMM_ERROR_USAGE when there is none or it is damaged, VMM_ERROR_HOST when reading fails. */
gboolean section_read(SectionReader *reader, Section *out_section, GError **error);
bool section_is_end(const Section *section);
uint64_t section_reader_total(const SectionReader *reader);

/* section_load_state: gives @section to @ops.  FALSE with VMM_ERROR_USAGE: newer than this program, or malformed. */
gboolean section_load_state(const Section *section, const StateOps *ops, void *device, GError **error);
/* section_name: the name under which @ops and @instance are saved. */
void section_name(char out_name[SECTION_NAME_MAX + 1], const StateOps *ops, int instance);
