/*
 * The programs scripts/bench runs on the host, under Segue and under QEMU: one static binary, one subcommand each.
 * A run prints one line: name, iterations, seconds (CLOCK_MONOTONIC) and a checksum that must be the same everywhere.
 * Sizes are chosen so that QEMU's TCG needs one to four seconds for each.
 */
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>

#define NOINLINE __attribute__((noinline))

typedef uint64_t (*KernelRun)(uint64_t iterations);

typedef struct {
    const char *name;
    const char *family; /* "compute", "float" or "system": which row of the target table applies */
    uint64_t iterations;
    KernelRun run;
} Kernel;

static const char *self_path;

static uint64_t
random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static uint64_t
checksum_bytes(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

static void *
buffer_new(size_t size)
{
    void *buffer = aligned_alloc(64, size);
    if (!buffer) {
        perror("aligned_alloc");
        exit(1);
    }
    memset(buffer, 0, size);
    return buffer;
}

/* ---- computing ---- */

static NOINLINE uint64_t
fib(uint64_t n)
{
    __asm__ volatile("" : "+r"(n));
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t
recursion_run(uint64_t iterations)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        sum += fib(27 + i % 3);
    }
    return sum;
}

static uint64_t
sieve_run(uint64_t iterations)
{
    enum { LIMIT = 1000000 };
    uint8_t *composite = buffer_new(LIMIT + 64 - LIMIT % 64);
    uint64_t count = 0;
    for (uint64_t round = 0; round < iterations; round++) {
        memset(composite, 0, LIMIT);
        for (uint32_t i = 2; i < LIMIT; i++) {
            if (composite[i]) {
                continue;
            }
            count += i ^ round;
            for (uint64_t j = (uint64_t) i * i; j < LIMIT; j += i) {
                composite[j] = 1;
            }
        }
    }
    free(composite);
    return count;
}

static inline uint32_t
rotate_right(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* The round constants are the fractional parts of cube roots of primes; computed once, in exact integer arithmetic. */
static void
sha256_constants(uint32_t k[64])
{
    int count = 0;
    for (uint32_t p = 2; count < 64; p++) {
        int is_prime = 1;
        for (uint32_t d = 2; d * d <= p; d++) {
            is_prime &= p % d != 0;
        }
        if (!is_prime) {
            continue;
        }
        /* floor(cbrt(p) * 2^32): the largest r with r^3 <= p * 2^96 */
        unsigned __int128 low = 0, high = (unsigned __int128) 8 << 32;
        while (high - low > 1) {
            unsigned __int128 mid = (low + high) / 2;
            unsigned __int128 square = mid * mid;
            /* compare mid^3 with p << 96 in 64-bit halves: square < 2^70, so divide instead of multiplying */
            unsigned __int128 bound = ((unsigned __int128) p << 96) / mid;
            if (square <= bound) {
                low = mid;
            } else {
                high = mid;
            }
        }
        k[count++] = (uint32_t) low;
    }
}

static NOINLINE void
sha256_block(uint32_t h[8], const uint32_t k[64], const uint8_t *data)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) {
        uint32_t word;
        memcpy(&word, data + 4 * i, 4);
        w[i] = __builtin_bswap32(word);
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate_right(a, 7) ^ rotate_right(a, 18) ^ a >> 3) +
               (rotate_right(b, 17) ^ rotate_right(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = s[4], a = s[0];
        uint32_t t1 = s[7] + (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) +
                      ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
        uint32_t t2 = (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) +
                      ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) {
        h[i] += s[i];
    }
}

static uint64_t
sha256_run(uint64_t iterations)
{
    uint32_t k[64], h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t data[4096];
    uint64_t seed = 88172645463325252u;
    sha256_constants(k);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t) random_next(&seed);
    }
    for (uint64_t i = 0; i < iterations; i++) {
        sha256_block(h, k, data + i % (sizeof data / 64) * 64);
    }
    return checksum_bytes(h, sizeof h);
}

static int
compare_words(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return (x > y) - (x < y);
}

static uint64_t
qsort_run(uint64_t iterations)
{
    enum { COUNT = 100000 };
    uint32_t *words = buffer_new(COUNT * sizeof *words);
    uint64_t seed = 2463534242u, sum = 0;
    for (uint64_t round = 0; round < iterations; round++) {
        for (int i = 0; i < COUNT; i++) {
            words[i] = (uint32_t) random_next(&seed);
        }
        qsort(words, COUNT, sizeof *words, compare_words);
        for (int i = 0; i < COUNT; i += 1000) {
            sum = sum * 31 + words[i];
        }
    }
    free(words);
    return sum;
}

typedef struct TreeNode {
    struct TreeNode *child[2];
    uint64_t key;
} TreeNode;

static uint64_t
tree_run(uint64_t iterations)
{
    enum { COUNT = 50000 };
    TreeNode *nodes = buffer_new(COUNT * sizeof *nodes + 64 - COUNT * sizeof *nodes % 64);
    uint64_t sum = 0;
    for (uint64_t round = 0; round < iterations; round++) {
        uint64_t seed = 88172645463325252u + round;
        TreeNode *root = NULL;
        for (int i = 0; i < COUNT; i++) {
            TreeNode **link = &root, *node = &nodes[i];
            *node = (TreeNode) {.key = random_next(&seed)};
            while (*link) {
                link = &(*link)->child[node->key > (*link)->key];
            }
            *link = node;
        }
        for (int i = 0; i < COUNT; i++) {
            uint64_t key = nodes[i].key ^ (uint64_t) (i & 1);
            const TreeNode *node = root;
            int depth = 0;
            while (node && node->key != key) {
                node = node->child[key > node->key];
                depth++;
            }
            sum += (uint64_t) depth * (node ? 3 : 1);
        }
    }
    free(nodes);
    return sum;
}

/* A stack machine with computed goto, running a loop of a linear congruential generator. */
static uint64_t
interpreter_run(uint64_t iterations)
{
    enum { OP_CONST, OP_LOAD, OP_STORE, OP_ADD, OP_MUL, OP_XOR, OP_SHIFT, OP_DECREMENT, OP_LOOP, OP_HALT };
    static const uint32_t program[] = {
        OP_LOAD, 0, OP_CONST, 1664525, OP_MUL, OP_CONST, 1013904223, OP_ADD, OP_STORE, 0,
        OP_LOAD, 1, OP_LOAD, 0, OP_SHIFT, 16, OP_XOR, OP_STORE, 1,
        OP_LOAD, 1, OP_CONST, 3, OP_ADD, OP_STORE, 1, OP_DECREMENT, 2, OP_LOOP, 2, 0, OP_HALT,
    };
    static const void *const labels[] = {
        &&op_const, &&op_load, &&op_store, &&op_add, &&op_mul, &&op_xor, &&op_shift, &&op_decrement, &&op_loop, &&op_halt,
    };
    uint64_t stack[16], *sp = stack, variables[3] = {1, 0, iterations};
    const uint32_t *pc = program;
#define NEXT() goto *labels[*pc++]
    NEXT();
op_const:
    *sp++ = *pc++;
    NEXT();
op_load:
    *sp++ = variables[*pc++];
    NEXT();
op_store:
    variables[*pc++] = *--sp;
    NEXT();
op_add:
    sp--;
    sp[-1] += *sp;
    NEXT();
op_mul:
    sp--;
    sp[-1] *= *sp;
    NEXT();
op_xor:
    sp--;
    sp[-1] ^= *sp;
    NEXT();
op_shift:
    sp[-1] >>= *pc++;
    NEXT();
op_decrement:
    variables[*pc++]--;
    NEXT();
op_loop:
    pc = variables[pc[0]] ? program + pc[1] : pc + 2;
    NEXT();
op_halt:
    return variables[0] ^ variables[1];
#undef NEXT
}

static uint64_t
strings_run(uint64_t iterations)
{
    enum { SIZE = 4096 };
    char *a = buffer_new(SIZE), *b = buffer_new(SIZE);
    uint64_t sum = 0;
    for (int i = 0; i < SIZE - 1; i++) {
        a[i] = (char) ('a' + i * 7 % 23);
    }
    for (uint64_t i = 0; i < iterations; i++) {
        size_t length = 100 + i * 37 % 3900;
        char saved = a[length];
        a[length] = '\0';
        strcpy(b, a);
        sum += strlen(b);
        sum += strcmp(a, b) == 0;
        char *found = memchr(b, 'z', length);
        sum += found ? (uint64_t) (found - b) : 1;
        b[length / 2] = 'Z';
        found = strchr(b, 'Z');
        sum += (uint64_t) (found - b);
        found = strstr(b + length / 2, "Zb");
        sum += found ? 1 : 2;
        sum += memcmp(a, b, length) < 0 ? 3 : 5;
        a[length] = saved;
    }
    free(a);
    free(b);
    return sum;
}

static uint64_t
memcpy_run(uint64_t iterations)
{
    enum { SIZE = 256 * 1024 };
    uint8_t *a = buffer_new(SIZE), *b = buffer_new(SIZE);
    for (int i = 0; i < SIZE; i++) {
        a[i] = (uint8_t) (i * 31 + (i >> 8));
    }
    for (uint64_t i = 0; i < iterations; i++) {
        size_t offset = i * 61 % 4096;
        memcpy(b, a + offset, SIZE - 4096);
        memcpy(a, b + offset, SIZE / 2);
        a[offset] ^= (uint8_t) i;
    }
    uint64_t sum = checksum_bytes(a, SIZE);
    free(a);
    free(b);
    return sum;
}

static uint64_t
chase_run(uint64_t iterations)
{
    enum { COUNT = 16 * 1024 * 1024 / 4 };
    uint32_t *next = buffer_new(COUNT * sizeof *next);
    uint64_t seed = 88172645463325252u;
    for (uint32_t i = 0; i < COUNT; i++) {
        next[i] = i;
    }
    for (uint32_t i = COUNT - 1; i > 0; i--) { /* one cycle through everything */
        uint32_t j = (uint32_t) (random_next(&seed) % i), swap = next[i];
        next[i] = next[j];
        next[j] = swap;
    }
    uint32_t at = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        at = next[at];
    }
    free(next);
    return at;
}

/* ---- floating point ---- */

typedef struct {
    double position[3], velocity[3], mass;
} Body;

static uint64_t
nbody_run(uint64_t iterations)
{
    enum { BODIES = 5 };
    Body bodies[BODIES];
    for (int i = 0; i < BODIES; i++) {
        bodies[i] = (Body) {
            .position = {i * 4.8 - 3.1 * (i & 1), 1.6 * i - i * i * 0.7, 0.1 * i},
            .velocity = {0.6 * (i & 1) - 0.2 * i, 0.9 - 0.3 * i, 0.02 * i},
            .mass = i ? 0.04 / i : 39.5,
        };
    }
    for (uint64_t step = 0; step < iterations; step++) {
        for (int i = 0; i < BODIES; i++) {
            for (int j = i + 1; j < BODIES; j++) {
                double d[3], square = 0.01;
                for (int c = 0; c < 3; c++) {
                    d[c] = bodies[i].position[c] - bodies[j].position[c];
                    square += d[c] * d[c];
                }
                double pull = 0.001 / (square * sqrt(square));
                for (int c = 0; c < 3; c++) {
                    bodies[i].velocity[c] -= d[c] * bodies[j].mass * pull;
                    bodies[j].velocity[c] += d[c] * bodies[i].mass * pull;
                }
            }
        }
        for (int i = 0; i < BODIES; i++) {
            for (int c = 0; c < 3; c++) {
                bodies[i].position[c] += 0.001 * bodies[i].velocity[c];
            }
        }
    }
    return checksum_bytes(bodies, sizeof bodies);
}

static uint64_t
matrix_run(uint64_t iterations)
{
    enum { N = 128 };
    float *a = buffer_new(N * N * 4), *b = buffer_new(N * N * 4), *c = buffer_new(N * N * 4);
    for (int i = 0; i < N * N; i++) {
        a[i] = (float) (i % 13) * 0.25f;
        b[i] = (float) (i % 7) * 0.5f;
    }
    for (uint64_t round = 0; round < iterations; round++) {
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j += 16) {
                __m128 sum[4] = {_mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps(), _mm_setzero_ps()};
                for (int k = 0; k < N; k++) {
                    __m128 factor = _mm_set1_ps(a[i * N + k]);
                    for (int v = 0; v < 4; v++) {
                        sum[v] = _mm_add_ps(sum[v], _mm_mul_ps(factor, _mm_load_ps(b + k * N + j + v * 4)));
                    }
                }
                for (int v = 0; v < 4; v++) {
                    _mm_store_ps(c + i * N + j + v * 4, sum[v]);
                }
            }
        }
        a[round % (N * N)] += 1.0f;
    }
    uint64_t result = checksum_bytes(c, N * N * 4);
    free(a);
    free(b);
    free(c);
    return result;
}

/* ---- code that changes ---- */

static uint64_t
smc_run(uint64_t iterations)
{
    static const uint8_t code[] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3}; /* lea eax, [rdi + imm32]; ret */
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    memcpy(page, code, sizeof code);
    uint32_t (*function)(uint32_t) = (uint32_t (*)(uint32_t)) (void *) page;
    uint32_t value = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        *(volatile uint32_t *) (page + 2) = (uint32_t) i;
        value = function(value) * 3;
    }
    munmap(page, 4096);
    return value;
}

/* ---- the kernel ---- */

static uint64_t
syscall_run(uint64_t iterations)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        sum += (uint64_t) (syscall(SYS_getppid) >= 0);
    }
    return sum;
}

static uint64_t
pagefault_run(uint64_t iterations)
{
    enum { PAGES = 256 };
    uint64_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        uint8_t *area = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) {
            perror("mmap");
            exit(1);
        }
        madvise(area, PAGES * 4096, MADV_NOHUGEPAGE);
        for (int page = 0; page < PAGES; page++) {
            area[page * 4096] = (uint8_t) page;
            sum += area[page * 4096 + 1] + area[page * 4096];
        }
        munmap(area, PAGES * 4096);
    }
    return sum;
}

static uint64_t
child_wait(pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        perror("fork");
        exit(1);
    }
    return (uint64_t) WEXITSTATUS(status);
}

static uint64_t
fork_run(uint64_t iterations)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            _exit((int) (i & 63));
        }
        sum += child_wait(pid);
    }
    return sum;
}

static uint64_t
exec_run(uint64_t iterations)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < iterations; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            execl(self_path, "kernels", "child", (char *) NULL);
            _exit(127);
        }
        sum += child_wait(pid);
    }
    return sum;
}

static uint64_t
pipe_run(uint64_t iterations)
{
    int there[2], back[2];
    uint64_t sum = 0;
    if (pipe(there) != 0 || pipe(back) != 0) {
        perror("pipe");
        exit(1);
    }
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t byte;
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte = (uint8_t) (byte * 3 + 1);
            if (write(back[1], &byte, 1) != 1) {
                _exit(1);
            }
        }
        _exit(0);
    }
    uint8_t byte = 1;
    for (uint64_t i = 0; i < iterations; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) {
            perror("pipe");
            exit(1);
        }
        sum += byte;
    }
    close(there[1]);
    return sum + child_wait(pid);
}

static const Kernel kernels[] = {
    {"recursion", "compute", 200, recursion_run},
    {"sieve", "compute", 200, sieve_run},
    {"sha256", "compute", 500000, sha256_run},
    {"qsort", "compute", 30, qsort_run},
    {"tree", "compute", 50, tree_run},
    {"interpreter", "compute", 10000000, interpreter_run},
    {"strings", "compute", 200000, strings_run},
    {"memcpy", "compute", 3000, memcpy_run},
    {"chase", "compute", 5000000, chase_run},
    {"nbody", "float", 1500000, nbody_run},
    {"matrix", "float", 100, matrix_run},
    {"smc", "compute", 200000, smc_run},
    {"syscall", "system", 2000000, syscall_run},
    {"pagefault", "system", 500, pagefault_run},
    {"fork", "system", 2000, fork_run},
    {"exec", "system", 400, exec_run},
    {"pipe", "system", 20000, pipe_run},
};

static double
seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    self_path = length > 0 ? path : argv[0];
    if (strcmp(name, "child") == 0) {
        return 7;
    }
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        const Kernel *kernel = &kernels[i];
        if (strcmp(name, "list") == 0) {
            puts(kernel->name);
        } else if (strcmp(name, "families") == 0) {
            printf("%s %s\n", kernel->name, kernel->family);
        } else if (strcmp(name, kernel->name) == 0) {
            uint64_t iterations = argc > 2 ? strtoull(argv[2], NULL, 0) : kernel->iterations;
            double start = seconds_now();
            uint64_t sum = kernel->run(iterations);
            double seconds = seconds_now() - start;
            printf("BENCH %s %llu %.6f %016llx\n", kernel->name, (unsigned long long) iterations, seconds,
                   (unsigned long long) sum);
            return 0;
        }
    }
    if (strcmp(name, "list") == 0 || strcmp(name, "families") == 0) {
        return 0;
    }
    fprintf(stderr, "kernels: no kernel '%s'; 'kernels list' names them\n", name);
    return 2;
}
