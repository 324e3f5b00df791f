/*
 * KVM's own statistics of a vCPU or a virtual machine: what happened inside KVM_RUN, where no exit tells us.
 * Source: Linux Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD.   Thread: open and close the maker's, each any.
 */
#pragma once

#include "core/cpu.h"

typedef struct KvmStats KvmStats;

/* kvm_stats_open: of the vCPU or machine @fd.  NULL: this KVM has none (before Linux 5.14). */
KvmStats *kvm_stats_open(int fd);
void kvm_stats_free(KvmStats *stats);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvmStats, kvm_stats_free)

/* kvm_stats_each: calls @row for those that have a name of ours. */
void kvm_stats_each(const KvmStats *stats, CpuCounterFunc *row, void *opaque);
