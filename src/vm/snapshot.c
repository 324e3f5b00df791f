#include "vm/snapshot.h"

#include <string.h>

#include "core/cpu-stream.h"
#include "core/error.h"
#include "vm/apic-link.h"
#include "vm/snapshot-disk.h"
#include "vm/snapshot-facts.h"

#define IO_BUFFER (1u << 20)
#define TSC_TOLERANCE 100u /* one part in so many: what the guest's clock drift correction can take */

/* One section that every stream of this machine has, in this order. */
typedef struct Row {
    const StateOps *ops;
    int instance;
    void *device;
} Row;

static void row_add(void *opaque, const StateOps *ops, int instance, void *device)
{
    Row row = { ops, instance, device };
    g_array_append_val((GArray *)opaque, row);
}

/* --- time --- */

typedef struct TimeState {
    Clock *clock;
    uint64_t tsc_hz;
} TimeState;

static void time_visit(void *device, Stream *stream)
{
    TimeState *time = device;
    int64_t now_ns = clock_now_ns(time->clock);
    uint64_t tsc_hz = time->tsc_hz;
    stream_i64(stream, &now_ns);
    stream_u64(stream, &tsc_hz);
    if (!stream_check(stream, now_ns >= 0 && now_ns < INT64_MAX / 4, "guest time") || !stream_is_loading(stream))
        return;
    uint64_t difference = tsc_hz > time->tsc_hz ? tsc_hz - time->tsc_hz : time->tsc_hz - tsc_hz;
    if (difference > time->tsc_hz / TSC_TOLERANCE) {
        g_autofree char *what = g_strdup_printf("the guest was saved on a CPU whose TSC runs at %" G_GUINT64_FORMAT " MHz, here it runs at %"
                                                G_GUINT64_FORMAT " MHz, and the guest's clock would be wrong", tsc_hz / 1000000,
                                                time->tsc_hz / 1000000);
        stream_check(stream, false, what);
        return;
    }
    clock_set(time->clock, now_ns);
}

static const StateOps time_state = { .name = "time", .version = 1, .visit = time_visit };

/* --- the list --- */

static GArray *rows_new(const SnapshotMachine *machine, TimeState *time)
{
    GArray *rows = g_array_new(FALSE, FALSE, sizeof(Row));
    row_add(rows, &time_state, -1, time);
    /* vCPUs before chips: the local APICs' timers go by the TSC, and what loading a vCPU does to its local APIC is undone. */
    for (unsigned i = 0; i < run_cpu_count(machine->run); i++)
        row_add(rows, &cpu_stream_state, (int)i, NULL);
    row_add(rows, &run_state, -1, machine->run);
    board_each_state(machine->board, row_add, rows);
    pci_devices_each_state(machine->devices, row_add, rows);
    board_each_pci_state(machine->board, row_add, rows);
    return rows;
}

static void section_free(Section *section)
{
    g_free((void *)(uintptr_t)section->bytes);
    g_free(section);
}

static Section *section_copy(const Section *section)
{
    Section *copy = g_memdup2(section, sizeof *section);
    copy->bytes = g_memdup2(section->bytes, section->size);
    return copy;
}

static GPtrArray *sections_new(void) { return g_ptr_array_new_with_free_func((GDestroyNotify)section_free); }

static gboolean cpu_load(const SnapshotMachine *machine, const Section *section, unsigned index, GError **error)
{
    g_autofree CpuStream *cpu = g_new0(CpuStream, 1);
    cpu->cpuid = machine->cpuid;
    return section_load_state(section, &cpu_stream_state, cpu, error) && run_cpu_load(machine->run, index, &cpu->state, error);
}

static gboolean row_load(const SnapshotMachine *machine, const Section *section, const Row *row, GError **error)
{
    char name[SECTION_NAME_MAX + 1];
    section_name(name, row->ops, row->instance);
    if (strcmp(name, section->name) != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\" stands where \"%s\" belongs", section->name, name);
        return FALSE;
    }
    if (row->ops == &cpu_stream_state)
        return cpu_load(machine, section, (unsigned)row->instance, error);
    g_mutex_lock(machine->lock);
    gboolean is_ok = section_load_state(section, row->ops, row->device, error);
    g_mutex_unlock(machine->lock);
    return is_ok;
}

static Section *row_save(const Row *row, void *device)
{
    g_autoptr(Stream) stream = stream_new_save();
    Section section = { .version = row->ops->version };
    size_t size;
    row->ops->visit(device, stream);
    section.bytes = stream_saved(stream, &size);
    section.size = (uint32_t)size;
    section_name(section.name, row->ops, row->instance);
    return section_copy(&section);
}

/* Everything but memory, as it is at one moment. */
static GPtrArray *rows_save(const SnapshotMachine *machine)
{
    TimeState time = { machine->clock, machine->tsc_hz };
    g_autoptr(GArray) rows = rows_new(machine, &time);
    unsigned ncpus = run_cpu_count(machine->run);
    g_autofree CpuStream *cpus = g_new0(CpuStream, ncpus);
    GPtrArray *sections = sections_new();
    for (unsigned i = 0; i < ncpus; i++)
        run_cpu_save(machine->run, i, &cpus[i].state); /* takes the lock itself */
    g_mutex_lock(machine->lock);
    apic_link_pull(board_apic_link(machine->board)); /* the engine may have the local APICs */
    for (guint i = 0; i < rows->len; i++) {
        const Row *row = &g_array_index(rows, Row, i);
        g_ptr_array_add(sections, row_save(row, row->ops == &cpu_stream_state ? &cpus[row->instance] : row->device));
    }
    g_mutex_unlock(machine->lock);
    return sections;
}

/* --- saving --- */

static gboolean ram_save(const SnapshotMachine *machine, SnapshotForm form, SectionWriter *writer, const SnapshotLive *live,
                         SnapshotProgress *progress, GError **error)
{
    const SnapshotPace *pace = live && live->pace.sent ? &live->pace : NULL;
    if (!snapshot_ram_write(writer, form, machine->ram, NULL, progress, pace, error))
        return FALSE;
    g_autoptr(PageSet) pages = live ? page_set_new(machine->ram) : NULL;
    for (bool is_last = !live; !is_last;) {
        page_set_clear(pages);
        if (!live->round(live->opaque, pages, &is_last, error) ||
            !snapshot_ram_write(writer, form, machine->ram, pages, progress, is_last ? NULL : pace, error))
            return FALSE;
    }
    return TRUE;
}

gboolean snapshot_save(const SnapshotMachine *machine, SnapshotForm form, GOutputStream *out, const SnapshotLive *live, GCancellable *cancellable,
                       SnapshotProgress *progress, GError **error)
{
    g_autoptr(SectionWriter) writer = section_writer_new(out, cancellable);
    g_autoptr(SnapshotFacts) facts = snapshot_facts_new(machine);
    if (!section_write_state(writer, &snapshot_facts_state, -1, facts, error) ||
        !ram_save(machine, form, writer, live, progress, error) || !snapshot_disks_write(writer, machine->devices, error))
        return FALSE;
    g_autoptr(GPtrArray) rest = rows_save(machine);
    for (guint i = 0; i < rest->len; i++) {
        const Section *section = g_ptr_array_index(rest, i);
        if (!section_write(writer, section->name, section->version, section->bytes, section->size, error))
            return FALSE;
    }
    if (!section_write_end(writer, error))
        return FALSE;
    if (progress)
        __atomic_store_n(&progress->transferred, section_writer_total(writer), __ATOMIC_RELAXED);
    return TRUE;
}

/* --- loading --- */

typedef gboolean (*RamUse)(SnapshotRamReader *reader, const Ram *ram, const Section *section, GError **error);

static gboolean facts_check(const SnapshotMachine *machine, const Section *section, GError **error)
{
    if (strcmp(section->name, snapshot_facts_state.name) != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\" stands where \"%s\" belongs", section->name, snapshot_facts_state.name);
        return FALSE;
    }
    g_autoptr(SnapshotFacts) saved = snapshot_facts_empty(), mine = snapshot_facts_new(machine);
    return section_load_state(section, &snapshot_facts_state, saved, error) && snapshot_facts_compare(mine, saved, error);
}

/* Reads all of a stream: compares the machine, gives memory to @use as it comes, keeps the rest in @rest (NULL: forgets it). */
static gboolean read_all(const SnapshotMachine *machine, SectionReader *reader, RamUse use, GPtrArray *rest, SnapshotProgress *progress,
                         GError **error)
{
    g_autoptr(SnapshotRamReader) ram_reader = snapshot_ram_reader_new();
    TimeState time = { machine->clock, machine->tsc_hz };
    g_autoptr(GArray) rows = rows_new(machine, &time);
    Section section;
    guint count = 0;
    if (!section_read(reader, &section, error) || !facts_check(machine, &section, error))
        return FALSE;
    for (;;) {
        if (!section_read(reader, &section, error))
            return FALSE;
        if (progress)
            __atomic_store_n(&progress->transferred, section_reader_total(reader), __ATOMIC_RELAXED);
        if (section_is_end(&section))
            break;
        if (!strcmp(section.name, SNAPSHOT_RAM_SECTION) && !count) {
            if (!use(ram_reader, machine->ram, &section, error))
                return FALSE;
            continue;
        }
        if (!strcmp(section.name, SNAPSHOT_DISK_SECTION) && !count) {
            if (!(use == snapshot_ram_check ? snapshot_disk_check : snapshot_disk_load)(machine->devices, &section, error))
                return FALSE;
            continue;
        }
        if (count++ == rows->len) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\" is of no use to this machine", section.name);
            return FALSE;
        }
        if (rest)
            g_ptr_array_add(rest, section_copy(&section));
    }
    if (count < rows->len) {
        char name[SECTION_NAME_MAX + 1];
        section_name(name, g_array_index(rows, Row, count).ops, g_array_index(rows, Row, count).instance);
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\" is missing", name);
        return FALSE;
    }
    return TRUE;
}

static gboolean rows_load(const SnapshotMachine *machine, const GPtrArray *rest, GError **error)
{
    TimeState time = { machine->clock, machine->tsc_hz };
    g_autoptr(GArray) rows = rows_new(machine, &time);
    g_assert(rows->len == rest->len);
    for (guint i = 0; i < rows->len; i++)
        if (!row_load(machine, g_ptr_array_index(rest, i), &g_array_index(rows, Row, i), error))
            return FALSE;
    g_mutex_lock(machine->lock);
    apic_link_push(board_apic_link(machine->board));
    g_mutex_unlock(machine->lock);
    return TRUE;
}

static void memory_changed(const SnapshotMachine *machine)
{
    g_mutex_lock(machine->lock);
    for (unsigned i = 0; i < machine->ram->nslots; i++)
        ram_wrote(machine->ram, machine->ram->slot[i].start, machine->ram->slot[i].size);
    g_mutex_unlock(machine->lock);
}

static GInputStream *buffered_new(GInputStream *in)
{
    GInputStream *buffered = g_buffered_input_stream_new_sized(in, IO_BUFFER);
    g_filter_input_stream_set_close_base_stream(G_FILTER_INPUT_STREAM(buffered), FALSE);
    return buffered;
}

gboolean snapshot_load(const SnapshotMachine *machine, GInputStream *in, GCancellable *cancellable, SnapshotProgress *progress, GError **error)
{
    g_autoptr(GInputStream) buffered = buffered_new(in);
    g_autoptr(SectionReader) reader = section_reader_new(buffered, cancellable);
    g_autoptr(GPtrArray) rest = sections_new();
    ram_clear(machine->ram);
    snapshot_disks_forget(machine->devices);
    if (!read_all(machine, reader, snapshot_ram_load, rest, progress, error))
        return FALSE;
    memory_changed(machine);
    return rows_load(machine, rest, error);
}

gboolean snapshot_load_safe(const SnapshotMachine *machine, GInputStream *in, bool *out_is_lost, GError **error)
{
    *out_is_lost = false;
    g_autoptr(GPtrArray) rest = sections_new();
    {
        g_autoptr(GInputStream) buffered = buffered_new(in);
        g_autoptr(SectionReader) reader = section_reader_new(buffered, NULL);
        if (!read_all(machine, reader, snapshot_ram_check, rest, NULL, error))
            return FALSE;
    }
    g_autoptr(GPtrArray) before = rows_save(machine);
    if (!rows_load(machine, rest, error)) {
        g_autoptr(GError) cause = NULL;
        if (!rows_load(machine, before, &cause))
            g_error("saved state cannot be loaded again: %s", cause->message); /* ours alone */
        return FALSE;
    }
    if (!g_seekable_seek(G_SEEKABLE(in), 0, G_SEEK_SET, NULL, error)) {
        rows_load(machine, before, NULL);
        return FALSE;
    }
    g_autoptr(GInputStream) buffered = buffered_new(in);
    g_autoptr(SectionReader) reader = section_reader_new(buffered, NULL);
    ram_clear(machine->ram);
    snapshot_disks_forget(machine->devices);
    /* Only a file that changed between the two looks can fail now. */
    gboolean is_ok = read_all(machine, reader, snapshot_ram_load, NULL, NULL, error);
    memory_changed(machine);
    *out_is_lost = !is_ok;
    return is_ok;
}
