#!/usr/bin/env python3
"""Arbitrary bytes for both monitors: noise, broken and deep JSON, endless lines, pieces of any size, peers that do not read.

usage: fuzz.py SEGUE [SEED [ROUNDS]]    The process must live, answer a well-behaved client and stay within its memory.
"""

import json
import random
import socket
import sys

import clients

SEGUE = sys.argv[1]
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 60
MEMORY_KIB = 160 << 10
COMMANDS = ("query-status", "query-stats", "query-mode", "human-monitor-command", "switch-mode", "qmp_capabilities", "query-cpus-fast", "x")
LINES = ("info registers", "info mem", "x /4xg 0x1000", "xp /1000000i 0xfffffff0", "x /3000000000x 0", "info", "help", "print 1+", "sendkey a",
         "stop", "cont", "info tlb", "i /b 0x61", "log nothing", "memsave 0 1 /nowhere/x", "cpu 99", "mode fast", "loadvm x")


def value(rng, depth=0):
    kind = rng.randrange(8 if depth < 6 else 5)
    if kind >= 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if kind == 5:
        return {rng.choice(("mode", "command-line", "enable", "a", "", "id")): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return (None, True, rng.randrange(-1 << 70, 1 << 70), rng.random(), rng.choice(("bt", "\u0000", "\ud800x", "x" * 300, *LINES)))[kind]


def well_formed(rng):
    message = {"execute": rng.choice(COMMANDS)}
    if rng.random() < 0.7:
        message["arguments"] = value(rng) if rng.random() < 0.5 else {"command-line": rng.choice(LINES)}
    if rng.random() < 0.5:
        message["id"] = value(rng)
    return json.dumps(message).encode() + b"\n"


def spoilt(rng):
    text = bytearray(well_formed(rng))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(text))
        if rng.random() < 0.5:
            text[at] = rng.randrange(256)
        else:
            del text[at:at + rng.randrange(1, 9)]
            text += b"\n"
    return bytes(text)


def noise(rng):
    return rng.randbytes(rng.randrange(1, 3000))


def deep(rng):
    return rng.choice((b"[", b'{"a":', b"[{", b'"', b"\\")) * rng.randrange(1, 100000) + rng.choice((b"", b"\n", b"]" * 200 + b"\n"))


def endless(rng):
    return b'{"execute":"' + b"y" * rng.randrange(1 << 18, 1 << 20) + rng.choice((b"", b'"}\n', b"\n"))


def typed(rng):
    line = rng.choice(LINES).encode()
    return rng.choice((line, line + rng.randbytes(8), b"\x1b[A\x1b[999999999m" + line, b"\x7f" * 50 + line, line[:rng.randrange(1, 5)])) + b"\n"


def attack(rng, path, is_reading):
    end = clients.connect(path).end
    end.setblocking(False)
    if rng.random() < 0.7 and path.endswith("qmp"):
        end.send(b'{"execute":"qmp_capabilities"}\n')
    makers = (well_formed, spoilt, noise, deep, endless, typed)
    for _ in range(rng.randrange(1, 12)):
        data = rng.choice(makers)(rng).replace(b"quit", b"quip")
        while data:
            size = rng.choice((1, 7, 4096, len(data)))
            try:
                if is_reading:
                    end.recv(1 << 16)
            except BlockingIOError:
                pass
            except OSError:
                return end
            try:
                data = data[end.send(data[:size]):]
            except BlockingIOError:
                if not is_reading:
                    return end  # it is not read from any more: kept open
            except OSError:
                return end
            if rng.random() < 0.002:
                break
    if rng.random() < 0.3:
        end.shutdown(socket.SHUT_WR)
    if is_reading:
        end.close()
        return None
    return end


def main():
    rng = random.Random(SEED)
    with clients.Machine(SEGUE, "-qmp", "unix:%/qmp,server=on,wait=off", "-monitor", "unix:%/hmp,server=on,wait=off") as machine:
        good = clients.Qmp(clients.connect(machine.path("qmp"))).ready()
        kept = []
        for round_number in range(ROUNDS):
            kept.append(attack(rng, machine.path(rng.choice(("qmp", "hmp"))), rng.random() < 0.6))
            if len(kept) > 20:
                gone = kept.pop(rng.randrange(len(kept)))
                if gone:
                    gone.close()
            answer = good.command("query-status")
            assert "return" in answer and machine.process.poll() is None, round_number
            assert machine.rss_kib() < MEMORY_KIB, machine.rss_kib()
        print("memory", machine.rss_kib() >> 10, "MiB")
        assert good.command("quit")["return"] == {}
        assert machine.process.wait(clients.PATIENCE) == 0
    print("ok: seed", SEED)


main()
