#include <check.h>
#include <stdlib.h>

#include "gdb/points.h"

START_TEST(a_set_of_points)
{
    GdbPoints *points = gdb_points_new();
    ck_assert(gdb_points_add(points, GDB_POINT_SOFT, 0x1000, 1) && gdb_points_add(points, GDB_POINT_SOFT, 0x1000, 1));
    ck_assert(gdb_points_add(points, GDB_POINT_HARD, 0x2000, 1) && gdb_points_add(points, GDB_POINT_ACCESS, 0x1000, 8));
    CpuDebug debug = gdb_points_debug(points);
    ck_assert_uint_eq(debug.nbreaks, 2);
    ck_assert_uint_eq(debug.nwatches, 1);
    ck_assert(debug.watches[0].on_read && debug.watches[0].on_write && debug.watches[0].size == 8);
    ck_assert_int_eq(gdb_points_find(points, 0x1000, true), GDB_POINT_ACCESS);
    ck_assert_int_eq(gdb_points_find(points, 0x2000, false), GDB_POINT_HARD);
    gdb_points_remove(points, GDB_POINT_ACCESS, 0x1000, 4); /* another one */
    ck_assert_uint_eq(gdb_points_debug(points).nwatches, 1);
    gdb_points_remove(points, GDB_POINT_ACCESS, 0x1000, 8);
    ck_assert_uint_eq(gdb_points_debug(points).nwatches, 0);
    ck_assert(!gdb_points_add(points, GDB_POINT_WRITE, 0, 0) && !gdb_points_add(points, GDB_POINT_WRITE, 0, 1 << 20));
    ck_assert(!gdb_points_add(points, GDB_POINT_WRITE, UINT64_MAX, 8));
    for (unsigned i = 0; i < GDB_MAX_POINTS; i++)
        gdb_points_add(points, GDB_POINT_SOFT, i, 1);
    ck_assert(!gdb_points_add(points, GDB_POINT_SOFT, 0x10000000, 1));
    gdb_points_clear(points);
    ck_assert_uint_eq(gdb_points_debug(points).nbreaks, 0);
    gdb_points_free(points);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("points");
    TCase *tests = tcase_create("points");
    tcase_add_test(tests, a_set_of_points);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
