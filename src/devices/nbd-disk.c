#include "devices/nbd-disk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "devices/nbd-library.h"

#define PROGRAM       "qemu-nbd"
#define PACKAGE       "qemu-utils"
#define LISTEN_FD     3                /* where systemd's protocol has the socket */
#define TRANSFER_MAX  (UINT64_C(1) << 20) /* bytes a request */
#define ZERO_MAX      (UINT64_C(1) << 30)

struct NbdDisk {
    const NbdLibrary *library;
    struct nbd_handle *nbd;
    char *path;
    pid_t pid;
    int complaints; /* qemu-nbd's stderr */
    uint64_t size;
    bool can_flush, can_zero;
    bool has_told; /* that qemu-nbd is gone */
};

/* --- starting qemu-nbd --- */

/* Two ends of a socket: one that listens, one that is connected to it.  False with errno. */
static bool socket_make(int *out_listening, int *out_connected)
{
    g_autofree char *folder = g_dir_make_tmp("segue-nbd-XXXXXX", NULL);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (!folder)
        return false;
    *out_listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    bool is_ok = *out_listening >= 0 && length < (int)sizeof address.sun_path;
    if (is_ok && bind(*out_listening, (struct sockaddr *)&address, sizeof address) == 0 && listen(*out_listening, 1) == 0) {
        *out_connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        is_ok = *out_connected >= 0 && connect(*out_connected, (struct sockaddr *)&address, sizeof address) == 0;
    } else {
        is_ok = false;
    }
    int cause = errno;
    if (length < (int)sizeof address.sun_path)
        unlink(address.sun_path);
    rmdir(folder);
    errno = cause;
    return is_ok;
}

/* Between fork and exec: no allocation.  @pid_text is inside an entry of @environment. */
static void child_run(const char *program, char **argv, char **environment, char *pid_text, size_t pid_size, int listening, int complaints,
                      pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* a Ctrl-C for the guest is none for its disk */
    snprintf(pid_text, pid_size, "%d", (int)getpid());
    int null = open("/dev/null", O_RDWR);
    int spare = fcntl(listening, F_DUPFD, LISTEN_FD + 1);
    if (null < 0 || spare < 0 || dup2(complaints, STDERR_FILENO) < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(spare, LISTEN_FD) < 0)
        _exit(127);
    close_range(LISTEN_FD + 1, ~0u, 0);
    execve(program, argv, environment);
    _exit(127);
}

static pid_t spawn(const char *program, char **argv, int listening, int complaints)
{
    static char pid_entry[32] = "LISTEN_PID=";
    g_auto(GStrv) inherited = g_environ_unsetenv(g_environ_setenv(g_get_environ(), "LISTEN_FDS", "1", TRUE), "LISTEN_PID");
    guint count = g_strv_length(inherited);
    g_autofree char **environment = g_new0(char *, count + 2);
    memcpy(environment, inherited, count * sizeof *environment);
    environment[count] = pid_entry;
    size_t skip = strlen("LISTEN_PID=");
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        child_run(program, argv, environment, pid_entry + skip, sizeof pid_entry - skip, listening, complaints, parent);
    return pid;
}

/* What qemu-nbd said last, without its name and on one line (transfer full); NULL when nothing. */
static char *complaint_read(int fd)
{
    char text[1024];
    ssize_t size = read(fd, text, sizeof text - 1);
    if (size <= 0)
        return NULL;
    text[size] = 0;
    const char *start = g_str_has_prefix(text, PROGRAM ": ") ? text + strlen(PROGRAM ": ") : text;
    return g_strdelimit(g_strchomp(g_utf8_make_valid(start, -1)), "\n", ' ');
}

static gboolean host_fail(GError **error, const char *path, const char *what, int cause)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "disk image %s: %s: %s", path, what, g_strerror(cause));
    return FALSE;
}

static gboolean start(NbdDisk *disk, const char *format, bool is_read_only, bool is_snapshot, int *out_socket, GError **error)
{
    g_autofree char *program = g_find_program_in_path(PROGRAM), *format_option = g_strdup_printf("--format=%s", format);
    int listening = -1, complaints[2];
    if (!program) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "disk image %s: format %s needs the program " PROGRAM "; install the Debian package " PACKAGE,
                    disk->path, format);
        return FALSE;
    }
    if (pipe2(complaints, O_CLOEXEC) < 0)
        return host_fail(error, disk->path, "cannot make a pipe", errno);
    disk->complaints = complaints[0];
    bool is_ok = socket_make(&listening, out_socket);
    int cause = errno;
    char *argv[] = { (char *)PROGRAM, format_option, (char *)"--discard=unmap", (char *)(is_read_only ? "--read-only" : is_snapshot ? "--snapshot" : "--"),
                     disk->path, NULL };
    g_autofree char *absolute = g_canonicalize_filename(disk->path, NULL); /* never an option, nor a protocol's name */
    argv[4] = absolute;
    if (is_ok) {
        disk->pid = spawn(program, argv, listening, complaints[1]);
        cause = errno;
        is_ok = disk->pid > 0;
    }
    close(complaints[1]);
    if (listening >= 0)
        close(listening);
    return is_ok ? TRUE : host_fail(error, disk->path, "cannot start " PROGRAM, cause);
}

NbdDisk *nbd_disk_open(const char *path, const char *format, bool is_read_only, bool is_snapshot, GError **error)
{
    g_autoptr(NbdDisk) disk = g_new0(NbdDisk, 1);
    int connection = -1;
    disk->complaints = -1;
    disk->path = g_strdup(path);
    if (access(path, R_OK) < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "cannot open disk image %s: %s", path, g_strerror(errno));
        return NULL;
    }
    disk->library = nbd_library(error);
    if (!disk->library)
        return NULL;
    if (!start(disk, format, is_read_only, is_snapshot, &connection, error)) {
        if (connection >= 0)
            close(connection);
        return NULL;
    }
    disk->nbd = disk->library->create();
    int64_t size = -1;
    if (!disk->nbd)
        close(connection);
    else if (disk->library->connect_socket(disk->nbd, connection) == 0)
        size = disk->library->get_size(disk->nbd);
    if (size < 0) {
        g_autofree char *complaint = complaint_read(disk->complaints);
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "cannot open disk image %s as %s: %s", path, format,
                    complaint ? complaint : disk->library->get_error() ? disk->library->get_error() : PROGRAM " ended");
        return NULL;
    }
    fcntl(disk->complaints, F_SETFL, O_NONBLOCK);
    disk->size = (uint64_t)size;
    disk->can_flush = disk->library->can_flush(disk->nbd) == 1;
    disk->can_zero = disk->library->can_zero(disk->nbd) == 1;
    return g_steal_pointer(&disk);
}

void nbd_disk_free(NbdDisk *disk)
{
    if (!disk)
        return;
    if (disk->nbd) {
        if (disk->size && !disk->library->aio_is_dead(disk->nbd))
            disk->library->shutdown(disk->nbd, 0);
        disk->library->close(disk->nbd);
    }
    if (disk->pid > 0)
        while (waitpid(disk->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    if (disk->complaints >= 0)
        close(disk->complaints);
    g_free(disk->path);
    g_free(disk);
}

/* --- requests --- */

static int outcome(NbdDisk *disk, int result)
{
    if (result == 0)
        return 0;
    int cause = disk->library->get_errno();
    if ((disk->library->aio_is_dead(disk->nbd) || disk->library->aio_is_closed(disk->nbd)) && !disk->has_told) {
        g_autofree char *complaint = complaint_read(disk->complaints);
        disk->has_told = true;
        g_warning("disk image %s: " PROGRAM " has ended%s%s; the guest gets errors from this disk", disk->path, complaint ? ": " : "",
                  complaint ? complaint : "");
    }
    return cause ? cause : EIO;
}

uint64_t nbd_disk_size(const NbdDisk *disk) { return disk->size; }

int nbd_disk_read(NbdDisk *disk, void *out_bytes, uint64_t size, uint64_t offset)
{
    int status = 0;
    for (uint64_t at = 0; at < size && status == 0; at += TRANSFER_MAX)
        status = outcome(disk, disk->library->pread(disk->nbd, (uint8_t *)out_bytes + at, MIN(size - at, TRANSFER_MAX), offset + at, 0));
    return status;
}

int nbd_disk_write(NbdDisk *disk, const void *bytes, uint64_t size, uint64_t offset)
{
    int status = 0;
    for (uint64_t at = 0; at < size && status == 0; at += TRANSFER_MAX)
        status = outcome(disk, disk->library->pwrite(disk->nbd, (const uint8_t *)bytes + at, MIN(size - at, TRANSFER_MAX), offset + at, 0));
    return status;
}

int nbd_disk_zero(NbdDisk *disk, uint64_t offset, uint64_t size)
{
    int status = disk->can_zero ? 0 : ENOTSUP;
    for (uint64_t at = 0; at < size && status == 0; at += ZERO_MAX)
        status = outcome(disk, disk->library->zero(disk->nbd, MIN(size - at, ZERO_MAX), offset + at, 0));
    return status;
}

int nbd_disk_flush(NbdDisk *disk) { return disk->can_flush ? outcome(disk, disk->library->flush(disk->nbd, 0)) : 0; }
