/*
 * The hypervisor port of VMware's monitors: IN EAX, DX with DX = 0x5658, EAX = a magic number and CX = a command, at any privilege.
 *
 * Guests that find "VMwareVMware" in CPUID leaf 0x40000000 ask here for the frequencies of the TSC and of the local APIC's timer, and then
 * calibrate nothing at boot.  A command that is not known leaves all ones in EAX, which they take for "no".  Calls nothing: it also runs while
 * the guest's vector registers are live.
 * Source: Linux Documentation/virt (vmware.c), open-vm-tools' backdoor_def.h for the numbers.
 */
#pragma once

#include "core/cpu.h"

#define VMWARE_PORT  0x5658u
#define VMWARE_MAGIC 0x564d5868u

enum { VMWARE_GETVERSION = 10, VMWARE_GETHZ = 45 };

/* vmware_port_in: changes RAX, RBX and RCX in @gpr.   Returns: false when it is an ordinary access, and nothing has changed. */
static inline bool vmware_port_in(const CpuidModel *model, uint64_t gpr[X86_NGPRS])
{
    const CpuidLeaf *clocks = NULL;
    if ((uint32_t)gpr[X86_RAX] != VMWARE_MAGIC)
        return false;
    for (unsigned i = 0; model && i < model->nleaves; i++)
        if (model->leaf[i].leaf == 0x40000010)
            clocks = &model->leaf[i];
    if (!clocks || clocks->eax == 0)
        return false;
    uint64_t tsc_hz = (uint64_t)clocks->eax * 1000, apic_hz = (uint64_t)clocks->ebx * 1000;
    switch (gpr[X86_RCX] & 0xffff) {
    case VMWARE_GETVERSION:
        gpr[X86_RAX] = 6;
        gpr[X86_RBX] = VMWARE_MAGIC;
        gpr[X86_RCX] = 4; /* a workstation product */
        break;
    case VMWARE_GETHZ:
        gpr[X86_RAX] = (uint32_t)tsc_hz;
        gpr[X86_RBX] = tsc_hz >> 32;
        gpr[X86_RCX] = (uint32_t)apic_hz;
        break;
    default:
        gpr[X86_RAX] = 0xffffffffu;
        break;
    }
    return true;
}
