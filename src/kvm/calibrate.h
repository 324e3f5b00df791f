/* What leaving the guest costs on this host, for whoever compares modes (vm/adaptive.h). */
#pragma once

#include <glib.h>

/* Nanoseconds of CPU time, there and back. */
typedef struct KvmCosts {
    double exit_ns;      /* of the CPU to the host's kernel (CPUID) */
    double emulation_ns; /* an instruction that the host's kernel has to emulate (an access to the APIC's page) */
    double user_ns;      /* an exit to the monitor (a port) */
} KvmCosts;

/**
 * kvm_calibrate: measures, in a virtual machine of its own, in the mode that the KVM module is loaded in.
 *
 * Some thousand exits: 1 ms on hardware, 100 ms where the host is emulated.  FALSE with VMM_ERROR_HOST.  Any thread; nothing else is touched.
 */
gboolean kvm_calibrate(KvmCosts *out_costs, GError **error);
