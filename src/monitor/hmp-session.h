/*
 * One conversation with the human monitor: greeting, prompt, line editing, answers; echoes what is typed, as QEMU's does on sockets too.
 * Thread: the default main context's.
 */
#pragma once

#include "vm/vm.h"

typedef struct HmpSession HmpSession;
typedef void HmpOutput(void *opaque, const void *bytes, size_t count);

HmpSession *hmp_session_new(HmpOutput *write, void *opaque);
void hmp_session_free(HmpSession *session);
void hmp_session_set_vm(HmpSession *session, Vm *vm); /* before the first key */
void hmp_session_greet(HmpSession *session);          /* the first time in full, then the prompt only */
void hmp_session_key(HmpSession *session, char key);  /* one byte of what the user typed */
