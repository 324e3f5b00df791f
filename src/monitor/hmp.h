/*
 * The human monitor: a table of commands, and the places where people reach it.  Commands act on the Vm through vm/vm.h only.
 * Thread: the default main context's.
 */
#pragma once

#include "config/config.h"
#include "vm/chardev.h"
#include "vm/vm.h"

/* On the terminal, or shared with a serial port. */
typedef struct Hmp Hmp;
/* hmp_new: takes the chardev's monitor slot; @vm and @chardev outlive its last key. */
Hmp *hmp_new(Vm *vm, Chardev *chardev);
void hmp_free(Hmp *hmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hmp, hmp_free)

/* On sockets, pipes and pseudo-terminals. */
typedef struct HmpServer HmpServer;
/* hmp_server_new: opens each of @config->monitors and adds it to @servers (TransportServer), whose owner starts them behind
 * hmp_server_attach() and frees them before hmp_server_free().  NULL with VMM_ERROR_USAGE. */
HmpServer *hmp_server_new(const Config *config, GPtrArray *servers, GError **error);
void hmp_server_attach(HmpServer *server, Vm *vm);
void hmp_server_free(HmpServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HmpServer, hmp_server_free)

/* hmp_execute: one command line without prompt.  Returns: its output, lines ended by "\n"; (transfer full). */
char *hmp_execute(Vm *vm, const char *line);
