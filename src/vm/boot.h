/*
 * Boot: puts a kernel or firmware into guest RAM and says with which registers the boot processor starts.
 *
 * Linux bzImage (32- and 64-bit entry), multiboot 1 (ELF32 or the address fields), ELF with a PVH note, or a BIOS image.  The files stay
 * mapped, so that a system reset loads them again even when they have been unlinked.  Files are hostile: every size and offset
 * is checked, and a file that shrinks later is read as it was mapped (by the caller's choice of file).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "core/ram.h"
#include "x86/state.h"

#define BOOT_PCI_HOLE_START UINT64_C(0xc0000000) /* RAM below ends here at the latest */

typedef struct BootParams {
    const char *kernel, *initrd, *append, *bios; /* NULL: not given; no kernel and no bios means the default firmware */
    bool has_long_mode;                          /* the guest's CPU has it */
} BootParams;

typedef struct Boot Boot;

/* boot_open: maps the files.  FALSE with VMM_ERROR_USAGE; "could not load kernel 'NAME': …" and the like. */
Boot *boot_open(const BootParams *params, GError **error);
void boot_free(Boot *boot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Boot, boot_free)

/* boot_is_firmware: the machine starts at the reset vector. */
bool boot_is_firmware(const Boot *boot);

/**
 * boot_load: fills @ram, at power-on and after each reset.
 * @rsdp: where board's ACPI RSDP is, 0 for none
 * @out_state: the boot processor's registers; all fields
 *
 * Returns: FALSE with VMM_ERROR_USAGE when the image is malformed or does not fit.  Thread: any, the guest stands still.
 */
gboolean boot_load(Boot *boot, Ram *ram, uint64_t rsdp, X86State *out_state, GError **error);

/* --- for boot-*.c --- */

enum { BOOT_E820_RAM = 1, BOOT_E820_RESERVED = 2, BOOT_E820_ACPI = 3 };

typedef struct BootE820 {
    uint64_t start, size;
    uint32_t type;
} __attribute__((packed)) BootE820;

#define BOOT_E820_MAX 8

/* A mapped file. */
typedef struct BootFile {
    const uint8_t *data;
    size_t size;
    const char *name;
} BootFile;

/* The open file of mapped bytes: reading costs half of what a copy does, which has to map each page first. */
typedef struct BootSource {
    const uint8_t *data;
    size_t size;
    int fd;
} BootSource;

typedef struct BootJob {
    Ram *ram;
    BootFile kernel, initrd; /* initrd.data NULL: none */
    const char *initrd_option; /* as given: multiboot reads a list */
    GPtrArray *modules;      /* BootFile *, in the order of -initrd */
    GPtrArray *module_texts; /* char *: their command lines */
    const GArray *sources;   /* BootSource: files behind what boot_put() is given; NULL: none */
    const char *append;      /* never NULL */
    bool has_long_mode;
    uint64_t rsdp;
    X86State *state;
} BootJob;

/* Each looks at job->kernel: *out_is_mine tells whether the format is theirs; only then an error is possible. */
gboolean boot_linux(BootJob *job, bool *out_is_mine, GError **error);
gboolean boot_multiboot(BootJob *job, bool *out_is_mine, GError **error);
gboolean boot_pvh(BootJob *job, bool *out_is_mine, GError **error);

/* boot_fail: sets "could not load kernel 'NAME': @format…" and returns FALSE. */
gboolean boot_fail(const BootJob *job, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* boot_put: copies to guest memory; zero_size more bytes are cleared behind.  FALSE with @what in the message when it does not fit. */
gboolean boot_put(const BootJob *job, Gpa start, const void *data, uint64_t size, uint64_t zero_size, const char *what, GError **error);

/* boot_low_top: first address behind RAM below 4 GiB. */
uint64_t boot_low_top(const Ram *ram);
/* boot_e820: the memory map that we tell kernels; returns its length. */
unsigned boot_e820(const Ram *ram, BootE820 out_map[BOOT_E820_MAX]);

/* Little-endian field at @offset of a file; the caller has checked the size. */
static inline uint32_t boot_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint16_t boot_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint64_t boot_u64(const uint8_t *p) { return boot_u32(p) | (uint64_t)boot_u32(p + 4) << 32; }

/* Low memory that the loader itself uses; all of it below 0x9fc00 and free for the kernel once it has read it. */
#define BOOT_GDT 0x500u
#define BOOT_ZERO_PAGE 0x7000u
#define BOOT_STACK 0x8ff0u
#define BOOT_PAGE_TABLES 0x9000u /* PML4, PDPT, 4 page directories: 24 KiB */
#define BOOT_INFO 0x10000u       /* multiboot or PVH information */
#define BOOT_CMDLINE 0x20000u
#define BOOT_CMDLINE_MAX 0x10000u
#define BOOT_EBDA 0x9fc00u

/* Registers: power-on values (SDM 3A 9.1.1); then flat 32-bit protected mode; then 64-bit mode over @ram's identity page tables. */
void boot_state_reset(X86State *state);
void boot_state_flat32(X86State *state, const Ram *ram);
void boot_state_flat64(X86State *state, const Ram *ram);
