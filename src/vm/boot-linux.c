/* Linux bzImage.  Source: the kernel's Documentation/arch/x86/boot.rst (setup header, 32- and 64-bit boot protocol) and zero-page.rst. */
#include <string.h>

#include "vm/boot.h"

/* Setup header fields: offsets in the file and, the same, in the zero page. */
enum {
    HDR_SETUP_SECTS = 0x1f1, HDR_SYSSIZE = 0x1f4, HDR_VID_MODE = 0x1fa, HDR_BOOT_FLAG = 0x1fe, HDR_JUMP = 0x200, HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206, HDR_TYPE_OF_LOADER = 0x210, HDR_LOADFLAGS = 0x211, HDR_CODE32_START = 0x214, HDR_RAMDISK_IMAGE = 0x218,
    HDR_RAMDISK_SIZE = 0x21c, HDR_HEAP_END = 0x224, HDR_CMD_LINE_PTR = 0x228, HDR_INITRD_ADDR_MAX = 0x22c, HDR_KERNEL_ALIGNMENT = 0x230,
    HDR_RELOCATABLE = 0x234, HDR_XLOADFLAGS = 0x236, HDR_CMDLINE_SIZE = 0x238, HDR_PREF_ADDRESS = 0x258, HDR_INIT_SIZE = 0x260,
    HDR_END_MAX = 0x290,
};
enum { ZERO_RSDP = 0x70, ZERO_E820_COUNT = 0x1e8, ZERO_E820 = 0x2d0 };
enum { LOADED_HIGH = 1, CAN_USE_HEAP = 0x80, XLF_KERNEL_64 = 1 };

#define HIGH_LOAD UINT64_C(0x100000)

static void put32(uint8_t *p, uint32_t value) { memcpy(p, &value, 4); }

/* Where the kernel goes and how much memory it needs there before it can move itself. */
typedef struct Place {
    uint64_t start, size;
} Place;

static Place kernel_place(const BootJob *job, const uint8_t *header, unsigned version, uint64_t payload)
{
    Place place = { HIGH_LOAD, payload };
    if (version < 0x20a)
        return place;
    uint64_t init_size = boot_u32(header + HDR_INIT_SIZE), preferred = boot_u64(header + HDR_PREF_ADDRESS);
    place.size = MAX(payload, init_size);
    if (preferred < HIGH_LOAD || preferred > UINT32_MAX)
        return place;
    /* At its preferred address a kernel does not have to move; anywhere else only a relocatable one works. */
    bool fits = ram_slice(job->ram, preferred, place.size) != NULL;
    if (fits || !header[HDR_RELOCATABLE])
        place.start = preferred;
    return place;
}

static gboolean initrd_place(const BootJob *job, const uint8_t *header, unsigned version, Place kernel, uint8_t *zero, GError **error)
{
    if (!job->initrd.data)
        return TRUE;
    uint64_t max = version >= 0x203 ? boot_u32(header + HDR_INITRD_ADDR_MAX) : 0x37ffffff;
    uint64_t top = MIN(max + 1, boot_low_top(job->ram)), size = job->initrd.size;
    if (size > top || page_of(top - size) < kernel.start + kernel.size)
        return boot_fail(job, error, "initrd '%s' (%" G_GUINT64_FORMAT " MiB) does not fit into guest memory behind the kernel; give a larger -m",
                         job->initrd.name, size >> 20);
    uint64_t start = page_of(top - size);
    if (!boot_put(job, start, job->initrd.data, size, 0, "the initrd", error))
        return FALSE;
    put32(zero + HDR_RAMDISK_IMAGE, (uint32_t)start);
    put32(zero + HDR_RAMDISK_SIZE, (uint32_t)size);
    return TRUE;
}

gboolean boot_linux(BootJob *job, bool *out_is_mine, GError **error)
{
    const uint8_t *file = job->kernel.data;
    size_t size = job->kernel.size;
    if (size < HDR_MAGIC + 4 || memcmp(file + HDR_MAGIC, "HdrS", 4) != 0)
        return TRUE;
    *out_is_mine = true;
    if (size < 1024)
        return boot_fail(job, error, "the file is cut off in the setup header");
    unsigned version = boot_u16(file + HDR_VERSION);
    if (version < 0x202 || !(file[HDR_LOADFLAGS] & LOADED_HIGH))
        return boot_fail(job, error, "its boot protocol %u.%02u (zImage) is too old; a bzImage of protocol 2.02 or later is needed",
                         version >> 8, version & 0xff);
    unsigned setup_sectors = file[HDR_SETUP_SECTS] ? file[HDR_SETUP_SECTS] : 4;
    size_t setup_size = (setup_sectors + 1) * (size_t)512;
    if (setup_size >= size)
        return boot_fail(job, error, "the file is cut off: %zu bytes, but its setup code alone is %zu", size, setup_size);
    uint64_t payload = size - setup_size;
    if (version >= 0x204) {
        uint64_t needed = (uint64_t)boot_u32(file + HDR_SYSSIZE) * 16;
        if (payload < (needed > 15 ? needed - 15 : 0))
            return boot_fail(job, error, "the file is cut off: %" G_GUINT64_FORMAT " bytes of kernel, the header says %" G_GUINT64_FORMAT,
                             payload, needed);
    }
    Place kernel = kernel_place(job, file, version, payload);
    if (!ram_slice(job->ram, kernel.start, kernel.size))
        return boot_fail(job, error, "it needs %" G_GUINT64_FORMAT " MiB of guest memory from 0x%" G_GINT64_MODIFIER "x; give a larger -m",
                         (kernel.size >> 20) + 1, kernel.start);

    uint8_t *zero = ram_slice(job->ram, BOOT_ZERO_PAGE, PAGE_SIZE);
    if (!zero)
        return boot_fail(job, error, "there is no low memory");
    memset(zero, 0, PAGE_SIZE);
    size_t header_end = MIN((size_t)HDR_JUMP + 2 + file[HDR_JUMP + 1], (size_t)HDR_END_MAX);
    memcpy(zero + HDR_SETUP_SECTS, file + HDR_SETUP_SECTS, header_end - HDR_SETUP_SECTS);
    size_t cmdline_max = version >= 0x206 ? boot_u32(file + HDR_CMDLINE_SIZE) : 255;
    cmdline_max = MIN(cmdline_max, BOOT_CMDLINE_MAX - 1);
    if (strlen(job->append) > cmdline_max)
        return boot_fail(job, error, "-append has %zu characters, this kernel takes %zu", strlen(job->append), cmdline_max);
    if (!boot_put(job, BOOT_CMDLINE, job->append, strlen(job->append) + 1, 0, "the command line", error) ||
        !initrd_place(job, file, version, kernel, zero, error))
        return FALSE;
    zero[HDR_TYPE_OF_LOADER] = 0xff;
    zero[HDR_LOADFLAGS] = file[HDR_LOADFLAGS] | LOADED_HIGH | CAN_USE_HEAP;
    zero[HDR_HEAP_END] = 0x00;
    zero[HDR_HEAP_END + 1] = 0xfe;
    zero[HDR_VID_MODE] = zero[HDR_VID_MODE + 1] = 0xff; /* "normal" */
    put32(zero + HDR_CODE32_START, (uint32_t)kernel.start);
    put32(zero + HDR_CMD_LINE_PTR, BOOT_CMDLINE);
    memcpy(zero + ZERO_RSDP, &job->rsdp, 8);
    BootE820 map[BOOT_E820_MAX];
    unsigned nmap = boot_e820(job->ram, map);
    zero[ZERO_E820_COUNT] = (uint8_t)nmap;
    memcpy(zero + ZERO_E820, map, nmap * sizeof map[0]);
    /* Extended memory below 64 MiB in KiB, for kernels that do not look at the E820 map. */
    uint64_t extended_kib = (boot_low_top(job->ram) - HIGH_LOAD) >> 10;
    put32(zero + 0x1e0, (uint32_t)extended_kib);
    zero[0x02] = MIN(extended_kib, 0xffff) & 0xff;
    zero[0x03] = (uint8_t)(MIN(extended_kib, 0xffff) >> 8);
    ram_wrote(job->ram, BOOT_ZERO_PAGE, PAGE_SIZE);

    if (!boot_put(job, kernel.start, file + setup_size, payload, 0, "the kernel", error))
        return FALSE;
    bool is_64 = version >= 0x20c && (boot_u16(file + HDR_XLOADFLAGS) & XLF_KERNEL_64) && job->has_long_mode;
    if (is_64) {
        boot_state_flat64(job->state, job->ram);
        job->state->rip = kernel.start + 0x200;
    } else {
        boot_state_flat32(job->state, job->ram);
        job->state->rip = kernel.start;
    }
    job->state->gpr[X86_RSI] = BOOT_ZERO_PAGE;
    return TRUE;
}
