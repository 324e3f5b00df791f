/* A window has nothing that can be touched beside it, and goes away whole. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/guard.h"

static const size_t sizes[] = { 4096, (2 << 20) - 4096, 2 << 20, (2 << 20) + 4096, 40 << 20 };

/* The rights of the mapping that holds @p, as /proc/self/maps has them; empty: none. */
static void rights_at(const void *p, char out[5])
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned long from, to;
    out[0] = 0;
    while (fgets(line, sizeof line, maps)) {
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) == 3 && (uintptr_t)p >= from && (uintptr_t)p < to)
            strcpy(out, rights);
    }
    fclose(maps);
}

START_TEST(window_stands_alone)
{
    char rights[5];
    size_t size = sizes[_i];
    uint8_t *window = guard_map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    ck_assert_ptr_ne(window, MAP_FAILED);
    ck_assert_uint_eq((uintptr_t)window % GUARD_SIZE, 0);
    window[0] = window[size - 1] = 1;
    for (size_t at = 1; at <= GUARD_SIZE; at += 4095) {
        rights_at(window - at, rights);
        ck_assert_str_eq(rights, "---p");
        rights_at(window + size + at - 1, rights);
        ck_assert_str_eq(rights, "---p");
    }
    guard_unmap(window, size);
    rights_at(window, rights);
    ck_assert_str_ne(rights, "rw-p");
}
END_TEST

START_TEST(neighbour_faults)
{
    uint8_t *window = guard_map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    *(volatile uint8_t *)(_i ? window + 4096 : window - 1) = 1;
}
END_TEST

START_TEST(file_is_mapped_twice)
{
    int fd = memfd_create("x", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, 8192), 0);
    uint8_t *first = guard_map(8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd), *second = guard_map(8192, PROT_READ, MAP_SHARED, fd);
    first[5000] = 7;
    ck_assert_uint_eq(second[5000], 7);
    ck_assert_ptr_eq(guard_map(4096, PROT_READ, MAP_SHARED, -1), MAP_FAILED);
    guard_unmap(first, 8192);
    guard_unmap(second, 8192);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard");
    TCase *tcase = tcase_create("guard");
    tcase_add_loop_test(tcase, window_stands_alone, 0, sizeof sizes / sizeof sizes[0]);
    tcase_add_loop_test_raise_signal(tcase, neighbour_faults, SIGSEGV, 0, 2);
    tcase_add_test(tcase, file_is_mapped_twice);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
