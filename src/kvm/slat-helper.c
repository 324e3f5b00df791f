#include "kvm/slat-helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "kvm/slat.h"

#define ANSWER_MAX 1024
#define OK '+'
#define FAILED '-'

struct SlatHelper {
    pid_t pid;
    int fd;
};

/* The helper's whole life.  A packet in: '0' or '1'; a packet out: OK or FAILED, and the sentence. */
static void serve(int fd)
{
    char wish;
    while (recv(fd, &wish, 1, 0) == 1) {
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;
        gboolean is_ok = kvm_slat_set(wish == '1', &text, &error);
        g_autofree char *answer = g_strdup_printf("%c%s", is_ok ? OK : FAILED, is_ok ? text : error->message);
        send(fd, answer, MIN(strlen(answer), ANSWER_MAX), MSG_NOSIGNAL);
    }
}

static void child_main(int fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "segue-slat");
    if (getppid() != parent)
        _exit(0);
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C is for the monitor */
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    dup2(fd, 3);
    close_range(4, ~0u, 0);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    serve(3);
    _exit(0);
}

SlatHelper *slat_helper_new(void)
{
    if (geteuid() != 0 || !kvm_slat_can_change())
        return NULL;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return NULL;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        child_main(pair[1], parent);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return NULL;
    }
    SlatHelper *helper = g_new0(SlatHelper, 1);
    *helper = (SlatHelper){ .pid = pid, .fd = pair[0] };
    return helper;
}

void slat_helper_free(SlatHelper *helper)
{
    if (!helper)
        return;
    close(helper->fd); /* it ends; in the middle of a reload, after it */
    while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    g_free(helper);
}

static gboolean gone(GError **error)
{
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, "slat: the helper process that reloads KVM's module is gone");
    return FALSE;
}

gboolean slat_helper_ask(SlatHelper *helper, bool on, GError **error)
{
    char wish = on ? '1' : '0';
    return send(helper->fd, &wish, 1, MSG_NOSIGNAL) == 1 || gone(error);
}

int slat_helper_fd(const SlatHelper *helper) { return helper->fd; }

gboolean slat_helper_answer(SlatHelper *helper, GError **error)
{
    char answer[ANSWER_MAX + 1];
    ssize_t size;
    do
        size = recv(helper->fd, answer, ANSWER_MAX, 0);
    while (size < 0 && errno == EINTR);
    if (size <= 0)
        return gone(error);
    answer[size] = 0;
    if (answer[0] == OK)
        return TRUE;
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, g_strchomp(answer + 1));
    return FALSE;
}
