/* The CpuHost callbacks in the shape bt_host_call() takes.  Compiled as ordinary C: here the host's vector state is in force. */
#include <sched.h>

#include "bt/mem.h"
#include "bt/peers.h"

uint64_t host_port_read(BtCpu *cpu, uint64_t port, uint64_t size, uint64_t unused)
{
    cpu->stat_ports++;
    return cpu->host->port_read(cpu->host_opaque, (uint16_t)port, (unsigned)size);
}

uint64_t host_port_write(BtCpu *cpu, uint64_t port, uint64_t size, uint64_t value)
{
    cpu->stat_ports++;
    cpu->host->port_write(cpu->host_opaque, (uint16_t)port, (unsigned)size, value);
    return 0;
}

uint64_t host_mmio_read(BtCpu *cpu, uint64_t gpa, uint64_t size, uint64_t unused)
{
    cpu->stat_mmio++;
    return cpu->host->mmio_read(cpu->host_opaque, gpa, (unsigned)size);
}

uint64_t host_mmio_write(BtCpu *cpu, uint64_t gpa, uint64_t size, uint64_t value)
{
    cpu->stat_mmio++;
    cpu->host->mmio_write(cpu->host_opaque, gpa, (unsigned)size, value);
    return 0;
}

uint64_t host_apic_msr_read(BtCpu *cpu, uint64_t msr, uint64_t out_value, uint64_t unused)
{
    return cpu->host->apic_msr_read(cpu->host_opaque, (uint32_t)msr, (uint64_t *)(uintptr_t)out_value);
}

uint64_t host_apic_msr_write(BtCpu *cpu, uint64_t msr, uint64_t value, uint64_t unused)
{
    return cpu->host->apic_msr_write(cpu->host_opaque, (uint32_t)msr, value);
}

uint64_t host_cr8_read(BtCpu *cpu, uint64_t by_guest, uint64_t unused2, uint64_t unused3)
{
    cpu->stat_cr8 += by_guest;
    return cpu->host->cr8_read(cpu->host_opaque);
}

uint64_t host_cr8_write(BtCpu *cpu, uint64_t value, uint64_t by_guest, uint64_t unused2)
{
    cpu->stat_cr8 += by_guest;
    cpu->host->cr8_write(cpu->host_opaque, value);
    return 0;
}

uint64_t host_irq_acknowledge(BtCpu *cpu, uint64_t unused1, uint64_t unused2, uint64_t unused3)
{
    int64_t vector = cpu->host->irq_acknowledge(cpu->host_opaque);
    cpu->stat_interrupts += vector >= 0;
    return (uint64_t)vector;
}

uint64_t host_written(BtCpu *cpu, uint64_t gpa, uint64_t size, uint64_t unused)
{
    bt_peers_written(cpu, gpa, size);
    return 0;
}

uint64_t host_yield(BtCpu *cpu, uint64_t unused1, uint64_t unused2, uint64_t unused3)
{
    sched_yield();
    return 0;
}
