#!/bin/sh
# What scripts/test-lab runs about switching, on a host whose KVM module may be reloaded. Plain sh: the emulated host has busybox only.
#   switch-list.sh COUNT [PART…]     so many switches, to modes chosen at random; parts: jump saved 64 64x2 32 32x2, default all
# In the current directory: segue, vmlinuz, initrd, vmlinuz686, initrd32; switching64.cpio, switching32.cpio (tests/guests/load.c and what it
# needs, for the guests); load64, load32.
# Prints one line a check, "ok NAME" or "FAILED NAME" with what was seen; ends with 1 when any failed.
count=$1
shift
parts=${*:-jump saved 64 64x2 32 32x2}
PATH=$PATH:.
tmp=${TMPDIR:-/tmp}
failed=0

report() { # STATUS NAME [FILE]
    if [ "$1" = 0 ]; then
        echo "ok $2"
    else
        echo "FAILED $2"
        [ -z "$3" ] || tail -n 30 "$3"
        failed=1
    fi
}

now() { cut -d ' ' -f 1 /proc/uptime; }

# Starts segue on the kernel and the initrd of BITS (64, 32), its input and its monitor's being files 4 and 5.
machine() { # BITS ROUNDS OPTION…
    rm -f "$tmp"/monitor.* "$tmp/input" "$tmp/answers" "$tmp/switches"
    : >"$tmp/serial"
    mkfifo "$tmp/monitor.in" "$tmp/monitor.out" "$tmp/input"
    exec 4<>"$tmp/input" 5<>"$tmp/monitor.in"
    bits=$1 rounds=$2
    shift 2
    kernel=vmlinuz
    [ "$bits" = 64 ] || kernel=vmlinuz686
    { timeout -s KILL 400 segue "$@" -d switch -D "$tmp/switches" -display none -no-reboot -serial stdio -monitor "pipe:$tmp/monitor" \
        -kernel $kernel -initrd "$tmp/initrd$bits" \
        -append "console=ttyS0 quiet mitigations=off segue.run=\"sh /switching/switching.sh $rounds\"" <"$tmp/input" 2>&1
      echo "status $?"; } | load64 watch >"$tmp/serial" &
    guest=$!
    cat "$tmp/monitor.out" >"$tmp/answers" & reader=$!
}

# Until so many checksums have been printed.
wait_for() { # COUNT
    waited=0
    while [ "$(grep -a -c '^sum ' "$tmp/serial" 2>/dev/null)" -lt "$1" ] && [ $waited -lt 120 ] && kill -0 $guest 2>/dev/null; do sleep 1; waited=$((waited + 1)); done
}

# The guest runs until it is told to end, or has nothing left to do; meanwhile the monitor switches.
guest() { # NAME BITS OPTION…
    name=$1 start=$(now) wanted_bits=$2
    shift 2
    truncate -s 1M "$tmp/disk"
    machine "$wanted_bits" 3000 -m 256 -drive "file=$tmp/disk,format=raw,if=virtio" "$@"
    wait_for 2
    echo "$name: the guest computes after $(now) - $start s"
}

switches() { grep -c '^switch: ' "$tmp/switches" 2>/dev/null; }

switch_at_random() { # MODE…
    while [ "$(switches)" -lt "$count" ] && kill -0 $guest 2>/dev/null; do
        n=$((RANDOM % $# + 1))
        eval "mode=\$$n"
        echo "mode $mode" >&5
        sleep 0.$((RANDOM % 4))$((RANDOM % 10))
    done
}

# The machine has ended, or does now.
machine_end() {
    waited=0
    while kill -0 $guest 2>/dev/null && [ $waited -lt 120 ]; do sleep 1; waited=$((waited + 1)); done
    kill $reader 2>/dev/null
    exec 4>&- 5>&-
    tr -d '\r' <"$tmp/serial" >"$tmp/lines"
}

guest_end() {
    echo >&4
    machine_end
}

# KIND lines are what the same program prints here, without a gap.
numbered_check() { # KIND WHAT
    grep -a "^$1 " "$tmp/lines" >"$tmp/seen"
    n=$(wc -l <"$tmp/seen")
    "load$bits" "$1" "$n" </dev/null >"$tmp/wanted"
    [ -s "$tmp/seen" ] && cmp -s "$tmp/seen" "$tmp/wanted"
    report $? "$name: $n $2" "$tmp/lines"
}

lines_check() {
    numbered_check sum "checksums right, none missing"
    numbered_check proc "times 24 programs in pipelines, none failed"
    ! grep -a -q -E 'WRONG|cannot switch' "$tmp/lines" "$tmp/answers" && grep -a -q 'SEGUE-EXIT 0' "$tmp/lines" && grep -a -q 'status 0' "$tmp/lines"
    report $? "$name: no clock went back, no complaint of the guest's kernel, power-off" "$tmp/lines"
}

# All of it, after switches in one process.
switched_check() {
    lines_check
    grep -a '^disk ' "$tmp/lines" | cut -d ' ' -f 2 >"$tmp/disks"
    [ -s "$tmp/disks" ] && seq 0 $(($(wc -l <"$tmp/disks") - 1)) | cmp -s - "$tmp/disks"
    report $? "$name: $(wc -l <"$tmp/disks") times the disk written and read" "$tmp/lines"
    # 50 ms, and the half of a thousandth that clocks of machines may differ in rate: the emulated host's has what its kernel measured at boot.
    grep -a '^clock: ' "$tmp/lines" | sed 's/-//' | awk '{ n++; late = /moved/ && $5 > 50 + $8 / 2 } END { exit !n || late }'
    report $? "$name: $(grep -a '^clock: ' "$tmp/lines")"
}

# Medians over the log of -d switch, in microseconds.
figures() { # PATTERN NAME
    for field in stop save load connect down; do
        grep -E "$1" "$tmp/switches" | sed "s/.*$field \([0-9]*\).*/\1/" | sort -n >"$tmp/figures"
        n=$(wc -l <"$tmp/figures")
        [ "$n" -gt 0 ] && printf '%s: %s %s us of %s\n' "$2" "$field" "$(($(sed -n "$((n / 2 + 1))p" "$tmp/figures") / 1000))" "$n"
    done
    # The handoff against what saving and loading alone cost, as a median.
    grep -E "$1" "$tmp/switches" | sed 's/[^0-9]*stop [0-9]*, save \([0-9]*\), load \([0-9]*\), connect \([0-9]*\).*/\1 \2 \3/' |
        awk '{ printf "%.2f\n", ($1 + $2 + $3) / ($1 + $2) }' | sort -n >"$tmp/figures"
    n=$(wc -l <"$tmp/figures")
    ratio=$(sed -n "$((n / 2 + 1))p" "$tmp/figures")
    awk "BEGIN { exit !($n > 0 && $ratio <= 3) }"
    report $? "$2: the handoff costs $ratio times saving and loading"
}

# A guest that starts in bt by an Intel host's rule (on an AMD host because it is told so), and arrives in hardware at the instruction that begins long mode.
jump() { # NAME KERNEL INITRD APPEND PATTERN
    { [ -e /sys/module/kvm_intel ] || echo 'config.host = "intel-modern"'
      printf 'guestOS = "winnt"\nmemsize = "256"\nsegue.kernel = "%s"\n' "$2"
      [ -z "$3" ] || printf 'segue.initrd = "%s"\nsegue.append = "%s"\n' "$3" "$4"; } >jump.vmx
    rm -f "$tmp/switches"
    echo q | timeout -s KILL 200 segue run jump.vmx -nographic -no-reboot -d switch -D "$tmp/switches" >"$tmp/lines" 2>&1
    [ "$(grep -c 'bt to kvm (long-mode)' "$tmp/switches")" = 1 ] && [ "$(switches)" = 1 ] && grep -a -q "$5" "$tmp/lines" &&
        ! grep -a -q WRONG "$tmp/lines"
    report $? "long mode: $1: $(cat "$tmp/switches")" "$tmp/lines"
}

# COUNT switches among all three modes.
switched() { # NAME BITS OPTION…
    guest "$@"
    switch_at_random bt hv hwmmu
    seen=$(switches)
    guest_end
    [ "$seen" -ge "$count" ]
    report $? "$name: switched $seen times, $(now) - $start s" "$tmp/answers"
    switched_check
    figures ': bt to kvm' "$name, into KVM"
    figures ' to bt ' "$name, into bt"
}

# A guest that is saved in one mode and goes on in another, in another process: what they print together has no gap.
saved() { # MODE…
    name="saved and restored: $*"
    incoming= step=0
    rm -f "$tmp"/part.*
    for mode; do
        # shellcheck disable=SC2086 # no option, or two
        machine 64 3000 -m 128 -accel "$mode" $incoming
        step=$((step + 1))
        wait_for 4
        incoming="-incoming file:$tmp/state.$step"
        if [ $step -lt $# ]; then
            echo "migrate file:$tmp/state.$step" >&5
            waited=0
            while [ $waited -lt 60 ] && ! grep -a -q 'completed' "$tmp/answers"; do
                echo "info migrate" >&5
                sleep 1
                waited=$((waited + 1))
            done
            echo quit >&5
            machine_end
        else
            guest_end
        fi
        # It may have been saved in the middle of a line, whose rest comes with the next part: nothing may stand between the two.
        grep -a -v '^clock:' "$tmp/serial" | awk -v is_last=$((step == $#)) '
            NR > 1 { print before }
            { before = $0 }
            END { if (is_last) print before; else { sub(/status [0-9]+$/, "", before); printf "%s", before } }' >>"$tmp/part.all"
        rm -f "$tmp/state.$((step - 1))"
    done
    rm -f "$tmp"/state.*
    tr -d '\r' <"$tmp/part.all" >"$tmp/lines"
    lines_check
}

[ ! -e switching64.cpio ] || cat initrd switching64.cpio >"$tmp/initrd64"
[ ! -e switching32.cpio ] || cat initrd32 switching32.cpio >"$tmp/initrd32"
for part in $parts; do
    case $part in
        jump)
            jump "enters and leaves it" guests/long-mode '' '' 'compatibility mode: ok'
            jump "Linux" vmlinuz initrd "console=ttyS0 quiet mitigations=off segue.poweroff" SEGUE-INIT-REACHED
            ;;
        saved) saved kvm bt kvm ;;
        64) switched "64-bit" 64 -accel kvm ;;
        64x2) switched "64-bit, 2 vCPUs" 64 -accel kvm -smp 2 ;;
        32) switched "32-bit" 32 -accel kvm ;;
        32x2) switched "32-bit, 2 vCPUs" 32 -accel kvm -smp 2 ;;
        *) report 1 "no part '$part'; there are jump, saved, 64, 64x2, 32, 32x2" ;;
    esac
done
exit $failed
