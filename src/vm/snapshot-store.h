/*
 * SnapshotStore: the directory where savevm keeps snapshots, one file TAG.segue each (-snapshot-dir).  A file appears whole or not at all.
 * Thread: the default main context's.
 */
#pragma once

#include "vm/snapshot.h"

#define SNAPSHOT_TAG_MAX 64u

typedef struct SnapshotInfo {
    char *tag;
    char *mode;          /* "bt"; NULL: not readable */
    char *wrong;         /* why it cannot be read, or NULL */
    uint64_t size_bytes; /* of the file */
    int64_t date_s;      /* since 1970 */
    int64_t guest_ns;    /* guest time */
} SnapshotInfo;

void snapshot_info_free(SnapshotInfo *info);

/* snapshot_store_path: TAG's file in @dir; FALSE with VMM_ERROR_USAGE when @dir is NULL or @tag is no name.  (transfer full). */
char *snapshot_store_path(const char *dir, const char *tag, GError **error);
gboolean snapshot_store_save(const char *dir, const char *tag, const SnapshotMachine *machine, GError **error);
/* snapshot_store_load: @has_guest: with snapshot_load_safe(), and *out_is_lost as there; else with snapshot_load(), which is twice as fast. */
gboolean snapshot_store_load(const char *dir, const char *tag, const SnapshotMachine *machine, bool has_guest, bool *out_is_lost, GError **error);
gboolean snapshot_store_delete(const char *dir, const char *tag, GError **error);
/* snapshot_store_list: SnapshotInfo, oldest first; (transfer full).  NULL with VMM_ERROR_USAGE. */
GPtrArray *snapshot_store_list(const char *dir, GError **error);
