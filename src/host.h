/* The host profile `this`: the CPU's generation by CPUID, /dev/kvm and the loaded module's parameter by probing. */
#pragma once

#include "vm/plan.h"

/* host_this: probes at the first call (opens /dev/kvm and makes an empty VM); the result stays.  Main thread. */
const HostFacts *host_this(void);

/* host_find: `this`, or a profile by name.  NULL with VMM_ERROR_USAGE. */
const HostFacts *host_find(const char *name, GError **error);
