#!/usr/bin/env python3
"""-d prof, info profile, x-query-profile and segue stat: with a guest that halts, and without a profile.

usage: stat.py SEGUE
"""

import subprocess
import sys

import clients


def stat(path):
    return subprocess.run([sys.argv[1], "stat", "--interval", "0.1", path], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=clients.PATIENCE)


def machine(*extra):
    return clients.Machine(sys.argv[1], "-chardev", "socket,id=m,path=%/qmp,server=on,wait=off", "-mon", "chardev=m,mode=control", *extra)


def main():
    with machine("-d", "prof", "-D", "%/log") as profiled:
        path = profiled.path("qmp")
        client = clients.Qmp(clients.connect(path)).ready()
        answer = client.command("x-query-profile")["return"]
        assert answer["enabled"] and "profile of vCPU 0" in answer["text"], answer
        assert "profile of vCPU 0" in client.human("info profile")
        done = stat(path)
        assert done.returncode == 0 and "bt-blocks" in done.stdout and "profile of vCPU 0" in done.stdout, done
        client.command("quit")
        assert profiled.process.wait(clients.PATIENCE) == 0
        with open(profiled.path("log")) as log:
            assert "profile of vCPU 0" in log.read()
    with machine() as plain:
        client = clients.Qmp(clients.connect(plain.path("qmp"))).ready()
        assert client.command("x-query-profile")["return"] == {"enabled": False}
        assert "-d prof" in client.human("info profile")
        done = stat(plain.path("qmp"))
        assert done.returncode == 0 and "tlb-misses-other-page" in done.stdout and "no profile" in done.stdout, done
        client.command("quit")
        assert plain.process.wait(clients.PATIENCE) == 0
    assert stat("/nonexistent").returncode == 2
    print("ok")


main()
