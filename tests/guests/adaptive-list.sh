#!/bin/sh
# A guest of phases that favour different modes (subprojects/guestkit/phases.c), in each mode and under monitor.adaptive; see docs/adaptive.md.
#   scripts/kvm-lab amd --time 900 --file tests/guests/adaptive-list.sh -- sh adaptive-list.sh compute=40,tables=10,tpr=10,rounds=2 [MODE…]
# Plain sh: the emulated host has busybox only. Prints the seconds of each; ends with 1 when adaptive took more than 1.05 times the best.
words=${1:-compute=40,tables=10,tpr=10,rounds=2}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- bt hwmmu adaptive
PATH=$PATH:.
tmp=${TMPDIR:-/tmp}
best=

for mode in "$@"; do
    option="-accel $mode"
    [ "$mode" != adaptive ] || option='-accel bt:hwmmu -machine adaptive=on'
    read -r start rest </proc/uptime
    # shellcheck disable=SC2086
    timeout -s KILL 600 segue $option -m 64 -display none -no-reboot -serial stdio -monitor none -d switch -D "$tmp/switches" \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel guests/phases -append "$words" </dev/null >"$tmp/serial" 2>&1
    status=$?
    read -r end rest </proc/uptime
    hundredths=$(echo "$start $end" | awk '{ printf "%d", ($2 - $1) * 100 }')
    echo "$mode: $hundredths hundredths of a second, status $status"
    cat "$tmp/serial"
    [ "$mode" != adaptive ] || cat "$tmp/switches"
    [ $status -eq 1 ] && grep -q '^phases done' "$tmp/serial" || exit 1
    if [ "$mode" = adaptive ]; then
        [ -z "$best" ] || [ "$hundredths" -le $((best * 105 / 100)) ] || { echo "adaptive is slower than the best mode, $best"; exit 1; }
    elif [ -z "$best" ] || [ "$hundredths" -lt "$best" ]; then
        best=$hundredths
    fi
done
