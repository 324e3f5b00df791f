/*
 * The hypervisor port of VMware's monitors: IN EAX, DX with DX = 0x5658, EAX = a magic number and CX = a command, at any privilege.
 *
 * Guests that find "VMwareVMware" in CPUID leaf 0x40000000 ask here for the frequencies of the TSC and of the local APIC's timer, and then
 * calibrate nothing at boot.  A command that is not known leaves all ones in EAX, which they take for "no".
 * Source: Linux Documentation/virt (vmware.c), open-vm-tools' backdoor_def.h for the numbers.
 */
#include "bt/exec.h"

#define VMWARE_PORT  0x5658u
#define VMWARE_MAGIC 0x564d5868u

enum { VMWARE_GETVERSION = 10, VMWARE_GETHZ = 45 };

static const CpuidLeaf *clocks_leaf(const BtCpu *cpu)
{
    for (unsigned i = 0; cpu->cpuid && i < cpu->cpuid->nleaves; i++)
        if (cpu->cpuid->leaf[i].leaf == 0x40000010)
            return &cpu->cpuid->leaf[i];
    return NULL;
}

bool vmware_port_in(BtCpu *cpu, unsigned port)
{
    if (port != VMWARE_PORT || (uint32_t)cpu->gpr[X86_RAX] != VMWARE_MAGIC)
        return false;
    const CpuidLeaf *clocks = clocks_leaf(cpu);
    if (!clocks || clocks->eax == 0)
        return false;
    uint64_t tsc_hz = (uint64_t)clocks->eax * 1000, apic_hz = (uint64_t)clocks->ebx * 1000;
    switch (cpu->gpr[X86_RCX] & 0xffff) {
    case VMWARE_GETVERSION:
        cpu->gpr[X86_RAX] = 6;
        cpu->gpr[X86_RBX] = VMWARE_MAGIC;
        cpu->gpr[X86_RCX] = 4; /* a workstation product */
        break;
    case VMWARE_GETHZ:
        cpu->gpr[X86_RAX] = (uint32_t)tsc_hz;
        cpu->gpr[X86_RBX] = tsc_hz >> 32;
        cpu->gpr[X86_RCX] = (uint32_t)apic_hz;
        break;
    default:
        cpu->gpr[X86_RAX] = 0xffffffffu;
        break;
    }
    return true;
}
