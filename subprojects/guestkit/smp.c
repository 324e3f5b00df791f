/*
 * Several processors over one memory. The number of them is the command line's only digits (default 2). All do locked
 * operations on the same cells, which lie in a cache line, across two and across two pages; then one writes code that the
 * others execute, as the SDM asks for it (3A 8.1.3, cross-modifying code): they serialize before they go there.
 */
#include "guest.h"

enum {
    MAX_CPUS = 16,
    ROUNDS = 20000,
    CODE_ROUNDS = 400,
    LAPIC_ICR_LOW = 0x300,
    ICR_INIT_OTHERS = 0xc4500,    /* INIT, assert, all but the sender */
    ICR_STARTUP_OTHERS = 0xc4608, /* start-up at 0x8000 */
    START_AT = 0x8000,
};

#define LAPIC 0xfee00000u

extern const uint8_t smp_start[], smp_start_end[];
volatile uint32_t smp_started;
uint8_t smp_stacks[(MAX_CPUS + 1) * 4096] __attribute__((aligned(4096)));
void smp_cpu(uint32_t id);

/* In a cache line, across two lines, across two pages: the cells of one place lie next to each other's page. */
static const struct {
    const char *name;
    uint32_t offset;
} places[] = {{"in a line", 64}, {"across lines", 4096 + 61}, {"across pages", 3 * 4096 - 3}};

enum { XADD, CMPXCHG, INC, ADD, BTC, XCHG, CMPXCHG8B, NKINDS };
static const char *const kinds[NKINDS] = {"XADD", "CMPXCHG", "INC", "ADD", "BTS and BTR", "XCHG", "CMPXCHG8B"};

static uint8_t cells[NKINDS][4 * 4096] __attribute__((aligned(4096)));
static uint32_t guarded[3];
static uint32_t ncpus = 2;
static volatile uint32_t arrived[64];
static volatile uint32_t code_round, code_wrong, code_answers;
static uint8_t code[2 * 4096] __attribute__((aligned(4096)));

static uint32_t
xadd(volatile void *at, uint32_t value)
{
    __asm__ volatile("lock xaddl %0, %1" : "+r"(value), "+m"(*(volatile uint32_t *) at) : : "memory", "cc");
    return value;
}

/* All processors have come to place @n of the program. */
static void
wait_for_all(uint32_t n)
{
    xadd(&arrived[n], 1);
    while (arrived[n] < ncpus) {
        __asm__ volatile("pause" : : : "memory");
    }
}

static uint8_t
compare_exchange(volatile uint32_t *at, uint32_t expected, uint32_t value)
{
    uint8_t done;
    __asm__ volatile("lock cmpxchgl %3, %1; sete %0" : "=q"(done), "+m"(*at), "+a"(expected) : "r"(value) : "memory", "cc");
    return done;
}

static void
add_64(volatile uint64_t *at, uint32_t value)
{
    uint32_t low = ((volatile uint32_t *) at)[0], high = ((volatile uint32_t *) at)[1];
    uint8_t done = 0;
    while (!done) {
        uint64_t sum = (((uint64_t) high << 32) | low) + value;
        __asm__ volatile("lock cmpxchg8b %1; sete %0"
                         : "=q"(done), "+m"(*at), "+a"(low), "+d"(high)
                         : "b"((uint32_t) sum), "c"((uint32_t) (sum >> 32))
                         : "memory", "cc");
    }
}

static void
one_round(uint32_t id, uint32_t place)
{
    volatile uint32_t *cell[NKINDS];
    for (uint32_t kind = 0; kind < NKINDS; kind++) {
        cell[kind] = (volatile uint32_t *) (cells[kind] + places[place].offset);
    }
    xadd(cell[XADD], 3);
    uint32_t seen = *cell[CMPXCHG];
    while (!compare_exchange(cell[CMPXCHG], seen, seen + 5)) {
        seen = *cell[CMPXCHG];
    }
    __asm__ volatile("lock incl %0" : "+m"(*cell[INC]) : : "memory", "cc");
    __asm__ volatile("lock addl %1, %0" : "+m"(*cell[ADD]) : "r"(id + 7) : "memory", "cc");
    /* Bit @id is this processor's own: set, found set, reset. */
    uint8_t was_set, was_reset;
    __asm__ volatile("lock btsl %2, %1; setc %0" : "=q"(was_set), "+m"(*cell[BTC]) : "r"(id) : "memory", "cc");
    __asm__ volatile("lock btrl %2, %1; setc %0" : "=q"(was_reset), "+m"(*cell[BTC]) : "r"(id) : "memory", "cc");
    if (was_set || !was_reset) {
        xadd(&code_wrong, 1);
    }
    /* XCHG as a lock around a sum that is not locked. */
    uint32_t taken = 1;
    for (;;) {
        __asm__ volatile("xchgl %0, %1" : "+r"(taken), "+m"(*cell[XCHG]) : : "memory");
        if (!taken) {
            break;
        }
        __asm__ volatile("pause" : : : "memory");
    }
    *(volatile uint32_t *) &guarded[place] += 1;
    __asm__ volatile("xchgl %0, %1" : "+r"(taken), "+m"(*cell[XCHG]) : : "memory");
    add_64((volatile uint64_t *) (uintptr_t) cell[CMPXCHG8B], 0x40000001);
}

/* mov eax, imm32; ret */
static uint32_t
call_code(const uint8_t *at)
{
    uint32_t value;
    __asm__ volatile("call *%1" : "=a"(value) : "r"(at) : "memory", "cc");
    return value;
}

static void
serialize(void)
{
    uint32_t a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d) : : "memory");
}

/* The code lies in a page, or its immediate over the end of one. */
static void
code_by_another(uint32_t id, uint8_t *at)
{
    for (uint32_t round = 1; round <= CODE_ROUNDS; round++) {
        if (id == 0) {
            at[0] = 0xb8;
            *(volatile uint32_t *) (at + 1) = round * 0x01010101;
            at[5] = 0xc3;
            __asm__ volatile("" : : : "memory");
            code_answers = 0;
            code_round = round;
        } else {
            while (code_round != round) {
                __asm__ volatile("pause" : : : "memory");
            }
            serialize();
        }
        if (call_code(at) != round * 0x01010101) {
            xadd(&code_wrong, 1);
        }
        xadd(&code_answers, 1);
        while (code_answers < ncpus && code_round == round) {
            __asm__ volatile("pause" : : : "memory");
        }
    }
}

void
smp_cpu(uint32_t id)
{
    uint32_t place = 0;
    for (; place < 3; place++) {
        wait_for_all(place);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            one_round(id, place);
        }
    }
    wait_for_all(place++);
    code_by_another(id, code + 16);
    wait_for_all(place++);
    if (id == 0) {
        code_round = 0;
    }
    wait_for_all(place++);
    code_by_another(id, code + 4096 - 3);
    wait_for_all(place);
}

static uint32_t failed;

static void
check(const char *what, const char *where, uint32_t is_right)
{
    print("%s %s: %s\n", what, where, is_right ? "ok" : "WRONG");
    failed += !is_right;
}

static void
check_sums(void)
{
    uint32_t rounds = ncpus * ROUNDS;
    for (uint32_t place = 0; place < 3; place++) {
        const char *where = places[place].name;
        for (uint32_t kind = 0; kind < NKINDS; kind++) {
            const uint32_t *cell = (const uint32_t *) (cells[kind] + places[place].offset);
            uint64_t sum = (uint64_t) rounds * 0x40000001;
            uint32_t expected[NKINDS] = {3 * rounds, 5 * rounds, rounds, 7 * rounds + ROUNDS * (ncpus * (ncpus - 1) / 2), 0, 0, (uint32_t) sum};
            uint32_t right = cell[0] == expected[kind];
            if (kind == CMPXCHG8B) {
                right &= cell[1] == (uint32_t) (sum >> 32);
            }
            if (kind == XCHG) {
                right &= guarded[place] == rounds;
            }
            check(kinds[kind], where, right);
        }
    }
}

static void
count_from(const char *text)
{
    uint32_t number = 0;
    for (; *text; text++) {
        if (*text >= '0' && *text <= '9') {
            number = number * 10 + (uint32_t) (*text - '0');
        } else if (*text == ' ') {
            number = 0; /* a loader may put the image's name first */
        }
    }
    if (number >= 1 && number <= MAX_CPUS) {
        ncpus = number;
    }
}

uint32_t
guest_main(uint32_t magic, const void *multiboot_info)
{
    const uint32_t *info = multiboot_info;
    volatile uint32_t *icr = (volatile uint32_t *) (LAPIC + LAPIC_ICR_LOW);
    serial_open();
    if (info[0] & 4) {
        count_from((const char *) info[4]);
    }
    memcpy((void *) START_AT, smp_start, (size_t) (smp_start_end - smp_start));
    *icr = ICR_INIT_OTHERS;
    for (uint32_t i = 0; i < 100000; i++) {
        __asm__ volatile("pause");
    }
    *icr = ICR_STARTUP_OTHERS;
    smp_cpu(0);
    print("%u processors\n", smp_started + 1);
    failed += smp_started + 1 != ncpus;
    check_sums();
    check("code written by another", "and own bits", code_wrong == 0);
    return failed;
}
