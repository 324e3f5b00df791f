/*
 * MSRs without effect: kernels touch them unasked on a CPU of the vendor they see, and no engine here has them.  One list, so that a guest
 * meets the same answers in every engine: reads give msr_quiet_value(), writes vanish, everything else that is not known is #GP.
 * Source: SDM 4; AMD BIOS and Kernel Developer's Guides for the families that Linux has work-arounds for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "x86/bits.h"

/* AMD's hardware configuration: bit 24 says that the TSC runs at a constant rate; kernels complain when an invariant TSC lacks it. */
#define MSR_HWCR          0xc0010015u
#define MSR_HWCR_TSC_FREQ (1u << 24)

static inline bool msr_is_quiet(uint32_t msr)
{
    switch (msr) {
    case 0x17:       /* IA32_PLATFORM_ID */
    case 0x8b:       /* IA32_BIOS_SIGN_ID */
    case 0xce:       /* PLATFORM_INFO: no CPUID faulting */
    case 0x140:      /* MISC_FEATURES_ENABLES */
    case 0x1fc:      /* POWER_CTL */
    case X86_MSR_MTRRCAP:
    case X86_MSR_MCG_CAP:
    case X86_MSR_MCG_STATUS:
    case 0xc0010000 ... 0xc0010007: /* four performance counters: never count */
    case 0xc0010010: /* SYSCFG */
    case MSR_HWCR:
    case 0xc001001f: /* NB_CFG */
    case 0xc0010055: /* INT_PENDING_MSG: family 0Fh */
    case 0xc0010112: /* SMM base and mask */
    case 0xc0010113:
    case 0xc0010140: /* OS visible work-around */
    case 0xc0010141:
    case 0xc0011020: /* LS_CFG */
    case 0xc0011021: /* IC_CFG */
    case 0xc0011022: /* DC_CFG */
    case 0xc0011029: /* DE_CFG */
    case 0xc001102a: /* BU_CFG2 */
    case 0xc001102c: /* EX_CFG */
    case 0xc001102d: /* LS_CFG2 */
    case 0xc001102e: /* BP_CFG2 */
    case 0xc00110e3: /* BP_SPECTRAL_CHICKEN */
        return true;
    default:
        return (msr >= 0x200 && msr <= 0x20f) || msr == 0x250 || msr == 0x258 || msr == 0x259 || (msr >= 0x268 && msr <= 0x26f);
    }
}

static inline uint64_t msr_quiet_value(uint32_t msr) { return msr == MSR_HWCR ? MSR_HWCR_TSC_FREQ : 0; }
