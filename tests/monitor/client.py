#!/usr/bin/env python3
"""segue monitor: single commands and their exit status, lines from a pipe, the prompt and the live view on a terminal.

usage: client.py SEGUE
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import clients
from terminal import Terminal

SEGUE = sys.argv[1]


def client(*arguments, **options):
    done = subprocess.run([SEGUE, "monitor", *arguments], capture_output=True, text=True, timeout=clients.PATIENCE, **options)
    return done.returncode, done.stdout, done.stderr


def single_commands(path):
    status, out, _ = client(path, "info", "status")
    assert status == 0 and out == "VM status: running\n", out
    status, out, _ = client("unix:" + path, "query-status")
    assert status == 0 and '"running" : true' in out, out
    assert client(path, "stop") == (0, "", "")
    assert client(path, "human-monitor-command", "command-line=info status")[1].startswith("VM status: paused")
    assert client(path, "cont") == (0, "", "")
    for words, why in ((["nonsense"], "unknown command: 'nonsense'"), (["x", "1+"], "x: a number is missing"),
                       (["switch-mode", "mode=fast"], "is not a mode"), (["query-status", "more=1"], "Parameter 'more' is unexpected")):
        status, out, err = client(path, *words)
        assert status == 1 and out == "" and why in err, (words, status, err)


def wrong_addresses(machine):
    status, _, err = client(machine.path("nobody"), "info status")
    assert status == 2 and "No such file" in err, err
    status, _, err = client(machine.path("m"), "info status")
    assert status == 2 and "human monitor" in err, err
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        status, _, err = client(f"tcp:127.0.0.1:{silent.getsockname()[1]}", "info status")
        assert status == 2, (status, err)
    for words in ([], ["--often", "x"], ["--watch", "x", "y"], ["--count", "-1", "x"]):
        assert client(*words)[0] == 2, words


def lines_from_a_pipe(path):
    status, out, err = client(path, input="# a comment\ninfo status\nx 1+\ninfo status\n")
    assert status == 1 and out.count("VM status") == 2 and "a number is missing" in err, (out, err)
    status, out, err = client(path, input="info version\n")
    assert status == 0 and "Segue" in out


def prompt(path):
    with tempfile.TemporaryDirectory() as state:
        terminal = Terminal([SEGUE, "monitor", path], XDG_STATE_HOME=state)
        terminal.expect(r"\(segue\) ")
        terminal.send(b"info stat\t\n")  # status and stats: the common part; the line is not run as something else
        terminal.expect("unknown subject 'stat'|VM status|tlb-misses")
        terminal.send(b"info vers\t\n")
        terminal.expect(r"Segue \d.*\(segue\) ")
        terminal.send(b"stop\n")
        terminal.expect(r"\[STOP\]")
        terminal.send(b"cont\n")
        terminal.expect(r"\[RESUME\]")
        terminal.send(b"\x04")
        assert terminal.wait() == 0
        terminal = Terminal([SEGUE, "monitor", path], XDG_STATE_HOME=state)
        terminal.expect(r"\(segue\) ")
        terminal.send(b"\x1b[A\x1b[A\x1b[A\n")  # the third last line of the other session
        terminal.expect(r"Segue \d")
        terminal.send(b"\x04")
        assert terminal.wait() == 0


def end_typed_ahead(path):
    """Ctrl-D that comes while a command runs, with the terminal in line mode."""
    for delay in range(40):
        with tempfile.TemporaryDirectory() as state:
            terminal = Terminal([SEGUE, "monitor", path], XDG_STATE_HOME=state)
            terminal.expect(r"\(segue\) ")
            terminal.send(b"info status\n")
            time.sleep(delay * 0.00005)
            os.kill(terminal.pid, signal.SIGSTOP)
            terminal.send(b"\x04")
            os.kill(terminal.pid, signal.SIGCONT)
            assert terminal.wait() == 0, delay


def watch_in_a_pipe(path):
    status, out, _ = client("--watch", "--interval", "0.1", "--count", "3", path)
    lines = out.splitlines()
    assert status == 0 and len(lines) == 3, out
    assert all(re.match(r"t=\d+\.\d state=running mode=\w+ host-cpu=\d+% switches=\d+ .*tlb-misses/s=\d+", line) for line in lines), out


def watch_on_a_terminal(path):
    terminal = Terminal([SEGUE, "monitor", "--watch", "--interval", "0.2", path])
    terminal.expect(r"mode +bt.*host CPU.*counter.*tlb-misses")
    terminal.send(b"h")  # no /dev/kvm, or it switches: both are seen
    terminal.expect(r"hwmmu|KVM")
    terminal.send(b"s")
    terminal.expect(r"paused")
    terminal.send(b"s")
    terminal.expect(r"running")
    terminal.send(b"q")
    assert terminal.wait() == 0


def watch_sees_the_end(machine, path):
    terminal = Terminal([SEGUE, "monitor", "--watch", "--interval", "0.2", path])
    terminal.expect("tlb-misses")
    assert client(path, "quit")[0] == 0
    terminal.expect("the machine has ended")
    assert terminal.wait() == 0 and machine.process.wait(clients.PATIENCE) == 0


def main():
    with clients.Machine(SEGUE, "-qmp", "unix:%/q,server=on,wait=off", "-monitor", "unix:%/m,server=on,wait=off") as machine:
        path = machine.path("q")
        clients.connect(path).close()
        for check, *arguments in ((single_commands, path), (wrong_addresses, machine), (lines_from_a_pipe, path), (prompt, path), (end_typed_ahead, path),
                                  (watch_in_a_pipe, path), (watch_on_a_terminal, path), (watch_sees_the_end, machine, path)):
            check(*arguments)
            print("ok", check.__name__, flush=True)


main()
