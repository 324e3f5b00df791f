#!/usr/bin/env python3
"""Boots guests under Segue and checks what they print and how the monitor ends.

Prints one line for each test and, at the end, "N passed, N failed, N skipped". Exit status 1 when a test failed.
With --qemu the same guests run under QEMU's TCG, which shows whether a guest or a test is at fault.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import death
import disks
import mappings
import debugged_guests
import network
import saved_guests
import switching
from harness import Failure, Machine, Skip

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
KERNELS = ("cloud-amd64", "amd64", "686", "686-pae")
BOOT_SECONDS = 90

options = None
tests = []


def test(name, slow=False, segue_only=False):
    def register(function):
        tests.append((name, function, slow, segue_only))
        return function
    return register


# ---- what the tests are made of ----

def monitor(*arguments):
    if options.qemu:
        return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-nographic", *arguments]
    return [options.segue, "-accel", options.accel, "-nographic", *arguments]


def fetched(*arguments):
    """Path of something scripts/guest makes; a test that needs it is skipped when it cannot be had."""
    done = subprocess.run([os.path.join(ROOT, "scripts/guest"), *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Skip(f"scripts/guest {' '.join(arguments)}: {reason[0]}")
    return done.stdout.strip().splitlines()[-1]


def small_guest(name):
    path = os.path.join(options.build, "subprojects/guestkit", name)
    if not os.path.exists(path):
        raise Skip(f"{path} was not built (no compiler with -m32?)")
    return path


def linux(flavour, memory, command_line, initrd=None):
    bits = "32" if flavour.startswith("686") else "64"
    return monitor("-m", str(memory), "-no-reboot", "-kernel", fetched("kernel", flavour),
                   "-initrd", initrd or fetched("initrd", "busybox", bits),
                   "-append", ("console=ttyS0 " + command_line).strip())


# ---- our own small guests ----

DEBUG_EXIT = ("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")


def small_guest_test(name, status, lines, segue_only=False):
    @test(f"small guest {name}", segue_only=segue_only)
    def run():
        with Machine(monitor("-m", "64", "-no-reboot", *DEBUG_EXIT, "-kernel", small_guest(name))) as machine:
            for line in lines:
                machine.expect(line, 20)
            machine.expect_status(status, 20)
            if b"WRONG" in machine.output:
                raise Failure(f"the guest found a wrong result\n{machine.tail()}")


small_guest_test("hello", 1, ["hello from the guest, multiboot magic 2badb002"])
small_guest_test("phases", 1, ["phase 1 compute", "phase 1 tables", "phase 1 tpr", "phases done"])
small_guest_test("exit-code", 43, [])
small_guest_test("ud", 1, ["undefined instructions seen: 1001"])
small_guest_test("smc", 1, ["immediate rewritten before each call: ok", "string store into code: ok"])
small_guest_test("real-mode", 1, ["software interrupt: ok", "decimal adjust: ok"])
# QEMU's TCG checks no segment limits, so this one has nothing to compare with.
small_guest_test("segments", 1, ["base and limit: ok", "task switch: ok"], segue_only=True)
# Under QEMU's TCG these fault at their target.
small_guest_test("branches", 1, ["jump to a non-canonical address: ok", "return to a non-canonical address: ok"], segue_only=True)
small_guest_test("long-mode", 1, ["64-bit multiply: ok", "compatibility mode: ok"])


def many_processors_test(count):
    @test(f"small guest smp, {count} processors")
    def run():
        with Machine(monitor("-m", "64", "-smp", str(count), "-no-reboot", *DEBUG_EXIT, "-kernel", small_guest("smp"), "-append", str(count))) as machine:
            machine.expect(f"{count} processors", 120)
            machine.expect("code written by another and own bits: ok", 20)
            machine.expect_status(1, 20)
            if b"WRONG" in machine.output:
                raise Failure(f"the guest found a wrong result\n{machine.tail()}")


many_processors_test(2)
many_processors_test(4)


@test("small guest selftest powers off")
def _():
    with Machine(monitor("-m", "64", "-kernel", small_guest("selftest"), "-append", "batch")) as machine:
        machine.expect("SELFTEST OK", 30)
        machine.expect_status(0, 20)


@test("small guest selftest, echo console")
def _():
    with Machine(monitor("-m", "64", "-kernel", small_guest("selftest")), on_terminal=True) as machine:
        machine.expect("Echo console", 30)
        machine.send("hello\r")
        machine.expect("hello", 10)
        machine.send("q")
        machine.expect("power off", 10)
        machine.expect_status(0, 20)
        machine.expect_terminal_restored()


@test("triple fault with -no-reboot: status 5", segue_only=True)
def _():
    with Machine(monitor("-m", "64", "-no-reboot", "-kernel", small_guest("triple-fault"))) as machine:
        machine.expect("triple fault next", 20)
        machine.expect_status(5, 20)


@test("triple fault resets")
def _():
    with Machine(monitor("-m", "64", "-kernel", small_guest("triple-fault"))) as machine:
        machine.expect("triple fault next", 20)
        machine.expect("triple fault next", 20)
        machine.terminate()
        machine.wait(10)


@test("triple fault leaves a register dump in the log", segue_only=True)
def _():
    with tempfile.NamedTemporaryFile() as log:
        with Machine(monitor("-m", "64", "-no-reboot", "-d", "cpu_reset", "-D", log.name, "-kernel", small_guest("triple-fault"))) as machine:
            machine.expect_status(5, 20)
        with open(log.name, encoding="utf-8", errors="replace") as text:
            if not re.search(r"(?i)(eip|rip)", text.read()):
                raise Failure("no register dump in the file of -D")


# ---- ending from outside ----

def signal_test(number):
    @test(f"{number.name} ends the monitor cleanly")
    def run():
        with Machine(monitor("-m", "64", "-kernel", small_guest("selftest")), on_terminal=True) as machine:
            machine.expect("Echo console", 30)
            machine.terminate(number)
            status = machine.wait(10)
            if status < 0:
                raise Failure(f"killed by signal {-status}")
            machine.expect_terminal_restored()


signal_test(signal.SIGTERM)
signal_test(signal.SIGINT)


@test("Ctrl-A h, Ctrl-A Ctrl-A, Ctrl-A x")
def _():
    with Machine(monitor("-m", "64", "-kernel", small_guest("selftest")), on_terminal=True) as machine:
        machine.expect("Echo console", 30)
        machine.send("\x01h")
        machine.expect("(?i)exit", 10)
        machine.send("\x01\x01")
        machine.expect("\x01", 10)
        machine.send("\x01x")
        machine.expect_status(0, 10)
        machine.expect_terminal_restored()


# ---- options ----

def bad_input_rows(directory):
    text = os.path.join(directory, "text")
    empty = os.path.join(directory, "empty")
    big = os.path.join(directory, "big")
    cut = os.path.join(directory, "cut")
    with open(text, "w", encoding="ascii") as out:
        out.write("this is not a kernel\n" * 100)
    open(empty, "w", encoding="ascii").close()
    with open(big, "wb") as out:
        out.truncate(3 << 30)
    good = small_guest("hello")
    rows = [
        (["-bogus"], "-bogus", 2),
        (["-sandbox", "maybe", "-kernel", good], "-sandbox", 2),
        (["-sandbox", "on,files=some", "-kernel", good], "files=some", 2),
        (["-sandbox", "on,bogus=allow", "-kernel", good], "bogus", 2),
        (["-m"], "-m", 2),
        (["-m", "0"], "-m", 2),
        (["-m", "abc"], "-m", 2),
        (["-m", "-5"], "-m", 2),
        (["-m", "99999999"], "-m", 2),
        (["-m", "999999999999999999999"], "-m", 2),
        (["-smp", "0", "-kernel", good], "-smp", 2),
        (["-smp", "x", "-kernel", good], "-smp", 2),
        (["-accel", "nonsense", "-kernel", good], "-accel", 2),
        (["-serial", "nonsense", "-kernel", good], "-serial", 2),
        (["-serial", "file:/nonexistent/x", "-kernel", good], "-serial", 2),
        (["-device", "nonsense", "-kernel", good], "-device", 2),
        (["-device", "isa-debug-exit,iobase=0xfffff", "-kernel", good], "-device", 2),
        (["-d", "nonsense", "-kernel", good], "-d", 2),
        (["-D", "/nonexistent/x", "-d", "opts", "-kernel", good], "-D", 2),
        (["-kernel"], "-kernel", 2),
        (["-kernel", "/nonexistent/kernel"], "-kernel", 2),
        (["-kernel", directory], "-kernel", 2),
        (["-kernel", text], "-kernel", 2),
        (["-kernel", empty], "-kernel", 2),
        (["-kernel", good, "-initrd", "/nonexistent/initrd"], "-initrd", 2),
        (["-m", "256", "-kernel", good, "-initrd", big], "-m", 2),
        (["-initrd", text], "-kernel", 2),
        (["-append", "x"], "-kernel", 2),
        (["stray"], "stray", 2),
    ]
    try:
        kernel = fetched("kernel", "cloud-amd64")
        with open(kernel, "rb") as source, open(cut, "wb") as out:
            out.write(source.read(100000))
        rows += [
            (["-kernel", cut], "-kernel", 2),
            (["-m", "256", "-kernel", kernel, "-initrd", big], "-initrd", 2),
            (["-m", "4", "-kernel", kernel], "-m", 2),
        ]
    except Skip:
        pass
    if not os.path.exists("/dev/kvm"):
        rows.append((["-accel", "hwmmu", "-kernel", good], "-accel", 3))
    return rows


@test("bad input: one sentence, status 2", segue_only=True)
def _():
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        for arguments, word, status in bad_input_rows(directory):
            shown = "segue " + " ".join(arguments)
            try:
                done = subprocess.run([options.segue, "-display", "none", *arguments], stdin=subprocess.DEVNULL,
                                      capture_output=True, text=True, errors="replace", timeout=20, check=False)
            except subprocess.TimeoutExpired:
                wrong.append(f"{shown}: still running after 20 s")
                continue
            lines = done.stderr.splitlines()
            if done.returncode != status:
                wrong.append(f"{shown}: status {done.returncode}, expected {status}: {done.stderr.strip()[:200]}")
            elif len(lines) != 1 or word.lstrip("-") not in lines[0] or done.stdout:
                wrong.append(f"{shown}: expected one line naming {word}: {(done.stdout + done.stderr).strip()[:300]}")
    if wrong:
        raise Failure("\n      " + "\n      ".join(wrong))


KVM_FAULTS = (
    # environment, -accel, status, what the sentence says
    ({"KVM_SHIM_OPEN": "13"}, "kvm", 3, "no permission.*group"),
    ({"KVM_SHIM_OPEN": "2"}, "kvm", 3, "is missing"),
    ({"KVM_SHIM_OPEN": "16"}, "kvm", 3, "does not work: open"),
    ({"KVM_SHIM_VERSION": "11"}, "kvm", 3, "API version is 11, not 12"),
    ({"KVM_SHIM_MISSING": "136"}, "kvm", 3, "lacks KVM_CAP_IMMEDIATE_EXIT"),
    ({"KVM_SHIM_MISSING": "121"}, "kvm -machine pc,kernel-irqchip=split", 3, "lacks KVM_CAP_SPLIT_IRQCHIP"),
    ({"KVM_SHIM_REFUSE": "0x01"}, "kvm", 3, "KVM_CREATE_VM: Invalid argument"),
    ({"KVM_SHIM_REFUSE": "0x41"}, "kvm", 6, "KVM_CREATE_VCPU: Invalid argument"),
    ({"KVM_SHIM_REFUSE": "0x46"}, "kvm", 6, "KVM refuses guest memory at 0"),
    ({"KVM_SHIM_REFUSE": "0x90"}, "kvm", 6, "KVM_SET_CPUID2: KVM refuses the CPU model"),
    ({"KVM_SHIM_REFUSE": "0x82"}, "kvm", 6, "KVM refuses the vCPU's state: KVM_SET_REGS"),
    ({"KVM_SHIM_REFUSE": "0x8f"}, "kvm", 6, "KVM refuses the vCPU's state: KVM_SET_LAPIC"),
    ({"KVM_SHIM_RUN": "fail-entry"}, "kvm", 6, "KVM_EXIT_FAIL_ENTRY: .*hardware reason 0x80000021"),
    ({"KVM_SHIM_RUN": "internal:1"}, "kvm", 6, "KVM_EXIT_INTERNAL_ERROR: KVM cannot emulate an instruction"),
    ({"KVM_SHIM_RUN": "internal:99"}, "kvm", 6, r"KVM_EXIT_INTERNAL_ERROR: unknown suberror \(99\)"),
    ({"KVM_SHIM_RUN": "exit:40"}, "kvm", 6, "exit reason 40"),
    ({"KVM_SHIM_RUN": "errno:12"}, "kvm", 6, "KVM_RUN: Cannot allocate memory"),
    ({"KVM_SHIM_OPEN": "13"}, "kvm:bt", 1, "hello from the guest"),
    ({"KVM_SHIM_OPEN": "13"}, "kvm -accel tcg", 1, "hello from the guest"),
    ({"KVM_SHIM_OPEN": "2"}, "auto", 1, "hello from the guest"),
)


@test("a KVM that refuses or fails: one sentence each, or the next mode of the list", segue_only=True)
def _():
    shim = os.path.join(options.build, "tests/libkvm-shim.so")
    if not os.path.exists(shim):
        raise Skip(f"{shim} was not built")
    wrong = []
    for environment, accel, status, pattern in KVM_FAULTS:
        shown = " ".join(f"{name}={value}" for name, value in environment.items()) + f" -accel {accel}"
        try:
            done = subprocess.run([options.segue, "-nographic", "-m", "16", "-no-reboot", *DEBUG_EXIT, "-kernel", small_guest("hello"),
                                   "-accel", *accel.split()],
                                  env={**os.environ, "LD_PRELOAD": os.path.abspath(shim), **environment}, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, errors="replace", timeout=60, check=False)
        except subprocess.TimeoutExpired:
            wrong.append(f"{shown}: still running after 60 s")
            continue
        if done.returncode != status or not re.search(pattern, done.stdout + done.stderr) or (status != 1 and done.stderr.count("\n") != 1):
            wrong.append(f"{shown}: status {done.returncode}, expected {status} and one line with '{pattern}': "
                         f"{(done.stdout + done.stderr).strip()[:300]}")
    if wrong:
        raise Failure("\n      " + "\n      ".join(wrong))


@test("-version and -help", segue_only=True)
def _():
    for option, word in (("-version", r"\d+\.\d+"), ("-help", "-kernel")):
        done = subprocess.run([options.segue, option], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=20, check=False)
        if done.returncode != 0 or not re.search(word, done.stdout):
            raise Failure(f"{option}: status {done.returncode}, output {done.stdout[:200]!r}")


@test("-serial file: and -serial null", segue_only=True)
def _():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "serial")
        base = [options.segue, "-accel", options.accel, "-display", "none", "-m", "64", "-kernel", small_guest("selftest"),
                "-append", "batch", "-serial"]
        with Machine(base + ["file:" + path]) as machine:
            machine.expect_status(0, 30)
        with open(path, "rb") as serial:
            if b"SELFTEST OK" not in serial.read():
                raise Failure("the file of -serial file: lacks the guest's output")
        with Machine(base + ["null"]) as machine:
            machine.expect_status(0, 30)
            if b"SELFTEST" in machine.output:
                raise Failure("-serial null printed the guest's output")


# ---- Debian kernels ----

def boot_test(flavour, memory):
    @test(f"boot {flavour}, {memory} MiB", slow=(flavour, memory) != ("cloud-amd64", 512))
    def run():
        with Machine(linux(flavour, memory, "segue.poweroff")) as machine:
            machine.expect("SEGUE-INIT-REACHED", BOOT_SECONDS)
            machine.expect_status(0, 30)


for each_flavour in KERNELS:
    for each_memory in (512, 2048):
        boot_test(each_flavour, each_memory)


for _flavour in KERNELS:
    @test(f"boot {_flavour} with every translation verified", slow=_flavour != "cloud-amd64", segue_only=True)
    def _(flavour=_flavour):
        with Machine(linux(flavour, 512, "segue.poweroff") + ["-d", "verify"]) as machine:
            machine.expect("SEGUE-INIT-REACHED", BOOT_SECONDS)
            machine.expect_status(0, 60)
            if not re.search(rb"verifier: [1-9]\d{3,} blocks stay inside", machine.output):
                raise Failure("the verifier has not looked at thousands of blocks")


@test("no memory of a running guest's monitor is writable and executable; the code cache is one memfd", segue_only=True)
def _():
    for accel in ("bt", "auto"):
        argv = linux("cloud-amd64", 256, "") + ["-accel", accel, "-smp", "2"]
        with Machine(argv) as machine:
            machine.expect("SEGUE-INIT-REACHED", BOOT_SECONDS)
            mappings.check(machine.process.pid, 2 if accel == "bt" else None, 256 << 20)


# ---- many processors ----

def processors_test(flavour, count, slow):
    @test(f"boot {flavour}, {count} processors", slow=slow)
    def run():
        with Machine(linux(flavour, 512, 'segue.run="busybox nproc; grep -c TSC.warp /proc/kmsg"') + ["-smp", str(count)]) as machine:
            machine.expect(rf"\r\n{count}\r\n", BOOT_SECONDS)


processors_test("cloud-amd64", 16, True)
for each_flavour in ("cloud-amd64", "amd64", "686-pae"):
    for each_count in (2, 4):
        processors_test(each_flavour, each_count, (each_flavour, each_count) != ("cloud-amd64", 2))


@test("-smp sockets=, cores=, threads=: the guest's kernel sees them")
def _():
    with Machine(linux("cloud-amd64", 512, 'quiet segue.run="grep -e ^physical.id -e ^core.id -e ^apicid /proc/cpuinfo"')
                 + ["-smp", "6,sockets=2,cores=3"]) as machine:
        machine.expect("SEGUE-EXIT 0", BOOT_SECONDS)
        text = machine.output.decode(errors="replace")
        for name, wanted in (("physical id", "000111"), ("core id", "012012"), ("apicid", "012456")):
            seen = "".join(re.findall(rf"^{name}\s*: (\d+)", text, re.M))
            if seen != wanted:
                raise Failure(f"{name}: {seen}, not {wanted}")


def stress_test(flavour, count, seconds, slow):
    @test(f"stress: locks, code, pages and processes on {count} processors, {flavour}, {seconds} s", slow=slow)
    def run():
        bits = "32" if flavour.startswith("686") else "64"
        program = os.path.join(options.build, "tests/guests/stress" + bits)
        if not os.path.exists(program):
            raise Skip(f"{program} was not built (no static {bits}-bit C library?)")
        with tempfile.TemporaryDirectory() as directory:
            initrd = switching.archive_of(directory, fetched("initrd", "busybox", bits), "stress", [(program, "stress")])
            command = linux(flavour, 512, f'panic=-1 quiet segue.run="/stress/stress {seconds}"', initrd)
            with Machine(command + ["-smp", str(count)]) as machine:
                machine.expect("SEGUE-EXIT 0", BOOT_SECONDS + 4 * seconds)
                if re.search(rb"lockup|stall|WARNING|BUG:", machine.output):
                    raise Failure("the guest's kernel complains:\n" + machine.output.decode(errors="replace")[-1500:])
                machine.expect_status(0, 30)


stress_test("cloud-amd64", 4, int(os.environ.get("STRESS_SECONDS", "5")), False)
stress_test("686-pae", 2, int(os.environ.get("STRESS_SECONDS", "5")), True)


@test("AVX-512 in three processes under signals: the digests are the host's, every translation verified", segue_only=True)
def _():
    program = os.path.join(options.build, "tests/guests/vector64")
    if not os.path.exists(program):
        raise Skip(f"{program} was not built (no static C library?)")
    native = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False)
    if native.returncode == 77:
        raise Skip("the host has no AVX-512")
    if native.returncode:
        raise Failure(f"on the host, {program} ends with status {native.returncode}")
    with tempfile.TemporaryDirectory() as directory:
        initrd = switching.archive_of(directory, fetched("initrd", "busybox", "64"), "vector", [(program, "vector64")])
        with Machine(linux("cloud-amd64", 512, 'panic=-1 quiet segue.run="/vector/vector64"', initrd) + ["-d", "verify"]) as machine:
            machine.expect("SEGUE-EXIT 0", BOOT_SECONDS)
            machine.expect_status(0, 30)
            seen = re.findall(r"^vector \d [0-9a-f]{16}", machine.output.decode(errors="replace").replace("\r", ""), re.M)
            if sorted(seen) != sorted(native.stdout.split("\n")[:-1]):
                raise Failure(f"guest {sorted(seen)}, host {native.stdout}")
            if not re.search(rb"verifier: [1-9]\d{3,} blocks stay inside", machine.output):
                raise Failure("the verifier has not looked at thousands of blocks")


@test("-cpu vendor=, family=, model=: the guest's kernel believes it")
def _():
    with Machine(linux("cloud-amd64", 512, "segue.poweroff") + ["-cpu", "max,vendor=GenuineIntel,family=6,model=85,stepping=4"]) as machine:
        machine.expect(r"CPU0: Intel .*\(family: 0x6, model: 0x55, stepping: 0x4\)", BOOT_SECONDS)
        machine.expect("SEGUE-INIT-REACHED", BOOT_SECONDS)
        machine.expect_status(0, 30)
        if re.search(rb"unchecked MSR|isolation: enabled", machine.output):
            raise Failure(f"the kernel met an MSR that is not there, or isolates page tables\n{machine.tail()}")


@test("interactive shell on a terminal")
def _():
    with Machine(linux("cloud-amd64", 512, "quiet"), on_terminal=True) as machine:
        machine.expect(r"segue:~# ", BOOT_SECONDS)
        for command, answer in (("echo $((6 * 7))x", "\n42x"), ("uname -m", "\nx86_64"), ("nproc", "\n1"),
                                ("sleep 1; echo status $?", "\nstatus 0"),
                                ("dmesg | grep -ciE 'BUG:|Oops|call trace'", "\n0\r")):
            machine.send(command + "\r")
            machine.expect(answer, 20)
            machine.expect("segue:~# ", 20)
        machine.send("sleep 1000\r")
        time.sleep(0.5)
        machine.send("\x03")
        machine.expect("segue:~# ", 20)
        machine.send("poweroff\r")
        machine.expect_status(0, 30)
        machine.expect_terminal_restored()


@test("reboot with -no-reboot ends with status 0")
def _():
    with Machine(linux("cloud-amd64", 512, 'quiet segue.run="busybox reboot -f"')) as machine:
        machine.expect("SEGUE-INIT-REACHED", BOOT_SECONDS)
        machine.expect_status(0, 30)


@test("guest kernel panic is visible and SIGTERM ends it", slow=True)
def _():
    with Machine(linux("cloud-amd64", 512, 'segue.run="echo c > /proc/sysrq-trigger"')) as machine:
        machine.expect("Kernel panic - not syncing", BOOT_SECONDS)
        machine.terminate()
        if machine.wait(10) < 0:
            raise Failure("killed by the signal")


@test("the guest's clock keeps pace with the host's", slow=True)
def _():
    with Machine(linux("cloud-amd64", 512, "quiet"), on_terminal=True) as machine:
        machine.expect(r"segue:~# ", BOOT_SECONDS)
        readings = []
        for pause in (5, 0):
            machine.send("cut -d. -f1,2 /proc/uptime | cut -d' ' -f1 | sed 's/^/up:/'\r")
            found = machine.expect(r"\nup:([0-9.]+)\r", 20)
            readings.append((float(found.group(1)), time.monotonic()))
            time.sleep(pause)
        guest, host = (readings[1][i] - readings[0][i] for i in (0, 1))
        if abs(guest - host) > 0.5:
            raise Failure(f"{host:.2f} s passed on the host, {guest:.2f} s in the guest")


@test("idle at the prompt below 3 % of a core, memory of the monitor at most 128 MiB", slow=True, segue_only=True)
def _():
    with Machine(linux("cloud-amd64", 512, "quiet"), on_terminal=True) as machine:
        machine.expect(r"segue:~# ", BOOT_SECONDS)
        time.sleep(3)
        before = machine.cpu_seconds()
        time.sleep(10)
        percent = (machine.cpu_seconds() - before) * 10
        memory = machine.monitor_memory_mib(512)
        if percent >= 3 or memory > 128:
            raise Failure(f"idle {percent:.1f} % of a core, {memory:.0f} MiB beyond guest RAM")


# ---- a larger userland ----

def userland_lines(text):
    found = {}
    for line in text.replace("\r", "").splitlines():
        name, colon, value = line.partition(": ")
        if colon and re.fullmatch(r"[a-zA-Z0-9-]+", name):
            found[name] = value.strip()
    return found


@test("Debian userland: the same results as on the host", slow=True)
def _():
    script = os.path.join(HERE, "userland.sh")
    initrd = fetched("initrd", "debian")
    try:
        host = subprocess.run(["bash", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                              check=False).stdout
    except OSError as error:
        raise Skip(f"the host cannot run userland.sh: {error}") from error
    expected = userland_lines(host)
    with tempfile.TemporaryDirectory() as directory:
        # The script travels as a second archive behind the first; the kernel unpacks both.
        combined = os.path.join(directory, "initrd")
        with open(combined, "wb") as out, open(initrd, "rb") as first:
            data = first.read()
            out.write(data + bytes(-len(data) % 4))
            out.flush()
            subprocess.run(["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"], input=b"userland.sh\n",
                           stdout=out, cwd=HERE, check=True)
        command = linux("cloud-amd64", 2048, 'quiet segue.run="bash /userland.sh"', combined)
        with Machine(command) as machine:
            machine.expect("SEGUE-INIT-REACHED", 180)
            machine.expect("SEGUE-EXIT 0", 420)
            machine.expect_status(0, 30)
            seen = userland_lines(machine.output.decode(errors="replace"))
    wrong = []
    for name, value in expected.items():
        same = seen.get(name) == value
        if name == "apt-version":
            same = re.match(r"apt \d+\.\d+", seen.get(name, ""))
        if not same:
            wrong.append(f"{name}: host {value!r}, guest {seen.get(name)!r}")
    if wrong or "end" not in seen:
        raise Failure("\n      " + "\n      ".join(wrong or ["the script did not reach its end"]))


# ---- long mode under a .vmx file's rules, on a host without hardware for guests ----

def long_mode_test(name, keys, status, lines):
    @test("long mode: " + name, segue_only=True)
    def run():
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "guest.vmx")
            rows = {"guestOS": "winnt", "memsize": "64", "segue.kernel": os.path.abspath(small_guest("long-mode")), **keys}
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(f'{key} = "{value}"\n' for key, value in rows.items())
            argv = [options.segue, "run", path, "-nographic", "-no-reboot", "-d", "switch", *DEBUG_EXIT]
            with Machine(argv) as machine:
                for line in lines:
                    machine.expect(line, 30)
                machine.expect_status(status, 30)


long_mode_test("an old dialect stops there", {"config.dialect": "ws5.5", "config.host": "none"}, 3, ['config.dialect = "ws5.5" needs hardware'])
long_mode_test("the guest stays in bt", {"config.host": "none"}, 1, ["compatibility mode: ok"])
if not os.path.exists("/dev/kvm"):
    long_mode_test("no hardware to jump to", {"config.host": "intel-modern"}, 1,
                   ["switch: long mode: cannot switch to hwmmu: /dev/kvm is missing", "compatibility mode: ok"])
    long_mode_test("hardware is a must", {"config.host": "intel-modern", "monitor.long_mode": "hardware"}, 3,
                   ['monitor.long_mode = "hardware": cannot switch'])


# ---- switching between engines ----

def switching_argv(directory, flavour, rounds, *more):
    bits = "32" if flavour.startswith("686") else "64"
    load = os.path.join(options.build, "tests/guests/load" + bits)
    if not os.path.exists(load):
        raise Skip(f"{load} was not built (no static {bits}-bit C library?)")
    modules = fetched("modules", flavour) if bits == "64" else None
    kernel = os.path.join(modules, "vmlinuz") if modules else fetched("kernel", flavour)
    initrd = switching.archive(directory, fetched("initrd", "busybox", bits), load, modules)
    disk = os.path.join(directory, "disk")
    with open(disk, "wb") as image:
        image.truncate(1 << 20)
    return monitor("-m", "256", "-no-reboot", "-drive", f"file={disk},format=raw,if=virtio", "-kernel", kernel, "-initrd", initrd,
                   "-append", f'console=ttyS0 quiet segue.run="sh /switching/switching.sh {rounds}"', *more)


def engine_at_random(number, dice):
    """The other engine, or a new vCPU with an empty code cache of the same one."""
    return "x-switch-engine", {"engine": ("bt", "bt-one-insn")[number % 2] if dice.random() < 0.8 else "bt"}


def switching_test(name, flavour, rounds, count, longest_pause, slow):
    @test(name, slow=slow, segue_only=True)
    def run():
        with tempfile.TemporaryDirectory() as directory:
            argv = switching_argv(directory, flavour, rounds)
            quiet, _, _ = switching.run(argv, rounds)
            pause = min(longest_pause, switching.run.seconds / count)  # the load must outlast the switches on a fast machine, too
            switched, answers, shift = switching.run(argv, rounds, engine_at_random, pause, count)
            switching.compare(quiet, switched)
            print("      " + switching.summary(answers, shift))


switching_test("switching: 64-bit Linux under load", "cloud-amd64", 60, 150, 0.02, False)
switching_test("switching: 64-bit Linux under load, thousands of times", "cloud-amd64", 300, 2000, 0.02, True)
switching_test("switching: 32-bit Linux under load", "686-pae", 60, 150, 0.02, True)


saved_guests.register(sys.modules[__name__])
death.register(sys.modules[__name__])
disks.register(sys.modules[__name__])
debugged_guests.register(sys.modules[__name__])
network.register(sys.modules[__name__])


def main():
    global options
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="the build directory")
    parser.add_argument("--segue", help="the program to test (default: BUILD/segue)")
    parser.add_argument("--accel", default="bt")
    parser.add_argument("--qemu", action="store_true", help="run the guests under QEMU's TCG instead")
    parser.add_argument("--quick", action="store_true", help="leave the slow tests out")
    parser.add_argument("--only", metavar="REGEX", help="only tests whose name matches")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--counts", metavar="FILE", help="write 'passed failed skipped' there instead of the last line")
    options = parser.parse_args()
    options.segue = options.segue or os.path.join(options.build, "segue")

    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, function, slow, segue_only in tests:
        if options.only and not re.search(options.only, name):
            continue
        if options.list:
            print(name + (" (slow)" if slow else ""))
            continue
        start = time.monotonic()
        try:
            if options.quick and slow:
                raise Skip("left out by --quick")
            if options.qemu and segue_only:
                raise Skip("only for Segue")
            function()
            result, text = "passed", ""
        except Skip as reason:
            result, text = "skipped", f": {reason}"
        except (Failure, OSError) as reason:
            result, text = "failed", f": {reason}"
        counts[result] += 1
        print(f"{result:8}{name} ({time.monotonic() - start:.1f} s){text}", flush=True)
    if options.counts:
        with open(options.counts, "w", encoding="ascii") as out:
            print(*counts.values(), file=out)
    elif not options.list:
        print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
