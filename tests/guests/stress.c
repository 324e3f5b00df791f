/*
 * What several processors can get wrong, for a guest with -smp: threads that share a lock word, a counter, code and pages, and processes
 * that come and go.  `stress SECONDS` prints a line for each kind with its rounds, "wrong" where a check failed, and ends with status 0 when
 * none did; `stress spin THREADS MILLIONS` prints the CPU time that a fixed amount of work took, and the time on the clock.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NTHREADS 6
#define PAGE 4096u

static atomic_bool is_over;
static atomic_ulong nwrong;

static void wrong(const char *what)
{
    atomic_fetch_add(&nwrong, 1);
    printf("STRESS wrong: %s\n", what);
}

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* --- a mutex (futexes when it is contended) and what it guards; an atomic counter --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long guarded[2];
static atomic_ulong counted;
static __thread unsigned long mine;

static void lock_round(void)
{
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&mutex);
        if (guarded[0] != guarded[1])
            wrong("two words under one lock differ");
        guarded[0]++;
        guarded[1]++;
        pthread_mutex_unlock(&mutex);
        atomic_fetch_add(&counted, 1);
        mine++;
    }
}

/* --- code that all write in turn and all execute: mov eax, imm32; ret --- */

static uint8_t *code;
static pthread_rwlock_t code_lock = PTHREAD_RWLOCK_INITIALIZER;
static uint32_t code_value;

static void serialize(void)
{
    uint32_t a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d) : : "memory");
}

static void code_round(void)
{
    for (int i = 0; i < 50; i++) {
        pthread_rwlock_wrlock(&code_lock);
        code_value++;
        memcpy(code + 1, &code_value, 4);
        pthread_rwlock_unlock(&code_lock);
        for (int k = 0; k < 4; k++) {
            pthread_rwlock_rdlock(&code_lock);
            serialize();
            uint32_t seen = ((uint32_t(*)(void))(void *)code)();
            if (seen != code_value)
                wrong("old code was executed");
            pthread_rwlock_unlock(&code_lock);
        }
    }
}

/* --- pages that come, change their rights and go: TLB shoot-down --- */

static void pages_round(void)
{
    enum { NPAGES = 16 };
    uint8_t *pages = mmap(NULL, NPAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return;
    for (unsigned i = 0; i < NPAGES; i++) {
        if (pages[i * PAGE])
            wrong("a fresh page is not zero");
        memset(pages + i * PAGE, 1 + (int)i, PAGE);
    }
    mprotect(pages, NPAGES * PAGE, PROT_READ);
    for (unsigned i = 0; i < NPAGES; i++)
        if (pages[i * PAGE + 5] != 1 + i)
            wrong("a page has another's bytes");
    mprotect(pages, NPAGES * PAGE, PROT_READ | PROT_WRITE);
    madvise(pages, NPAGES / 2 * PAGE, MADV_DONTNEED);
    if (pages[3] != 0 || pages[NPAGES / 2 * PAGE] != 1 + NPAGES / 2)
        wrong("MADV_DONTNEED");
    munmap(pages, NPAGES * PAGE);
}

/* --- processes, in a process of their own: threads and fork do not mix --- */

static unsigned long fork_rounds(double until)
{
    unsigned long rounds = 0;
    unsigned char byte = 0;
    for (; now(CLOCK_MONOTONIC) < until; rounds++) {
        pid_t children[4];
        int ends[2];
        if (pipe(ends))
            return 0;
        for (int i = 0; i < 4; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                byte = (unsigned char)(i + 1);
                _exit(write(ends[1], &byte, 1) == 1 ? 10 + i : 1);
            }
        }
        int sum = 0, status;
        for (int i = 0; i < 4; i++) {
            if (children[i] < 0 || waitpid(children[i], &status, 0) < 0 || WEXITSTATUS(status) != 10 + i)
                wrong("a child's status");
            if (read(ends[0], &byte, 1) == 1)
                sum += byte;
        }
        if (sum != 10)
            wrong("what the children wrote");
        close(ends[0]);
        close(ends[1]);
    }
    return rounds;
}

static unsigned long totals[3];
static atomic_ulong mine_sum;

static void *worker(void *number)
{
    static void (*const rounds[])(void) = { lock_round, code_round, pages_round };
    unsigned long done[3] = { 0 };
    for (unsigned i = (unsigned)(uintptr_t)number; !is_over; i++) {
        rounds[i % 3]();
        done[i % 3]++;
    }
    pthread_mutex_lock(&mutex);
    for (unsigned i = 0; i < 3; i++)
        totals[i] += done[i];
    pthread_mutex_unlock(&mutex);
    atomic_fetch_add(&mine_sum, mine);
    return NULL;
}

static void *spin(void *rounds)
{
    uint64_t x = 88172645463325252u;
    for (uint64_t i = 0; i < (uintptr_t)rounds; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return (void *)(uintptr_t)x;
}

static int spin_main(int nthreads, uintptr_t rounds)
{
    pthread_t threads[16];
    double start = now(CLOCK_MONOTONIC);
    for (int i = 0; i < nthreads && i < 16; i++)
        pthread_create(&threads[i], NULL, spin, (void *)rounds);
    void *result;
    for (int i = 0; i < nthreads && i < 16; i++)
        pthread_join(threads[i], &result);
    printf("SPIN %d threads: %.3f s, %.3f s of CPU, %#lx\n", nthreads, now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID),
           (unsigned long)(uintptr_t)result);
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && !strcmp(argv[1], "spin"))
        return spin_main(atoi(argv[2]), (uintptr_t)atoi(argv[3]) * 1000000u);
    double seconds = argc > 1 ? atof(argv[1]) : 10, until = now(CLOCK_MONOTONIC) + seconds;
    pid_t forker = fork();
    if (forker == 0) {
        unsigned long rounds = fork_rounds(until);
        printf("STRESS fork: %lu rounds\n", rounds);
        _exit(nwrong ? 1 : 0);
    }
    code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, "\xb8\0\0\0\0\xc3", 6);
    pthread_t threads[NTHREADS];
    for (uintptr_t i = 0; i < NTHREADS; i++)
        pthread_create(&threads[i], NULL, worker, (void *)i);
    while (now(CLOCK_MONOTONIC) < until)
        usleep(100000);
    is_over = true;
    for (int i = 0; i < NTHREADS; i++)
        pthread_join(threads[i], NULL);
    int status = 1;
    if (waitpid(forker, &status, 0) < 0 || status)
        wrong("the forking process");
    if (counted != guarded[0] || counted != mine_sum)
        wrong("an increment was lost");
    printf("STRESS locks: %lu rounds, code: %lu rounds, pages: %lu rounds\n", totals[0], totals[1], totals[2]);
    printf("STRESS %s on %ld processors\n", nwrong ? "FAILED" : "passed", sysconf(_SC_NPROCESSORS_ONLN));
    return nwrong ? 1 : 0;
}
