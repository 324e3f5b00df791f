#!/usr/bin/env python3
"""Every way to reach a monitor: QMP and the human monitor on Unix and TCP sockets in both roles, stdio, pipes and pseudo-terminals.

usage: transports.py SEGUE
"""

import os
import re
import socket
import stat
import subprocess
import sys

import clients

SEGUE = sys.argv[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finish(machine, qmp=None, hmp=None):
    if qmp:
        assert qmp.command("quit")["return"] == {}
    else:
        hmp.pipe.send(b"quit\n")
    assert machine.process.wait(clients.PATIENCE) == 0


def qmp_tcp():
    port = free_port()
    with clients.Machine(SEGUE, "-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off") as machine:
        first, second = (clients.Qmp(clients.connect(("127.0.0.1", port))).ready() for _ in range(2))
        assert first.command("query-status")["return"]["running"] is True
        finish(machine, second)


def qmp_stdio():
    with clients.Machine(SEGUE, "-qmp", "stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        client = clients.Qmp(clients.Pipe(None, machine.process.stdout.fileno(), machine.process.stdin.fileno())).ready()
        finish(machine, client)


def qmp_as_client():
    """The driver listens, Segue connects: -chardev socket without server=on."""
    with socket.socket(socket.AF_UNIX) as listener, clients.tempfile.TemporaryDirectory() as folder:
        listener.bind(folder + "/driver")
        listener.listen(1)
        listener.settimeout(clients.PATIENCE)
        with clients.Machine(SEGUE, "-chardev", f"socket,id=m,path={folder}/driver", "-mon", "chardev=m,mode=control") as machine:
            finish(machine, clients.Qmp(clients.Pipe(listener.accept()[0])).ready())


def qmp_waits():
    """wait=on: nothing runs before somebody has come; the greeting is there at once."""
    with clients.Machine(SEGUE, "-qmp", "unix:%/q,server=on,wait=on") as machine:
        finish(machine, clients.Qmp(clients.connect(machine.path("q"))).ready())


def qmp_pipe():
    with clients.tempfile.TemporaryDirectory() as folder:
        os.mkfifo(folder + "/p.in")
        os.mkfifo(folder + "/p.out")
        with clients.Machine(SEGUE, "-chardev", f"pipe,id=m,path={folder}/p", "-mon", "m,mode=control") as machine:
            write_fd = os.open(folder + "/p.in", os.O_WRONLY)
            read_fd = os.open(folder + "/p.out", os.O_RDONLY)
            finish(machine, clients.Qmp(clients.Pipe(None, read_fd, write_fd)).ready())


def hmp_sockets():
    """Several monitors, several clients each; a socket is ours alone and goes with us."""
    port = free_port()
    with clients.Machine(SEGUE, "-monitor", "unix:%/m,server=on,wait=off", "-monitor", f"tcp:127.0.0.1:{port},server=on,wait=off") as machine:
        path = machine.path("m")
        first, second = (clients.Hmp(clients.connect(path)) for _ in range(2))
        third = clients.Hmp(clients.connect(("127.0.0.1", port)))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert "VM status: running" in first.command("info status")
        assert "stop" in second.command("stop")
        assert "VM status: paused" in third.command("info status")
        assert "unknown command: 'nonsense'" in third.command("nonsense")
        assert "cannot be changed while the guest runs" in third.command("device_add e1000")
        assert "tlb-misses" in third.command("info stats")
        assert "00000000fffffff0: 0xf4 0xeb" in third.command("xp /2xb 0xfffffff0")
        assert "hlt" in third.command("xp /1i 0xfffffff0") and "0xfff0" in third.command("p $cs*0+0xfff0")
        assert "info status" in first.command("help") or "info" in first.command("help")
        finish(machine, hmp=second)
        assert not os.path.exists(path)


def hmp_stdio():
    with clients.Machine(SEGUE, "-monitor", "stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        client = clients.Hmp(clients.Pipe(None, machine.process.stdout.fileno(), machine.process.stdin.fileno()))
        assert "running" in client.command("info status")
        finish(machine, hmp=client)


def hmp_pty():
    with clients.Machine(SEGUE, "-monitor", "pty", stdout=subprocess.PIPE) as machine:
        name = re.search(r"redirected to (/dev/pts/\d+)", machine.process.stdout.readline().decode())[1]
        for _ in range(2):  # a terminal program may leave and come back
            fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
            os.write(fd, b"\n")
            client = clients.Hmp(clients.Pipe(None, fd, fd))
            assert "running" in client.command("info status") + client.command("info status")
            os.close(fd)
        fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"quit\n")
        assert machine.process.wait(clients.PATIENCE) == 0
        os.close(fd)


def busy():
    """An address that is taken is one sentence and status 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with clients.Machine(SEGUE, "-monitor", f"tcp:127.0.0.1:{port},server=on,wait=off", stderr=subprocess.PIPE) as machine:
            text = machine.process.communicate(timeout=clients.PATIENCE)[1].decode()
            assert machine.process.returncode == 2 and f"-monitor: tcp 127.0.0.1:{port}: " in text, text


for check in (qmp_tcp, qmp_stdio, qmp_as_client, qmp_waits, qmp_pipe, hmp_sockets, hmp_stdio, hmp_pty, busy):
    check()
    print("ok", check.__name__, flush=True)
