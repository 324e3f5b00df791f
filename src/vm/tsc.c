#include "vm/tsc.h"

#include <glib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#define TSC_MEASURE_NS 5000000 /* where the host's kernel does not say */
#define TSC_COMPARE_NS 500000  /* to see that what it says is about the TSC */

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

static double tsc_hz_over(uint64_t duration_ns)
{
    uint64_t ns0 = nanoseconds(), tsc0 = __rdtsc(), ns1;
    do
        ns1 = nanoseconds();
    while (ns1 - ns0 < duration_ns);
    return (double)(__rdtsc() - tsc0) * 1e9 / (double)(ns1 - ns0);
}

/* A short measurement is off by a scheduling delay; the kernel's figure is exact, where it is about the TSC at all. */
uint64_t tsc_hz_measure(void)
{
    double known = host_bogomips() * 5e5;
    for (unsigned tries = 0; known > 0 && tries < 3; tries++) {
        double measured = tsc_hz_over(TSC_COMPARE_NS);
        if (known > measured * 0.98 && known < measured * 1.02)
            return (uint64_t)known;
    }
    return (uint64_t)tsc_hz_over(TSC_MEASURE_NS);
}
