"""A Linux guest under load, moved between engines at random moments: nothing may be lost, wrong or late."""

import os
import random
import re
import subprocess
import sys
import tempfile
import time

from harness import Failure, Machine

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "monitor"))
import clients  # noqa: E402  pylint: disable=wrong-import-position

CLOCK_SECONDS = 0.05  # how far the guest's clock may move against the host's
START_SECONDS, END_SECONDS = 120, 900


def archive(directory, initrd, load, modules):
    """The guest's files as a second archive behind the first; the kernel unpacks both."""
    files = [(load, "load"), (os.path.join(HERE, "switching.sh"), "switching.sh")]
    files += [(os.path.join(modules, name), name) for name in (os.listdir(modules) if modules else [])
              if name.startswith("virtio") and name.endswith(".ko")]
    return archive_of(directory, initrd, "switching", files)


def archive_of(directory, initrd, name, files):
    """An initrd with these (source, name) in the folder /name besides what it has."""
    folder = os.path.join(directory, "root", name)
    os.makedirs(folder)
    for source, target in files:
        with open(source, "rb") as file, open(os.path.join(folder, target), "wb") as out:
            out.write(file.read())
        os.chmod(os.path.join(folder, target), 0o755)
    combined = os.path.join(directory, "initrd")
    with open(combined, "wb") as out, open(initrd, "rb") as first:
        data = first.read()
        out.write(data + bytes(-len(data) % 4))
        out.flush()
        names = subprocess.run(["find", "."], cwd=os.path.join(directory, "root"), check=True, capture_output=True).stdout
        subprocess.run(["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"], input=names, stdout=out,
                       cwd=os.path.join(directory, "root"), check=True)
    return combined


class Ticks:
    """How the guest's clock runs against ours: a line is never early, so the least lateness of many is what counts."""

    def __init__(self):
        self.lateness, self.taken = [], 0

    def look(self, output):
        now = time.monotonic()
        for found in re.finditer(rb"\ntick (\d+)(?=\r?\n)", output[self.taken:]):
            self.lateness.append(now - int(found.group(1)) / 1e9)
        end = output.rfind(b"\n")
        self.taken = max(self.taken, end)

    def shift(self):
        """None where there are too few to say."""
        part = len(self.lateness) // 2
        return min(self.lateness[-part:]) - min(self.lateness[:part]) if part >= 5 else None


def lines_of(output):
    text = output.decode(errors="replace").replace("\r", "")
    return sorted(line for line in text.splitlines() if re.match(r"(sum|disk|proc|load:|WRONG)", line))


def switch(qmp, machine, ticks, choose, pause, count, dice):
    """Switches @count times, and on until the fast engine is in; the load must last that long.  Returns the answers."""
    done = []
    while not re.search(rb"\nload: end", machine.output):
        name, argument = choose(len(done), dice)
        answer = qmp.command(name, **argument)
        if answer is None:
            break  # the guest has powered off meanwhile, or what comes next finds out
        if "error" in answer:
            raise Failure(f"switch {len(done)}: {answer['error']['desc']}")
        done.append(answer["return"])
        parts = sum(answer["return"][part + "-ns"] for part in ("stop", "save", "load", "connect"))
        if not parts <= answer["return"]["downtime-ns"]:
            raise Failure(f"a downtime shorter than its parts: {answer['return']}")
        until = time.monotonic() + dice.uniform(0, pause / 4 if argument.get("engine") == "bt-one-insn" else pause)
        while True:
            left = until - time.monotonic()
            machine.read_some(max(left, 0))
            ticks.look(machine.output)
            if left <= 0:
                break
        if len(done) >= count and argument.get("engine") != "bt-one-insn":
            while machine.process.poll() is None and not re.search(rb"\nload: end", machine.output):
                machine.read_some(0.01)  # the rest of the load at full speed
                ticks.look(machine.output)
            return done
        if machine.process.poll() is not None:
            raise Failure(f"the machine ended after {len(done)} switches\n{machine.tail()}")
    if len(done) < count:
        raise Failure(f"only {len(done)} switches before the load ended, {count} wanted")
    return done


def run(argv, rounds, choose=None, pause=0.02, count=0, seed=1):
    """One run of the guest: argv has everything but -qmp; returns (lines, answers, shift of the clock in seconds).
    run.seconds is how long the load took."""
    ticks, answers = Ticks(), []
    with tempfile.TemporaryDirectory() as directory:
        socket = os.path.join(directory, "qmp")
        with Machine([*argv, "-qmp", f"unix:{socket},server=on,wait=off"]) as machine:
            machine.expect("SEGUE-INIT-REACHED", START_SECONDS)
            began = time.monotonic()
            if choose:
                machine.expect(r"\n(sum|disk|tick) ", START_SECONDS)
                qmp = clients.Qmp(clients.connect(socket)).ready()
                answers = switch(qmp, machine, ticks, choose, pause, count, random.Random(seed))
            machine.expect("SEGUE-EXIT 0", END_SECONDS)
            run.seconds = time.monotonic() - began
            machine.expect_status(0, 60)
            lines = lines_of(machine.output)
    wrong = [line for line in lines if line.startswith("WRONG")]
    if wrong or "load: end" not in lines:
        raise Failure("\n      ".join(["the guest noticed:", *wrong[:10]]))
    if len([line for line in lines if line.startswith("sum")]) != rounds:
        raise Failure(f"not {rounds} checksums:\n      " + "\n      ".join(lines))
    shift = ticks.shift()
    if shift is not None and abs(shift) > CLOCK_SECONDS:
        raise Failure(f"the guest's clock moved {shift * 1000:.0f} ms against the host's")
    return lines, answers, shift


def compare(quiet, switched):
    if quiet != switched:
        raise Failure("\n      ".join(["not what the same guest prints when it is left alone:",
                                       *sorted(set(quiet) ^ set(switched))[:10]]))


def summary(answers, shift):
    def middle(key):
        values = sorted(answer[key] for answer in answers)
        return f"{values[len(values) // 2] / 1000:.0f}"
    return (f"{len(answers)} switches; median microseconds: downtime {middle('downtime-ns')}, stop {middle('stop-ns')}, "
            f"save {middle('save-ns')}, load {middle('load-ns')}; "
            + ("too few ticks for the clock" if shift is None else f"clock moved {shift * 1000:.1f} ms"))
