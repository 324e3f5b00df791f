#include "vm/snapshot-store.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixinputstream.h>
#include <gio/gunixoutputstream.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "vm/snapshot-facts.h"

#define SUFFIX ".segue"

void snapshot_info_free(SnapshotInfo *info)
{
    if (!info)
        return;
    g_free(info->tag);
    g_free(info->mode);
    g_free(info->wrong);
    g_free(info);
}

static bool is_tag(const char *tag)
{
    size_t length = strlen(tag);
    for (size_t i = 0; i < length; i++)
        if (!g_ascii_isalnum(tag[i]) && !strchr("_-.", tag[i]))
            return false;
    return length >= 1 && length <= SNAPSHOT_TAG_MAX && *tag != '.' && *tag != '-';
}

static gboolean has_dir(const char *dir, GError **error)
{
    if (!dir)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, "there is no place for snapshots; start Segue with -snapshot-dir DIR");
    return dir != NULL;
}

char *snapshot_store_path(const char *dir, const char *tag, GError **error)
{
    if (!has_dir(dir, error))
        return NULL;
    if (!is_tag(tag)) {
        g_autofree char *text = g_strescape(tag, NULL);
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "'%.100s' is no name for a snapshot; up to %u letters, digits, '.', '_' and '-' are", text,
                    SNAPSHOT_TAG_MAX);
        return NULL;
    }
    return g_strdup_printf("%s/%s" SUFFIX, dir, tag);
}

static gboolean fail(GError **error, const char *path, const char *why)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s: %s", path, why);
    return FALSE;
}

gboolean snapshot_store_save(const char *dir, const char *tag, const SnapshotMachine *machine, GError **error)
{
    g_autofree char *path = snapshot_store_path(dir, tag, error);
    if (!path)
        return FALSE;
    g_autofree char *new_path = g_strdup_printf("%s.XXXXXX", path);
    int fd = g_mkstemp_full(new_path, O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(error, path, g_strerror(errno));
    g_autoptr(GOutputStream) out = g_unix_output_stream_new(fd, FALSE);
    gboolean is_ok = snapshot_save(machine, SNAPSHOT_PLAIN, out, NULL, NULL, NULL, error);
    if (close(fd) < 0 && is_ok)
        is_ok = fail(error, path, g_strerror(errno));
    if (is_ok && g_rename(new_path, path) < 0)
        is_ok = fail(error, path, g_strerror(errno));
    if (!is_ok)
        g_unlink(new_path);
    return is_ok;
}

gboolean snapshot_store_load(const char *dir, const char *tag, const SnapshotMachine *machine, bool has_guest, bool *out_is_lost, GError **error)
{
    *out_is_lost = false;
    g_autofree char *path = snapshot_store_path(dir, tag, error);
    if (!path)
        return FALSE;
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GError) cause = NULL;
    g_autoptr(GFileInputStream) in = g_file_read(file, NULL, &cause);
    if (!in)
        return g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_NOT_FOUND) ? fail(error, tag, "there is no snapshot of this name")
                                                                      : fail(error, path, cause->message);
    if (has_guest ? snapshot_load_safe(machine, G_INPUT_STREAM(in), out_is_lost, error)
                  : snapshot_load(machine, G_INPUT_STREAM(in), NULL, NULL, error))
        return TRUE;
    g_prefix_error(error, "snapshot '%s': ", tag);
    return FALSE;
}

gboolean snapshot_store_delete(const char *dir, const char *tag, GError **error)
{
    g_autofree char *path = snapshot_store_path(dir, tag, error);
    if (!path)
        return FALSE;
    if (g_unlink(path) == 0)
        return TRUE;
    return errno == ENOENT ? fail(error, tag, "there is no snapshot of this name") : fail(error, path, g_strerror(errno));
}

/* --- listing --- */

static void head_read(SnapshotInfo *info, const char *path)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GError) error = NULL;
    g_autoptr(GFileInputStream) in = g_file_read(file, NULL, &error);
    if (in && snapshot_facts_read(G_INPUT_STREAM(in), &info->mode, &info->guest_ns, &error))
        return;
    info->wrong = g_strdup(error->message);
}

static gint by_date(gconstpointer a, gconstpointer b)
{
    const SnapshotInfo *first = *(SnapshotInfo *const *)a, *second = *(SnapshotInfo *const *)b;
    if (first->date_s != second->date_s)
        return first->date_s < second->date_s ? -1 : 1;
    return strcmp(first->tag, second->tag);
}

GPtrArray *snapshot_store_list(const char *dir, GError **error)
{
    if (!has_dir(dir, error))
        return NULL;
    g_autoptr(GError) cause = NULL;
    g_autoptr(GDir) entries = g_dir_open(dir, 0, &cause);
    if (!entries) {
        fail(error, "-snapshot-dir", cause->message);
        return NULL;
    }
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_info_free);
    for (const char *name; (name = g_dir_read_name(entries));) {
        g_autofree char *path = g_strdup_printf("%s/%s", dir, name), *tag = NULL;
        struct stat st;
        if (!g_str_has_suffix(name, SUFFIX))
            continue;
        tag = g_strndup(name, strlen(name) - strlen(SUFFIX));
        if (!is_tag(tag) || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        SnapshotInfo *info = g_new0(SnapshotInfo, 1);
        info->tag = g_steal_pointer(&tag);
        info->size_bytes = (uint64_t)st.st_size;
        info->date_s = (int64_t)st.st_mtime;
        head_read(info, path);
        g_ptr_array_add(list, info);
    }
    g_ptr_array_sort(list, by_date);
    return list;
}
