/* Back ends: nothing is lost in either direction, Ctrl-A does what the help says, sockets come and go. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/error.h"
#include "vm/chardev.h"

/* A front end that takes at most @room bytes at a time. */
typedef struct Sink {
    GString *text;
    size_t room;
    unsigned opened, breaks;
} Sink;

static size_t sink_receive(void *opaque, const uint8_t *bytes, size_t count)
{
    Sink *sink = opaque;
    size_t taken = MIN(count, sink->room);
    g_string_append_len(sink->text, (const char *)bytes, (gssize)taken);
    sink->room -= taken;
    return taken;
}

static void sink_opened(void *opaque) { ((Sink *)opaque)->opened++; }
static void sink_break(void *opaque) { ((Sink *)opaque)->breaks++; }

static void sink_attach(Sink *sink, Chardev *chardev, CharSlot slot, size_t room)
{
    *sink = (Sink){ .text = g_string_new(NULL), .room = room };
    chardev_set_front(chardev, slot,
                      &(CharFront){ .receive = sink_receive, .opened = sink_opened, .send_break = sink_break, .opaque = sink });
}

static bool quit_asked;
static void on_quit(void *opaque) { quit_asked = true; }

static void turn(void)
{
    for (int i = 0; i < 50; i++) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(200);
    }
}

static char *folder;
static void setup(void) { folder = g_dir_make_tmp("segue-chardev-XXXXXX", NULL); }
static void teardown(void)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
    g_free(folder);
}

static Chardev *server_new(const char *path, bool mux)
{
    CharConfig config = { .kind = CHAR_UNIX, .path = (char *)path, .server = true, .mux = mux };
    g_autoptr(GError) error = NULL;
    Chardev *chardev = chardev_new(&config, &(CharWires){ .quit = on_quit }, &error);
    ck_assert_msg(chardev != NULL, "%s", error ? error->message : "");
    return chardev;
}

static int client_new(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

START_TEST(file_gets_everything)
{
    g_autofree char *path = g_build_filename(folder, "out", NULL);
    CharConfig config = { .kind = CHAR_FILE, .path = path };
    Chardev *chardev = chardev_new(&config, NULL, NULL);
    chardev_start(chardev);
    for (int i = 0; i < 20000; i++)
        chardev_write(chardev, "0123456789", 10); /* beyond the buffer, without a main loop turning */
    chardev_free(chardev);
    g_autofree char *text = NULL;
    gsize size;
    ck_assert(g_file_get_contents(path, &text, &size, NULL));
    ck_assert_uint_eq(size, 200000);
}
END_TEST

START_TEST(input_waits_for_room)
{
    g_autofree char *path = g_build_filename(folder, "s", NULL);
    Chardev *chardev = server_new(path, false);
    Sink sink;
    sink_attach(&sink, chardev, CHAR_SLOT_GUEST, 3);
    chardev_start(chardev);
    int fd = client_new(path);
    char big[20000];
    memset(big, 'k', sizeof big);
    ck_assert_int_eq(write(fd, big, sizeof big), sizeof big);
    turn();
    ck_assert_uint_eq(sink.text->len, 3);
    while (sink.text->len < sizeof big) {
        size_t before = sink.text->len;
        sink.room = 1000;
        chardev_ready(chardev);
        turn();
        ck_assert_uint_gt(sink.text->len, before);
    }
    ck_assert_uint_eq(sink.text->len, sizeof big);
    close(fd);
    chardev_free(chardev);
    g_string_free(sink.text, TRUE);
    ck_assert_int_ne(access(path, F_OK), 0); /* removed */
}
END_TEST

START_TEST(peer_comes_back)
{
    g_autofree char *path = g_build_filename(folder, "s", NULL);
    Chardev *chardev = server_new(path, false);
    Sink sink;
    sink_attach(&sink, chardev, CHAR_SLOT_GUEST, 100);
    chardev_start(chardev);
    chardev_write(chardev, "lost", 4); /* nobody is there */
    for (int i = 0; i < 3; i++) {
        int fd = client_new(path);
        ck_assert_int_eq(write(fd, "x", 1), 1);
        turn();
        chardev_write(chardev, "y", 1);
        turn();
        char c[8];
        ck_assert_int_eq(read(fd, c, sizeof c), 1);
        ck_assert_int_eq(c[0], 'y');
        close(fd);
        turn();
        chardev_write(chardev, "gone", 4);
        turn();
    }
    ck_assert_str_eq(sink.text->str, "xxx");
    ck_assert_uint_eq(sink.opened, 3);
    chardev_free(chardev);
    g_string_free(sink.text, TRUE);
}
END_TEST

START_TEST(control_a)
{
    g_autofree char *path = g_build_filename(folder, "s", NULL);
    Chardev *chardev = server_new(path, true);
    Sink guest, monitor;
    sink_attach(&guest, chardev, CHAR_SLOT_GUEST, 100);
    sink_attach(&monitor, chardev, CHAR_SLOT_MONITOR, 100);
    chardev_start(chardev);
    int fd = client_new(path);
    static const char keys[] = "ab\001\001c\001cinfo\001cd\001be\001zf\001";
    ck_assert_int_eq(write(fd, keys, sizeof keys - 1), sizeof keys - 1);
    turn();
    ck_assert_str_eq(guest.text->str, "ab\001cdezf");
    ck_assert_str_eq(monitor.text->str, "info");
    ck_assert_uint_eq(guest.breaks, 1);
    ck_assert(!quit_asked);
    ck_assert_int_eq(write(fd, "x", 1), 1); /* the Ctrl-A came in an earlier read */
    turn();
    ck_assert(quit_asked);
    close(fd);
    chardev_free(chardev);
    g_string_free(guest.text, TRUE);
    g_string_free(monitor.text, TRUE);
}
END_TEST

START_TEST(slow_reader_cannot_hold_the_end)
{
    g_autofree char *path = g_build_filename(folder, "s", NULL);
    Chardev *chardev = server_new(path, false);
    Sink sink;
    sink_attach(&sink, chardev, CHAR_SLOT_GUEST, 100);
    chardev_start(chardev);
    int fd = client_new(path);
    turn();
    chardev_cancel(chardev);
    char block[4096] = { 0 };
    for (int i = 0; i < 1000; i++)
        chardev_write(chardev, block, sizeof block); /* nobody reads: returns all the same */
    chardev_free(chardev);
    close(fd);
    g_string_free(sink.text, TRUE);
}
END_TEST

START_TEST(failures_name_the_path)
{
    g_autoptr(GError) error = NULL;
    CharConfig file = { .kind = CHAR_FILE, .path = (char *)"/nonexistent/x" };
    ck_assert_ptr_null(chardev_new(&file, NULL, &error));
    ck_assert(g_error_matches(error, VMM_ERROR, VMM_ERROR_USAGE));
    ck_assert_ptr_nonnull(strstr(error->message, "/nonexistent/x"));
    g_clear_error(&error);
    g_autofree char *longer = g_strnfill(200, 'a');
    CharConfig sock = { .kind = CHAR_UNIX, .path = longer, .server = true };
    ck_assert_ptr_null(chardev_new(&sock, NULL, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "longer than"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chardev");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, file_gets_everything);
    tcase_add_test(tcase, input_waits_for_room);
    tcase_add_test(tcase, peer_comes_back);
    tcase_add_test(tcase, control_a);
    tcase_add_test(tcase, slow_reader_cannot_hold_the_end);
    tcase_add_test(tcase, failures_name_the_path);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
