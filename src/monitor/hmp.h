/*
 * The human monitor: a line editor and a table of commands on a Chardev.  Commands act on the Vm through vm/vm.h only.
 * Thread: the default main context's.
 */
#pragma once

#include "vm/chardev.h"
#include "vm/vm.h"

typedef struct Hmp Hmp;

/* hmp_new: takes the chardev's monitor slot; @vm and @chardev outlive it. */
Hmp *hmp_new(Vm *vm, Chardev *chardev);
void hmp_free(Hmp *hmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hmp, hmp_free)

/* hmp_execute: one command line without prompt.  Returns: its output, lines ended by "\n"; (transfer full). */
char *hmp_execute(Vm *vm, const char *line);
