/* Multiboot 1 kernels.  Source: the Multiboot Specification 0.6.96, sections 3.1 (header), 3.2 (machine state), 3.3 (information). */
#include <elf.h>
#include <string.h>

#include "vm/boot.h"

#define HEADER_MAGIC 0x1badb002u
#define LOADER_MAGIC 0x2badb002u
#define HEADER_SEARCH 8192
enum { HAS_ADDRESSES = 1u << 16, UNKNOWN_MANDATORY = 0xfff8u };
enum { INFO_MEMORY = 1, INFO_CMDLINE = 4, INFO_MODULES = 8, INFO_MMAP = 64, INFO_LOADER = 512 };

typedef struct MultibootInfo {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr, drives_length,
        drives_addr, config_table, boot_loader_name, apm_table;
} MultibootInfo;

typedef struct MultibootModule {
    uint32_t start, end, text, reserved;
} MultibootModule;

typedef struct MultibootMmap {
    uint32_t size; /* of the rest */
    BootE820 entry;
} __attribute__((packed)) MultibootMmap;

/* Loads the program headers of an ELF32 file; *out_end is behind the highest byte. */
static gboolean elf32_load(BootJob *job, uint32_t *out_entry, uint64_t *out_end, GError **error)
{
    const uint8_t *file = job->kernel.data;
    size_t size = job->kernel.size;
    Elf32_Ehdr header;
    if (size < sizeof header || memcmp(file, ELFMAG, SELFMAG) != 0)
        return boot_fail(job, error, "its multiboot header says ELF, but it is not an ELF file");
    memcpy(&header, file, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS32)
        return boot_fail(job, error, "a multiboot kernel must be a 32-bit ELF file; this one is 64-bit");
    if (header.e_phentsize < sizeof(Elf32_Phdr) || !header.e_phnum ||
        (uint64_t)header.e_phoff + (uint64_t)header.e_phnum * header.e_phentsize > size)
        return boot_fail(job, error, "its ELF program headers are outside the file");
    *out_end = 0;
    *out_entry = header.e_entry;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf32_Phdr segment;
        memcpy(&segment, file + header.e_phoff + (size_t)i * header.e_phentsize, sizeof segment);
        if (segment.p_type != PT_LOAD || !segment.p_memsz)
            continue;
        if ((uint64_t)segment.p_offset + segment.p_filesz > size || segment.p_filesz > segment.p_memsz)
            return boot_fail(job, error, "ELF segment %u is outside the file", i);
        if (!boot_put(job, segment.p_paddr, file + segment.p_offset, segment.p_filesz, segment.p_memsz - segment.p_filesz,
                      "an ELF segment", error))
            return FALSE;
        /* The entry is a virtual address; kernels linked high give the physical one as well. */
        if (header.e_entry - segment.p_vaddr < segment.p_memsz)
            *out_entry = header.e_entry - segment.p_vaddr + segment.p_paddr;
        *out_end = MAX(*out_end, (uint64_t)segment.p_paddr + segment.p_memsz);
    }
    return *out_end ? TRUE : boot_fail(job, error, "it has no loadable ELF segment");
}

/* The header's own address fields ("a.out kludge"). */
static gboolean address_load(BootJob *job, size_t at, uint32_t *out_entry, uint64_t *out_end, GError **error)
{
    const uint8_t *file = job->kernel.data;
    size_t size = job->kernel.size;
    if (at + 32 > size)
        return boot_fail(job, error, "the file is cut off in the multiboot header");
    uint32_t header_addr = boot_u32(file + at + 12), load = boot_u32(file + at + 16), load_end = boot_u32(file + at + 20),
             bss_end = boot_u32(file + at + 24);
    *out_entry = boot_u32(file + at + 28);
    if (load > header_addr || header_addr - load > at)
        return boot_fail(job, error, "its multiboot addresses contradict each other");
    size_t offset = at - (header_addr - load);
    uint64_t count = load_end ? (uint64_t)load_end - load : size - offset;
    if ((load_end && load_end < load) || count > size - offset)
        return boot_fail(job, error, "the file is shorter than its multiboot header says");
    uint64_t bss = bss_end && bss_end > load + count ? bss_end - (load + count) : 0;
    *out_end = load + count + bss;
    return boot_put(job, load, file + offset, count, bss, "the kernel", error);
}

/* Puts modules behind the kernel, page aligned, and their list and texts into the information area; @cursor moves behind them. */
static gboolean modules_load(BootJob *job, MultibootInfo *info, uint64_t end, uint64_t *cursor, GError **error)
{
    if (!job->modules->len)
        return TRUE;
    uint64_t list = *cursor, start = end;
    *cursor += job->modules->len * sizeof(MultibootModule);
    for (guint i = 0; i < job->modules->len; i++) {
        const BootFile *file = g_ptr_array_index(job->modules, i);
        const char *text = g_ptr_array_index(job->module_texts, i);
        start = page_of(start + PAGE_SIZE - 1);
        if (start + file->size > boot_low_top(job->ram))
            return boot_fail(job, error, "module '%s' does not fit into guest memory; give a larger -m", file->name);
        if (*cursor + strlen(text) + 1 > BOOT_CMDLINE)
            return boot_fail(job, error, "the module list of -initrd is too long");
        MultibootModule module = { .start = (uint32_t)start, .end = (uint32_t)(start + file->size), .text = (uint32_t)*cursor };
        if (!boot_put(job, start, file->data, file->size, 0, "a module", error) ||
            !boot_put(job, *cursor, text, strlen(text) + 1, 0, "a module's text", error) ||
            !boot_put(job, list + i * sizeof module, &module, sizeof module, 0, "the module list", error))
            return FALSE;
        *cursor += strlen(text) + 1;
        start += file->size;
    }
    info->flags |= INFO_MODULES;
    info->mods_count = job->modules->len;
    info->mods_addr = (uint32_t)list;
    return TRUE;
}

static gboolean info_write(BootJob *job, uint64_t end, GError **error)
{
    uint64_t cursor = BOOT_INFO + sizeof(MultibootInfo);
    MultibootInfo info = { .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER };
    info.mem_lower = BOOT_EBDA >> 10;
    info.mem_upper = (uint32_t)((boot_low_top(job->ram) - 0x100000) >> 10);

    BootE820 map[BOOT_E820_MAX];
    unsigned nmap = boot_e820(job->ram, map);
    info.mmap_addr = (uint32_t)cursor;
    info.mmap_length = nmap * (uint32_t)sizeof(MultibootMmap);
    for (unsigned i = 0; i < nmap; i++) {
        MultibootMmap entry = { .size = sizeof(BootE820), .entry = map[i] };
        if (!boot_put(job, cursor, &entry, sizeof entry, 0, "the memory map", error))
            return FALSE;
        cursor += sizeof entry;
    }
    static const char loader[] = "segue";
    info.boot_loader_name = (uint32_t)cursor;
    if (!boot_put(job, cursor, loader, sizeof loader, 0, "its name", error))
        return FALSE;
    cursor += sizeof loader;

    /* QEMU's loader gives "FILE APPEND"; kernels skip the first word. */
    g_autofree char *cmdline = *job->append ? g_strconcat(job->kernel.name, " ", job->append, NULL) : g_strdup(job->kernel.name);
    if (strlen(cmdline) >= BOOT_CMDLINE_MAX)
        return boot_fail(job, error, "-append is longer than %u characters", BOOT_CMDLINE_MAX - 1);
    info.cmdline = BOOT_CMDLINE;
    return boot_put(job, BOOT_CMDLINE, cmdline, strlen(cmdline) + 1, 0, "the command line", error) &&
           modules_load(job, &info, end, &cursor, error) &&
           boot_put(job, BOOT_INFO, &info, sizeof info, 0, "the multiboot information", error);
}

gboolean boot_multiboot(BootJob *job, bool *out_is_mine, GError **error)
{
    const uint8_t *file = job->kernel.data;
    size_t size = job->kernel.size, at = 0;
    bool found = false;
    for (; at + 12 <= MIN(size, HEADER_SEARCH) && !found; at += 4)
        found = boot_u32(file + at) == HEADER_MAGIC &&
                HEADER_MAGIC + boot_u32(file + at + 4) + boot_u32(file + at + 8) == 0;
    if (!found)
        return TRUE;
    at -= 4;
    *out_is_mine = true;
    uint32_t flags = boot_u32(file + at + 4);
    if (flags & UNKNOWN_MANDATORY)
        return boot_fail(job, error, "it requires multiboot features 0x%x that do not exist here", flags & UNKNOWN_MANDATORY);
    uint32_t entry = 0;
    uint64_t end = 0;
    if (flags & HAS_ADDRESSES ? !address_load(job, at, &entry, &end, error) : !elf32_load(job, &entry, &end, error))
        return FALSE;
    if (!info_write(job, end, error))
        return FALSE;
    boot_state_flat32(job->state, job->ram);
    job->state->rip = entry;
    job->state->gpr[X86_RAX] = LOADER_MAGIC;
    job->state->gpr[X86_RBX] = BOOT_INFO;
    return TRUE;
}
