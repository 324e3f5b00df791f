/*
 * libnbd, loaded when the first disk needs it.  With what it is linked to itself (TLS, XML, Unicode: fourteen libraries) it would be the larger
 * part of what the dynamic linker does at every start, and few guests have such a disk.
 */
#pragma once

#include <glib.h>
#include <libnbd.h>

#define NBD_FUNCTIONS(F) \
    F(create) F(connect_socket) F(get_size) F(get_error) F(get_errno) F(can_flush) F(can_zero) F(aio_is_dead) F(aio_is_closed) F(shutdown) F(close) \
    F(pread) F(pwrite) F(zero) F(flush)

/* Its functions, by their names without nbd_. */
typedef struct NbdLibrary {
#define NBD_FUNCTION(name) __typeof__(nbd_##name) *name;
    NBD_FUNCTIONS(NBD_FUNCTION)
#undef NBD_FUNCTION
} NbdLibrary;

/* nbd_library: the functions; stays loaded.  NULL with VMM_ERROR_HOST.  Thread: main, before the sandbox. */
const NbdLibrary *nbd_library(GError **error);
