#include "vm/tsc.h"

#include <glib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#define TSC_BASE_NS 5000000  /* between two looks at both clocks, at least */
#define TSC_LOOKS 16u
#define TSC_AGREE 5000.0     /* the kernel's own figure is taken when the measurement is off by less than one part in so many */

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Twice the frequency in MHz, as the host's kernel knows it; 0 when it does not say. */
static double host_bogomips(void)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
        return 0;
    const char *line = strstr(text, "bogomips");
    const char *colon = line ? strchr(line, ':') : NULL;
    return colon ? g_ascii_strtod(colon + 1, NULL) : 0;
}

/* Both clocks at the same moment: of some looks the one that took least, since a thread may be put aside in the middle of one. */
typedef struct TscLook {
    uint64_t tsc, ns;
} TscLook;

static TscLook tsc_look(void)
{
    TscLook best = { 0 };
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < TSC_LOOKS; i++) {
        uint64_t before = __rdtsc(), ns = nanoseconds(), took = __rdtsc() - before;
        if (took < least) {
            least = took;
            best = (TscLook){ .tsc = before + took / 2, .ns = ns };
        }
    }
    return best;
}

static TscLook first;

void tsc_begin(void) { first = tsc_look(); }

/*
 * What the kernel prints is exact to a millionth, but is what it found when it booted: where that was by a look at the 8254, as on an emulated host, it
 * corrects its clock a second later, by up to a two-thousandth, and goes on printing the first figure.  A guest that is told that gains or loses
 * seconds a day against the host's clock.  So the two clocks are compared, over what has passed since tsc_begin().
 */
uint64_t tsc_hz_measure(void)
{
    if (!first.ns)
        first = tsc_look();
    while (nanoseconds() - first.ns < TSC_BASE_NS)
        continue;
    TscLook last = tsc_look();
    double measured = (double)(last.tsc - first.tsc) * 1e9 / (double)(last.ns - first.ns), known = host_bogomips() * 5e5;
    return (uint64_t)(known > measured * (1 - 1 / TSC_AGREE) && known < measured * (1 + 1 / TSC_AGREE) ? known : measured);
}
