#include "kvm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "kvm/cpu-int.h"

/* Four pages in the PCI hole that KVM on Intel needs for itself: three for a TSS, one for an identity map. */
#define TSS_GPA 0xfeffd000u
#define IDENTITY_MAP_GPA UINT64_C(0xfeffc000)

static GMutex current_lock;
static KvmVm *current; /* the newest one that still lives; no reference */

static gboolean fail(GError **error, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "%s: %s", what, kvm_strerror(errno));
    return FALSE;
}

/* --- guest memory --- */

static bool slot_set(const KvmVm *vm, unsigned i)
{
    const RamSlot *slot = &vm->ram->slot[i];
    uint32_t flags = slot->is_rom ? KVM_MEM_READONLY : vm->is_logging ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    struct kvm_userspace_memory_region region = { .slot = i, .flags = flags, .guest_phys_addr = slot->start, .memory_size = slot->size,
                                                  .userspace_addr = (uintptr_t)slot->host };
    return ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &region) >= 0;
}

char *kvm_vm_slots(KvmVm *vm)
{
    char *text = NULL;
    g_mutex_lock(&vm->lock);
    for (; vm->nslots < vm->ram->nslots && !text; vm->nslots++)
        if (!slot_set(vm, vm->nslots))
            text = g_strdup_printf("KVM refuses guest memory at %#" G_GINT64_MODIFIER "x: KVM_SET_USER_MEMORY_REGION: %s",
                                   vm->ram->slot[vm->nslots].start, kvm_strerror(errno));
    g_mutex_unlock(&vm->lock);
    return text;
}

gboolean kvm_vm_log(KvmVm *vm, bool on, GError **error)
{
    gboolean is_ok = TRUE;
    g_mutex_lock(&vm->lock);
    bool was = vm->is_logging;
    vm->is_logging = on;
    for (unsigned i = 0; i < vm->nslots && is_ok; i++)
        if (!vm->ram->slot[i].is_rom && !slot_set(vm, i)) {
            is_ok = fail(error, "KVM_SET_USER_MEMORY_REGION: logging of written pages");
            vm->is_logging = was;
        }
    g_mutex_unlock(&vm->lock);
    return is_ok;
}

gboolean kvm_vm_dirty(KvmVm *vm, unsigned slot, uint64_t *out_bits, GError **error)
{
    struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = out_bits };
    return ioctl(vm->vm, KVM_GET_DIRTY_LOG, &log) >= 0 || fail(error, "KVM_GET_DIRTY_LOG");
}

/* --- interrupts --- */

void kvm_vm_route(KvmVm *vm, unsigned pin, uint64_t address, uint32_t data)
{
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry entry[KVM_VM_NPINS];
    } table = { .head.nr = 0 };
    g_mutex_lock(&vm->lock);
    bool is_same = vm->route[pin].address == address && vm->route[pin].data == data;
    vm->route[pin].address = address;
    vm->route[pin].data = data;
    for (unsigned i = 0; i < KVM_VM_NPINS; i++)
        if (vm->route[i].data)
            table.entry[table.head.nr++] = (struct kvm_irq_routing_entry){
                .gsi = i, .type = KVM_IRQ_ROUTING_MSI,
                .u.msi = { .address_lo = (uint32_t)vm->route[i].address, .address_hi = (uint32_t)(vm->route[i].address >> 32),
                           .data = vm->route[i].data },
            };
    if (!is_same && ioctl(vm->vm, KVM_SET_GSI_ROUTING, &table) < 0)
        log_text(LOG_KVM, "kvm: KVM_SET_GSI_ROUTING, pin %u: %s", pin, kvm_strerror(errno));
    g_mutex_unlock(&vm->lock);
}

bool kvm_vm_msi(KvmVm *vm, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = { .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data };
    return ioctl(vm->vm, KVM_SIGNAL_MSI, &msi) >= 0; /* 0: one that waits already, or nobody there: KVM does not tell */
}

/* --- making one --- */

/* KVM_CREATE_VM is interrupted by any signal that is pending. */
static int vm_create(int kvm)
{
    int fd;
    do
        fd = ioctl(kvm, KVM_CREATE_VM, 0);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static gboolean apic_enable(KvmVm *vm, GError **error)
{
    struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { KVM_VM_NPINS } };
    /* APIC IDs of 32 bits: an x2APIC's ID stands in its page as it is. */
    struct kvm_enable_cap ids = { .cap = KVM_CAP_X2APIC_API, .args = { KVM_X2APIC_API_USE_32BIT_IDS } };
    if (ioctl(vm->vm, KVM_ENABLE_CAP, &split) < 0)
        return fail(error, "KVM_CAP_SPLIT_IRQCHIP: KVM has no local APIC to give (-machine kernel-irqchip=off does without)");
    if (ioctl(vm->vm, KVM_ENABLE_CAP, &ids) < 0)
        return fail(error, "KVM_CAP_X2APIC_API (-machine kernel-irqchip=off does without)");
    vm->has_apic = true;
    return TRUE;
}

static gboolean vm_open(KvmVm *vm, bool wants_apic, GError **error)
{
    vm->kvm = open(KVM_PATH, O_RDWR | O_CLOEXEC);
    if (vm->kvm < 0)
        return fail(error, KVM_PATH);
    vm->vm = vm_create(vm->kvm);
    if (vm->vm < 0)
        return fail(error, "KVM_CREATE_VM");
    uint64_t identity_map = IDENTITY_MAP_GPA;
    if (ioctl(vm->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
        return fail(error, "KVM_SET_IDENTITY_MAP_ADDR");
    if (ioctl(vm->vm, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA) < 0)
        return fail(error, "KVM_SET_TSS_ADDR");
    if (wants_apic && !apic_enable(vm, error))
        return FALSE;
    kvm_answer_enable(vm->kvm, vm->vm);
    vm->stats = kvm_stats_open(vm->vm);
    g_autofree char *refused = kvm_vm_slots(vm);
    if (refused)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, refused);
    return !refused;
}

/* current_lock is held. */
static void vm_free(KvmVm *vm)
{
    if (vm == current)
        current = NULL;
    kvm_stats_free(vm->stats);
    if (vm->vm >= 0)
        close(vm->vm);
    if (vm->kvm >= 0)
        close(vm->kvm);
    g_mutex_clear(&vm->lock);
    g_free(vm);
}

KvmVm *kvm_vm_get(const CpuConfig *config, GError **error)
{
    g_assert(config->index < 64);
    uint64_t bit = UINT64_C(1) << config->index;
    g_mutex_lock(&current_lock);
    KvmVm *vm = current;
    if (!vm || vm->ram != config->ram || vm->indexes & bit || vm->has_apic != config->wants_apic) {
        vm = g_new0(KvmVm, 1);
        vm->ram = config->ram;
        vm->kvm = vm->vm = -1;
        g_mutex_init(&vm->lock);
        if (!vm_open(vm, config->wants_apic, error)) {
            vm_free(vm);
            vm = NULL;
        } else {
            current = vm;
        }
    }
    if (vm) {
        vm->indexes |= bit;
        vm->nrefs++;
    }
    g_mutex_unlock(&current_lock);
    return vm;
}

void kvm_vm_unref(KvmVm *vm)
{
    if (!vm)
        return;
    g_mutex_lock(&current_lock);
    if (--vm->nrefs == 0)
        vm_free(vm);
    g_mutex_unlock(&current_lock);
}
