#include "bt/peers.h"

#include "bt/foreign.h"

struct BtPeers {
    Ram *ram;
    CodeMap *code; /* where the marks are, for those who join */
    BtPeers *next;
    GMutex lock;   /* guards what follows; taken before a vCPU's foreign lock */
    GCond changed; /* a vCPU has left the guest, or may go in again */
    unsigned nmembers;
    BtCpu *member[CODE_MAP_MAX_USERS]; /* by the number of its mark */
    unsigned nclaims;                  /* that wait */
    BtCpu *stopper;                    /* who has stopped the others, or NULL */
    gint nwaiters;                     /* for `changed`; atomic */
};

static GMutex machines_lock;
static BtPeers *machines; /* one for each Ram; usually there is one */

static BtPeers *machine_find(Ram *ram)
{
    for (BtPeers *peers = machines; peers; peers = peers->next)
        if (peers->ram == ram)
            return peers;
    BtPeers *peers = g_new0(BtPeers, 1);
    peers->ram = ram;
    peers->code = code_map_new(ram);
    g_mutex_init(&peers->lock);
    g_cond_init(&peers->changed);
    peers->next = machines;
    machines = peers;
    return peers;
}

CodeMap *bt_peers_join(BtCpu *cpu)
{
    CodeMap *map = NULL;
    g_mutex_lock(&machines_lock);
    BtPeers *peers = machine_find(cpu->ram);
    g_mutex_lock(&peers->lock);
    for (unsigned i = 0; i < CODE_MAP_MAX_USERS && !map; i++) {
        if (peers->member[i])
            continue;
        peers->member[i] = cpu;
        peers->nmembers++;
        cpu->peers = peers;
        map = code_map_share(peers->code, i);
    }
    g_mutex_unlock(&peers->lock);
    g_mutex_unlock(&machines_lock);
    return map;
}

void bt_peers_part(BtCpu *cpu)
{
    BtPeers *peers = cpu->peers;
    g_mutex_lock(&machines_lock);
    g_mutex_lock(&peers->lock);
    for (unsigned i = 0; i < CODE_MAP_MAX_USERS; i++)
        if (peers->member[i] == cpu)
            peers->member[i] = NULL;
    bool is_last = --peers->nmembers == 0;
    g_cond_broadcast(&peers->changed);
    g_mutex_unlock(&peers->lock);
    if (is_last) {
        BtPeers **link = &machines;
        while (*link != peers)
            link = &(*link)->next;
        *link = peers->next;
        code_map_free(peers->code);
        g_mutex_clear(&peers->lock);
        g_cond_clear(&peers->changed);
        g_free(peers);
    }
    g_mutex_unlock(&machines_lock);
}

static bool is_inside(const BtCpu *cpu) { return __atomic_load_n(&cpu->in_guest, __ATOMIC_SEQ_CST); }

static void wait_changed(BtPeers *peers) { g_cond_wait(&peers->changed, &peers->lock); }

bool bt_peers_enter(BtCpu *cpu)
{
    BtPeers *peers = cpu->peers;
    /* In this order; who asks for something writes `kicked` or `stopper` first and looks at in_guest then. */
    __atomic_store_n(&cpu->in_guest, true, __ATOMIC_SEQ_CST);
    BtCpu *stopper = __atomic_load_n(&peers->stopper, __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(&cpu->kicked, __ATOMIC_SEQ_CST) & BT_KICK_FOREIGN) && (!stopper || stopper == cpu))
        return true;
    bt_peers_leave(cpu);
    g_mutex_lock(&peers->lock);
    g_atomic_int_inc(&peers->nwaiters);
    while (peers->stopper && peers->stopper != cpu)
        wait_changed(peers);
    g_atomic_int_add(&peers->nwaiters, -1);
    g_mutex_unlock(&peers->lock);
    return false;
}

void bt_peers_leave(BtCpu *cpu)
{
    BtPeers *peers = cpu->peers;
    __atomic_store_n(&cpu->in_guest, false, __ATOMIC_SEQ_CST);
    if (g_atomic_int_get(&peers->nwaiters) == 0)
        return;
    g_mutex_lock(&peers->lock);
    g_cond_broadcast(&peers->changed);
    g_mutex_unlock(&peers->lock);
}

/* Until every vCPU that was asked has done what it was asked for, or is outside, where it does that before it goes in. */
static void wait_done(BtPeers *peers, BtCpu *const asked[CODE_MAP_MAX_USERS], const uint64_t turn[CODE_MAP_MAX_USERS])
{
    g_atomic_int_inc(&peers->nwaiters);
    for (unsigned i = 0; i < CODE_MAP_MAX_USERS; i++)
        while (asked[i] && peers->member[i] == asked[i] && is_inside(asked[i]) &&
               __atomic_load_n(&asked[i]->foreign.done, __ATOMIC_SEQ_CST) < turn[i])
            wait_changed(peers);
    g_atomic_int_add(&peers->nwaiters, -1);
}

void bt_peers_claim(BtCpu *cpu, Gpa gpa)
{
    BtPeers *peers = cpu->peers;
    CodeMap *map = cpu->mmu.code;
    if (code_map_test(map, gpa))
        return;
    g_mutex_lock(&peers->lock);
    uint32_t before = code_map_set(map, gpa, true);
    mmu_drop_writes(&cpu->mmu, gpa);
    /* Marked already by somebody who has done the waiting: nobody can have it writable. */
    if (peers->nmembers > 1 && (before == 0 || peers->nclaims)) {
        BtCpu *asked[CODE_MAP_MAX_USERS] = { NULL };
        uint64_t turn[CODE_MAP_MAX_USERS] = { 0 };
        peers->nclaims++;
        for (unsigned i = 0; i < CODE_MAP_MAX_USERS; i++) {
            BtCpu *other = peers->member[i];
            if (!other || other == cpu)
                continue;
            asked[i] = other;
            turn[i] = bt_foreign_drop_writes(other, gpa);
        }
        wait_done(peers, asked, turn);
        peers->nclaims--;
    }
    g_mutex_unlock(&peers->lock);
}

void bt_peers_written(BtCpu *cpu, Gpa gpa, uint64_t size)
{
    BtPeers *peers = cpu->peers;
    g_mutex_lock(&peers->lock);
    uint32_t users = code_map_users(cpu->mmu.code, gpa) & ~cpu->mmu.code->user;
    for (unsigned i = 0; users; i++, users >>= 1)
        if (users & 1 && peers->member[i])
            bt_foreign_written(peers->member[i], gpa, size);
    g_mutex_unlock(&peers->lock);
}

void bt_peers_stop(BtCpu *cpu)
{
    BtPeers *peers = cpu->peers;
    g_mutex_lock(&peers->lock);
    g_atomic_int_inc(&peers->nwaiters);
    while (peers->stopper)
        wait_changed(peers);
    __atomic_store_n(&peers->stopper, cpu, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < CODE_MAP_MAX_USERS; i++)
        while (peers->member[i] && peers->member[i] != cpu && is_inside(peers->member[i])) {
            bt_foreign_kick(peers->member[i]);
            wait_changed(peers);
        }
    g_atomic_int_add(&peers->nwaiters, -1);
    g_mutex_unlock(&peers->lock);
}

void bt_peers_go(BtCpu *cpu)
{
    BtPeers *peers = cpu->peers;
    g_mutex_lock(&peers->lock);
    __atomic_store_n(&peers->stopper, NULL, __ATOMIC_SEQ_CST);
    g_cond_broadcast(&peers->changed);
    g_mutex_unlock(&peers->lock);
}
