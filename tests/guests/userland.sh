#!/bin/bash
# Runs in the Debian guest and on the host; every line "name: value" must be the same in both.
# Lines that name a version are compared by their form only (see run.py).
export LC_ALL=C PYTHONHASHSEED=0
directory=$(mktemp -d)
cd "$directory" || exit 1

echo "bash: $(bash -lc 'a=(1 2 3); s=0; for i in {1..20000}; do s=$((s + i * a[i % 3])); done; echo $s')"
echo "apt-version: $(apt --version)"
echo "coreutils: $(seq 1 200000 | sort -R --random-source=/bin/bash | sort -n | sha256sum)"
echo "text: $(seq 1 50000 | sed 's/7/seven/g' | grep -c seven) $(seq 1 50000 | awk '{s += $1 * 3; if ($1 % 7 == 0) n++} END {print s, n}')"
echo "python: $(python3 -c '
import hashlib, json, math, re, decimal, struct, zlib, fractions
print(sum(i * i for i in range(200000)), math.sin(1e6), 2 ** 0.5, math.lgamma(7.3), 3 ** 200 % 1000007)
decimal.getcontext().prec = 60
print(decimal.Decimal(2).sqrt(), fractions.Fraction(355, 113) ** 5)
data = json.dumps({str(i): [i, i / 7, "x" * (i % 9)] for i in range(3000)})
print(hashlib.sha256(data.encode()).hexdigest(), hashlib.blake2b(data.encode()).hexdigest()[:32], zlib.crc32(data.encode()))
print(len(re.findall(r"x{3,5}", data)), struct.pack(">dfq", 1 / 3, 1 / 3, -7).hex())
print(sorted(range(1000), key=lambda i: (math.cos(i), i))[:10], "%.17g %.17g" % (math.exp(1), math.pi ** 20))
' | tr '\n' ' ')"
echo "openssl: $(seq 1 50000 | openssl enc -aes-256-cbc -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff -iv 0123456789abcdef0123456789abcdef | sha256sum)"
echo "chacha: $(seq 1 50000 | openssl enc -chacha20 -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff -iv 0123456789abcdef0123456789abcdef | openssl dgst -sha512 -r)"
echo "prime: $(openssl prime 170141183460469231731687303715884105727)"
openssl genrsa -out key.pem 2048 2>/dev/null && echo text > message && openssl dgst -sha256 -sign key.pem -out signature message &&
    openssl rsa -in key.pem -pubout -out public.pem 2>/dev/null
echo "rsa: $(openssl dgst -sha256 -verify public.pem -signature signature message)"
openssl speed -seconds 1 -bytes 1024 sha256 >speed 2>&1
echo "openssl-speed: $? $(grep -c '^sha256' speed)"
echo "xz: $(seq 1 100000 | xz -6 | xz -d | sha256sum)"
echo "zstd: $(seq 1 300000 | zstd -q -9 | zstd -q -d | sha256sum)"
cat >program.c <<'C'
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int compare(const void *a, const void *b) { return *(const int *) a - *(const int *) b; }
int main(void)
{
    double x = 0;
    long double y = 1;
    int numbers[1000];
    char text[200];
    for (int i = 1; i < 100000; i++) {
        x += sin(i) / sqrt(i);
        y *= 1 + 1.0L / ((long double) i * i);
    }
    for (int i = 0; i < 1000; i++) {
        numbers[i] = i * 7919 % 1009;
    }
    qsort(numbers, 1000, sizeof *numbers, compare);
    snprintf(text, sizeof text, "%.17g %.20Lg %d %d %a", x, y, numbers[10], numbers[990], x);
    printf("%s %zu\n", text, strlen(text));
    return 42;
}
C
gcc -O2 -o program program.c -lm 2>&1 && ./program >out
echo "gcc: $? $(cat out)"
gcc -O0 -o program0 program.c -lm && echo "gcc-O0: $(./program0)"
echo "threads: $(python3 -c '
import threading, queue
q, r = queue.Queue(), queue.Queue()
def work():
    while True:
        i = q.get()
        if i is None: return
        r.put(i * i)
ts = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in ts]
[q.put(i) for i in range(2000)]
[q.put(None) for t in ts]
[t.join() for t in ts]
print(sum(r.get() for _ in range(2000)))')"
cd / && rm -rf "$directory"
echo "end: yes"
