/* MigrationChannel: where a migration's bytes go to or come from, by its URI. */
#pragma once

#include <gio/gio.h>

typedef struct MigrationChannel MigrationChannel;

/* migration_channel_out: connects at once.  migration_channel_in: opens or listens.  NULL with VMM_ERROR_USAGE. */
MigrationChannel *migration_channel_out(const char *uri, GError **error);
MigrationChannel *migration_channel_in(const char *uri, GError **error);
void migration_channel_free(MigrationChannel *channel); /* closes; removes a socket that it made */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MigrationChannel, migration_channel_free)

GOutputStream *migration_channel_writer(MigrationChannel *channel);
/* migration_channel_reader: waits for the peer.  NULL with G_IO_ERROR. */
GInputStream *migration_channel_reader(MigrationChannel *channel, GCancellable *cancellable, GError **error);
/* migration_channel_finish: writes out and closes; waits for a program.  FALSE with VMM_ERROR_HOST. */
gboolean migration_channel_finish(MigrationChannel *channel, GCancellable *cancellable, GError **error);
