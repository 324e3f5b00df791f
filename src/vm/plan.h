/*
 * Plan: how the start mode is chosen.  Four lists, computed in one order and all kept: what the host allows, what the user requested, what
 * the guest prefers by a table, and the third restricted by the first two.  Pure: the host is a HostFacts, the tables are data in
 * plan-tables.c, so every row can be checked on any machine.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/dialect.h"

/* A mode is a pair (exec, MMU); these three are the legal ones. */
typedef enum PlanMode {
    PLAN_BT,    /* software, software */
    PLAN_HV,    /* hardware, software */
    PLAN_HWMMU, /* hardware, hardware */
    PLAN_NMODES,
} PlanMode;

typedef enum HostVendor { HOST_VENDOR_UNKNOWN, HOST_VENDOR_INTEL, HOST_VENDOR_AMD } HostVendor;
typedef enum HostKvm { HOST_KVM_USABLE, HOST_KVM_MISSING, HOST_KVM_DENIED, HOST_KVM_BROKEN } HostKvm;
/* Module parameter `ept` or `npt`; UNKNOWN on profiles, where the module may be loaded either way. */
typedef enum HostSlat { HOST_SLAT_UNKNOWN, HOST_SLAT_OFF, HOST_SLAT_ON } HostSlat;

/* Columns of the default table: the Intel half is published, the AMD half derived. */
typedef enum HostColumn {
    HOST_NEHALEM,
    HOST_CORE2_45NM,
    HOST_CORE2_65NM_FLEXPRI,
    HOST_CORE2_65NM,
    HOST_P4_VT,
    HOST_NO_VT,
    HOST_AMD_32BIT,
    HOST_AMD_0FH_PRE_D,
    HOST_AMD_0FH_D,
    HOST_AMD_10H,
    HOST_AMD_MODERN,
    HOST_NCOLUMNS,
} HostColumn;

typedef struct HostFacts {
    const char *name; /* profile */
    HostVendor vendor;
    HostColumn column;
    bool is_64bit;
    bool has_virtualization, has_slat;
    bool has_segment_limits; /* 64-bit code under segment limits: AMD from Revision D */
    bool is_amd_0fh;
    HostKvm kvm;
    HostSlat slat;
    const char *kvm_text; /* why KVM is not usable, or NULL */
} HostFacts;

/* plan_host: a profile by name.  NULL with VMM_ERROR_USAGE; the message lists them.  "this" is the caller's. */
const HostFacts *plan_host(const char *name, GError **error);
const char *plan_host_name(unsigned index); /* from 0; NULL behind the last profile */

typedef enum PlanFamily {
    PLAN_FAMILY_64,
    PLAN_FAMILY_VMI,
    PLAN_FAMILY_UNIX,   /* 32-bit Linux, FreeBSD */
    PLAN_FAMILY_XP,     /* 32-bit Windows that writes the TPR on each IRQL change */
    PLAN_FAMILY_VISTA,  /* 32-bit Windows that does not */
    PLAN_FAMILY_LEGACY, /* 2000, NT, DOS, 9x, NetWare, 32-bit Solaris */
    PLAN_FAMILY_OTHER,
    PLAN_NFAMILIES,
} PlanFamily;

/* plan_family: @guest_os as in the file, may be NULL.  *out_is_known: false when no row has it. */
PlanFamily plan_family(const char *guest_os, bool is_vmi, bool *out_is_known);
const char *plan_family_name(PlanFamily family);

/* One cell of the default table. */
typedef enum PlanCell {
    PLAN_CELL_BT,
    PLAN_CELL_BT_JUMPS, /* bt*: moves to hardware when the guest enters long mode */
    PLAN_CELL_HV,
    PLAN_CELL_HWMMU,
    PLAN_CELL_ORIGINAL_NONE, /* not runnable in the original; bt in `current` */
    PLAN_CELL_NONE,          /* a 64-bit guest on a 32-bit CPU */
} PlanCell;

PlanCell plan_cell(PlanFamily family, HostColumn column);
/* plan_cell_is_derived: the cell was never published; it follows from what is known of the hardware. */
bool plan_cell_is_derived(PlanFamily family, HostColumn column);

typedef struct PlanList {
    PlanMode mode[PLAN_NMODES];
    unsigned count;
} PlanList;

typedef enum PlanLongMode { PLAN_LONG_STAY, PLAN_LONG_JUMP, PLAN_LONG_STOP } PlanLongMode;

typedef struct PlanReason {
    PlanMode mode;
    const char *rule; /* a word for programs */
    char *text;
} PlanReason;

typedef struct Plan {
    PlanFamily family;
    PlanList allowed;   /* bt, hv, hwmmu order */
    PlanList requested; /* the same */
    PlanList preferred; /* best first */
    PlanList filtered;  /* best first */
    bool has_start;     /* false: nothing can run this guest here; the last warning says why */
    PlanMode start;
    bool is_fallback; /* start is not what was asked for */
    PlanLongMode long_mode;
    PlanMode long_mode_target; /* JUMP: where to */
    GPtrArray *reasons;        /* PlanReason: one for each mode that is not in filtered */
    GPtrArray *warnings;       /* char * */
} Plan;

typedef struct PlanInput {
    const ModeConfig *modes;
    const char *guest_os; /* may be NULL */
    bool is_vmi;
} PlanInput;

/* plan_new: never fails; an impossible wish is a Plan without start. */
Plan *plan_new(const PlanInput *input, const HostFacts *host);
void plan_free(Plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)

bool plan_list_has(const PlanList *list, PlanMode mode);
const char *plan_mode_name(PlanMode mode);
bool plan_mode_from_name(const char *name, PlanMode *out_mode);
const char *plan_long_mode_name(PlanLongMode what);
/* plan_text, plan_json: what `segue plan` prints; (transfer full). */
char *plan_text(const Plan *plan, const HostFacts *host);
char *plan_json(const Plan *plan, const HostFacts *host);
