#include "kvm/slat.h"

#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "kvm/cpu-int.h"

typedef struct Module {
    const char *name, *parameter;
    bool is_loaded, is_removable, is_on;
    char *nested; /* its other parameter that people set; kept over the reload.  NULL: not there */
} Module;

static char *module_file(const char *module, const char *file)
{
    g_autofree char *path = g_strdup_printf("/sys/module/%s/%s", module, file);
    char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    return g_strchomp(text);
}

static bool is_yes(const char *text) { return text && (text[0] == 'Y' || text[0] == '1'); }

/* Whichever vendor's module there is; AMD's when there is none. */
static Module module_read(void)
{
    static const char *const vendors[][2] = { { "kvm_intel", "ept" }, { "kvm_amd", "npt" } };
    Module module = { 0 };
    for (size_t i = 0; i < G_N_ELEMENTS(vendors) && !module.is_loaded; i++) {
        module.name = vendors[i][0];
        module.parameter = vendors[i][1];
        g_autofree char *file = g_strdup_printf("parameters/%s", module.parameter);
        g_autofree char *value = module_file(module.name, file);
        g_autofree char *initstate = module_file(module.name, "initstate"); /* modules have it, what is built in does not */
        module.is_loaded = value != NULL;
        module.is_removable = initstate != NULL;
        module.is_on = is_yes(value);
        module.nested = value ? module_file(module.name, "parameters/nested") : NULL;
    }
    return module;
}

static bool process_holds(const char *proc, const char *pid, const char *device)
{
    g_autofree char *folder = g_build_filename(proc, pid, "fd", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL), *target = g_file_read_link(path, NULL);
        if (target && (!strcmp(target, device) || !strcmp(target, "anon_inode:kvm-vm")))
            return true;
    }
    return false;
}

char *kvm_holders(const char *proc, const char *device)
{
    g_autoptr(GDir) dir = g_dir_open(proc, 0, NULL);
    GString *text = g_string_new(NULL);
    const char *pid;
    while (dir && (pid = g_dir_read_name(dir))) {
        if (!g_ascii_isdigit(pid[0]) || !process_holds(proc, pid, device))
            continue;
        g_autofree char *path = g_build_filename(proc, pid, "comm", NULL), *name = NULL;
        g_file_get_contents(path, &name, NULL, NULL);
        g_string_append_printf(text, "%s%s (%s)", text->len ? ", " : "", pid, name ? g_strchomp(name) : "?");
    }
    return g_string_free(text, text->len == 0);
}

char *kvm_slat_status(void)
{
    Module module = module_read();
    GString *text = g_string_new(NULL);
    if (module.is_loaded)
        g_string_append_printf(text, "%s: %s=%d, mode %s%s\n", module.name, module.parameter, module.is_on, module.is_on ? "hwmmu" : "hv",
                               module.is_removable ? "" : ", built into the kernel: only a kernel parameter changes it");
    else
        g_string_append(text, "neither kvm_intel nor kvm_amd is loaded\n");
    g_autofree char *holders = kvm_holders("/proc", KVM_PATH);
    if (holders)
        g_string_append_printf(text, "in use by %s\n", holders);
    g_auto(KvmProbe) probe = { 0 };
    g_autoptr(GError) error = NULL;
    if (kvm_probe(NULL, &probe, &error))
        g_string_append_printf(text, "%s\n", probe.text);
    else
        g_string_append_printf(text, "%s\n", error->message);
    g_free(module.nested);
    return g_string_free(text, FALSE);
}

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean fail(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, text);
    return FALSE;
}

/* Runs modprobe with the words of @words; its own complaint becomes the error. */
static gboolean modprobe(const char *const words[], GError **error)
{
    g_autofree char *complaint = NULL;
    int status;
    if (!g_spawn_sync(NULL, (char **)words, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &complaint, &status,
                      error))
        return FALSE;
    if (status == 0)
        return TRUE;
    return fail(error, "%s", complaint && complaint[0] ? g_strchomp(complaint) : "modprobe failed");
}

static gboolean module_load(const Module *module, bool on, GError **error)
{
    g_autofree char *value = g_strdup_printf("%s=%d", module->parameter, on);
    g_autofree char *nested = module->nested ? g_strdup_printf("nested=%d", is_yes(module->nested)) : NULL;
    const char *words[] = { "modprobe", module->name, value, nested, NULL };
    return modprobe(words, error);
}

static gboolean reload(const Module *module, bool on, char **out_text, GError **error)
{
    const char *words[] = { "modprobe", "-r", module->name, NULL };
    g_autoptr(GError) cause = NULL;
    if (!modprobe(words, &cause))
        return fail(error, "%s could not be unloaded: %s", module->name, cause->message);
    if (module_load(module, on, &cause)) {
        g_autofree char *file = g_strdup_printf("parameters/%s", module->parameter);
        g_autofree char *value = module_file(module->name, file);
        if (is_yes(value) == on) {
            *out_text = g_strdup_printf("%s: reloaded with %s=%d (was %d)\n", module->name, module->parameter, on, module->is_on);
            return TRUE;
        }
        modprobe(words, NULL);
        g_set_error_literal(&cause, VMM_ERROR, VMM_ERROR_HOST, "the host's CPU does not have it");
    }
    if (module_load(module, module->is_on, NULL))
        return fail(error, "%s could not be loaded with %s=%d: %s; it is loaded with %s=%d again", module->name, module->parameter, on,
                    cause->message, module->parameter, module->is_on);
    return fail(error, "%s could not be loaded with %s=%d: %s; loading it with the old value failed, too: it is not loaded now",
                module->name, module->parameter, on, cause->message);
}

bool kvm_slat_can_change(void)
{
    Module module = module_read();
    g_free(module.nested);
    return module.is_loaded && module.is_removable;
}

gboolean kvm_slat_set(bool on, char **out_text, GError **error)
{
    Module module = module_read();
    g_autofree char *nested = module.nested;
    if (!module.is_loaded)
        return fail(error, "slat: neither kvm_intel nor kvm_amd is loaded; load one first");
    if (module.is_on == on) {
        *out_text = g_strdup_printf("%s: %s=%d already\n", module.name, module.parameter, on);
        return TRUE;
    }
    if (!module.is_removable)
        return fail(error, "slat: %s is built into the kernel; boot it with %s.%s=%d", module.name, module.name, module.parameter, on);
    if (geteuid() != 0)
        return fail(error, "slat: loading a kernel module needs root; try sudo");
    g_autofree char *holders = kvm_holders("/proc", KVM_PATH);
    if (holders)
        return fail(error, "slat: KVM is in use by %s; end it first", holders);
    if (reload(&module, on, out_text, error))
        return TRUE;
    g_prefix_error(error, "slat: ");
    return FALSE;
}
