/*
 * A process beside the monitor that reloads KVM's module for it.  Made before the monitor has threads, opens anything a guest can influence or
 * gives up privileges, it knows two commands and nothing of the guest.  It ends with the monitor.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct SlatHelper SlatHelper;

/* slat_helper_new: forks.  NULL where it could do nothing: not root, or no KVM module that can be reloaded. */
SlatHelper *slat_helper_new(void);
void slat_helper_free(SlatHelper *helper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SlatHelper, slat_helper_free)

/* slat_helper_ask: begins kvm_slat_set(@on).  One at a time; slat_helper_fd() becomes readable when it is through, after up to some
 * seconds.  Returns: FALSE with VMM_ERROR_HOST when the helper is gone.
 * slat_helper_answer: waits for the end.  FALSE with VMM_ERROR_HOST and the reason: the module is as it was, then, or the text says so. */
gboolean slat_helper_ask(SlatHelper *helper, bool on, GError **error);
int slat_helper_fd(const SlatHelper *helper);
gboolean slat_helper_answer(SlatHelper *helper, GError **error);
