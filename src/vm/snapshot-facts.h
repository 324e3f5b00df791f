/* SnapshotFacts: what a machine is made of, as lines of text: the first section of a snapshot, compared before anything is loaded. */
#pragma once

#include "vm/snapshot.h"

typedef struct SnapshotFacts SnapshotFacts;

SnapshotFacts *snapshot_facts_new(const SnapshotMachine *machine);
SnapshotFacts *snapshot_facts_empty(void); /* to be loaded */
void snapshot_facts_free(SnapshotFacts *facts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotFacts, snapshot_facts_free)

extern const StateOps snapshot_facts_state; /* device is a SnapshotFacts */

/* snapshot_facts_compare: FALSE with VMM_ERROR_USAGE, naming the first thing that differs and the option that it comes from. */
gboolean snapshot_facts_compare(const SnapshotFacts *mine, const SnapshotFacts *saved, GError **error);

/* snapshot_facts_read: the first section of a stream: the mode it was saved in (transfer full) and the guest's time then. */
gboolean snapshot_facts_read(GInputStream *in, char **out_mode, int64_t *out_guest_ns, GError **error);
