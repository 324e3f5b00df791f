#include "vm/vcpu.h"

#include "core/log.h"
#include "vm/boot.h"

/* --- CpuHost: the engine's view of the machine --- */

static uint64_t host_port_read(void *opaque, uint16_t port, unsigned size)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    uint64_t value = board_port_read(vcpu->board, port, size);
    g_mutex_unlock(vcpu->lock);
    return value;
}

static void host_port_write(void *opaque, uint16_t port, unsigned size, uint64_t value)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    board_port_write(vcpu->board, port, size, value);
    g_mutex_unlock(vcpu->lock);
}

static uint64_t host_mmio_read(void *opaque, Gpa gpa, unsigned size)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    uint64_t value = board_mmio_read(vcpu->board, vcpu->index, gpa, size);
    g_mutex_unlock(vcpu->lock);
    return value;
}

static void host_mmio_write(void *opaque, Gpa gpa, unsigned size, uint64_t value)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    board_mmio_write(vcpu->board, vcpu->index, gpa, size, value);
    g_mutex_unlock(vcpu->lock);
}

static int host_irq_acknowledge(void *opaque)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    int vector = lapic_acknowledge(board_lapic(vcpu->board, vcpu->index));
    g_mutex_unlock(vcpu->lock);
    return vector;
}

static bool host_apic_msr_read(void *opaque, uint32_t msr, uint64_t *out_value)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    bool is_ok = lapic_msr_read(board_lapic(vcpu->board, vcpu->index), msr, out_value);
    g_mutex_unlock(vcpu->lock);
    return is_ok;
}

static bool host_apic_msr_write(void *opaque, uint32_t msr, uint64_t value)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    bool is_ok = lapic_msr_write(board_lapic(vcpu->board, vcpu->index), msr, value);
    g_mutex_unlock(vcpu->lock);
    return is_ok;
}

static uint64_t host_cr8_read(void *opaque)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    uint64_t value = lapic_cr8_read(board_lapic(vcpu->board, vcpu->index));
    g_mutex_unlock(vcpu->lock);
    return value;
}

static void host_cr8_write(void *opaque, uint64_t value)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    lapic_cr8_write(board_lapic(vcpu->board, vcpu->index), value);
    g_mutex_unlock(vcpu->lock);
}

static void host_eoi(void *opaque, uint8_t vector)
{
    Vcpu *vcpu = opaque;
    g_mutex_lock(vcpu->lock);
    board_eoi(vcpu->board, vector);
    g_mutex_unlock(vcpu->lock);
}

const CpuHost vcpu_host = {
    .port_read = host_port_read,
    .port_write = host_port_write,
    .mmio_read = host_mmio_read,
    .mmio_write = host_mmio_write,
    .irq_acknowledge = host_irq_acknowledge,
    .apic_msr_read = host_apic_msr_read,
    .apic_msr_write = host_apic_msr_write,
    .cr8_read = host_cr8_read,
    .cr8_write = host_cr8_write,
    .eoi = host_eoi,
};

/* --- requests --- */

void vcpu_kick(Vcpu *vcpu)
{
    vcpu->cpu->ops->kick(vcpu->cpu);
    g_cond_signal(&vcpu->wake);
}

void vcpu_nmi(Vcpu *vcpu)
{
    if (vcpu->waits_for_sipi && !vcpu->cpu->has_apic)
        return;
    vcpu->nmi_waits = true;
    vcpu->nmis++;
    vcpu->cpu->ops->nmi(vcpu->cpu);
    g_cond_signal(&vcpu->wake);
}

void vcpu_ask_init(Vcpu *vcpu)
{
    vcpu->init_asked = true;
    vcpu->startup_page = -1;
    vcpu_kick(vcpu);
}

void vcpu_ask_startup(Vcpu *vcpu, uint8_t vector)
{
    bool will_wait = vcpu->waits_for_sipi || (vcpu->init_asked && vcpu->index != 0);
    if (!will_wait || vcpu->startup_page >= 0)
        return;
    vcpu->startup_page = vector;
    g_cond_signal(&vcpu->wake);
}

static void irq_line_set(void *opaque, unsigned number, bool level)
{
    Vcpu *vcpu = opaque;
    vcpu->cpu->ops->set_irq(vcpu->cpu, level);
    if (level)
        g_cond_signal(&vcpu->wake);
}

IrqLine vcpu_irq_line(Vcpu *vcpu) { return (IrqLine){ .set = irq_line_set, .opaque = vcpu }; }

/* --- state --- */

void vcpu_load(Vcpu *vcpu)
{
    vcpu->state.waits_for_sipi = vcpu->waits_for_sipi;
    g_mutex_unlock(vcpu->lock);
    vcpu->cpu->ops->load(vcpu->cpu, &vcpu->state);
    g_mutex_lock(vcpu->lock);
}

void vcpu_save(Vcpu *vcpu)
{
    g_mutex_unlock(vcpu->lock);
    vcpu->cpu->ops->save(vcpu->cpu, &vcpu->state);
    g_mutex_lock(vcpu->lock);
    if (vcpu->cpu->has_apic)
        vcpu->waits_for_sipi = vcpu->state.waits_for_sipi;
}

/* The registers of INIT.  Time is none of its business. */
static void state_init(Vcpu *vcpu)
{
    vcpu_save(vcpu);
    int64_t tsc_offset = vcpu->state.tsc_offset;
    uint64_t tsc_adjust = vcpu->state.tsc_adjust;
    boot_state_reset(&vcpu->state);
    vcpu->state.tsc_offset = tsc_offset;
    vcpu->state.tsc_adjust = tsc_adjust;
    vcpu->state.apic_base = lapic_base(board_lapic(vcpu->board, vcpu->index));
}

void vcpu_take_init(Vcpu *vcpu)
{
    vcpu->init_asked = vcpu->nmi_waits = false;
    vcpu->waits_for_sipi = vcpu->index != 0;
    state_init(vcpu);
    vcpu->state.waits_for_sipi = vcpu->waits_for_sipi;
    vcpu_load(vcpu);
    vcpu_log_state(vcpu, "INIT");
}

void vcpu_take_startup(Vcpu *vcpu)
{
    uint8_t page = (uint8_t)vcpu->startup_page;
    vcpu->startup_page = -1;
    vcpu->waits_for_sipi = false;
    state_init(vcpu);
    vcpu->state.seg[X86_CS].selector = (uint16_t)(page << 8);
    vcpu->state.seg[X86_CS].base = (uint64_t)page << 12;
    vcpu->state.rip = 0;
    vcpu_load(vcpu);
    vcpu_log_state(vcpu, "startup");
}

char *vcpu_describe(const Vcpu *vcpu)
{
    const CpuOps *ops = vcpu->cpu->ops;
    return ops->describe ? ops->describe(vcpu->cpu) : g_strdup("no registers\n");
}

void vcpu_log_state(Vcpu *vcpu, const char *what)
{
    if (!log_on(LOG_CPU_RESET))
        return;
    g_mutex_unlock(vcpu->lock);
    g_autofree char *text = vcpu_describe(vcpu);
    g_mutex_lock(vcpu->lock);
    log_text(LOG_CPU_RESET, "CPU %u %s\n%s", vcpu->index, what, text);
}
