#include "vm/snapshot-ram.h"

#include <string.h>
#include <zstd.h>

#include "core/error.h"

#define CHUNK_PAGES 256u
#define CHUNK_SIZE (CHUNK_PAGES * PAGE_SIZE)
#define LEVEL 1
#define VERSION_PACKED 1u
#define VERSION_PLAIN 2u

/* The fields before the data: where, and one bit a page that is not zero, lowest first. */
typedef struct ChunkHead {
    uint64_t start;
    uint16_t npages;
    uint8_t present[CHUNK_PAGES / 8];
} ChunkHead;

static void head_visit(ChunkHead *head, Stream *stream)
{
    stream_u64(stream, &head->start);
    stream_u16(stream, &head->npages);
    stream_check(stream, head->npages >= 1 && head->npages <= CHUNK_PAGES && !page_offset(head->start), "piece of memory");
    stream_bytes(stream, head->present, (head->npages + 7u) / 8 > sizeof head->present ? sizeof head->present : (head->npages + 7u) / 8);
}

static bool is_present(const ChunkHead *head, unsigned page) { return head->present[page / 8] >> (page % 8) & 1; }

/* --- writing --- */

static bool is_zero(const uint8_t *page)
{
    const uint64_t *word = (const uint64_t *)(const void *)page;
    uint64_t all = 0;
    for (size_t i = 0; i < PAGE_SIZE / 8 && !all; i += 8)
        all = word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6] | word[i + 7];
    return !all;
}

typedef struct Packer {
    SnapshotForm form;
    ZSTD_CCtx *context;
    uint8_t *raw, *packed;
    size_t packed_size;
} Packer;

static void packer_clear(Packer *packer)
{
    ZSTD_freeCCtx(packer->context);
    g_free(packer->raw);
    g_free(packer->packed);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Packer, packer_clear)

static bool is_wanted(const uint64_t *bits, uint64_t page) { return bits[page / 64] >> (page % 64) & 1; }

/* @bits: the chunk's in its slot's PageSet, which it begins a word of; or NULL. */
static gboolean chunk_write(SectionWriter *writer, Packer *packer, Gpa start, const uint8_t *host, unsigned npages, const uint64_t *bits,
                            SnapshotProgress *progress, GError **error)
{
    ChunkHead head = { .start = start, .npages = (uint16_t)npages };
    size_t used = 0;
    for (unsigned i = 0; i < npages; i++) {
        if (bits ? !is_wanted(bits, i) : is_zero(host + i * PAGE_SIZE))
            continue;
        head.present[i / 8] |= (uint8_t)(1u << (i % 8));
        memcpy(packer->raw + used, host + i * PAGE_SIZE, PAGE_SIZE);
        used += PAGE_SIZE;
    }
    if (progress) {
        __atomic_fetch_add(&progress->zero_pages, bits ? 0 : npages - used / PAGE_SIZE, __ATOMIC_RELAXED);
        __atomic_fetch_sub(&progress->ram_left, bits ? used : (uint64_t)npages * PAGE_SIZE, __ATOMIC_RELAXED);
        __atomic_fetch_add(&progress->full_pages, used / PAGE_SIZE, __ATOMIC_RELAXED);
    }
    if (!used)
        return TRUE;
    g_autoptr(Stream) stream = stream_new_save();
    head_visit(&head, stream);
    if (packer->form == SNAPSHOT_PLAIN) {
        stream_bytes(stream, packer->raw, used);
    } else {
        size_t size = ZSTD_compressCCtx(packer->context, packer->packed, packer->packed_size, packer->raw, used, LEVEL);
        g_assert(!ZSTD_isError(size)); /* the buffer holds whatever it may become */
        stream_bytes(stream, packer->packed, size);
    }
    size_t total;
    const uint8_t *bytes = stream_saved(stream, &total);
    return section_write(writer, SNAPSHOT_RAM_SECTION, packer->form == SNAPSHOT_PLAIN ? VERSION_PLAIN : VERSION_PACKED, bytes, total, error);
}

static bool is_empty(const uint64_t *bits, uint64_t npages)
{
    uint64_t any = 0;
    for (uint64_t word = 0; word < (npages + 63) / 64; word++)
        any |= bits[word];
    return !any;
}

gboolean snapshot_ram_write(SectionWriter *writer, SnapshotForm form, const Ram *ram, const PageSet *pages, SnapshotProgress *progress,
                            const SnapshotPace *pace, GError **error)
{
    _Static_assert(CHUNK_PAGES % 64 == 0, "a chunk begins a word of a PageSet");
    g_auto(Packer) packer = { .form = form, .context = ZSTD_createCCtx(), .raw = g_malloc(CHUNK_SIZE), .packed_size = ZSTD_compressBound(CHUNK_SIZE) };
    packer.packed = g_malloc(packer.packed_size);
    uint64_t total = 0;
    for (unsigned i = 0; i < ram->nslots; i++)
        total += ram->slot[i].size;
    if (progress) {
        __atomic_store_n(&progress->ram_total, total, __ATOMIC_RELAXED);
        __atomic_store_n(&progress->ram_left, pages ? page_set_count(pages) * PAGE_SIZE : total, __ATOMIC_RELAXED);
    }
    for (unsigned i = 0; i < ram->nslots; i++) {
        const RamSlot *slot = &ram->slot[i];
        for (uint64_t at = 0; at < slot->size; at += CHUNK_SIZE) {
            uint64_t size = MIN(CHUNK_SIZE, slot->size - at);
            const uint64_t *bits = pages ? &pages->bits[i][at / PAGE_SIZE / 64] : NULL;
            if (bits && is_empty(bits, size / PAGE_SIZE))
                continue;
            if (!chunk_write(writer, &packer, slot->start + at, slot->host + at, (unsigned)(size / PAGE_SIZE), bits, progress, error))
                return FALSE;
            if (progress)
                __atomic_store_n(&progress->transferred, section_writer_total(writer), __ATOMIC_RELAXED);
            if (pace && !pace->sent(pace->opaque, section_writer_total(writer), error))
                return FALSE;
        }
    }
    return TRUE;
}

/* --- reading --- */

struct SnapshotRamReader {
    ZSTD_DCtx *context;
    uint8_t *raw;
};

SnapshotRamReader *snapshot_ram_reader_new(void)
{
    SnapshotRamReader *reader = g_new0(SnapshotRamReader, 1);
    reader->context = ZSTD_createDCtx();
    reader->raw = g_malloc(CHUNK_SIZE);
    return reader;
}

void snapshot_ram_reader_free(SnapshotRamReader *reader)
{
    if (!reader)
        return;
    ZSTD_freeDCtx(reader->context);
    g_free(reader->raw);
    g_free(reader);
}

static gboolean refuse(GError **error, const char *why)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\": %s", SNAPSHOT_RAM_SECTION, why);
    return FALSE;
}

/* *out_pages: one page after another, those that are present; the section's, or reader->raw.  Returns: where they belong, or NULL. */
static uint8_t *chunk_read(SnapshotRamReader *reader, const Ram *ram, const Section *section, ChunkHead *out_head, const uint8_t **out_pages,
                           GError **error)
{
    *out_head = (ChunkHead){ 0 };
    if (section->version != VERSION_PACKED && section->version != VERSION_PLAIN) {
        refuse(error, "of a version that this Segue does not read");
        return NULL;
    }
    g_autoptr(Stream) stream = stream_new_load(section->name, section->version, section->bytes, section->size);
    head_visit(out_head, stream);
    size_t packed_size, wanted = 0;
    const uint8_t *packed = stream_left(stream, &packed_size);
    if (!stream_is_ok(stream)) {
        stream_finish(stream, error);
        return NULL;
    }
    uint8_t *host = ram_slice(ram, out_head->start, out_head->npages * PAGE_SIZE);
    if (!host) {
        refuse(error, "a piece of memory where this machine has none");
        return NULL;
    }
    for (unsigned i = 0; i < out_head->npages; i++)
        wanted += is_present(out_head, i) ? PAGE_SIZE : 0;
    if (section->version == VERSION_PLAIN) {
        *out_pages = packed;
        if (packed_size == wanted)
            return host;
        refuse(error, "not as many pages as it says");
        return NULL;
    }
    *out_pages = reader->raw;
    size_t size = ZSTD_decompressDCtx(reader->context, reader->raw, CHUNK_SIZE, packed, packed_size);
    if (ZSTD_isError(size) || size != wanted) {
        refuse(error, "its compressed data is malformed");
        return NULL;
    }
    return host;
}

gboolean snapshot_ram_check(SnapshotRamReader *reader, const Ram *ram, const Section *section, GError **error)
{
    ChunkHead head;
    const uint8_t *pages;
    return chunk_read(reader, ram, section, &head, &pages, error) != NULL;
}

gboolean snapshot_ram_load(SnapshotRamReader *reader, const Ram *ram, const Section *section, GError **error)
{
    ChunkHead head;
    const uint8_t *from;
    uint8_t *host = chunk_read(reader, ram, section, &head, &from, error);
    if (!host)
        return FALSE;
    for (unsigned i = 0; i < head.npages; i++)
        if (is_present(&head, i)) {
            memcpy(host + i * PAGE_SIZE, from, PAGE_SIZE);
            from += PAGE_SIZE;
        }
    return TRUE;
}
