#!/bin/sh
# What scripts/test-lab runs about switching, on a host whose KVM module may be reloaded. Plain sh: the emulated host has busybox only.
#   switch-list.sh COUNT     so many switches, to modes chosen at random
# In the current directory: segue, vmlinuz, initrd, switching.cpio (tests/guests/load.c and what it needs, for the guest), load64.
# Prints one line a check, "ok NAME" or "FAILED NAME" with what was seen; ends with 1 when any failed.
count=$1
PATH=$PATH:.
tmp=${TMPDIR:-/tmp}
failed=0

report() { # STATUS NAME [FILE]
    if [ "$1" = 0 ]; then
        echo "ok $2"
    else
        echo "FAILED $2"
        [ -z "$3" ] || tail -n 60 "$3"
        failed=1
    fi
}

now() { cut -d ' ' -f 1 /proc/uptime; }

cat initrd switching.cpio >"$tmp/initrd"

# The guest runs until it is told to end, or has nothing left to do; meanwhile the monitor switches.
guest() { # NAME OPTION…
    rm -f "$tmp"/monitor.* "$tmp/input" "$tmp/serial" "$tmp/answers" "$tmp/switches"
    mkfifo "$tmp/monitor.in" "$tmp/monitor.out" "$tmp/input"
    exec 4<>"$tmp/input" 5<>"$tmp/monitor.in"
    name=$1
    shift
    start=$(now)
    truncate -s 1M "$tmp/disk"
    { timeout -s KILL 400 segue "$@" -d switch -D "$tmp/switches" -m 256 -display none -no-reboot -serial stdio -monitor "pipe:$tmp/monitor" \
        -drive "file=$tmp/disk,format=raw,if=virtio" -kernel vmlinuz -initrd "$tmp/initrd" \
        -append 'console=ttyS0 quiet mitigations=off segue.run="sh /switching/switching.sh 3000"' <"$tmp/input" 2>&1
      echo "status $?"; } | load64 watch >"$tmp/serial" &
    guest=$!
    cat "$tmp/monitor.out" >"$tmp/answers" & reader=$!
    waited=0
    while ! grep -q '^sum 1 ' "$tmp/serial" 2>/dev/null && [ $waited -lt 120 ]; do sleep 1; waited=$((waited + 1)); done
}

switches() { grep -c '^switch: ' "$tmp/switches" 2>/dev/null; }

switch_at_random() { # MODE…
    while [ "$(switches)" -lt "$count" ] && kill -0 $guest 2>/dev/null; do
        n=$((RANDOM % $# + 1))
        eval "mode=\$$n"
        echo "$(now) mode $mode" >>"$tmp/asked"
        echo "mode $mode" >&5
        sleep 0.$((RANDOM % 4))$((RANDOM % 10))
    done
}

guest_end() {
    echo >&4
    waited=0
    while kill -0 $guest 2>/dev/null && [ $waited -lt 120 ]; do sleep 1; waited=$((waited + 1)); done
    kill $reader 2>/dev/null
    exec 4>&- 5>&-
    tr -d '\r' <"$tmp/serial" >"$tmp/lines"
}

# What was printed is what the same program prints here, without a gap, and nobody complained.
lines_check() {
    grep -a '^sum ' "$tmp/lines" >"$tmp/sums"
    load64 "$(wc -l <"$tmp/sums")" </dev/null | grep -a '^sum ' >"$tmp/wanted"
    [ -s "$tmp/sums" ] && cmp -s "$tmp/sums" "$tmp/wanted"
    report $? "$name: $(wc -l <"$tmp/sums") checksums right, none missing" "$tmp/lines"
    grep -a '^disk ' "$tmp/lines" | cut -d ' ' -f 2 >"$tmp/disks"
    [ -s "$tmp/disks" ] && seq 0 $(($(wc -l <"$tmp/disks") - 1)) | cmp -s - "$tmp/disks"
    report $? "$name: $(wc -l <"$tmp/disks") times the disk written and read" "$tmp/lines"
    ! grep -a -q -E 'WRONG|cannot switch' "$tmp/lines" "$tmp/answers" && grep -a -q 'SEGUE-EXIT 0' "$tmp/lines" && grep -a -q 'status 0' "$tmp/lines"
    report $? "$name: no clock went back, no complaint of the guest's kernel, power-off" "$tmp/lines"
    grep -a '^clock: ' "$tmp/lines" | sed 's/-//' | awk '{ exit $5 > 50 }'
    report $? "$name: $(grep -a '^clock: ' "$tmp/lines")"
}

# Medians over the log of -d switch, in microseconds.
figures() { # PATTERN NAME
    for field in stop save load down; do
        grep -E "$1" "$tmp/switches" | sed "s/.*$field \([0-9]*\).*/\1/" | sort -n >"$tmp/figures"
        n=$(wc -l <"$tmp/figures")
        [ "$n" -gt 0 ] && printf '%s: %s %s us of %s\n' "$2" "$field" "$(($(sed -n "$((n / 2 + 1))p" "$tmp/figures") / 1000))" "$n"
    done
}

# A guest that starts in bt by an Intel host's rule, and arrives in hardware at the instruction that begins long mode.
jump() { # NAME KERNEL INITRD APPEND PATTERN
    { printf 'config.host = "intel-modern"\nguestOS = "winnt"\nmemsize = "256"\nsegue.kernel = "%s"\n' "$2"
      [ -z "$3" ] || printf 'segue.initrd = "%s"\nsegue.append = "%s"\n' "$3" "$4"; } >jump.vmx
    rm -f "$tmp/switches"
    echo q | timeout -s KILL 200 segue run jump.vmx -nographic -no-reboot -d switch -D "$tmp/switches" >"$tmp/lines" 2>&1
    [ "$(grep -c 'bt to kvm (long-mode)' "$tmp/switches")" = 1 ] && [ "$(switches)" = 1 ] && grep -a -q "$5" "$tmp/lines" &&
        ! grep -a -q WRONG "$tmp/lines"
    report $? "long mode: $1: $(cat "$tmp/switches")" "$tmp/lines"
}

jump "enters and leaves it" guests/long-mode '' '' 'compatibility mode: ok'
jump "Linux" vmlinuz initrd "console=ttyS0 quiet mitigations=off segue.poweroff" SEGUE-INIT-REACHED
guest "bt, hv, hwmmu" -accel kvm
echo "the guest computes after $(now) - $start s"
switch_at_random bt hv hwmmu
seen=$(switches)
guest_end
[ "$seen" -ge "$count" ]
report $? "switched $seen times, $(now) - $start s" "$tmp/answers"
lines_check
figures ': bt to kvm' 'into KVM'
figures ' to bt ' 'into bt'
exit $failed
