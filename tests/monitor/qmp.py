#!/usr/bin/env python3
"""QMP on a Unix socket: greeting, answers, events, many clients, hostile input, the socket's mode and its end.

usage: qmp.py SEGUE    The guest is a firmware image of our own that halts.
"""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time


class Client:
    def __init__(self, path):
        deadline = time.monotonic() + 20
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.socket.settimeout(20)
        self.buffer, self.events = b"", []

    def line(self):
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(text)

    def answer(self):
        while True:
            message = self.line()
            if message is None or "event" not in message:
                return message
            self.events.append(message)

    def command(self, name, **arguments):
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments, "id": name}).encode() + b"\n")
        answer = self.answer()
        assert answer["id"] == name, answer
        return answer

    def ready(self):
        assert self.line()["QMP"]["capabilities"] == []
        assert self.command("query-status")["error"]["class"] == "CommandNotFound"
        assert self.command("qmp_capabilities")["return"] == {}
        return self


def hostile(path):
    client = Client(path).ready()
    for data in (b"garbage\n", b'{"execute": \n', b"[" * 5000 + b"\n", b"]\n", b'{"execute": 5}\n', b'{"\xff": 1}\n', b"[1]\n",
                 b'{"execute": "x", "more": 1}\n', b'{"execute": "stop", "arguments": {"a": 1}}\n', b"{" + b" " * 300000 + b"\n"):
        client.socket.sendall(data)
        assert "error" in client.answer(), data[:40]
    client.socket.sendall(b'{"execute":"query-status"}{"execute":"query-name"}')
    assert "return" in client.answer() and "return" in client.answer()
    client.socket.close()


def main():
    folder = tempfile.mkdtemp()
    path, firmware = folder + "/qmp", folder + "/halt.bin"
    with open(firmware, "wb") as image:
        image.write(b"\xf4" * 0xfff0 + b"\xf4\xeb\xfd" + b"\xf4" * 13)
    monitor = subprocess.Popen([sys.argv[1], "-m", "16", "-nodefaults", "-display", "none", "-bios", firmware, "-S",
                                "-chardev", "socket,id=m,path=" + path + ",server=on,wait=off", "-mon", "chardev=m,mode=control"],
                               stdin=subprocess.DEVNULL)
    try:
        first, second = Client(path).ready(), Client(path).ready()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert first.command("query-status")["return"]["status"] == "prelaunch"
        for name in ("cont", "stop", "cont", "system_reset", "system_powerdown", "inject-nmi"):
            assert first.command(name)["return"] == {}, name
        assert second.command("query-mode")["return"]["mode"] in ("bt", "hv", "hwmmu")
        assert "error" in second.command("switch-mode", mode="fast")
        assert "running" in second.command("human-monitor-command", **{"command-line": "info status"})["return"]
        for name in ("query-stats", "query-version", "query-kvm", "query-cpus-fast", "query-commands"):
            assert "return" in second.command(name), name
        hostile(path)
        assert first.command("quit")["return"] == {}
        while (message := first.line()) is not None:
            first.events.append(message)
        names = [event["event"] for event in first.events]
        assert names == ["RESUME", "STOP", "RESUME", "RESET", "POWERDOWN", "SHUTDOWN"], names
        assert all(event["timestamp"]["seconds"] > 0 for event in first.events)
        assert monitor.wait(20) == 0 and not os.path.exists(path)
    finally:
        if monitor.poll() is None:
            monitor.kill()
            monitor.wait()
    print("ok")


main()
