#include "devices/nbd-library.h"

#include <dlfcn.h>
#include <string.h>

#include "core/error.h"

#define LIBRARY "libnbd.so.0"
#define PACKAGE "libnbd0"

const NbdLibrary *nbd_library(GError **error)
{
    static NbdLibrary library;
    static void *handle;
    if (handle)
        return &library;
    void *opened = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!opened) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "%s (package %s)", dlerror(), PACKAGE);
        return NULL;
    }
    const struct {
        const char *name;
        void *at; /* a pointer to a function */
    } functions[] = {
#define NBD_FUNCTION(name) { "nbd_" #name, &library.name },
        NBD_FUNCTIONS(NBD_FUNCTION)
#undef NBD_FUNCTION
    };
    for (size_t i = 0; i < G_N_ELEMENTS(functions); i++) {
        void *function = dlsym(opened, functions[i].name);
        if (!function) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "%s has no %s; install a newer package %s", LIBRARY, functions[i].name, PACKAGE);
            dlclose(opened);
            return NULL;
        }
        memcpy(functions[i].at, &function, sizeof function);
    }
    handle = opened;
    return &library;
}
