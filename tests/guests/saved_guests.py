"""Guests that are saved and go on: savevm and loadvm, migration to files, sockets and programs, and streams that lie."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
import zlib

from harness import Failure, Machine

MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk")
SHELL = r"segue:[^\n]*# "


class Qmp:
    """A client of the monitor for programs."""

    def __init__(self, path):
        deadline = time.monotonic() + 20
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.socket.settimeout(60)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.events = []
        self.lines.readline()
        self.run("qmp_capabilities")

    def run(self, name, **arguments):
        self.socket.sendall((json.dumps({"execute": name, "arguments": arguments}) + "\n").encode())
        while True:
            answer = json.loads(self.lines.readline())
            if "event" not in answer:
                return answer
            self.events.append(answer)

    def ok(self, name, **arguments):
        answer = self.run(name, **arguments)
        if "error" in answer:
            raise Failure(f"{name}: {answer['error']['desc']}")
        return answer["return"]

    def refused(self, name, pattern, **arguments):
        answer = self.run(name, **arguments)
        if "error" not in answer or not re.search(pattern, answer["error"]["desc"]):
            raise Failure(f"{name} {arguments}: {answer}, expected an error like {pattern!r}")

    def wait_migration(self, wanted="completed", seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.ok("query-migrate")
            if status.get("status") in ("completed", "failed", "cancelled"):
                break
            time.sleep(0.05)
        if status.get("status") != wanted:
            raise Failure(f"migration: {status}, expected {wanted}")
        return status


def shell_line(machine, text, pattern, seconds=20):
    machine.send(text + "\r")
    return machine.expect(pattern, seconds)


def shell_ready(machine):
    machine.expect(SHELL, 90)
    # A variable, a job, and a watch on the clock: none may notice what happens to the guest.
    machine.send("X=hello42; (i=0; while :; do i=$((i+1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; sleep 0.1; done) & \r")
    machine.send("until [ -s /tmp/count ]; do sleep 0.05; done; echo rea''dy\r")  # the job has begun
    machine.expect("ready", 20)


def shell_state(machine, name):
    """Returns: the counter and the guest's uptime; checks the variable."""
    found = shell_line(machine, f"echo {name}=$(cat /tmp/count) $(cut -d' ' -f1 /proc/uptime) $X.", name + r"=(\d+) ([\d.]+) hello42\.")
    return int(found.group(1)), float(found.group(2))


def goes_on(machine, count, uptime, least=0):
    """The counter and the clock go on from there, in step and not in a leap."""
    first, first_uptime = shell_state(machine, "first")
    if first < count or first_uptime < uptime:
        raise Failure(f"went back: counter {count} then {first}, uptime {uptime} then {first_uptime}")
    if first_uptime > uptime + 30:
        raise Failure(f"the clock leapt: uptime {uptime} then {first_uptime}")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        second, second_uptime = shell_state(machine, "second")
        if second > first + 3:
            break
    else:
        raise Failure(f"the job stands still at {second}")
    # 0.1 s a turn and what a turn costs.
    if second_uptime - first_uptime < 0.1 * (second - first) - 0.2:
        raise Failure(f"{second - first} turns of 0.1 s in {second_uptime - first_uptime} s of guest time")
    shell_line(machine, "dmesg | grep -c -i -e 'unstable' -e 'lockup' -e 'stall' -e 'call trace'; echo looked", r"\n0\s+looked")


def register(api):
    """@api: the module run.py."""

    test = api.test

    def guest(*more, memory=256, initrd=None):
        return api.linux("cloud-amd64", memory, "", initrd) + ["-sandbox", "on,spawn=allow", *more]

    @test("savevm, loadvm twice, delvm", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work:
            path = f"{work}/qmp"
            with Machine(guest("-snapshot-dir", work, "-qmp", f"unix:{path},server=on,wait=off"), on_terminal=True) as machine:
                qmp = Qmp(path)
                shell_ready(machine)
                count, uptime = shell_state(machine, "before")
                qmp.ok("savevm", tag="one")
                for turn in range(2):
                    shell_line(machine, "X=changed; echo 1000000 >/tmp/other; echo is $X now", "is changed now")
                    qmp.ok("loadvm", tag="one")
                    goes_on(machine, count, uptime)
                    if shell_line(machine, "ls /tmp/other; echo see''n", r"(?s).*?seen").group(0).count(b"No such file") != 1:
                        raise Failure(f"turn {turn}: a file that is younger than the snapshot is there")
                listed = qmp.ok("query-snapshots")
                if [row["tag"] for row in listed] != ["one"] or listed[0]["mode"] != api.options.accel:
                    raise Failure(f"query-snapshots: {listed}")
                qmp.refused("loadvm", "no snapshot of this name", tag="two")
                qmp.refused("savevm", "no name for a snapshot", tag="../one")
                with open(f"{work}/one.segue", "rb") as file:
                    whole = file.read()
                for wrong in (whole[:-1], whole[:len(whole) // 2], whole[:len(whole) // 3] + bytes([whole[len(whole) // 3] ^ 1]) +
                              whole[len(whole) // 3 + 1:]):
                    with open(f"{work}/wrong.segue", "wb") as file:
                        file.write(wrong)
                    qmp.refused("loadvm", "truncated|damaged", tag="wrong")
                shell_state(machine, "unharmed")
                refused(guest("-snapshot-dir", work, "-loadvm", "wrong"), "damaged")
                qmp.ok("delvm", tag="wrong")
                qmp.ok("delvm", tag="one")
                qmp.refused("loadvm", "no snapshot of this name", tag="one")
                events = [event["event"] for event in qmp.events]
                if events.count("STOP") != events.count("RESUME") or events.count("STOP") < 3:
                    raise Failure(f"events: {events}")
                shell_state(machine, "still")

    @test("migrate to a file, -incoming in another process", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work:
            path = f"{work}/qmp"
            with Machine(guest("-qmp", f"unix:{path},server=on,wait=off"), on_terminal=True) as machine:
                qmp = Qmp(path)
                shell_ready(machine)
                count, uptime = shell_state(machine, "before")
                qmp.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
                qmp.ok("migrate", uri=f"file:{work}/guest")
                qmp.wait_migration()
                if qmp.ok("query-status")["status"] != "postmigrate":
                    raise Failure("the guest that has left does not stand still")
                seen = [event["data"]["status"] for event in qmp.events if event["event"] == "MIGRATION"]
                if seen != ["setup", "active", "completed"]:
                    raise Failure(f"MIGRATION events: {seen}")
                qmp.ok("quit")
            with Machine(guest("-incoming", f"file:{work}/guest"), on_terminal=True) as machine:
                goes_on(machine, count, uptime)
                machine.send("poweroff -f\r")
                machine.expect_status(0, 30)
            refusals(work)

    def refusals(work):
        """Streams that are not what they should be, and machines that are not."""
        with open(f"{work}/guest", "rb") as file:
            whole = file.read()
        for arguments, words in (
                (guest("-incoming", f"file:{work}/guest", memory=320), "memory: 256 MiB, here: 320 MiB"),
                (guest("-incoming", f"file:{work}/guest", "-cpu", "max,-avx2"), "avx2"),
                (guest("-incoming", f"file:{work}/guest", "-device", "virtio-rng-pci"), "PCI 03.0"),
                (guest("-incoming", f"file:{work}/nothing"), "No such file")):
            refused(arguments, words)
        randomly = random.Random(20261123)
        forged = [whole[:length] for length in (0, 5, 100, len(whole) // 2, len(whole) - 1)]
        for _turn in range(6):
            copy = bytearray(whole)
            for _change in range(randomly.randint(1, 20)):
                copy[randomly.randrange(len(copy))] ^= 1 << randomly.randrange(8)
            forged.append(bytes(copy))
        for content in forged:
            with open(f"{work}/forged", "wb") as file:
                file.write(content)
            refused(guest("-incoming", f"file:{work}/forged"), "saved state|saved guest")
        # With a right checksum, so that what the sections say is looked at.
        for _turn in range(12):
            with open(f"{work}/forged", "wb") as file:
                file.write(resealed(whole, randomly))
            with Machine(guest("-S", "-incoming", f"file:{work}/forged", "-qmp", f"unix:{work}/qmp2,server=on,wait=off")) as machine:
                deadline = time.monotonic() + 30
                while machine.process.poll() is None and time.monotonic() < deadline:
                    try:
                        qmp = Qmp(f"{work}/qmp2")
                        if qmp.ok("query-migrate").get("status") == "completed":
                            qmp.ok("cont")
                            time.sleep(0.3)
                            qmp.ok("quit")
                    except (OSError, ValueError):
                        pass
                    time.sleep(0.05)
                if machine.wait(20) not in (0, 2, 5):
                    raise Failure(f"a forged stream ended the monitor with status {machine.process.returncode}\n{machine.tail()}")

    def resealed(whole, randomly):
        """A stream with one section other than memory changed, and all checksums right."""
        at, crc, out, sections = 12, 0, bytearray(whole[:12]), []
        while at < len(whole):
            length = whole[at + 4]
            size = int.from_bytes(whole[at + 9 + length:at + 13 + length], "little")
            sections.append((whole[at:at + 13 + length], whole[at + 13 + length:at + 13 + length + size]))
            at += 13 + length + size + 4
        rest = [i for i, (head, body) in enumerate(sections) if b"\x03ram" not in head and body]
        victims = set(randomly.sample(rest, 2))
        crc = zlib.crc32(whole[:12])
        for i, (head, body) in enumerate(sections):
            body = bytearray(body)
            if i in victims:
                for _change in range(randomly.randint(1, 6)):
                    body[randomly.randrange(len(body))] = randomly.choice((0, 1, 0x7f, 0x80, 0xff, randomly.randrange(256)))
            crc = zlib.crc32(body, zlib.crc32(head, crc))
            out += head + body + crc.to_bytes(4, "little")
        return bytes(out)

    def refused(arguments, words):
        with Machine(arguments) as machine:
            machine.expect(words, 60)
            machine.expect_status(2, 20)

    @test("migrate over a socket, a program and a descriptor", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work:
            with Machine(guest("-qmp", f"unix:{work}/qmp1,server=on,wait=off"), on_terminal=True) as machine:
                qmp = Qmp(f"{work}/qmp1")
                shell_ready(machine)
                count, uptime = shell_state(machine, "before")
                # Nobody listens: the guest goes on.
                qmp.refused("migrate", "migration: unix:", uri=f"unix:{work}/nobody")
                qmp.ok("migrate", uri="exec:cat >/dev/null; exit 3")
                qmp.wait_migration("failed")
                count, uptime = shell_state(machine, "again")
                with Machine(guest("-incoming", "defer", "-qmp", f"unix:{work}/qmp2,server=on,wait=off"), on_terminal=True) as second:
                    other = Qmp(f"{work}/qmp2")
                    if other.ok("query-status")["status"] != "inmigrate":
                        raise Failure("a machine that waits for its guest is not 'inmigrate'")
                    other.ok("migrate-incoming", uri=f"unix:{work}/channel")
                    qmp.ok("migrate", uri=f"unix:{work}/channel")
                    qmp.wait_migration()
                    goes_on(second, count, uptime)
                    count, uptime = shell_state(second, "third")
                    other.ok("migrate", uri=f"exec:gzip -1 >{work}/packed")
                    other.wait_migration()
            with Machine(guest("-incoming", f"exec:gzip -dc {work}/packed"), on_terminal=True) as machine:
                goes_on(machine, count, uptime)

    @test("savevm and loadvm with two processors", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work:
            path = f"{work}/qmp"
            with Machine(guest("-smp", "2", "-snapshot-dir", work, "-qmp", f"unix:{path},server=on,wait=off"), on_terminal=True) as machine:
                qmp = Qmp(path)
                shell_ready(machine)
                shell_line(machine, "grep -c ^processor /proc/cpuinfo; echo coun''ted", r"\n2\s+counted")
                count, uptime = shell_state(machine, "before")
                qmp.ok("savevm", tag="two")
                qmp.ok("loadvm", tag="two")
                goes_on(machine, count, uptime)
                qmp.ok("quit")
            with Machine(guest("-smp", "2", "-snapshot-dir", work, "-loadvm", "two"), on_terminal=True) as machine:
                goes_on(machine, count, uptime)
                shell_line(machine, "taskset 1 true && taskset 2 true && echo bo''th", "both")
            refused(guest("-snapshot-dir", work, "-loadvm", "two"), "CPUs: 2")

    @test("a guest that runs while it is sent", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work:
            with Machine(guest("-smp", "2", "-qmp", f"unix:{work}/qmp,server=on,wait=off"), on_terminal=True) as machine:
                qmp = Qmp(f"{work}/qmp")
                shell_ready(machine)
                shell_line(machine, "dd if=/dev/urandom of=/tmp/still bs=1M count=8 2>/dev/null; md5sum </tmp/still >/tmp/sum; echo writ''ten", "written")
                # Files that are written again and again, each with its sum: a page that is forgotten makes one of them wrong.
                shell_line(machine, "(while :; do head -c 1000000 /dev/urandom >/tmp/a; (md5sum </tmp/a; cat /tmp/a) >/tmp/c; "
                                    "mv /tmp/c /tmp/b; touch /tmp/go''es; done) & echo star''ted", "started")
                shell_line(machine, "until [ -e /tmp/goes ]; do sleep 0.05; done; echo go''ing", "going", 30)
                qmp.refused("migrate-set-parameters", "unexpected", speed=1)
                qmp.refused("migrate-set-parameters", "whole number", **{"max-bandwidth": "fast"})
                qmp.refused("migrate-set-parameters", "downtime_limit", **{"downtime-limit": 1 << 40})
                qmp.ok("migrate-set-parameters", **{"max-bandwidth": 2 << 20, "downtime-limit": 20})
                if qmp.ok("query-migrate-parameters") != {"max-bandwidth": 2 << 20, "downtime-limit": 20}:
                    raise Failure("query-migrate-parameters does not say what was set")
                qmp.ok("migrate", uri=f"file:{work}/slow")
                count, uptime = shell_state(machine, "during")
                goes_on(machine, count, uptime)
                status = qmp.ok("query-migrate")
                if status["status"] != "active" or not 0 < status["ram"]["remaining"] < status["ram"]["total"]:
                    raise Failure(f"a slow migration: {status}")
                qmp.refused("loadvm", "in progress", tag="one")
                qmp.ok("migrate_cancel")
                qmp.wait_migration("cancelled")
                goes_on(machine, count, uptime)
                qmp.ok("migrate-set-parameters", **{"max-bandwidth": 0})
                with Machine(guest("-smp", "2", "-incoming", "defer", "-qmp", f"unix:{work}/qmp2,server=on,wait=off"), on_terminal=True) as second:
                    Qmp(f"{work}/qmp2").ok("migrate-incoming", uri=f"unix:{work}/channel")
                    count, uptime = shell_state(machine, "last")
                    qmp.ok("migrate", uri=f"unix:{work}/channel")
                    status = qmp.wait_migration()
                    if status["ram"]["dirty-sync-count"] < 2:
                        raise Failure(f"the guest stood still while its memory was sent: {status}")
                    goes_on(second, count, uptime)
                    shell_line(second, "kill %2; wait %2; md5sum </tmp/still | cmp - /tmp/sum && echo sa''me", "same", 30)
                    shell_line(second, "head -n 1 /tmp/b >/tmp/b.sum; tail -n +2 /tmp/b | md5sum | cmp - /tmp/b.sum && echo ri''ght", "right", 30)

    @test("a migration that is cancelled", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work:
            with Machine(guest("-qmp", f"unix:{work}/qmp,server=on,wait=off"), on_terminal=True) as machine:
                qmp = Qmp(f"{work}/qmp")
                shell_ready(machine)
                count, uptime = shell_state(machine, "before")
                qmp.ok("migrate", uri="exec:sleep 60")
                time.sleep(0.3)
                qmp.refused("savevm", "in progress", tag="one")
                qmp.ok("migrate_cancel")
                qmp.wait_migration("cancelled")
                goes_on(machine, count, uptime)

    def disk_guest(work, *more):
        """A guest with the modules for virtio disks in /modules."""
        modules = api.fetched("modules", "cloud-amd64")
        names = [f"{name}.ko" for name in MODULES]
        os.makedirs(f"{work}/root/modules", exist_ok=True)
        for name in names:
            shutil.copy(f"{modules}/{name}", f"{work}/root/modules")
        packed = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=f"{work}/root", check=True, stdout=subprocess.PIPE,
                                input="\n".join(["modules"] + [f"modules/{name}" for name in names]).encode()).stdout
        with open(api.fetched("initrd", "busybox", "64"), "rb") as busybox, open(f"{work}/initrd", "wb") as initrd:
            initrd.write(busybox.read() + packed)
        arguments = guest(*more, initrd=f"{work}/initrd")
        arguments[arguments.index("-kernel") + 1] = f"{modules}/vmlinuz"
        return arguments

    @test("-loadvm, a disk in the guest, and what is refused", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work:
            load = "; ".join(f"insmod /modules/{name}.ko" for name in MODULES)
            with open(f"{work}/disk", "wb") as disk:
                disk.truncate(16 << 20)
            drive = f"file={work}/disk,if=virtio,format=raw"
            arguments = disk_guest(work, "-snapshot-dir", work, "-drive", drive + ",readonly=on")
            with Machine(arguments + ["-qmp", f"unix:{work}/qmp,server=on,wait=off"], on_terminal=True) as machine:
                qmp = Qmp(f"{work}/qmp")
                shell_ready(machine)
                shell_line(machine, load + "; echo load''ed", "loaded")
                shell_line(machine, "dd if=/dev/vda of=/dev/null bs=1M count=4 2>&1 | grep 'records in'", r"4\+0 records in")
                count, uptime = shell_state(machine, "before")
                qmp.ok("savevm", tag="disk")
                qmp.ok("quit")
            with Machine(arguments + ["-loadvm", "disk"], on_terminal=True) as machine:
                goes_on(machine, count, uptime)
                shell_line(machine, "dd if=/dev/vda of=/dev/null bs=1M 2>&1 | grep 'records in'", r"16\+0 records in", 30)
            overlay = disk_guest(work, "-snapshot-dir", work, "-drive", drive + ",snapshot=on")
            look = "echo 3 >/proc/sys/vm/drop_caches; head -c 3 /dev/vda; echo ' is the''re'"
            with Machine(overlay + ["-qmp", f"unix:{work}/qmp,server=on,wait=off"], on_terminal=True) as machine:
                qmp = Qmp(f"{work}/qmp")
                shell_ready(machine)
                shell_line(machine, load + "; printf one | dd of=/dev/vda conv=fsync 2>/dev/null; " + look, "one is there")
                qmp.ok("savevm", tag="overlay")
                shell_line(machine, "printf two | dd of=/dev/vda conv=fsync 2>/dev/null; " + look, "two is there")
                qmp.ok("loadvm", tag="overlay")
                shell_line(machine, look, "one is there")
                qmp.ok("quit")
            with Machine(overlay + ["-loadvm", "overlay"], on_terminal=True) as machine:
                shell_line(machine, look, "one is there", 30)
            with open(f"{work}/disk", "r+b") as disk:
                if disk.read(3) != bytes(3):
                    raise Failure("snapshot=on has written the image")
                disk.write(b"x")
            refused(overlay + ["-loadvm", "overlay"], "disk 0: .*the image below snapshot=on is another")
            with Machine(guest("-snapshot-dir", work, "-loadvm", "disk")) as machine:
                machine.expect("another machine was saved", 30)
                machine.expect_status(2, 10)
            with Machine(guest("-snapshot-dir", work, "-drive", drive, "-qmp", f"unix:{work}/qmp2,server=on,wait=off")) as machine:
                qmp = Qmp(f"{work}/qmp2")
                qmp.refused("savevm", "writable but does not support snapshots", tag="two")
            with Machine(guest("-qmp", f"unix:{work}/qmp3,server=on,wait=off")) as machine:
                qmp = Qmp(f"{work}/qmp3")
                qmp.refused("savevm", "-snapshot-dir", tag="two")
                qmp.ok("quit")
            with Machine(api.linux("cloud-amd64", 256, "") + ["-qmp", f"unix:{work}/qmp4,server=on,wait=off"]) as machine:
                qmp = Qmp(f"{work}/qmp4")
                qmp.refused("migrate", "-sandbox on,spawn=allow", uri="exec:cat >/dev/null")
                qmp.ok("migrate", uri=f"file:{work}/whole")
                qmp.wait_migration()
