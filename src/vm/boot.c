#include "vm/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

#define DEFAULT_BIOS "/usr/share/seabios/bios.bin"
#define BIOS_MAX_SIZE (UINT64_C(16) << 20)

struct Boot {
    char *kernel_name, *initrd_option, *append;
    GMappedFile *kernel, *bios;
    GPtrArray *modules;      /* BootFile, what -initrd names; mapped in module_maps */
    GPtrArray *module_maps;  /* GMappedFile */
    GArray *sources;         /* BootSource */
    GPtrArray *module_texts; /* char *, name and arguments: a multiboot module's command line */
    bool has_long_mode;
    bool has_rom; /* the firmware's slot has been added to RAM */
};

static void source_clear(gpointer data) { close(((BootSource *)data)->fd); }

static GMappedFile *file_map(Boot *boot, const char *what, const char *name, GError **error)
{
    struct stat info;
    if (stat(name, &info) == 0 && !S_ISREG(info.st_mode)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "could not load %s '%s': not a regular file", what, name);
        return NULL;
    }
    GError *cause = NULL;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    int errnum = errno;
    GMappedFile *file = fd >= 0 ? g_mapped_file_new_from_fd(fd, FALSE, &cause) : NULL;
    if (!file) {
        const char *text = fd < 0 ? g_strerror(errnum) : cause->message;
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "could not load %s '%s': %s", what, name, text);
        g_clear_error(&cause);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    BootSource source = { .data = (const uint8_t *)g_mapped_file_get_contents(file), .size = g_mapped_file_get_length(file), .fd = fd };
    g_array_append_val(boot->sources, source);
    if (!g_mapped_file_get_length(file)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "could not load %s '%s': the file is empty", what, name);
        g_mapped_file_unref(file);
        return NULL;
    }
    return file;
}

/* "-initrd FILE[ args][,FILE[ args]…]"; a comma in a name is doubled.  A name that exists as a whole is one file. */
static gboolean modules_open(Boot *boot, const char *option, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    if (g_file_test(option, G_FILE_TEST_EXISTS)) {
        g_ptr_array_add(words, g_strdup(option));
    } else {
        GString *word = g_string_new(NULL);
        for (const char *p = option;; p++) {
            if (*p == ',' && p[1] == ',') {
                g_string_append_c(word, ',');
                p++;
            } else if (!*p || *p == ',') {
                g_ptr_array_add(words, g_strdup(word->str));
                g_string_truncate(word, 0);
                if (!*p)
                    break;
            } else {
                g_string_append_c(word, *p);
            }
        }
        g_string_free(word, TRUE);
    }
    for (guint i = 0; i < words->len; i++) {
        const char *text = g_ptr_array_index(words, i);
        g_autofree char *name = g_strdup(text);
        char *space = strchr(name, ' ');
        if (space && !g_file_test(name, G_FILE_TEST_EXISTS))
            *space = 0;
        GMappedFile *map = file_map(boot, "initrd", name, error);
        if (!map)
            return FALSE;
        g_ptr_array_add(boot->module_maps, map);
        g_ptr_array_add(boot->module_texts, g_strdup(text));
        BootFile *file = g_new(BootFile, 1);
        *file = (BootFile){ .data = (const uint8_t *)g_mapped_file_get_contents(map), .size = g_mapped_file_get_length(map),
                            .name = g_ptr_array_index(boot->module_texts, i) };
        g_ptr_array_add(boot->modules, file);
    }
    return TRUE;
}

Boot *boot_open(const BootParams *params, GError **error)
{
    g_autoptr(Boot) boot = g_new0(Boot, 1);
    boot->has_long_mode = params->has_long_mode;
    boot->append = g_strdup(params->append ? params->append : "");
    boot->modules = g_ptr_array_new_with_free_func(g_free);
    boot->module_maps = g_ptr_array_new_with_free_func((GDestroyNotify)g_mapped_file_unref);
    boot->module_texts = g_ptr_array_new_with_free_func(g_free);
    boot->sources = g_array_new(FALSE, FALSE, sizeof(BootSource));
    g_array_set_clear_func(boot->sources, source_clear);
    if (params->kernel) {
        boot->kernel_name = g_strdup(params->kernel);
        boot->kernel = file_map(boot, "kernel", params->kernel, error);
        if (!boot->kernel)
            return NULL;
        boot->initrd_option = g_strdup(params->initrd);
        if (params->initrd && !modules_open(boot, params->initrd, error))
            return NULL;
        return g_steal_pointer(&boot);
    }
    const char *bios = params->bios ? params->bios : DEFAULT_BIOS;
    if (!params->bios && !g_file_test(bios, G_FILE_TEST_EXISTS)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE,
                    "nothing to boot: give -kernel FILE or -bios FILE, or install the seabios package (%s is missing)", DEFAULT_BIOS);
        return NULL;
    }
    boot->bios = file_map(boot, "BIOS", bios, error);
    if (!boot->bios)
        return NULL;
    size_t size = g_mapped_file_get_length(boot->bios);
    if (size > BIOS_MAX_SIZE || size % 0x10000 != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "could not load BIOS '%s': its size must be a multiple of 64 KiB, up to 16 MiB",
                    bios);
        return NULL;
    }
    return g_steal_pointer(&boot);
}

void boot_free(Boot *boot)
{
    if (!boot)
        return;
    g_clear_pointer(&boot->kernel, g_mapped_file_unref);
    g_clear_pointer(&boot->bios, g_mapped_file_unref);
    g_ptr_array_free(boot->modules, TRUE);
    g_ptr_array_free(boot->module_maps, TRUE);
    g_array_free(boot->sources, TRUE);
    g_ptr_array_free(boot->module_texts, TRUE);
    g_free(boot->kernel_name);
    g_free(boot->initrd_option);
    g_free(boot->append);
    g_free(boot);
}

bool boot_is_firmware(const Boot *boot) { return boot->bios != NULL; }

gboolean boot_fail(const BootJob *job, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "could not load kernel '%s': %s", job->kernel.name, text);
    return FALSE;
}

/* Reads what is mapped at @data from its file.  False: there is none, or it is not what it was. */
static bool source_read(const BootJob *job, uint8_t *at, const uint8_t *data, uint64_t size)
{
    for (guint i = 0; job->sources && i < job->sources->len; i++) {
        const BootSource *source = &g_array_index(job->sources, BootSource, i);
        uint64_t offset = (uint64_t)(data - source->data), done = 0;
        if (data < source->data || offset > source->size || size > source->size - offset)
            continue;
        while (done < size) {
            ssize_t n = pread(source->fd, at + done, size - done, (off_t)(offset + done));
            if (n <= 0)
                return false;
            done += (uint64_t)n;
        }
        return true;
    }
    return false;
}

gboolean boot_put(const BootJob *job, Gpa start, const void *data, uint64_t size, uint64_t zero_size, const char *what, GError **error)
{
    uint64_t total = size + zero_size;
    uint8_t *at = total >= size ? ram_slice(job->ram, start, total) : NULL;
    if (!at)
        return boot_fail(job, error, "%s (%" G_GUINT64_FORMAT " bytes at 0x%" G_GINT64_MODIFIER "x) does not fit into guest memory; "
                         "give a larger -m", what, total, start);
    if (!source_read(job, at, data, size))
        memcpy(at, data, size);
    memset(at + size, 0, zero_size);
    ram_wrote(job->ram, start, total);
    return TRUE;
}

uint64_t boot_low_top(const Ram *ram) { return MIN(ram->size_bytes, BOOT_PCI_HOLE_START); }

unsigned boot_e820(const Ram *ram, BootE820 out_map[BOOT_E820_MAX])
{
    unsigned n = 0;
    out_map[n++] = (BootE820){ 0, BOOT_EBDA, BOOT_E820_RAM };
    out_map[n++] = (BootE820){ BOOT_EBDA, 0xa0000 - BOOT_EBDA, BOOT_E820_RESERVED };
    out_map[n++] = (BootE820){ 0xe0000, 0x20000, BOOT_E820_RESERVED }; /* ACPI tables or firmware */
    if (boot_low_top(ram) > 0x100000)
        out_map[n++] = (BootE820){ 0x100000, boot_low_top(ram) - 0x100000, BOOT_E820_RAM };
    for (unsigned i = 0; i < ram->nslots; i++)
        if (ram->slot[i].start >= UINT64_C(1) << 32 && !ram->slot[i].is_rom)
            out_map[n++] = (BootE820){ ram->slot[i].start, ram->slot[i].size, BOOT_E820_RAM };
    return n;
}

/* BIOS data area: where kernels look for the EBDA and the size of low memory. */
static void bda_write(const Ram *ram)
{
    uint8_t *bda = ram_slice(ram, 0x400, 0x100);
    if (!bda)
        return;
    memset(bda, 0, 0x100);
    bda[0x0e] = (BOOT_EBDA >> 4) & 0xff;
    bda[0x0f] = BOOT_EBDA >> 12;
    bda[0x13] = (BOOT_EBDA >> 10) & 0xff;
    bda[0x14] = BOOT_EBDA >> 18;
    uint8_t *ebda = ram_slice(ram, BOOT_EBDA, 0x400);
    if (ebda) {
        memset(ebda, 0, 0x400);
        ebda[0] = 1; /* KiB */
    }
    ram_wrote(ram, 0x400, 0x100);
    ram_wrote(ram, BOOT_EBDA, 0x400);
}

static gboolean firmware_load(Boot *boot, Ram *ram, X86State *out_state, GError **error)
{
    const uint8_t *data = (const uint8_t *)g_mapped_file_get_contents(boot->bios);
    uint64_t size = g_mapped_file_get_length(boot->bios);
    if (!boot->has_rom) {
        memcpy(ram_add_rom(ram, (UINT64_C(1) << 32) - size, size), data, size);
        boot->has_rom = true;
    }
    uint64_t low = MIN(size, 0x20000);
    uint8_t *shadow = ram_slice(ram, 0x100000 - low, low);
    if (!shadow) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-m: too little memory for a BIOS");
        return FALSE;
    }
    memcpy(shadow, data + size - low, low);
    ram_wrote(ram, 0x100000 - low, low);
    boot_state_reset(out_state);
    return TRUE;
}

/* The file's pages leave the process; a reset brings them back from the host's page cache. */
static void file_forget(GMappedFile *file)
{
    if (file && g_mapped_file_get_length(file))
        madvise(g_mapped_file_get_contents(file), g_mapped_file_get_length(file), MADV_DONTNEED);
}

static void files_forget(Boot *boot)
{
    file_forget(boot->kernel);
    file_forget(boot->bios);
    for (guint i = 0; i < boot->module_maps->len; i++)
        file_forget(g_ptr_array_index(boot->module_maps, i));
}

static gboolean image_load(Boot *boot, Ram *ram, uint64_t rsdp, X86State *out_state, GError **error)
{
    if (boot->bios)
        return firmware_load(boot, ram, out_state, error);
    BootJob job = {
        .ram = ram,
        .kernel = { .data = (const uint8_t *)g_mapped_file_get_contents(boot->kernel), .size = g_mapped_file_get_length(boot->kernel),
                    .name = boot->kernel_name },
        .initrd_option = boot->initrd_option,
        .modules = boot->modules,
        .module_texts = boot->module_texts,
        .sources = boot->sources,
        .append = boot->append,
        .has_long_mode = boot->has_long_mode,
        .rsdp = rsdp,
        .state = out_state,
    };
    if (boot->modules->len)
        job.initrd = *(BootFile *)g_ptr_array_index(boot->modules, 0);
    bda_write(ram);
    static gboolean (*const formats[])(BootJob *job, bool *out_is_mine, GError **error) = { boot_linux, boot_multiboot, boot_pvh };
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        bool is_mine = false;
        if (!formats[i](&job, &is_mine, error))
            return FALSE;
        if (is_mine)
            return TRUE;
    }
    return boot_fail(&job, error, "it is neither a Linux bzImage nor a multiboot or PVH kernel");
}

gboolean boot_load(Boot *boot, Ram *ram, uint64_t rsdp, X86State *out_state, GError **error)
{
    gboolean is_ok = image_load(boot, ram, rsdp, out_state, error);
    files_forget(boot);
    return is_ok;
}
