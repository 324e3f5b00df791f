#include "vm/snapshot-facts.h"

#include <stdio.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/error.h"
#include "devices/block.h"
#include "devices/pci.h"

#define MAX_FACTS 1000u
#define TEXT_MAX 1000u
#define CLOCKS_LEAF 0x40000010u /* the host's TSC frequency: compared with some tolerance elsewhere */

typedef struct Fact {
    char *name, *value;
} Fact;

struct SnapshotFacts {
    /* For people; not compared. */
    char *mode; /* "bt" */
    int64_t guest_ns;
    GPtrArray *facts;
};

/* Where a fact comes from, for messages: by the beginning of its name. */
static const struct {
    const char *prefix, *option;
} origins[] = {
    { "memory", "-m" },          { "CPUs", "-smp" },          { "CPUID", "-cpu, or another host: give both -cpu with the same features" },
    { "ROM", "-bios or -kernel" }, { "PCI", "-device and -drive" }, { "disk", "the image below snapshot=on is another, or has been written" }, { "serial", "-serial" }, { "ACPI", "-machine acpi" },
    { "HPET", "-machine hpet" }, { "PIT", "-machine pit" },   { "i8042", "-machine i8042" }, { "debug", "-device" },
};

static void fact_free(Fact *fact)
{
    g_free(fact->name);
    g_free(fact->value);
    g_free(fact);
}

SnapshotFacts *snapshot_facts_empty(void)
{
    SnapshotFacts *facts = g_new0(SnapshotFacts, 1);
    facts->mode = g_strdup("");
    facts->facts = g_ptr_array_new_with_free_func((GDestroyNotify)fact_free);
    return facts;
}

void snapshot_facts_free(SnapshotFacts *facts)
{
    if (!facts)
        return;
    g_ptr_array_unref(facts->facts);
    g_free(facts->mode);
    g_free(facts);
}

static void add(SnapshotFacts *facts, char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void add(SnapshotFacts *facts, char *name, const char *format, ...)
{
    va_list args;
    Fact *fact = g_new0(Fact, 1);
    va_start(args, format);
    fact->name = name;
    fact->value = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(facts->facts, fact);
}

static void flag_add(SnapshotFacts *facts, const char *name, bool is_on) { add(facts, g_strdup(name), "%s", is_on ? "yes" : "no"); }

static void cpuid_add(SnapshotFacts *facts, const CpuidModel *model)
{
    for (unsigned i = 0; i < model->nleaves; i++) {
        const CpuidLeaf *leaf = &model->leaf[i];
        if (leaf->leaf == CLOCKS_LEAF)
            continue;
        add(facts, g_strdup_printf("CPUID %#x.%#x", leaf->leaf, leaf->subleaf), "%08x %08x %08x %08x", leaf->eax, leaf->ebx, leaf->ecx, leaf->edx);
    }
}

static void memory_add(SnapshotFacts *facts, const Ram *ram)
{
    add(facts, g_strdup("memory"), "%" G_GUINT64_FORMAT " MiB", ram->size_bytes >> 20);
    for (unsigned i = 0; i < ram->nslots; i++)
        add(facts, g_strdup_printf("%s %#" G_GINT64_MODIFIER "x", ram->slot[i].is_rom ? "ROM" : "memory", ram->slot[i].start),
            "%#" G_GINT64_MODIFIER "x bytes", ram->slot[i].size);
}

static void board_add(SnapshotFacts *facts, const SnapshotMachine *machine)
{
    const Config *config = machine->config;
    flag_add(facts, "ACPI", config->has_acpi);
    flag_add(facts, "HPET", config->has_hpet);
    flag_add(facts, "PIT", config->has_pit);
    flag_add(facts, "i8042", config->has_i8042);
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++)
        add(facts, g_strdup_printf("serial port %u", i), "%s", config->serial[i] && config->serial[i]->kind != CHAR_NONE ? "yes" : "no");
    add(facts, g_strdup("debug console"), config->debugcon ? "port %#x" : "no", config->debugcon_port);
    add(facts, g_strdup("debug exit"), config->has_debug_exit ? "port %#x" : "no", config->debug_exit_port);
    flag_add(facts, "debug device pc-testdev", config->has_pc_testdev);
    const Block *block;
    for (unsigned i = 0; (block = pci_devices_overlay(machine->devices, i)); i++)
        add(facts, g_strdup_printf("disk %u", i), "%" G_GUINT64_FORMAT " bytes, date %" G_GINT64_FORMAT, block_size(block), block_date_ns(block));
    PciBus *bus = board_pci(machine->board);
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        const PciDevice *device = pci_bus_device(bus, (uint8_t)devfn);
        if (device)
            add(facts, g_strdup_printf("PCI %02x.%x", devfn >> 3, devfn & 7), "%s", device->name);
    }
}

SnapshotFacts *snapshot_facts_new(const SnapshotMachine *machine)
{
    SnapshotFacts *facts = snapshot_facts_empty();
    g_free(facts->mode);
    facts->mode = g_strdup(machine->mode);
    facts->guest_ns = clock_now_ns(machine->clock);
    memory_add(facts, machine->ram);
    const Config *config = machine->config;
    add(facts, g_strdup("CPUs"), "%u (%u sockets, %u cores, %u threads)", run_cpu_count(machine->run), config->nsockets, config->ncores,
        config->nthreads);
    board_add(facts, machine);
    cpuid_add(facts, machine->cpuid);
    return facts;
}

static void state_visit(void *device, Stream *stream)
{
    SnapshotFacts *facts = device;
    uint16_t count = (uint16_t)facts->facts->len;
    stream_text(stream, &facts->mode, TEXT_MAX);
    stream_i64(stream, &facts->guest_ns);
    stream_u16(stream, &count);
    if (!stream_check(stream, count <= MAX_FACTS, "number of facts"))
        return;
    for (unsigned i = 0; i < count; i++) {
        if (stream_is_loading(stream))
            g_ptr_array_add(facts->facts, g_new0(Fact, 1));
        Fact *fact = g_ptr_array_index(facts->facts, i);
        stream_text(stream, &fact->name, TEXT_MAX);
        stream_text(stream, &fact->value, TEXT_MAX);
    }
}

const StateOps snapshot_facts_state = { .name = "machine", .version = 1, .visit = state_visit };

static const char *value_of(const SnapshotFacts *facts, const char *name)
{
    for (guint i = 0; i < facts->facts->len; i++) {
        const Fact *fact = g_ptr_array_index(facts->facts, i);
        if (!strcmp(fact->name, name))
            return fact->value;
    }
    return NULL;
}

/* Whether the CPU in @facts has @feature; a leaf that is not there has nothing. */
static bool has_feature(const SnapshotFacts *facts, const CpuidFeature *feature)
{
    g_autofree char *name = g_strdup_printf("CPUID %#x.%#x", feature->leaf, feature->subleaf);
    const char *value = value_of(facts, name);
    unsigned reg[4];
    return value && sscanf(value, "%8x %8x %8x %8x", &reg[0], &reg[1], &reg[2], &reg[3]) == 4 && reg[feature->reg] >> feature->bit & 1;
}

/* Another CPU, by the names of features.  TRUE when it differs in none that has a name. */
static gboolean features_compare(const SnapshotFacts *mine, const SnapshotFacts *saved, GError **error)
{
    g_autoptr(GString) lacks = g_string_new(NULL), besides = g_string_new(NULL), remedy = g_string_new(NULL);
    CpuidFeature feature;
    for (unsigned i = 0; cpuid_feature(i, &feature); i++) {
        bool here = has_feature(mine, &feature), there = has_feature(saved, &feature);
        if (here == there)
            continue;
        g_string_append_printf(here ? besides : lacks, "%s%s", (here ? besides : lacks)->len ? ", " : "", feature.name);
        g_string_append_printf(remedy, ",%c%s", here ? '-' : '+', feature.name);
    }
    if (!remedy->len)
        return TRUE;
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "another machine was saved: its CPU%s%s%s%s%s (here: add %s to -cpu%s)", lacks->len ? " has " : "", lacks->str,
                lacks->len && besides->len ? ", and" : "", besides->len ? " lacks " : "", besides->str, remedy->str + 1,
                lacks->len ? "; or, where this host lacks them, save a guest that was started without" : "");
    return FALSE;
}

static gboolean differs(const char *name, const char *mine, const char *saved, GError **error)
{
    const char *option = "another version of Segue";
    for (size_t i = 0; i < G_N_ELEMENTS(origins); i++)
        if (g_str_has_prefix(name, origins[i].prefix)) {
            option = origins[i].option;
            break;
        }
    g_autofree char *valid = g_strescape(name, NULL), *value = g_strescape(saved ? saved : "nothing", NULL);
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "another machine was saved: %s: %s, here: %s (%s)", valid, value, mine ? mine : "nothing", option);
    return FALSE;
}

gboolean snapshot_facts_compare(const SnapshotFacts *mine, const SnapshotFacts *saved, GError **error)
{
    for (guint i = 0; i < mine->facts->len; i++) {
        const Fact *fact = g_ptr_array_index(mine->facts, i);
        const char *value = value_of(saved, fact->name);
        if (g_str_has_prefix(fact->name, "CPUID") && !features_compare(mine, saved, error))
            return FALSE;
        if (g_strcmp0(fact->value, value) != 0)
            return differs(fact->name, fact->value, value, error);
    }
    for (guint i = 0; i < saved->facts->len; i++) {
        const Fact *fact = g_ptr_array_index(saved->facts, i);
        if (!value_of(mine, fact->name))
            return differs(fact->name, NULL, fact->value, error);
    }
    return TRUE;
}

gboolean snapshot_facts_read(GInputStream *in, char **out_mode, int64_t *out_guest_ns, GError **error)
{
    g_autoptr(SectionReader) reader = section_reader_new(in, NULL);
    g_autoptr(SnapshotFacts) facts = snapshot_facts_empty();
    Section section;
    if (!section_read(reader, &section, error))
        return FALSE;
    if (strcmp(section.name, snapshot_facts_state.name) != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "section \"%s\" stands where \"%s\" belongs", section.name, snapshot_facts_state.name);
        return FALSE;
    }
    if (!section_load_state(&section, &snapshot_facts_state, facts, error))
        return FALSE;
    *out_mode = g_steal_pointer(&facts->mode);
    *out_guest_ns = facts->guest_ns;
    return TRUE;
}
