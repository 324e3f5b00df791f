/*
 * VMM_ERROR: what the host or the user got wrong.  Each code is the exit status that main.c ends with, so a message
 * and a status always travel together.  Guest mistakes are never a GError; they are outcomes of the function that met them.
 */
#pragma once

#include <glib.h>

#define VMM_ERROR (vmm_error_quark())

typedef enum VmmError {
    VMM_ERROR_REFUSED = 1, /* a running machine refused what its monitor was asked */
    VMM_ERROR_USAGE = 2,   /* command line, configuration or input file; the message names the option and the remedy */
    VMM_ERROR_NO_MODE = 3, /* a required execution mode is not available */
    VMM_ERROR_HOST = 6,    /* the host refused something we need, or an internal error */
} VmmError;

GQuark vmm_error_quark(void);
