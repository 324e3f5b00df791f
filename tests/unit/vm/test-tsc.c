/* The TSC's frequency against a longer look at the same clocks. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

#include "vm/tsc.h"

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Over a second, so that what a busy machine takes away at the ends is little. */
START_TEST(test_frequency)
{
    uint64_t ns0 = nanoseconds(), tsc0 = __rdtsc();
    tsc_begin();
    uint64_t hz = tsc_hz_measure();
    nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
    uint64_t ns1 = nanoseconds(), tsc1 = __rdtsc();
    double longer = (double)(tsc1 - tsc0) * 1e9 / (double)(ns1 - ns0);
    ck_assert_msg((double)hz > longer * 0.995 && (double)hz < longer * 1.005, "%llu Hz, over a second %.0f", (unsigned long long)hz, longer);
}
END_TEST

/* Asked again, it says the same as far as a guest's clock can tell. */
START_TEST(test_again)
{
    double first = (double)tsc_hz_measure(), again = (double)tsc_hz_measure();
    ck_assert_msg(first > again * 0.9995 && first < again * 1.0005, "%.0f and %.0f Hz", first, again);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tsc");
    TCase *tcase = tcase_create("tsc");
    tcase_add_test(tcase, test_frequency);
    tcase_add_test(tcase, test_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
