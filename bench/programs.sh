#!/bin/bash
# The whole programs scripts/bench runs in a Debian guest: Debian's own compiler, interpreter, compressors and cryptography, on real input.
# One name as argument; prints a line like bench/kernels.c does: name, iterations, seconds and a checksum that must be the same everywhere.
export LC_ALL=C PYTHONHASHSEED=0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
library=/usr/lib/x86_64-linux-gnu/libcrypto.so.3
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

run_gcc() { gcc -O2 -S -o - "$here/kernels.c"; }
run_python3() { python3 "$here/program.py"; }
run_xz() { head -c 1500000 "$library" | xz -6 -T1 | xz -d; }
run_zstd() { zstd -q -12 --single-thread -c "$library" | zstd -q -d -c; }
run_openssl() {
    local key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
    for _ in 1 2 3 4 5 6 7 8; do
        openssl enc -aes-256-ctr -K $key -iv 0123456789abcdef0123456789abcdef -in "$library" | openssl dgst -sha256 -r
        openssl enc -chacha20 -K $key -iv 0123456789abcdef0123456789abcdef -in "$library" | openssl dgst -sha512 -r
    done
    openssl prime -generate -bits 64 -hex >/dev/null && openssl prime 170141183460469231731687303715884105727
}

name=${1-}
declare -F "run_$name" >/dev/null || { echo "programs.sh: no program '$name'" >&2; exit 2; }
start=$EPOCHREALTIME
"run_$name" >result 2>&1 || exit 1
end=$EPOCHREALTIME
micros=$((${end/./} - ${start/./}))
sum=$(sha256sum <result)
printf 'BENCH %s 1 %d.%06d %s\n' "$name" $((micros / 1000000)) $((micros % 1000000)) "${sum:0:16}"
