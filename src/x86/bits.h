/* Names of the bits in x86 system registers.  Facts only.  Source: SDM 3A chapter 2 (CRx, EFER), SDM 1 3.4.3 (EFLAGS). */
#pragma once

#include <stdint.h>

enum {
    X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
    X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15, X86_NGPRS
};

enum { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_LDTR, X86_TR, X86_NSEGS };

/* RFLAGS */
#define X86_FLAG_CF     (1u << 0)
#define X86_FLAG_FIXED  (1u << 1)
#define X86_FLAG_PF     (1u << 2)
#define X86_FLAG_AF     (1u << 4)
#define X86_FLAG_ZF     (1u << 6)
#define X86_FLAG_SF     (1u << 7)
#define X86_FLAG_TF     (1u << 8)
#define X86_FLAG_IF     (1u << 9)
#define X86_FLAG_DF     (1u << 10)
#define X86_FLAG_OF     (1u << 11)
#define X86_FLAG_IOPL   (3u << 12)
#define X86_FLAG_NT     (1u << 14)
#define X86_FLAG_RF     (1u << 16)
#define X86_FLAG_VM     (1u << 17)
#define X86_FLAG_AC     (1u << 18)
#define X86_FLAG_VIF    (1u << 19)
#define X86_FLAG_VIP    (1u << 20)
#define X86_FLAG_ID     (1u << 21)
#define X86_FLAG_IOPL_SHIFT 12
/* The six status flags, which translated code keeps in the host's own flags. */
#define X86_FLAGS_STATUS \
    (X86_FLAG_CF | X86_FLAG_PF | X86_FLAG_AF | X86_FLAG_ZF | X86_FLAG_SF | X86_FLAG_OF)

/* CR0 */
#define X86_CR0_PE (1u << 0)
#define X86_CR0_MP (1u << 1)
#define X86_CR0_EM (1u << 2)
#define X86_CR0_TS (1u << 3)
#define X86_CR0_ET (1u << 4)
#define X86_CR0_NE (1u << 5)
#define X86_CR0_WP (1u << 16)
#define X86_CR0_AM (1u << 18)
#define X86_CR0_NW (1u << 29)
#define X86_CR0_CD (1u << 30)
#define X86_CR0_PG (1u << 31)

/* CR4 */
#define X86_CR4_VME        (1u << 0)
#define X86_CR4_PVI        (1u << 1)
#define X86_CR4_TSD        (1u << 2)
#define X86_CR4_DE         (1u << 3)
#define X86_CR4_PSE        (1u << 4)
#define X86_CR4_PAE        (1u << 5)
#define X86_CR4_MCE        (1u << 6)
#define X86_CR4_PGE        (1u << 7)
#define X86_CR4_PCE        (1u << 8)
#define X86_CR4_OSFXSR     (1u << 9)
#define X86_CR4_OSXMMEXCPT (1u << 10)
#define X86_CR4_UMIP       (1u << 11)
#define X86_CR4_LA57       (1u << 12)
#define X86_CR4_FSGSBASE   (1u << 16)
#define X86_CR4_PCIDE      (1u << 17)
#define X86_CR4_OSXSAVE    (1u << 18)
#define X86_CR4_SMEP       (1u << 20)
#define X86_CR4_SMAP       (1u << 21)
#define X86_CR4_PKE        (1u << 22)
#define X86_CR4_PKS        (1u << 24)

/* EFER */
#define X86_EFER_SCE   (1u << 0)
#define X86_EFER_LME   (1u << 8)
#define X86_EFER_LMA   (1u << 10)
#define X86_EFER_NXE   (1u << 11)
#define X86_EFER_FFXSR (1u << 14)

/* Segment attributes as the VMX access-rights word lays them out (SDM 3C 25.4.1). */
#define X86_SEG_TYPE(ar)  ((ar) & 15)
#define X86_SEG_S         (1u << 4)
#define X86_SEG_DPL_SHIFT 5
#define X86_SEG_DPL(ar)   (((ar) >> 5) & 3)
#define X86_SEG_P         (1u << 7)
#define X86_SEG_AVL       (1u << 12)
#define X86_SEG_L         (1u << 13)
#define X86_SEG_DB        (1u << 14)
#define X86_SEG_G         (1u << 15)
#define X86_SEG_UNUSABLE  (1u << 16)
/* Type bits of code and data segments. */
#define X86_SEG_ACCESSED    1u
#define X86_SEG_WRITABLE    2u  /* data */
#define X86_SEG_READABLE    2u  /* code */
#define X86_SEG_EXPAND_DOWN 4u  /* data */
#define X86_SEG_CONFORMING  4u  /* code */
#define X86_SEG_CODE        8u

/* Exception vectors (SDM 3A table 6-1). */
enum {
    X86_EXC_DE = 0, X86_EXC_DB = 1, X86_EXC_NMI = 2, X86_EXC_BP = 3, X86_EXC_OF = 4, X86_EXC_BR = 5,
    X86_EXC_UD = 6, X86_EXC_NM = 7, X86_EXC_DF = 8, X86_EXC_TS = 10, X86_EXC_NP = 11, X86_EXC_SS = 12,
    X86_EXC_GP = 13, X86_EXC_PF = 14, X86_EXC_MF = 16, X86_EXC_AC = 17, X86_EXC_MC = 18, X86_EXC_XM = 19
};

/* Page-fault error code (SDM 3A 4.7). */
#define X86_PF_P     1u
#define X86_PF_WRITE 2u
#define X86_PF_USER  4u
#define X86_PF_RSVD  8u
#define X86_PF_FETCH 16u
#define X86_PF_PK    32u /* a protection key forbids it */

/* MSR numbers used in more than one file (SDM 4). */
#define X86_MSR_TSC            0x10u
#define X86_MSR_APIC_BASE      0x1bu
#define X86_MSR_TSC_ADJUST     0x3bu
#define X86_MSR_SPEC_CTRL      0x48u
#define X86_MSR_MTRRCAP        0xfeu
#define X86_MSR_ARCH_CAPABILITIES 0x10au
#define X86_MSR_SYSENTER_CS    0x174u
#define X86_MSR_SYSENTER_ESP   0x175u
#define X86_MSR_SYSENTER_EIP   0x176u
#define X86_MSR_MCG_CAP        0x179u
#define X86_MSR_MCG_STATUS     0x17au
#define X86_MSR_MISC_ENABLE    0x1a0u
#define X86_MSR_PAT            0x277u
#define X86_MSR_MTRR_DEFTYPE   0x2ffu
#define X86_MSR_TSC_DEADLINE   0x6e0u
#define X86_MSR_PKRS           0x6e1u
#define X86_MSR_X2APIC_FIRST   0x800u
#define X86_MSR_X2APIC_LAST    0x8ffu
#define X86_MSR_EFER           0xc0000080u
#define X86_MSR_STAR           0xc0000081u
#define X86_MSR_LSTAR          0xc0000082u
#define X86_MSR_CSTAR          0xc0000083u
#define X86_MSR_SFMASK         0xc0000084u
#define X86_MSR_FS_BASE        0xc0000100u
#define X86_MSR_GS_BASE        0xc0000101u
#define X86_MSR_KERNEL_GS_BASE 0xc0000102u
#define X86_MSR_TSC_AUX        0xc0000103u
