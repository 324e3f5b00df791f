#include "kvm/stats.h"

#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_COUNT      1024u
#define MAX_NAME_BYTES 256u

/* KVM's names and ours.  Where the engine bt counts the same thing, it has the same name. */
static const struct {
    const char *kernel, *name;
} names[] = {
    { "exits", "kvm-hardware-exits" },
    { "pf_taken", "shadow-faults" },         /* page faults that KVM looked at, the guest's own among them */
    { "pf_fixed", "shadow-fills" },          /* and after which it entered a translation */
    { "pf_guest", "page-faults" },           /* and gave to the guest */
    { "tlb_flush", "tlb-flushes" },
    { "invlpg", "tlb-page-flushes" },
    { "insn_emulation", "kvm-emulations" },  /* each access to an xAPIC page is one, the TPR's among them */
    { "io_exits", "kvm-io" },
    { "mmio_exits", "kvm-mmio" },
    { "halt_exits", "kvm-halts" },
    { "irq_exits", "kvm-host-interrupts" },
    { "mmu_pte_write", "page-table-writes" }, /* to tables that are shadowed and traced */
    { "mmu_shadow_zapped", "shadow-pages-dropped" },
    { "mmu_cache_miss", "shadow-pages-made" },
};

typedef struct Row {
    const char *name;
    uint32_t offset; /* in the data, in bytes */
} Row;

struct KvmStats {
    int fd;
    uint32_t data_at, data_bytes;
    unsigned nrows;
    Row row[G_N_ELEMENTS(names)];
};

static bool rows_read(KvmStats *stats)
{
    struct kvm_stats_header head;
    if (pread(stats->fd, &head, sizeof head, 0) != (ssize_t)sizeof head || !head.num_desc || head.num_desc > MAX_COUNT ||
        !head.name_size || head.name_size > MAX_NAME_BYTES)
        return false;
    size_t stride = sizeof(struct kvm_stats_desc) + head.name_size, bytes = stride * head.num_desc;
    g_autofree char *table = g_malloc(bytes);
    if (pread(stats->fd, table, bytes, head.desc_offset) != (ssize_t)bytes)
        return false;
    stats->data_at = head.data_offset;
    for (unsigned i = 0; i < head.num_desc; i++) {
        struct kvm_stats_desc desc;
        memcpy(&desc, table + i * stride, sizeof desc);
        const char *kernel = table + i * stride + sizeof desc;
        if (desc.size != 1 || !memchr(kernel, 0, head.name_size))
            continue;
        for (size_t j = 0; j < G_N_ELEMENTS(names) && stats->nrows < G_N_ELEMENTS(names); j++)
            if (!strcmp(names[j].kernel, kernel)) {
                stats->row[stats->nrows++] = (Row){ names[j].name, desc.offset };
                stats->data_bytes = MAX(stats->data_bytes, desc.offset + (uint32_t)sizeof(uint64_t));
            }
    }
    return stats->nrows > 0 && stats->data_bytes <= MAX_COUNT * 1024;
}

KvmStats *kvm_stats_open(int fd)
{
    g_autoptr(KvmStats) stats = g_new0(KvmStats, 1);
    stats->fd = ioctl(fd, KVM_GET_STATS_FD, NULL);
    return stats->fd >= 0 && rows_read(stats) ? g_steal_pointer(&stats) : NULL;
}

void kvm_stats_free(KvmStats *stats)
{
    if (stats && stats->fd >= 0)
        close(stats->fd);
    g_free(stats);
}

void kvm_stats_each(const KvmStats *stats, CpuCounterFunc *row, void *opaque)
{
    g_autofree char *data = stats ? g_malloc(stats->data_bytes) : NULL;
    if (!data || pread(stats->fd, data, stats->data_bytes, stats->data_at) != (ssize_t)stats->data_bytes)
        return;
    for (unsigned i = 0; i < stats->nrows; i++) {
        uint64_t value;
        memcpy(&value, data + stats->row[i].offset, sizeof value);
        row(opaque, stats->row[i].name, value);
    }
}
