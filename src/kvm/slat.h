/*
 * Second-level address translation of the host's KVM (Intel EPT, AMD NPT) is a parameter of its module, so turning it on or off means
 * loading the module again.  This is for the whole host and needs root.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* kvm_slat_status: what is loaded, how, and who uses it: some lines, (transfer full). */
char *kvm_slat_status(void);

/**
 * kvm_slat_set:
 * @out_text: what was done, one line; (transfer full)
 *
 * FALSE with VMM_ERROR_HOST, and everything as it was, when: not root; the module is not loaded or cannot be unloaded; a process
 * holds KVM open (it is named); loading with the new value fails, in which case the old value is loaded again.
 */
gboolean kvm_slat_set(bool on, char **out_text, GError **error);

bool kvm_slat_can_change(void); /* a module is loaded, and can be loaded again */

/* kvm_holders: "PID (name), …" of the processes below @proc ("/proc") that have @device or a KVM virtual machine open; NULL: none. */
char *kvm_holders(const char *proc, const char *device);
