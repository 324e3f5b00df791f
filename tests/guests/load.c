/*
 * A guest's load for the tests of switching: checksums over memory in integer, SSE and x87 arithmetic, a disk that is read, written and compared,
 * clocks that must never go back, processes that come and go as in a compile, and lines on the console whose numbers must be complete.  Every
 * process prints whole lines; all but the "tick" lines are the same in every run.  Statically linked, 32 or 64 bits.
 *
 *   load ROUNDS [DISK]    ends sooner when there is input on the console
 *   load stage SEED       one program of the pipelines
 *   load sum|proc ROUNDS  these lines alone
 *   load watch            outside: copies standard input, and says at its end how the clock of the ticks ran against this one
 */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (1u << 19)
#define BLOCK 4096u
#define TICK_NS 20000000

static void say(const char *format, ...)
{
    char line[160];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    line[n++] = '\n';
    if (write(1, line, (size_t)n) != n)
        _exit(3);
}

static int is_asked_to_end(void)
{
    struct pollfd input = { .fd = 0, .events = POLLIN };
    return isatty(0) && poll(&input, 1, 0) == 1 && input.revents & POLLIN;
}

/* --- arithmetic over memory --- */

static void compute(unsigned rounds)
{
    uint32_t *words = malloc(BUFFER);
    for (unsigned round = 0; round < rounds && !is_asked_to_end(); round++) {
        uint32_t x = round * 2654435761u + 1;
        for (unsigned i = 0; i < BUFFER / 4; i++) {
            x = x * 1664525u + 1013904223u;
            words[i] = x;
        }
        uint64_t hash = 14695981039346656037u;
        double sum = 0;
        long double x87 = 1;
        for (unsigned pass = 0; pass < 2; pass++)
            for (unsigned i = 0; i < BUFFER / 4; i++) {
                uint32_t *word = &words[(i * 4099u) % (BUFFER / 4)];
                hash = (hash ^ *word) * 1099511628211u;
                sum += (double)*word / 3.0;
                if (i % 16 == 0)
                    x87 = x87 / 3 + *word;
                *word = (*word << 7 | *word >> 25) + i;
            }
        say("sum %u %016llx %.6e %.6Le", round, (unsigned long long)hash, sum, x87);
    }
}

/* --- clocks --- */

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint64_t tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void clocks(volatile int *ends)
{
    int64_t last = now_ns(CLOCK_MONOTONIC), last_real = now_ns(CLOCK_REALTIME), tick = 0;
    uint64_t last_tsc = tsc();
    unsigned wrong = 0;
    while (!*ends && wrong < 20) {
        for (unsigned i = 0; i < 500; i++) {
            int64_t now = now_ns(CLOCK_MONOTONIC), real = now_ns(CLOCK_REALTIME);
            uint64_t count = tsc();
            if (now < last || real < last_real || count < last_tsc) {
                say("WRONG: a clock went back: monotonic %lld, real %lld, tsc %lld", (long long)(now - last),
                    (long long)(real - last_real), (long long)(count - last_tsc));
                wrong++;
            }
            if (now - tick > TICK_NS)
                say("tick %lld", (long long)(tick = now));
            last = now;
            last_real = real;
            last_tsc = count;
        }
        int64_t before = now_ns(CLOCK_MONOTONIC);
        nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
        if (now_ns(CLOCK_MONOTONIC) - before < 3000000) {
            say("WRONG: a sleep of 3 ms took %lld ns", (long long)(now_ns(CLOCK_MONOTONIC) - before));
            wrong++;
        }
    }
}

/* --- disk --- */

static void pattern(uint32_t *block, unsigned at, unsigned generation)
{
    for (unsigned i = 0; i < BLOCK / 4; i++)
        block[i] = (at * 31 + i) * 2246822519u ^ generation;
}

static void disk(const char *path, unsigned rounds)
{
    int fd = open(path, O_RDWR | O_DIRECT);
    void *seen = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *wanted = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fd < 0) {
        say("WRONG: %s cannot be opened", path);
        return;
    }
    for (unsigned round = 0; round < rounds && !is_asked_to_end(); round++) {
        unsigned wrong = 0;
        for (unsigned at = 0; at < 32; at++) {
            pattern(wanted, at, round);
            if (pwrite(fd, wanted, BLOCK, (off_t)at * BLOCK) != (ssize_t)BLOCK)
                wrong++;
        }
        for (unsigned at = 0; at < 32; at++) {
            pattern(wanted, at, round);
            memset(seen, 0, BLOCK);
            if (pread(fd, seen, BLOCK, (off_t)at * BLOCK) != (ssize_t)BLOCK || memcmp(seen, wanted, BLOCK) != 0)
                wrong++;
        }
        say(wrong ? "WRONG: disk round %u: %u blocks" : "disk %u", round, wrong);
    }
}

/* --- processes: what a compile does to a system, without a compiler --- */

#define STAGES 3
#define BATCH 8 /* pipelines a line */

static uint32_t mix(uint32_t x) { return (x ^ x >> 15) * 2246822519u + 3266489917u; }

/* Reads standard input to its end, writes as many bytes of another look.  Touches new memory, as a program that starts does. */
static int stage(uint32_t seed)
{
    unsigned char *bytes = malloc(BUFFER);
    size_t n = 0;
    ssize_t got;
    memset(bytes, (int)seed, BUFFER);
    while ((got = read(0, bytes + n, BUFFER - n)) > 0)
        n += (size_t)got;
    for (size_t i = 0; i < n; i++)
        bytes[i] ^= (unsigned char)(seed = mix(seed));
    for (size_t at = 0; at < n; at += (size_t)got)
        if ((got = write(1, bytes + at, n - at)) <= 0)
            return 1;
    return 0;
}

/* load stage | load stage | load stage.  Returns: a hash of what comes out, 0 when a program failed. */
static uint32_t pipeline(uint32_t seed)
{
    int in[2], out[2], status;
    pid_t pids[STAGES];
    unsigned char bytes[BLOCK / 2];
    uint32_t hash = seed;
    if (pipe(in) != 0)
        return 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(seed + i);
    int from = in[0], first = in[1];
    for (unsigned i = 0; i < STAGES; i++) {
        if (pipe(out) != 0)
            return 0;
        pids[i] = fork();
        if (pids[i] == 0) {
            char number[16];
            snprintf(number, sizeof number, "%u", seed + i);
            dup2(from, 0);
            dup2(out[1], 1);
            close(first);
            close(out[0]);
            execl("/proc/self/exe", "load", "stage", number, NULL);
            _exit(9);
        }
        close(from);
        close(out[1]);
        from = out[0];
    }
    bool is_ok = write(first, bytes, sizeof bytes) == (ssize_t)sizeof bytes;
    close(first);
    for (ssize_t got; (got = read(from, bytes, sizeof bytes)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            hash = mix(hash ^ bytes[i]);
    close(from);
    for (unsigned i = 0; i < STAGES; i++)
        is_ok &= pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i] && status == 0;
    return is_ok ? hash | 1 : 0;
}

static void processes(unsigned rounds)
{
    for (unsigned round = 0; round < rounds && !is_asked_to_end(); round++) {
        uint32_t hash = 0, one = 1;
        for (unsigned i = 0; i < BATCH && one; i++)
            hash = mix(hash ^ (one = pipeline(round * BATCH + i)));
        say(one ? "proc %u %08x" : "WRONG: a program of pipelines %u failed (%u)", round, hash);
    }
}

/* --- outside --- */

/* A line is never early, so the least lateness of many is what counts: of the first quarter and of the last. */
#define QUARTER 30 /* ticks, at least */
static void watch(void)
{
    static int64_t lateness[100000];
    static char line[4096];
    unsigned count = 0;
    int64_t first = 0, last = 0;
    while (fgets(line, sizeof line, stdin)) {
        long long tick;
        if (sscanf(line, "tick %lld", &tick) == 1 && count < sizeof lateness / sizeof lateness[0]) {
            last = now_ns(CLOCK_MONOTONIC);
            first = count ? first : last;
            lateness[count++] = last - tick;
        }
        fputs(line, stdout);
        fflush(stdout);
    }
    int64_t least[2] = { INT64_MAX, INT64_MAX };
    for (unsigned i = 0; i < count / 4 * 4; i++) {
        int64_t *part = i < count / 4 ? &least[0] : i >= count / 4 * 3 ? &least[1] : NULL;
        if (part && lateness[i] < *part)
            *part = lateness[i];
    }
    if (count < 4 * QUARTER)
        printf("clock: %u ticks, too few to tell\n", count);
    else
        printf("clock: %u ticks, moved %.1f ms in %.0f s\n", count, (double)(least[1] - least[0]) / 1e6, (double)(last - first) / 1e9);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "watch")) {
        watch();
        return 0;
    }
    if (argc > 2 && !strcmp(argv[1], "stage"))
        return stage((uint32_t)strtoul(argv[2], NULL, 10));
    if (argc > 2 && (!strcmp(argv[1], "sum") || !strcmp(argv[1], "proc"))) {
        (argv[1][0] == 's' ? compute : processes)((unsigned)atoi(argv[2]));
        return 0;
    }
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 10;
    volatile int *ends = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t clock_pid = fork(), pids[3];
    if (clock_pid == 0) {
        clocks(ends);
        _exit(0);
    }
    pids[0] = fork();
    if (pids[0] == 0) {
        compute(rounds);
        _exit(0);
    }
    pids[1] = argc > 2 ? fork() : -1;
    if (pids[1] == 0) {
        disk(argv[2], rounds);
        _exit(0);
    }
    pids[2] = fork();
    if (pids[2] == 0) {
        processes(rounds);
        _exit(0);
    }
    for (unsigned i = 0; i < 3; i++)
        if (pids[i] > 0)
            waitpid(pids[i], NULL, 0);
    *ends = 1;
    waitpid(clock_pid, NULL, 0);
    say("load: end");
    return 0;
}
