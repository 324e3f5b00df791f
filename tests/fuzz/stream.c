/*
 * A snapshot or a migration from somebody else.  First byte: 0: the rest is a stream, as it is; 1: the content of a "cpu" section; 2: of a piece
 * of memory.  The second byte is the section's version.  Checksums are made right in the last two, so that what they protect is reached.
 */
#include "fuzz.h"

#include <string.h>

#include "core/cpu-stream.h"
#include "core/cpuid.h"
#include "core/sections.h"
#include "vm/snapshot-ram.h"

#define RAM_SIZE (UINT64_C(4) << 20)

static CpuidModel cpuid;
static Ram *ram;

static void machine_start(void)
{
    if (ram)
        return;
    ram = ram_new(RAM_SIZE, NULL);
    g_assert(ram);
    cpuid_model_init(&cpuid);
    cpuid_model_settle(&cpuid);
}

static GByteArray *seed_new(uint8_t kind, uint8_t version, const void *bytes, size_t size)
{
    GByteArray *seed = g_byte_array_new();
    g_byte_array_append(seed, (const guint8[]){ kind, version }, 2);
    g_byte_array_append(seed, bytes, (guint)size);
    return seed;
}

/* The sections of a short stream: a vCPU's state and memory in both forms; and the stream itself. */
size_t fuzz_seeds(FuzzSeed out_seeds[64])
{
    static GByteArray *seeds[64];
    size_t n = 0;
    machine_start();
    memset(ram_slice(ram, 0x5000, 100), 0x5a, 100);
    memset(ram_slice(ram, 0x205000, 100), 0x5a, 100);
    g_autoptr(GOutputStream) out = g_memory_output_stream_new_resizable();
    g_autoptr(SectionWriter) writer = section_writer_new(out, NULL);
    g_autofree CpuStream *cpu = g_new0(CpuStream, 1);
    cpu->state.rflags = 2;
    cpu->state.cr0 = 0x10;
    cpu->cpuid = &cpuid;
    SnapshotProgress progress = { 0 };
    g_assert(section_write_state(writer, &cpu_stream_state, 0, cpu, NULL));
    for (SnapshotForm form = SNAPSHOT_PACKED; form <= SNAPSHOT_PLAIN; form++)
        g_assert(snapshot_ram_write(writer, form, ram, NULL, &progress, NULL, NULL));
    g_assert(section_write_end(writer, NULL) && g_output_stream_close(out, NULL, NULL));
    g_autoptr(GBytes) bytes = g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(out));
    gsize size;
    const void *data = g_bytes_get_data(bytes, &size);
    g_autoptr(GInputStream) in = g_memory_input_stream_new_from_bytes(bytes);
    g_autoptr(SectionReader) reader = section_reader_new(in, NULL);
    for (Section section; section_read(reader, &section, NULL) && !section_is_end(&section) && n < 60; n++)
        seeds[n] = seed_new(g_str_has_prefix(section.name, "cpu") ? 1 : 2, (uint8_t)section.version, section.bytes, section.size);
    seeds[n++] = seed_new(0, 0, data, MIN(size, FUZZ_INPUT_MAX - 2));
    for (size_t i = 0; i < n; i++)
        out_seeds[i] = (FuzzSeed){ seeds[i]->data, seeds[i]->len };
    return n;
}

static void whole_read(const uint8_t *data, size_t size)
{
    g_autoptr(GInputStream) in = g_memory_input_stream_new_from_data(data, (gssize)size, NULL);
    g_autoptr(SectionReader) reader = section_reader_new(in, NULL);
    g_autoptr(GError) error = NULL;
    Section section = { { 0 } };
    while (section_read(reader, &section, &error) && !section_is_end(&section))
        g_assert(section.size <= SECTION_MAX_BYTES && section_reader_total(reader) <= size);
    g_assert(error || section_is_end(&section));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    machine_start();
    if (size < 2 || size > FUZZ_INPUT_MAX)
        return 0;
    Section section = { .version = data[1], .size = (uint32_t)size - 2, .bytes = data + 2 };
    g_autoptr(GError) error = NULL;
    if (data[0] == 1) {
        g_autofree CpuStream *cpu = g_new0(CpuStream, 1);
        cpu->cpuid = &cpuid;
        g_strlcpy(section.name, "cpu.0", sizeof section.name);
        bool is_loaded = section_load_state(&section, &cpu_stream_state, cpu, &error);
        g_assert(is_loaded ? !x86_state_wrong(&cpu->state, &cpuid) : error != NULL);
    } else if (data[0] == 2) {
        g_autoptr(SnapshotRamReader) reader = snapshot_ram_reader_new();
        g_strlcpy(section.name, "ram", sizeof section.name);
        bool is_fine = snapshot_ram_check(reader, ram, &section, &error);
        g_assert(is_fine || error);
        g_clear_error(&error);
        g_assert(snapshot_ram_load(reader, ram, &section, &error) == is_fine);
    } else {
        whole_read(data + 2, size - 2);
    }
    return 0;
}
