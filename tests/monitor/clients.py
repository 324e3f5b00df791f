"""What the monitor's tests share: a machine that halts at once, and clients of its two monitors."""

import json
import os
import re
import select
import socket
import subprocess
import tempfile
import time

PATIENCE = int(os.environ.get("SEGUE_TEST_PATIENCE", 60))  # seconds; only a hang takes that long


class Pipe:
    """One byte stream: a socket, or a pair of file descriptors."""

    def __init__(self, end=None, read_fd=-1, write_fd=-1):
        self.end = end
        self.read_fd, self.write_fd = (end.fileno(), end.fileno()) if end else (read_fd, write_fd)
        self.buffer = b""

    def send(self, data):
        os.write(self.write_fd, data) if not self.end else self.end.sendall(data)

    def fill(self):
        """Reads once; False at the end."""
        if not select.select([self.read_fd], [], [], PATIENCE)[0]:
            raise TimeoutError(self.buffer[-200:])
        try:
            data = os.read(self.read_fd, 65536)
        except OSError:
            data = b""
        self.buffer += data
        return bool(data)

    def close(self):
        if self.end:
            self.end.close()


def connect(address):
    """address: a path, or (host, port)"""
    deadline = time.monotonic() + PATIENCE
    while True:
        end = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        try:
            end.connect(address)
            return Pipe(end)
        except OSError:
            end.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Qmp:
    def __init__(self, pipe):
        self.pipe, self.events = pipe, []

    def line(self):
        while b"\n" not in self.pipe.buffer:
            if not self.pipe.fill():
                return None
        text, self.pipe.buffer = self.pipe.buffer.split(b"\n", 1)
        return json.loads(text)

    def answer(self):
        while True:
            message = self.line()
            if message is None or "event" not in message:
                return message
            self.events.append(message)

    def command(self, name, **arguments):
        self.pipe.send(json.dumps({"execute": name, "arguments": arguments, "id": name}).encode() + b"\n")
        answer = self.answer()  # None: the other end is gone
        assert answer is None or answer["id"] == name, answer
        return answer

    def ready(self):
        assert self.line()["QMP"]["capabilities"] == []
        assert self.command("query-status")["error"]["class"] == "CommandNotFound"
        assert self.command("qmp_capabilities")["return"] == {}
        return self

    def human(self, line):
        return self.command("human-monitor-command", **{"command-line": line})["return"]


class Hmp:
    PROMPT = b"(qemu) "

    def __init__(self, pipe):
        self.pipe = pipe
        self.until_prompt()

    def until_prompt(self):
        while self.PROMPT not in self.pipe.buffer:
            assert self.pipe.fill(), "the monitor closed the connection"
        text, self.pipe.buffer = self.pipe.buffer.split(self.PROMPT, 1)
        return text.decode()

    def command(self, line):
        self.pipe.send(line.encode() + b"\n")
        return self.until_prompt()


class Machine:
    """A monitor process whose guest is a firmware image of our own that halts."""

    def __init__(self, segue, *arguments, code=b"\xf4\xeb\xfd", **popen):
        self.folder = tempfile.TemporaryDirectory()
        firmware = self.folder.name + "/halt.bin"
        with open(firmware, "wb") as image:
            image.write(b"\xf4" * 0xfff0 + code.ljust(16, b"\xf4"))
        popen.setdefault("stdin", subprocess.DEVNULL)
        words = [word.replace("%", self.folder.name) for word in arguments]
        self.process = subprocess.Popen([segue, "-m", "16", "-nodefaults", "-display", "none", "-bios", firmware, *words], **popen)

    def path(self, name):
        return self.folder.name + "/" + name

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()
