#!/usr/bin/env python3
"""QMP on a Unix socket: greeting, answers, events, many clients, hostile input, the socket's mode and its end.

usage: qmp.py SEGUE    The guest is a firmware image of our own that halts.
"""

import os
import stat
import sys

import clients


def hostile(path):
    client = clients.Qmp(clients.connect(path)).ready()
    for data in (b"garbage\n", b'{"execute": \n', b"[" * 5000 + b"\n", b"]\n", b'{"execute": 5}\n', b'{"\xff": 1}\n', b"[1]\n",
                 b'{"execute": "x", "more": 1}\n', b'{"execute": "stop", "arguments": {"a": 1}}\n', b"{" + b" " * 300000 + b"\n"):
        client.pipe.send(data)
        assert "error" in client.answer(), data[:40]
    client.pipe.send(b'{"execute":"query-status"}{"execute":"query-name"}')
    assert "return" in client.answer() and "return" in client.answer()
    client.pipe.close()


def panic():
    """mov dx, 505h; mov al, N; out dx, al: 2 is noted, 1 ends the machine, or stops it under -no-shutdown."""
    def code(event):
        return b"\xba\x05\x05\xb0" + bytes([event]) + b"\xee\xf4\xeb\xfd"

    for event, options, names, action, status in ((1, (), ["RESUME", "GUEST_PANICKED", "SHUTDOWN"], "poweroff", 5),
                                                  (1, ("-no-shutdown",), ["RESUME", "GUEST_PANICKED", "STOP", "SHUTDOWN"], "pause", 0),
                                                  (1, ("-action", "panic=pause"), ["RESUME", "GUEST_PANICKED", "STOP", "SHUTDOWN"], "pause", 0),
                                                  (1, ("-action", "panic=none"), ["RESUME", "GUEST_PANICKED", "SHUTDOWN"], "run", 0),
                                                  (2, (), ["RESUME", "GUEST_CRASHLOADED", "SHUTDOWN"], "run", 0)):
        with clients.Machine(sys.argv[1], "-S", "-device", "pvpanic", "-qmp", "unix:%/q,server=on,wait=off", *options, code=code(event)) as machine:
            client = clients.Qmp(clients.connect(machine.path("q"))).ready()
            names_seen = False
            client.command("cont")
            while (message := client.line()) is not None:
                client.events.append(message)
                if message["event"] == names[-2]:
                    if status == 0:
                        if action == "pause":
                            assert client.command("query-status")["return"]["status"] == "guest-panicked"
                        client.command("quit")
                    names_seen = True
            assert names_seen and [event["event"] for event in client.events] == names, client.events
            assert client.events[1]["data"]["action"] == action, client.events
            assert machine.process.wait(clients.PATIENCE) == status


def main():
    panic()
    with clients.Machine(sys.argv[1], "-S", "-chardev", "socket,id=m,path=%/qmp,server=on,wait=off", "-mon", "chardev=m,mode=control") as machine:
        path = machine.path("qmp")
        first, second = (clients.Qmp(clients.connect(path)).ready() for _ in range(2))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert first.command("query-status")["return"]["status"] == "prelaunch"
        for name in ("cont", "stop", "cont", "system_reset", "system_powerdown", "inject-nmi"):
            assert first.command(name)["return"] == {}, name
        assert second.command("query-mode")["return"]["mode"] in ("bt", "hv", "hwmmu")
        assert "error" in second.command("switch-mode", mode="fast")
        assert "running" in second.human("info status")
        for name in ("query-stats", "query-version", "query-kvm", "query-cpus-fast", "query-commands"):
            assert "return" in second.command(name), name
        for name in ("query-command-line-options", "query-machines", "query-current-machine", "query-cpu-definitions", "query-target",
                     "query-chardev", "query-block", "query-uuid", "query-memory-size-summary", "query-iothreads", "qom-list-types"):
            assert "return" in second.command(name), name
        assert second.command("query-command-line-options", option="mon")["return"][0]["parameters"][0]["name"] == "chardev"
        assert "invalid option name" in second.command("query-command-line-options", option="none")["error"]["desc"]
        assert {"tlb-misses", "tpr-accesses", "bt-ports"} <= set(second.command("query-stats")["return"]["counters"])
        assert {row["label"] for row in second.command("query-chardev")["return"]} == {"m"}
        assert "virtio-blk-pci" in {row["name"] for row in second.command("qom-list-types", implements="device", abstract=False)["return"]}
        hostile(path)
        assert first.command("quit")["return"] == {}
        while (message := first.line()) is not None:
            first.events.append(message)
        names = [event["event"] for event in first.events]
        assert names == ["RESUME", "STOP", "RESUME", "RESET", "POWERDOWN", "SHUTDOWN"], names
        assert all(event["timestamp"]["seconds"] > 0 for event in first.events)
        assert machine.process.wait(clients.PATIENCE) == 0 and not os.path.exists(path)
    print("ok")


main()
