/* Small synthetic kernels of every format, and hostile ones: each ends in one sentence, none reads or writes out of bounds. */
#include <check.h>
#include <elf.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "vm/boot.h"

#define MIB (UINT64_C(1) << 20)

static char *folder;

static void setup(void) { folder = g_dir_make_tmp("segue-boot-XXXXXX", NULL); }

static void teardown(void)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
    g_free(folder);
}

static char *file_write(const char *name, const void *data, size_t size)
{
    char *path = g_build_filename(folder, name, NULL);
    ck_assert(g_file_set_contents(path, data, (gssize)size, NULL));
    return path;
}

static void put16(uint8_t *p, uint16_t value) { memcpy(p, &value, 2); }
static void put32(uint8_t *p, uint32_t value) { memcpy(p, &value, 4); }
static void put64(uint8_t *p, uint64_t value) { memcpy(p, &value, 8); }

/* --- images --- */

typedef struct Image {
    size_t size;
    uint8_t data[16384];
} Image;

/* A bzImage: 2 setup sectors, 4 KiB of kernel, protocol 2.15, 64-bit entry. */
static void image_linux(Image *image)
{
    uint8_t *p = image->data;
    image->size = 3 * 512 + 4096;
    memset(p + 3 * 512, 0x90, 4096);
    p[0x1f1] = 2;
    put32(p + 0x1f4, 4096 / 16);
    put16(p + 0x1fe, 0xaa55);
    p[0x200] = 0xeb;
    p[0x201] = 0x66;
    memcpy(p + 0x202, "HdrS", 4);
    put16(p + 0x206, 0x20f);
    p[0x211] = 1;
    put32(p + 0x214, 0x100000);
    put32(p + 0x22c, 0x7fffffff);
    put32(p + 0x230, 0x200000);
    p[0x234] = 1;
    put16(p + 0x236, 3);
    put32(p + 0x238, 200);
    put64(p + 0x258, 16 * MIB);
    put32(p + 0x260, 0x100000);
}

static void image_multiboot_elf(Image *image)
{
    Elf32_Ehdr header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1 }, .e_type = ET_EXEC, .e_machine = EM_386,
                          .e_version = 1, .e_entry = 0xc0100010, .e_phoff = sizeof header, .e_ehsize = sizeof header,
                          .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 1 };
    Elf32_Phdr segment = { .p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = 0xc0100000, .p_paddr = 0x100000, .p_filesz = 0x100,
                           .p_memsz = 0x2000, .p_align = 0x1000 };
    memcpy(image->data, &header, sizeof header);
    memcpy(image->data + sizeof header, &segment, sizeof segment);
    put32(image->data + 0x1000, 0x1badb002);
    put32(image->data + 0x1004, 3);
    put32(image->data + 0x1008, -(0x1badb002u + 3));
    memset(image->data + 0x1010, 0xcc, 0xf0);
    image->size = 0x1100;
}

static void image_multiboot_addresses(Image *image)
{
    uint8_t *p = image->data + 0x40;
    put32(p, 0x1badb002);
    put32(p + 4, 1u << 16);
    put32(p + 8, -(0x1badb002u + (1u << 16)));
    put32(p + 12, 0x200040); /* header */
    put32(p + 16, 0x200000); /* load */
    put32(p + 20, 0x200800); /* load end */
    put32(p + 24, 0x201000); /* bss end */
    put32(p + 28, 0x200100); /* entry */
    image->size = 0x800;
}

static void image_pvh(Image *image)
{
    Elf64_Ehdr header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 }, .e_type = ET_EXEC, .e_machine = EM_X86_64,
                          .e_version = 1, .e_phoff = sizeof header, .e_ehsize = sizeof header, .e_phentsize = sizeof(Elf64_Phdr),
                          .e_phnum = 2 };
    Elf64_Phdr segments[2] = {
        { .p_type = PT_LOAD, .p_offset = 0x1000, .p_paddr = 0x1000000, .p_filesz = 0x200, .p_memsz = 0x1000 },
        { .p_type = PT_NOTE, .p_offset = 0x800, .p_filesz = 20, .p_memsz = 20, .p_align = 4 },
    };
    memcpy(image->data, &header, sizeof header);
    memcpy(image->data + sizeof header, segments, sizeof segments);
    put32(image->data + 0x800, 4);
    put32(image->data + 0x804, 4);
    put32(image->data + 0x808, 18);
    memcpy(image->data + 0x80c, "Xen", 4);
    put32(image->data + 0x810, 0x1000040);
    memset(image->data + 0x1000, 0x90, 0x200);
    image->size = 0x1200;
}

/* Opens and loads; everything is freed but the RAM. */
static gboolean load(const BootParams *params, Ram *ram, X86State *out_state, GError **error)
{
    g_autoptr(Boot) boot = boot_open(params, error);
    return boot && boot_load(boot, ram, 0xe0000, out_state, error);
}

/* --- well-formed --- */

START_TEST(linux_64)
{
    g_autofree Image *image = g_new0(Image, 1);
    image_linux(image);
    g_autofree char *kernel = file_write("bzImage", image->data, image->size), *initrd = file_write("initrd", "INITRD", 6);
    g_autoptr(Ram) ram = ram_new(64 * MIB, NULL);
    g_autofree X86State *state = g_new0(X86State, 1);
    g_autoptr(GError) error = NULL;
    ck_assert_msg(load(&(BootParams){ .kernel = kernel, .initrd = initrd, .append = "console=ttyS0", .has_long_mode = true }, ram, state,
                       &error),
                  "%s", error ? error->message : "");
    ck_assert_uint_eq(state->rip, 16 * MIB + 0x200); /* preferred address */
    ck_assert(state->cr0 & X86_CR0_PG && state->cr4 & X86_CR4_PAE && state->efer == (X86_EFER_LME | X86_EFER_LMA));
    ck_assert(state->seg[X86_CS].attr & X86_SEG_L);
    ck_assert_uint_eq(state->gpr[X86_RSI], BOOT_ZERO_PAGE);
    ck_assert_uint_eq(*(uint8_t *)ram_slice(ram, 16 * MIB, 1), 0x90);
    const uint8_t *zero = ram_slice(ram, BOOT_ZERO_PAGE, PAGE_SIZE);
    ck_assert_uint_eq(boot_u32(zero + 0x218), 64 * MIB - PAGE_SIZE);
    ck_assert_uint_eq(boot_u32(zero + 0x21c), 6);
    ck_assert_mem_eq(ram_slice(ram, 64 * MIB - PAGE_SIZE, 6), "INITRD", 6);
    ck_assert_str_eq(ram_slice(ram, boot_u32(zero + 0x228), 14), "console=ttyS0");
    ck_assert_uint_eq(boot_u64(zero + 0x70), 0xe0000);
    ck_assert_uint_eq(zero[0x210], 0xff);
    /* Identity page tables reach 4 GiB. */
    const uint64_t *tables = ram_slice(ram, state->cr3, 6 * PAGE_SIZE);
    ck_assert_uint_eq(tables[0] & ~UINT64_C(0xfff), state->cr3 + PAGE_SIZE);
    ck_assert_uint_eq(tables[1024 + 2047], (UINT64_C(2047) << 21) | 0x83);
    /* E820: nothing above RAM, nothing overlaps. */
    uint64_t end = 0;
    for (unsigned i = 0; i < zero[0x1e8]; i++) {
        BootE820 row;
        memcpy(&row, zero + 0x2d0 + i * sizeof row, sizeof row);
        ck_assert_uint_ge(row.start, end);
        end = row.start + row.size;
    }
    ck_assert_uint_eq(end, 64 * MIB);
}
END_TEST

START_TEST(linux_32_entry_for_32_bit_cpu)
{
    g_autofree Image *image = g_new0(Image, 1);
    image_linux(image);
    g_autofree char *kernel = file_write("bzImage", image->data, image->size);
    g_autoptr(Ram) ram = ram_new(8 * MIB, NULL); /* below the preferred address: loaded at 1 MiB */
    g_autofree X86State *state = g_new0(X86State, 1);
    ck_assert(load(&(BootParams){ .kernel = kernel }, ram, state, NULL));
    ck_assert_uint_eq(state->rip, MIB);
    ck_assert(!(state->cr0 & X86_CR0_PG));
    ck_assert(state->seg[X86_CS].attr & X86_SEG_DB);
}
END_TEST

START_TEST(multiboot_elf)
{
    g_autofree Image *image = g_new0(Image, 1);
    image_multiboot_elf(image);
    g_autofree char *kernel = file_write("kernel", image->data, image->size), *module = file_write("mod", "0123456789", 10);
    g_autofree char *option = g_strdup_printf("%s a b,%s", module, module);
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    memset(ram_slice(ram, 0x100100, 0x100), 0xff, 0x100);
    g_autofree X86State *state = g_new0(X86State, 1);
    g_autoptr(GError) error = NULL;
    ck_assert_msg(load(&(BootParams){ .kernel = kernel, .initrd = option, .append = "x y" }, ram, state, &error), "%s",
                  error ? error->message : "");
    ck_assert_uint_eq(state->rip, 0x100010); /* the entry is virtual, the segment says where it is */
    ck_assert_uint_eq(state->gpr[X86_RAX], 0x2badb002);
    ck_assert_uint_eq(*(uint8_t *)ram_slice(ram, 0x100010, 1), 0xcc);
    ck_assert_uint_eq(*(uint8_t *)ram_slice(ram, 0x100100, 1), 0); /* bss */
    const uint8_t *info = ram_slice(ram, state->gpr[X86_RBX], 64);
    ck_assert_uint_eq(boot_u32(info) & 0x4d, 0x4d);
    ck_assert_uint_eq(boot_u32(info + 8), 15 * 1024);
    const char *cmdline = ram_slice(ram, boot_u32(info + 16), 256);
    ck_assert(g_str_has_suffix(cmdline, " x y"));
    ck_assert_uint_eq(boot_u32(info + 20), 2);
    const uint8_t *modules = ram_slice(ram, boot_u32(info + 24), 32);
    ck_assert_uint_eq(boot_u32(modules) % PAGE_SIZE, 0);
    ck_assert_uint_ge(boot_u32(modules), 0x102000); /* behind bss */
    ck_assert_uint_eq(boot_u32(modules + 4) - boot_u32(modules), 10);
    ck_assert_mem_eq(ram_slice(ram, boot_u32(modules + 16), 10), "0123456789", 10);
    ck_assert(g_str_has_suffix(ram_slice(ram, boot_u32(modules + 8), 256), " a b"));
}
END_TEST

START_TEST(multiboot_addresses)
{
    g_autofree Image *image = g_new0(Image, 1);
    image_multiboot_addresses(image);
    image->data[0x100] = 0xf4;
    g_autofree char *kernel = file_write("kernel", image->data, image->size);
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    g_autofree X86State *state = g_new0(X86State, 1);
    ck_assert(load(&(BootParams){ .kernel = kernel }, ram, state, NULL));
    ck_assert_uint_eq(state->rip, 0x200100);
    ck_assert_uint_eq(*(uint8_t *)ram_slice(ram, 0x200100, 1), 0xf4);
}
END_TEST

START_TEST(pvh)
{
    g_autofree Image *image = g_new0(Image, 1);
    image_pvh(image);
    g_autofree char *kernel = file_write("vmlinux", image->data, image->size), *initrd = file_write("initrd", "INITRD", 6);
    g_autoptr(Ram) ram = ram_new(32 * MIB, NULL);
    g_autofree X86State *state = g_new0(X86State, 1);
    g_autoptr(GError) error = NULL;
    ck_assert_msg(load(&(BootParams){ .kernel = kernel, .initrd = initrd, .append = "quiet" }, ram, state, &error), "%s",
                  error ? error->message : "");
    ck_assert_uint_eq(state->rip, 0x1000040);
    const uint8_t *info = ram_slice(ram, state->gpr[X86_RBX], 56);
    ck_assert_uint_eq(boot_u32(info), 0x336ec578);
    ck_assert_uint_eq(boot_u32(info + 12), 1);
    ck_assert_uint_eq(boot_u64(info + 32), 0xe0000);
    const uint8_t *module = ram_slice(ram, boot_u64(info + 16), 32);
    ck_assert_uint_eq(boot_u64(module), 32 * MIB - PAGE_SIZE);
    ck_assert_uint_eq(boot_u64(module + 8), 6);
}
END_TEST

START_TEST(reset_state)
{
    g_autofree X86State *state = g_new0(X86State, 1);
    boot_state_reset(state);
    ck_assert_uint_eq(state->seg[X86_CS].base + state->rip, 0xfffffff0);
    ck_assert_uint_eq(state->seg[X86_CS].selector, 0xf000);
    ck_assert_uint_eq(state->cr0, 0x60000010);
    ck_assert_uint_eq(state->rflags, 2);
    ck_assert_uint_eq(state->dr[6], 0xffff0ff0);
}
END_TEST

START_TEST(firmware)
{
    g_autofree uint8_t *bios = g_malloc0(0x40000);
    bios[0x3fff0] = 0xea;
    g_autofree char *path = file_write("bios.bin", bios, 0x40000);
    g_autoptr(Ram) ram = ram_new(16 * MIB, NULL);
    g_autofree X86State *state = g_new0(X86State, 1);
    g_autoptr(Boot) boot = boot_open(&(BootParams){ .bios = path }, NULL);
    ck_assert(boot_is_firmware(boot));
    for (int i = 0; i < 2; i++) { /* a reset restores the copy below 1 MiB */
        ck_assert(boot_load(boot, ram, 0, state, NULL));
        ck_assert_uint_eq(*(uint8_t *)ram_slice(ram, 0xfffffff0, 1), 0xea);
        uint8_t *shadow = ram_slice(ram, 0xffff0, 1);
        ck_assert_uint_eq(*shadow, 0xea);
        *shadow = 0;
    }
}
END_TEST

/* --- hostile --- */

static void break_cut_setup(Image *image) { image->size = 1200; }
static void break_cut_kernel(Image *image) { image->size -= 100; }
static void break_header_only(Image *image) { image->size = 0x206; }
static void break_version(Image *image) { put16(image->data + 0x206, 0x201); }
static void break_low(Image *image) { image->data[0x211] = 0; }
static void break_sectors(Image *image) { image->data[0x1f1] = 0xff; }
static void break_init_size(Image *image) { put32(image->data + 0x260, 0xffffffff); }
static void break_syssize(Image *image) { put32(image->data + 0x1f4, 0xffffffff); }
static void break_pref(Image *image)
{
    put64(image->data + 0x258, 0xfffff000);
    image->data[0x234] = 0;
}
static void break_cmdline(Image *image) { put32(image->data + 0x238, 3); }
static void break_elf_class(Image *image) { image->data[EI_CLASS] = ELFCLASS64; }
static void break_elf_phoff(Image *image) { put32(image->data + offsetof(Elf32_Ehdr, e_phoff), 0xfffffff0); }
static void break_elf_phnum(Image *image) { put16(image->data + offsetof(Elf32_Ehdr, e_phnum), 0xffff); }
static void break_elf_offset(Image *image) { put32(image->data + sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_offset), 0xffffff00); }
static void break_elf_memsz(Image *image) { put32(image->data + sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_memsz), 0xffffffff); }
static void break_elf_filesz(Image *image) { put32(image->data + sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_filesz), 0x3000); }
static void break_elf_paddr(Image *image) { put32(image->data + sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_paddr), 0xfffff000); }
static void break_elf_none(Image *image) { put32(image->data + sizeof(Elf32_Ehdr), PT_NULL); }
static void break_mandatory(Image *image)
{
    put32(image->data + 0x1004, 0x8003);
    put32(image->data + 0x1008, -(0x1badb002u + 0x8003));
}
static void break_addresses(Image *image) { put32(image->data + 0x40 + 16, 0x200041); }
static void break_addresses_before(Image *image) { put32(image->data + 0x40 + 16, 0x1000); }
static void break_load_end(Image *image) { put32(image->data + 0x40 + 20, 0x300000); }
static void break_load_end_low(Image *image) { put32(image->data + 0x40 + 20, 0x100); }
static void break_bss(Image *image) { put32(image->data + 0x40 + 24, 0xfffffff0); }
static void break_no_note(Image *image) { put32(image->data + 0x808, 17); }
static void break_note_size(Image *image) { put32(image->data + 0x804, 0xffffffff); }
static void break_note_name(Image *image) { put32(image->data + 0x800, 0xffffffff); }
static void break_pvh_phoff(Image *image) { put64(image->data + offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 8); }
static void break_pvh_paddr(Image *image) { put64(image->data + sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), UINT64_MAX - 0x100); }
static void break_pvh_memsz(Image *image) { put64(image->data + sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_memsz), UINT64_MAX); }
static void break_pvh_offset(Image *image) { put64(image->data + sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_offset), UINT64_MAX - 0x100); }
static void break_machine(Image *image) { put16(image->data + offsetof(Elf64_Ehdr, e_machine), EM_ARM); }
static void break_magic(Image *image) { memset(image->data, 'x', 16384); }
static void break_short(Image *image) { image->size = 1; }

static const struct {
    const char *name;
    void (*make)(Image *image), (*damage)(Image *image);
    const char *message;
} hostile[] = {
    { "setup cut off", image_linux, break_cut_setup, "setup code alone" },
    { "kernel cut off", image_linux, break_cut_kernel, "cut off" },
    { "header only", image_linux, break_header_only, "cut off in the setup header" },
    { "old protocol", image_linux, break_version, "too old" },
    { "zImage", image_linux, break_low, "too old" },
    { "setup sectors", image_linux, break_sectors, "setup code alone" },
    { "huge init_size", image_linux, break_init_size, "give a larger -m" },
    { "huge syssize", image_linux, break_syssize, "cut off" },
    { "fixed address outside RAM", image_linux, break_pref, "give a larger -m" },
    { "long command line", image_linux, break_cmdline, "-append has" },
    { "64-bit ELF with multiboot header", image_multiboot_elf, break_elf_class, "32-bit ELF" },
    { "program headers outside", image_multiboot_elf, break_elf_phoff, "outside the file" },
    { "too many program headers", image_multiboot_elf, break_elf_phnum, "outside the file" },
    { "segment outside", image_multiboot_elf, break_elf_offset, "outside the file" },
    { "huge segment", image_multiboot_elf, break_elf_memsz, "give a larger -m" },
    { "file larger than memory", image_multiboot_elf, break_elf_filesz, "outside the file" },
    { "segment at the end of 4 GiB", image_multiboot_elf, break_elf_paddr, "give a larger -m" },
    { "no segment", image_multiboot_elf, break_elf_none, "no loadable ELF segment" },
    { "unknown mandatory feature", image_multiboot_elf, break_mandatory, "requires multiboot features" },
    { "load behind header", image_multiboot_addresses, break_addresses, "contradict" },
    { "load before the file", image_multiboot_addresses, break_addresses_before, "contradict" },
    { "load end behind the file", image_multiboot_addresses, break_load_end, "shorter than" },
    { "load end before load", image_multiboot_addresses, break_load_end_low, "shorter than" },
    { "huge bss", image_multiboot_addresses, break_bss, "give a larger -m" },
    { "no PVH note", image_pvh, break_no_note, "neither a multiboot header nor a PVH" },
    { "huge note", image_pvh, break_note_size, "neither a multiboot header nor a PVH" },
    { "huge note name", image_pvh, break_note_name, "neither a multiboot header nor a PVH" },
    { "64-bit program headers outside", image_pvh, break_pvh_phoff, "outside the file" },
    { "segment address wraps", image_pvh, break_pvh_paddr, "give a larger -m" },
    { "segment size wraps", image_pvh, break_pvh_memsz, "give a larger -m" },
    { "segment offset wraps", image_pvh, break_pvh_offset, "outside the file" },
    { "wrong machine", image_pvh, break_machine, "not for x86" },
    { "text file", image_pvh, break_magic, "neither a Linux bzImage nor" },
    { "one byte", image_pvh, break_short, "neither a Linux bzImage nor" },
};

START_TEST(hostile_row)
{
    g_autofree Image *image = g_new0(Image, 1);
    hostile[_i].make(image);
    hostile[_i].damage(image);
    g_autofree char *kernel = file_write("kernel", image->data, image->size);
    g_autoptr(Ram) ram = ram_new(32 * MIB, NULL);
    g_autofree X86State *state = g_new0(X86State, 1);
    g_autoptr(GError) error = NULL;
    ck_assert_msg(!load(&(BootParams){ .kernel = kernel, .append = "four", .has_long_mode = true }, ram, state, &error), "%s: accepted",
                  hostile[_i].name);
    ck_assert_msg(g_error_matches(error, VMM_ERROR, VMM_ERROR_USAGE), "%s", hostile[_i].name);
    ck_assert_msg(g_str_has_prefix(error->message, "could not load kernel '"), "%s: %s", hostile[_i].name, error->message);
    ck_assert_msg(strstr(error->message, hostile[_i].message) != NULL, "%s: %s", hostile[_i].name, error->message);
}
END_TEST

/* Every single byte of the headers overwritten in turn: any outcome but a crash. */
START_TEST(mutations_do_not_crash)
{
    static void (*const makers[])(Image *image) = { image_linux, image_multiboot_elf, image_multiboot_addresses, image_pvh };
    g_autoptr(Ram) ram = ram_new(32 * MIB, NULL);
    g_autofree X86State *state = g_new0(X86State, 1);
    g_autofree Image *image = g_new0(Image, 1);
    for (size_t at = 0; at < 0x300; at++) {
        memset(image, 0, sizeof *image);
        makers[_i](image);
        size_t where = at < 0x100 || _i == 0 ? at : at < 0x200 ? 0x800 + at - 0x100 : 0x1000 + at - 0x200;
        image->data[where] ^= 0xff;
        g_autofree char *kernel = file_write("kernel", image->data, image->size);
        g_autoptr(GError) error = NULL;
        if (!load(&(BootParams){ .kernel = kernel, .has_long_mode = true }, ram, state, &error))
            ck_assert_ptr_nonnull(error);
    }
}
END_TEST

START_TEST(initrd_too_large)
{
    g_autofree Image *image = g_new0(Image, 1);
    image_linux(image);
    g_autofree char *big = g_malloc0(30 * MIB);
    g_autofree char *kernel = file_write("bzImage", image->data, image->size), *initrd = file_write("initrd", big, 30 * MIB);
    g_autoptr(Ram) ram = ram_new(32 * MIB, NULL);
    g_autofree X86State *state = g_new0(X86State, 1);
    g_autoptr(GError) error = NULL;
    ck_assert(!load(&(BootParams){ .kernel = kernel, .initrd = initrd }, ram, state, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "does not fit into guest memory behind the kernel"));
}
END_TEST

START_TEST(missing_files)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(boot_open(&(BootParams){ .kernel = "_NO_FILE_HERE_" }, &error));
    ck_assert_str_eq(error->message, "could not load kernel '_NO_FILE_HERE_': No such file or directory");
    g_clear_error(&error);
    ck_assert_ptr_null(boot_open(&(BootParams){ .kernel = folder }, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "not a regular file"));
    g_clear_error(&error);
    g_autofree char *empty = file_write("empty", "", 0);
    ck_assert_ptr_null(boot_open(&(BootParams){ .kernel = empty }, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "the file is empty"));
    g_clear_error(&error);
    g_autofree char *odd = file_write("odd", "abc", 3);
    ck_assert_ptr_null(boot_open(&(BootParams){ .bios = odd }, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "multiple of 64 KiB"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("boot");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, linux_64);
    tcase_add_test(tcase, linux_32_entry_for_32_bit_cpu);
    tcase_add_test(tcase, multiboot_elf);
    tcase_add_test(tcase, multiboot_addresses);
    tcase_add_test(tcase, pvh);
    tcase_add_test(tcase, reset_state);
    tcase_add_test(tcase, firmware);
    tcase_add_loop_test(tcase, hostile_row, 0, G_N_ELEMENTS(hostile));
    tcase_add_loop_test(tcase, mutations_do_not_crash, 0, 4);
    tcase_add_test(tcase, initrd_too_large);
    tcase_add_test(tcase, missing_files);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
