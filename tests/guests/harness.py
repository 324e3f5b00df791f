"""Starts a monitor with a guest, talks to its console, and says how it ended."""

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

TIME_SCALE = float(os.environ.get("SEGUE_TEST_TIME_SCALE", "1"))


class Failure(Exception):
    """A test did not see what it expected."""


class Skip(Exception):
    """A test cannot run here; the text says what is missing."""


class Machine:
    """One monitor process. Console output is kept in self.output (bytes); use as a context manager, which ends it."""

    def __init__(self, argv, on_terminal=False):
        self.output = b""
        self.searched = 0
        self.started = time.monotonic()
        self.terminal = None
        if on_terminal:
            self.terminal, slave = pty.openpty()
            self.terminal_before = termios.tcgetattr(slave)
            self.terminal_slave = slave
            self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
            self.source = self.terminal
        else:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT, start_new_session=True)
            self.source = self.process.stdout.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.terminal is not None:
            os.close(self.terminal)
            os.close(self.terminal_slave)
        else:
            self.process.stdout.close()

    def tail(self):
        lines = self.output.decode(errors="replace").replace("\r", "").splitlines()
        return "\n".join("      | " + line[:160] for line in lines[-12:])

    def read_some(self, seconds):
        """Takes what the guest has written, waiting at most that long; False at the end of the output."""
        ready, _, _ = select.select([self.source], [], [], max(0.0, seconds))
        if not ready:
            return True
        try:
            data = os.read(self.source, 65536)
        except OSError:
            data = b""
        self.output += data
        return bool(data)

    def expect(self, pattern, seconds):
        """Waits for a regular expression after what earlier calls matched; returns the match."""
        expression = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        deadline = time.monotonic() + seconds * TIME_SCALE
        while True:
            found = expression.search(self.output, self.searched)
            if found:
                self.searched = found.end()
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failure(f"no {pattern!r} within {seconds:g} s\n{self.tail()}")
            # On a terminal our own slave descriptor keeps the line open: look for the end of the process instead.
            if not self.read_some(min(left, 0.5)) or (self.terminal is not None and self.process.poll() is not None
                                                      and not select.select([self.source], [], [], 0)[0]):
                if expression.search(self.output, self.searched):
                    continue
                raise Failure(f"ended with status {self.process.wait()} before {pattern!r}\n{self.tail()}")

    def send(self, text):
        os.write(self.terminal, text.encode())

    def wait(self, seconds):
        """Waits for the end; returns the exit status, negative for a signal."""
        deadline = time.monotonic() + seconds * TIME_SCALE
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise Failure(f"still running after {seconds:g} s\n{self.tail()}")
            if not self.read_some(0.1):
                time.sleep(0.02)
        while select.select([self.source], [], [], 0)[0]:
            if not self.read_some(0):
                break
        return self.process.returncode

    def expect_status(self, status, seconds):
        seen = self.wait(seconds)
        if seen != status:
            raise Failure(f"exit status {seen}, expected {status}\n{self.tail()}")

    def expect_terminal_restored(self):
        if termios.tcgetattr(self.terminal_slave) != self.terminal_before:
            raise Failure("terminal settings were not restored")

    def terminate(self, number=signal.SIGTERM):
        os.kill(self.process.pid, number)

    def cpu_seconds(self):
        """CPU time of all threads that are alive, from the scheduler's nanosecond counters."""
        total = 0
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                with open(f"/proc/{self.process.pid}/task/{thread}/schedstat", encoding="ascii") as stat:
                    total += int(stat.read().split()[0])
            except FileNotFoundError:
                pass
        return total / 1e9

    def monitor_memory_mib(self, guest_mib):
        """Memory of the process without guest RAM, in MiB. A page mapped twice in the process counts once (Pss).

        Guest RAM is known by the name of its memfd, or by a mapping of about the guest's size (QEMU).
        """
        total, counted = 0, True
        with open(f"/proc/{self.process.pid}/smaps", encoding="utf-8", errors="replace") as smaps:
            for line in smaps:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    counted = not re.search(r"/memfd:\S*ram", line)
                elif line.startswith("Size:") and int(line.split()[1]) >= guest_mib * 1024 * 9 // 10:
                    counted = False
                elif line.startswith("Pss:") and counted:
                    total += int(line.split()[1])
        return total / 1024
