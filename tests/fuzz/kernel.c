/* The loader of kernels: bzImage, ELF with a PVH note, multiboot.  The input is the kernel's file. */
#include "fuzz.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm/boot.h"

#define RAM_SIZE (UINT64_C(16) << 20)
#define IMAGE_SIZE 8192u

static void put16(uint8_t *p, uint16_t value) { memcpy(p, &value, 2); }
static void put32(uint8_t *p, uint32_t value) { memcpy(p, &value, 4); }

static void linux_make(uint8_t *p)
{
    p[0x1f1] = 2;
    put32(p + 0x1f4, 4096 / 16);
    put16(p + 0x1fe, 0xaa55);
    memcpy(p + 0x200, "\xeb\x66HdrS", 6);
    put16(p + 0x206, 0x20f);
    p[0x211] = 1;
    put32(p + 0x214, 0x100000);
    put32(p + 0x22c, 0x7fffffff);
    put32(p + 0x230, 0x200000);
    p[0x234] = 1;
    put16(p + 0x236, 3);
    put32(p + 0x238, 200);
    put32(p + 0x258, 0x800000);
    put32(p + 0x260, 0x100000);
}

/* Multiboot by its addresses. */
static void multiboot_make(uint8_t *p)
{
    static const uint32_t header[] = { 0x1badb002, 0x10003, -(0x1badb002u + 0x10003u), 0x200040, 0x200000, 0x201000, 0x204000, 0x200100 };
    memcpy(p + 0x40, header, sizeof header);
}

/* ELF of one segment with a note: 32 bits with a multiboot header in it, 64 bits with PVH's entry. */
static void elf32_make(uint8_t *p)
{
    Elf32_Ehdr header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1 }, .e_type = ET_EXEC, .e_machine = EM_386, .e_version = 1,
                          .e_entry = 0x100010, .e_phoff = sizeof header, .e_ehsize = sizeof header, .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 1 };
    Elf32_Phdr segment = { .p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = 0x100000, .p_paddr = 0x100000, .p_filesz = 0x100, .p_memsz = 0x2000 };
    memcpy(p, &header, sizeof header);
    memcpy(p + sizeof header, &segment, sizeof segment);
    put32(p + 0x1000, 0x1badb002);
    put32(p + 0x1004, 3);
    put32(p + 0x1008, -(0x1badb002u + 3));
}

static void elf64_make(uint8_t *p)
{
    Elf64_Ehdr header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 }, .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1,
                          .e_entry = 0x100000, .e_phoff = sizeof header, .e_ehsize = sizeof header, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 };
    Elf64_Phdr segments[] = {
        { .p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = 0x100000, .p_paddr = 0x100000, .p_filesz = 0x100, .p_memsz = 0x2000 },
        { .p_type = PT_NOTE, .p_offset = 0x800, .p_filesz = 20, .p_memsz = 20, .p_align = 4 },
    };
    static const uint32_t note[] = { 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */, 0x006e6558 /* "Xen" */, 0x100000 };
    memcpy(p, &header, sizeof header);
    memcpy(p + sizeof header, segments, sizeof segments);
    memcpy(p + 0x800, note, sizeof note);
}

size_t fuzz_seeds(FuzzSeed out_seeds[64])
{
    static void (*const makers[])(uint8_t *) = { linux_make, multiboot_make, elf32_make, elf64_make };
    static uint8_t images[G_N_ELEMENTS(makers)][IMAGE_SIZE];
    for (size_t i = 0; i < G_N_ELEMENTS(makers); i++) {
        makers[i](images[i]);
        out_seeds[i] = (FuzzSeed){ images[i], IMAGE_SIZE };
    }
    return G_N_ELEMENTS(makers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Ram *ram;
    if (!ram)
        ram = ram_new(RAM_SIZE, NULL);
    int fd = memfd_create("kernel", 0);
    g_assert(ram && fd >= 0 && write(fd, data, size) == (ssize_t)size);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    g_autoptr(GError) error = NULL;
    static X86State state;
    g_autoptr(Boot) boot = boot_open(&(BootParams){ .kernel = path, .initrd = path, .append = "console=ttyS0", .has_long_mode = true }, &error);
    if (!boot || !boot_load(boot, ram, 0xe0000, &state, &error))
        g_assert(error && error->message[0]);
    close(fd);
    return 0;
}
