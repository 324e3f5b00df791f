#!/bin/sh
# What scripts/test-lab runs on a host with /dev/kvm, emulated or real. Plain sh: the emulated host has busybox only.
#   kvm-list.sh MODE   MODE is hv or hwmmu, as the KVM module is loaded
# In the current directory: segue, test-kvm-device, guests/*, vmlinuz, initrd and, where 32-bit guests can be run, vmlinuz32 (with PAE),
# vmlinuz686 (without), initrd32; scripts/slat as slat on an emulated host.
# Prints one line a check, "ok NAME" or "FAILED NAME" with what was seen; ends with 1 when any failed.
mode=$1
PATH=$PATH:.
failed=0
tmp=${TMPDIR:-/tmp}

report() { # STATUS NAME [FILE]
    if [ "$1" = 0 ]; then
        echo "ok $2"
    else
        echo "FAILED $2"
        [ -z "$3" ] || tail -n 15 "$3"
        failed=1
    fi
}

now() { cut -d ' ' -f 1 /proc/uptime; }

# The same guest in both engines: what it prints and how the monitor ends must be equal.
guest_compare() { # NAME LINES: it prints at least so many
    for engine in bt "$mode"; do
        echo q | timeout -s KILL 60 segue -accel "$engine" -m 16 -nographic -no-reboot -kernel "guests/$1" >"$tmp/out-$engine" 2>&1
        echo "status $?" >>"$tmp/out-$engine"
        sed -i "s/\(guest crashed: triple fault\).*/\1/" "$tmp/out-$engine" # each engine knows other details
    done
    if [ "$1" = real-mode ] && grep -q 'KVM cannot emulate an instruction (1).* bytes 37' "$tmp/out-$mode"; then
        report 0 "guest $1: $mode; KVM emulates real mode here, and knows no AAA: the sentence says so"
        return
    fi
    if grep -q 'no XSAVE' "$tmp/out-bt"; then # the emulated Intel host: nothing to compare with
        ! grep -qE 'WRONG|status ([^05]|..)' "$tmp/out-$mode" && [ "$(wc -l <"$tmp/out-$mode")" -gt "$2" ]
        report $? "guest $1: $mode" "$tmp/out-$mode"
        return
    fi
    cmp -s "$tmp/out-bt" "$tmp/out-$mode"
    report $? "guest $1: bt and $mode agree" "$tmp/out-$mode"
}

# A Debian kernel to init and power-off.
linux_boot() { # NAME KERNEL INITRD [OPTION…]
    name=$1 kernel=$2 initrd=$3
    shift 3
    start=$(now)
    timeout -s KILL 250 segue -accel "$mode" -d prof -D "$tmp/prof" -m 256 -nographic -no-reboot -kernel "$kernel" -initrd "$initrd" "$@" \
        -append "console=ttyS0 quiet mitigations=off segue.poweroff" >"$tmp/linux" 2>&1 </dev/null
    status=$?
    grep -q SEGUE-INIT-REACHED "$tmp/linux" && [ $status = 0 ]
    report $? "linux $name to init and power-off: $(now) - $start s" "$tmp/linux"
    grep '^exits:' "$tmp/prof"
}

# What a Debian kernel finds and computes, in both engines: the same words in the same order. Not compared: frequencies, the microcode's number,
# which KVM makes up on AMD, and the CPU's flags, of which the emulated AMD host loses those of XSAVE (docs/kvm.md).
linux_compare() { # NAME KERNEL INITRD [OPTION…]
    name=$1 kernel=$2 initrd=$3
    shift 3
    start=$(now)
    for engine in bt "$mode"; do
        timeout -s KILL 250 segue -accel "$engine" -m 256 -nographic -no-reboot -kernel "$kernel" -initrd "$initrd" "$@" \
            -append "console=ttyS0 quiet mitigations=off nokaslr segue.run=\"grep -vE 'MHz|bogomips|microcode|flags' /proc/cpuinfo; cat /proc/iomem /proc/ioports; grep MemTotal /proc/meminfo; find / -xdev -type f | sort | xargs sha256sum\"" \
            >"$tmp/linux" 2>&1 </dev/null
        echo "status $?" >>"$tmp/linux"
        sed 's/^\[ *[0-9.]*\] //; s/uptime=.*//' "$tmp/linux" >"$tmp/linux-$engine"
    done
    cmp -s "$tmp/linux-bt" "$tmp/linux-$mode" && grep -q 'SEGUE-EXIT 0' "$tmp/linux-bt" && grep -q 'status 0' "$tmp/linux-bt"
    status=$?
    [ $status = 0 ] || diff "$tmp/linux-bt" "$tmp/linux-$mode" >"$tmp/linux"
    report $status "linux $name: bt and $mode print the same $(wc -l <"$tmp/linux-$mode") lines: $(now) - $start s" "$tmp/linux"
}

refused() { # NAME ACCEL PATTERN: one line, exit status 3
    segue -accel "$2" -kernel guests/hello >"$tmp/refused" 2>&1
    [ $? = 3 ] && [ "$(wc -l <"$tmp/refused")" = 1 ] && grep -q "$3" "$tmp/refused"
    report $? "refused: $1" "$tmp/refused"
}

slat() { # NAME STATUS PATTERN VERB: by $slat, the program or the script
    $slat "$4" >"$tmp/slat" 2>&1
    [ $? = "$2" ] && grep -q "$3" "$tmp/slat"
    report $? "${slat##*sh }: $1" "$tmp/slat"
}

# What only an emulated host puts up with: its module is reloaded and taken away, its device is closed to others.
lab_checks() {
    if [ "$mode" = hv ]; then to=on back=off; else to=off back=on; fi
    for slat in "segue slat" "env MODPROBE=/bin/modprobe sh slat"; do # busybox has a modprobe of its own
        slat "status" 0 "mode $mode" status
        slat "no change" 0 already $back
        (exec 3</dev/kvm; exec sleep 3) &
        sleep 1
        slat "held by a process" 6 "in use by .*sleep" $to
        wait
        slat "the other mode" 0 "reloaded with" $to
        slat "and back" 0 "reloaded with" $back
    done
    chmod 600 /dev/kvm
    su nobody -s /bin/sh -c '/lab/segue -accel kvm -kernel /lab/guests/hello' >"$tmp/refused" 2>&1
    [ $? = 3 ] && grep -q 'no permission.*group' "$tmp/refused"
    report $? "refused: no permission" "$tmp/refused"
    chmod 666 /dev/kvm
    mv /dev/kvm /dev/kvm-away
    refused "missing device" kvm "is missing.*modprobe"
    ln -s null /dev/kvm
    refused "something else in its place" kvm "does not work"
    rm /dev/kvm
    mv /dev/kvm-away /dev/kvm
    echo q | timeout -s KILL 60 segue -accel "kvm:bt" -m 16 -nographic -no-reboot -kernel guests/hello >"$tmp/fallback" 2>&1
    report $? "a list takes what there is" "$tmp/fallback"
}

# Until the guest has said so often that it is through, for a minute at most.
ready() { # TIMES
    waited=0
    while [ "$(grep -a -c 'SELFTEST OK' "$tmp/serial" 2>/dev/null || true)" != "$1" ] && [ $waited -lt 60 ]; do
        sleep 1
        waited=$((waited + 1))
    done
}

# Monitor commands to a running guest, and a reset of the whole machine.
monitor() {
    rm -f "$tmp/serial"
    { ready 1; echo "info registers"; echo stop; sleep 1; echo cont; echo system_reset; ready 2; echo "info status"; echo quit; } |
        timeout -s KILL 150 segue -accel "$mode" -m 16 -display none -serial file:"$tmp/serial" -monitor stdio -kernel guests/selftest \
        >"$tmp/monitor" 2>&1
    [ $? = 0 ] && [ "$(grep -a -c 'SELFTEST OK' "$tmp/serial")" = 2 ] && grep -q 'RIP=' "$tmp/monitor"
    report $? "monitor: registers, stop, cont, reset" "$tmp/monitor"
    timeout -s KILL 10 segue -accel "$mode" -m 16 -display none -serial file:"$tmp/serial" -kernel guests/triple-fault >/dev/null 2>&1
    [ "$(grep -a -c 'triple fault next' "$tmp/serial")" -gt 1 ]
    report $? "a triple fault resets, again and again"
}

# The monitor's memory beyond guest RAM, in KiB: what is resident in mappings other than the one of the guest's size (in KiB).
overhead() { # PID GUEST_KIB
    awk -v guest="$2" '
        /^[0-9a-f]+-[0-9a-f]+ / { is_guest = 0 }
        $1 == "Size:" { is_guest = $2 == guest }
        $1 == "Pss:" && !is_guest { sum += $2 }
        END { print sum + 0 }' "/proc/$1/smaps"
}

# A Debian kernel at rest: how much memory its monitor has beyond the guest's, 16 MiB at most; and it goes on from a snapshot.
linux_at_rest() { # NAME [OPTION…]
    name=$1
    shift
    rm -rf "$tmp/rest" "$tmp/rest.in" "$tmp/snapshots"
    mkdir "$tmp/snapshots"
    mkfifo "$tmp/rest.in"
    exec 6<>"$tmp/rest.in"
    segue -accel "$mode" -m 256 -display none -no-reboot -serial "file:$tmp/rest" -monitor stdio -snapshot-dir "$tmp/snapshots" -kernel vmlinuz \
        -initrd initrd -append "console=ttyS0 quiet mitigations=off segue.run=\"n=0; while [ \$n -lt 40 ]; do echo count \$n; n=\$((n + 1)); sleep 0.5; done\"" \
        "$@" <&6 >"$tmp/rest.monitor" 2>&1 &
    pid=$!
    count_wait 4
    kib=$(overhead $pid 262144)
    [ "$kib" -gt 1000 ] && [ "$kib" -le 16384 ]
    report $? "linux $name at rest: the monitor has $kib KiB beyond the guest's memory" "$tmp/rest.monitor"
    echo "savevm here" >&6
    count_wait 8
    echo "loadvm here" >&6
    echo "info snapshots" >&6
    waited=0
    while kill -0 $pid 2>/dev/null && [ $waited -lt 60 ]; do sleep 1; waited=$((waited + 1)); done
    kill $pid 2>/dev/null
    exec 6>&-
    # Each count is the one before plus one, but once, where the guest was taken back; it ends by itself.
    tr -d '\r' <"$tmp/rest" | awk '
        $1 == "count" { if (seen && $2 != last + 1) { if ($2 <= last && $2 >= 4) back++; else wrong++ } last = $2; seen = 1 }
        END { exit !(back == 1 && !wrong && last == 39) }' && grep -q 'SEGUE-EXIT 0' "$tmp/rest"
    report $? "linux $name: saved, and taken back to it while it runs" "$tmp/rest"
}

count_wait() { # NUMBER: until the guest has counted so far
    waited=0
    while ! grep -a -q "^count $1" "$tmp/rest" 2>/dev/null && [ $waited -lt 60 ]; do sleep 1; waited=$((waited + 1)); done
}

# One packet of the debugger's protocol, and time for its answer.
packet() { # TEXT
    sum=0
    for byte in $(printf '%s' "$1" | od -An -v -tu1); do sum=$(((sum + byte) % 256)); done
    printf '+$%s#%02x' "$1" $sum
    sleep 0.3
}

# What a debugger is told, in both engines: where the machine begins, after single steps, at a breakpoint (guest_main() of hello), and in memory. The
# emulated AMD host has no breakpoints for its guests (docs/kvm.md).
debugger_compare() {
    for engine in bt "$mode"; do
        { packet '?'; packet g; packet s; packet s; packet s; packet g
          if [ ! -e /lab ] || [ ! -e /sys/module/kvm_amd ]; then packet 'Z1,100850,1'; packet c; sleep 1; packet g; packet 'z1,100850,1'; fi
          packet m100000,40; packet k; } | timeout -s KILL 100 segue -accel "$engine" -m 16 -S -gdb stdio -display none -serial null -no-reboot \
            -kernel guests/hello 2>&1 | tr '$' '\n' >"$tmp/debugger-$engine"
        echo >>"$tmp/debugger-$engine"
    done
    [ "$(grep -c 'T05' "$tmp/debugger-bt")" -ge 4 ] && cmp -s "$tmp/debugger-bt" "$tmp/debugger-$mode"
    report $? "debugger: bt and $mode answer the same" "$tmp/debugger-$mode"
}

test-kvm-device >"$tmp/device" 2>&1
report $? "device: state there and back, kicks, refused states" "$tmp/device" "$tmp/device"
guest_compare hello 1
guest_compare exit-code 0
guest_compare triple-fault 2
guest_compare smc 5
guest_compare real-mode 7
guest_compare long-mode 6
if [ "$mode" = hv ]; then other=hwmmu; else other=hv; fi
refused "$other while $mode is loaded" $other "reload it"
[ -e /lab ] && [ -e /sys/module/kvm_intel ] || debugger_compare # the emulated Intel host: docs/kvm.md
if [ ! -e /sys/module/kvm_intel ] || [ ! -e /lab ]; then
    monitor
    [ ! -e /lab ] || lab_checks
fi
linux_boot "64-bit" vmlinuz initrd
if [ ! -e /sys/module/kvm_intel ] || [ ! -e /lab ]; then # the emulated Intel host is too slow for more than one
    linux_boot "64-bit, kernel-irqchip=off" vmlinuz initrd -machine pc,kernel-irqchip=off
    linux_boot "64-bit, -smp 2" vmlinuz initrd -smp 2
    linux_at_rest "64-bit"
fi
# 32-bit Linux: not on the emulated Intel host, and on the emulated AMD host with PAE only without nested paging (docs/kvm.md).
if [ -e vmlinuz32 ] && { [ ! -e /lab ] || [ "$mode" = hv ]; }; then
    linux_compare "32-bit with PAE" vmlinuz32 initrd32
    linux_boot "32-bit with PAE, -smp 2" vmlinuz32 initrd32 -smp 2
fi
if [ -e vmlinuz686 ]; then
    linux_compare "32-bit" vmlinuz686 initrd32
    linux_boot "32-bit, -smp 2" vmlinuz686 initrd32 -smp 2
fi
exit $failed
