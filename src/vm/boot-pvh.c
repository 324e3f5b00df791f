/* ELF kernels with a PVH entry.  Source: Xen's x86/HVM direct boot ABI (docs/misc/pvh.pandoc) and include/public/arch-x86/hvm/start_info.h. */
#include <elf.h>
#include <string.h>

#include "vm/boot.h"

#define PHYS32_ENTRY 18u /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_MAGIC 0x336ec578u

typedef struct StartInfo {
    uint32_t magic, version, flags, nmodules;
    uint64_t modules, cmdline, rsdp, memmap;
    uint32_t nmemmap, reserved;
} StartInfo;

typedef struct StartModule {
    uint64_t start, size, cmdline, reserved;
} StartModule;

typedef struct StartMemmap {
    uint64_t start, size;
    uint32_t type, reserved;
} StartMemmap;

/* One program header, of either class. */
typedef struct Segment {
    uint32_t type;
    uint64_t offset, paddr, filesz, memsz, align;
} Segment;

static bool segment_read(const BootFile *file, unsigned index, Segment *out)
{
    if (file->data[EI_CLASS] == ELFCLASS64) {
        Elf64_Ehdr header;
        Elf64_Phdr row;
        memcpy(&header, file->data, sizeof header);
        if (header.e_phentsize < sizeof row || index >= header.e_phnum || header.e_phoff > file->size ||
            (uint64_t)(index + 1) * header.e_phentsize > file->size - header.e_phoff)
            return false;
        memcpy(&row, file->data + header.e_phoff + (size_t)index * header.e_phentsize, sizeof row);
        *out = (Segment){ row.p_type, row.p_offset, row.p_paddr, row.p_filesz, row.p_memsz, row.p_align };
    } else {
        Elf32_Ehdr header;
        Elf32_Phdr row;
        memcpy(&header, file->data, sizeof header);
        if (header.e_phentsize < sizeof row || index >= header.e_phnum || header.e_phoff > file->size ||
            (uint64_t)(index + 1) * header.e_phentsize > file->size - header.e_phoff)
            return false;
        memcpy(&row, file->data + header.e_phoff + (size_t)index * header.e_phentsize, sizeof row);
        *out = (Segment){ row.p_type, row.p_offset, row.p_paddr, row.p_filesz, row.p_memsz, row.p_align };
    }
    return true;
}

static unsigned segment_count(const BootFile *file)
{
    return boot_u16(file->data + (file->data[EI_CLASS] == ELFCLASS64 ? offsetof(Elf64_Ehdr, e_phnum) : offsetof(Elf32_Ehdr, e_phnum)));
}

static bool is_inside(const BootFile *file, const Segment *segment)
{
    return segment->offset <= file->size && segment->filesz <= file->size - segment->offset;
}

/* Looks through the notes of one segment; 0: no PVH entry. */
static uint64_t note_entry(const uint8_t *notes, uint64_t size, uint64_t align)
{
    uint64_t round = align == 8 ? 7 : 3;
    for (uint64_t at = 0; at + 12 <= size;) {
        uint64_t name_size = boot_u32(notes + at), data_size = boot_u32(notes + at + 4);
        uint32_t type = boot_u32(notes + at + 8);
        uint64_t name = at + 12, data = (name + name_size + round) & ~round;
        if (data > size || data_size > size - data)
            return 0;
        if (type == PHYS32_ENTRY && name_size == 4 && !memcmp(notes + name, "Xen", 4) && (data_size == 4 || data_size == 8))
            return data_size == 4 ? boot_u32(notes + data) : boot_u64(notes + data);
        at = (data + data_size + round) & ~round;
    }
    return 0;
}

static gboolean info_write(BootJob *job, uint64_t end, GError **error)
{
    StartInfo info = { .magic = START_MAGIC, .version = 1, .cmdline = BOOT_CMDLINE, .rsdp = job->rsdp };
    uint64_t cursor = BOOT_INFO + sizeof info;
    BootE820 map[BOOT_E820_MAX];
    info.nmemmap = boot_e820(job->ram, map);
    info.memmap = cursor;
    for (unsigned i = 0; i < info.nmemmap; i++, cursor += sizeof(StartMemmap)) {
        StartMemmap row = { .start = map[i].start, .size = map[i].size, .type = map[i].type };
        if (!boot_put(job, cursor, &row, sizeof row, 0, "the memory map", error))
            return FALSE;
    }
    if (strlen(job->append) >= BOOT_CMDLINE_MAX)
        return boot_fail(job, error, "-append is longer than %u characters", BOOT_CMDLINE_MAX - 1);
    if (!boot_put(job, BOOT_CMDLINE, job->append, strlen(job->append) + 1, 0, "the command line", error))
        return FALSE;
    if (job->initrd.data) {
        uint64_t top = boot_low_top(job->ram), size = job->initrd.size;
        if (size > top || page_of(top - size) < end)
            return boot_fail(job, error, "initrd '%s' does not fit into guest memory behind the kernel; give a larger -m",
                             job->initrd.name);
        StartModule module = { .start = page_of(top - size), .size = size };
        if (!boot_put(job, module.start, job->initrd.data, size, 0, "the initrd", error) ||
            !boot_put(job, cursor, &module, sizeof module, 0, "the module list", error))
            return FALSE;
        info.nmodules = 1;
        info.modules = cursor;
    }
    return boot_put(job, BOOT_INFO, &info, sizeof info, 0, "the start information", error);
}

gboolean boot_pvh(BootJob *job, bool *out_is_mine, GError **error)
{
    const BootFile *file = &job->kernel;
    if (file->size < sizeof(Elf32_Ehdr) || memcmp(file->data, ELFMAG, SELFMAG) != 0)
        return TRUE;
    *out_is_mine = true;
    bool is_64 = file->data[EI_CLASS] == ELFCLASS64;
    if (!is_64 && file->data[EI_CLASS] != ELFCLASS32)
        return boot_fail(job, error, "its ELF class %u is unknown", file->data[EI_CLASS]);
    uint16_t machine = boot_u16(file->data + offsetof(Elf32_Ehdr, e_machine));
    if ((is_64 && file->size < sizeof(Elf64_Ehdr)) || (machine != EM_X86_64 && machine != EM_386))
        return boot_fail(job, error, "the ELF file is cut off or not for x86");
    uint64_t entry = 0, end = 0;
    unsigned count = segment_count(file);
    for (unsigned i = 0; i < count && !entry; i++) {
        Segment segment;
        if (!segment_read(file, i, &segment))
            return boot_fail(job, error, "its ELF program headers are outside the file");
        if (segment.type == PT_NOTE && is_inside(file, &segment))
            entry = note_entry(file->data + segment.offset, segment.filesz, segment.align);
    }
    if (!entry || entry > UINT32_MAX)
        return boot_fail(job, error, "this ELF file has neither a multiboot header nor a PVH entry note");
    for (unsigned i = 0; i < count; i++) {
        Segment segment;
        if (!segment_read(file, i, &segment))
            return boot_fail(job, error, "its ELF program headers are outside the file");
        if (segment.type != PT_LOAD || !segment.memsz)
            continue;
        if (!is_inside(file, &segment) || segment.filesz > segment.memsz)
            return boot_fail(job, error, "ELF segment %u is outside the file", i);
        if (!boot_put(job, segment.paddr, file->data + segment.offset, segment.filesz, segment.memsz - segment.filesz,
                      "an ELF segment", error))
            return FALSE;
        end = MAX(end, segment.paddr + segment.memsz);
    }
    if (!info_write(job, end, error))
        return FALSE;
    boot_state_flat32(job->state, job->ram);
    job->state->rip = entry;
    job->state->gpr[X86_RBX] = BOOT_INFO;
    return TRUE;
}
