/* Images that qemu-nbd serves: each format, what is not one, and a qemu-nbd that is not there. */
#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "devices/nbd-disk.h"

#define IMAGE_BYTES (UINT64_C(8) << 20)

static const char *const formats[] = { "qcow2", "vmdk", "vdi", "vpc" };
static char *folder, *image;

static bool has_tools(void)
{
    g_autofree char *maker = g_find_program_in_path("qemu-img"), *server = g_find_program_in_path("qemu-nbd");
    return maker && server;
}

static void image_make(const char *format)
{
    char *argv[] = { (char *)"qemu-img", (char *)"create", (char *)"-q", (char *)"-f", (char *)format, image, (char *)"8M", NULL };
    int status = -1;
    ck_assert(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, NULL));
    ck_assert_int_eq(status, 0);
}

static void setup(void)
{
    folder = g_dir_make_tmp("test-nbd-disk-XXXXXX", NULL);
    image = g_build_filename(folder, "disk", NULL);
}

static void teardown(void)
{
    g_unlink(image);
    g_rmdir(folder);
    g_free(image);
    g_free(folder);
}

START_TEST(written_and_read)
{
    uint8_t bytes[3000], back[sizeof bytes];
    g_autoptr(GError) error = NULL;
    if (!has_tools())
        return;
    image_make(formats[_i]);
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    NbdDisk *disk = nbd_disk_open(image, formats[_i], false, false, &error);
    ck_assert_msg(disk != NULL, "%s", error ? error->message : "");
    ck_assert_uint_ge(nbd_disk_size(disk), IMAGE_BYTES);
    ck_assert_int_eq(nbd_disk_write(disk, bytes, sizeof bytes, 70000), 0);
    ck_assert_int_eq(nbd_disk_flush(disk), 0);
    nbd_disk_free(disk);
    disk = nbd_disk_open(image, formats[_i], true, false, NULL); /* what was written is there for the next one */
    ck_assert_ptr_nonnull(disk);
    ck_assert_int_eq(nbd_disk_read(disk, back, sizeof back, 70000), 0);
    ck_assert_mem_eq(back, bytes, sizeof bytes);
    ck_assert_int_ne(nbd_disk_read(disk, back, 512, nbd_disk_size(disk)), 0);
    nbd_disk_free(disk);
}
END_TEST

START_TEST(forgotten)
{
    uint8_t bytes[512] = { 1, 2, 3 }, back[512];
    if (!has_tools())
        return;
    image_make("qcow2");
    NbdDisk *disk = nbd_disk_open(image, "qcow2", false, true, NULL);
    ck_assert_ptr_nonnull(disk);
    ck_assert_int_eq(nbd_disk_write(disk, bytes, sizeof bytes, 0), 0);
    ck_assert_int_eq(nbd_disk_read(disk, back, sizeof back, 0), 0);
    ck_assert_mem_eq(back, bytes, sizeof bytes);
    ck_assert_int_eq(nbd_disk_zero(disk, 0, 512), 0);
    ck_assert_int_eq(nbd_disk_read(disk, back, sizeof back, 0), 0);
    ck_assert_uint_eq(back[0], 0);
    nbd_disk_free(disk);
}
END_TEST

START_TEST(refused)
{
    g_autoptr(GError) wrong = NULL, missing = NULL, no_program = NULL;
    ck_assert_ptr_null(nbd_disk_open("/nonexistent", "qcow2", false, false, &missing));
    ck_assert(g_error_matches(missing, VMM_ERROR, VMM_ERROR_USAGE));
    if (has_tools()) {
        image_make("qcow2");
        ck_assert_ptr_null(nbd_disk_open(image, "vdi", false, false, &wrong));
        ck_assert_msg(strstr(wrong->message, "as vdi: ") != NULL, "%s", wrong->message);
    }
    ck_assert(g_file_set_contents(image, "", 0, NULL));
    g_setenv("PATH", folder, TRUE);
    ck_assert_ptr_null(nbd_disk_open(image, "qcow2", false, false, &no_program));
    ck_assert(g_error_matches(no_program, VMM_ERROR, VMM_ERROR_HOST));
    ck_assert_msg(strstr(no_program->message, "qemu-utils") != NULL, "%s", no_program->message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nbd-disk");
    TCase *tcase = tcase_create("nbd-disk");
    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, written_and_read, 0, G_N_ELEMENTS(formats));
    tcase_add_test(tcase, forgotten);
    tcase_add_test(tcase, refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
