"""A program on a pseudo-terminal of 100 columns and 40 lines, and what it has drawn: enough of a terminal for the tests of our own programs."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import clients


class Terminal:
    def __init__(self, arguments, **environment):
        self.output = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", LANG="C.UTF-8", **environment)
            os.execv(arguments[0], arguments)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def send(self, data):
        os.write(self.fd, data)

    def fill(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return None
        self.output += data
        return bool(data) or None

    def text(self):
        """What was printed, without the terminal's own sequences."""
        return re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78])|[\x0e\x0f]", " ", self.output.decode(errors="replace"))

    def expect(self, wanted):
        """Waits until text() matches; forgets the output up to there."""
        deadline = time.monotonic() + clients.PATIENCE
        while not (found := re.search(wanted, self.text(), re.S)):
            assert self.fill(1) is not None and time.monotonic() < deadline, f"{wanted!r} did not come:\n{self.text()[-3000:]}"
        text = self.text()[:found.end()]
        self.output = b""
        return text

    def wait(self):
        while (more := self.fill(clients.PATIENCE)):
            pass
        if more is False:
            os.kill(self.pid, signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)
