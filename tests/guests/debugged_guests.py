"""Guests under gdb: breakpoints, steps, registers, memory, watchpoints, on a running Debian kernel; and debuggers that lie."""

import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time

from harness import Failure, Machine
from saved_guests import Qmp, goes_on, shell_line, shell_ready, shell_state


def gdb(path, *commands, seconds=60):
    """Returns: what Debian's gdb says to @commands at the stub on the socket @path."""
    lines = ["set pagination off", "set confirm off", "set architecture i386:x86-64", f"target remote {path}", *commands]
    arguments = ["gdb", "-nx", "-batch"]
    for line in lines:
        arguments += ["-ex", line]
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
                              check=False)
    except subprocess.TimeoutExpired as late:
        raise Failure(f"gdb does not end: {late.output}") from None
    return done.stdout


def expect(said, *patterns):
    """@patterns one after another in @said."""
    at = 0
    for pattern in patterns:
        found = re.compile(pattern).search(said, at)
        if not found:
            raise Failure(f"gdb does not say {pattern!r} (in this order):\n{said}")
        at = found.end()


class Peer:
    """A debugger that may say anything."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(20)

    def send(self, body):
        escaped = b"".join(b"}" + bytes([byte ^ 0x20]) if byte in b"$#}*" else bytes([byte]) for byte in body)
        self.socket.sendall(b"$" + escaped + b"#%02x" % (sum(escaped) & 0xff))

    def answer(self):
        """The next packet's body."""
        got = b""
        while not re.search(rb"\$[^#]*#..", got):
            more = self.socket.recv(65536)
            if not more:
                raise Failure(f"the stub has gone, after {got[-200:]!r}")
            got += more
        body = re.search(rb"\$([^#]*)#..", got).group(1)
        self.socket.sendall(b"+")
        return body

    def ask(self, body):
        self.send(body)
        return self.answer()


def register(api):
    """@api: the module run.py."""

    test = api.test
    if not shutil.which("gdb"):
        return

    def guest(work, *more):
        return api.linux("cloud-amd64", 256, "") + ["-gdb", f"unix:{work}/gdb", "-qmp", f"unix:{work}/qmp,server=on,wait=off", *more]

    def symbol(machine, name):
        """The address of @name in the guest's kernel."""
        line = f"grep -w {name} /proc/kallsyms | grep -v '\\[' | head -n 1; echo look''ed"
        return "0x" + shell_line(machine, line, r"\n([0-9a-f]{16}) \w " + name).group(1).decode()

    for ncpus in (1, 2):
        @test(f"a running kernel under gdb, {ncpus} processor{'s' if ncpus > 1 else ''}", segue_only=True)
        def _(ncpus=ncpus):
            with tempfile.TemporaryDirectory() as work, Machine(guest(work, "-smp", str(ncpus)), on_terminal=True) as machine:
                qmp = Qmp(f"{work}/qmp")
                shell_ready(machine)
                openat, jiffies = symbol(machine, "do_sys_openat2"), symbol(machine, "jiffies_64")
                machine.send("(while :; do cat /proc/version >/dev/null; done) &\r")
                said = gdb(f"{work}/gdb", f"break *{openat}", "continue", "print/x $pc", "x/i $pc", "stepi", "print/x $pc", "stepi", "continue",
                           "monitor x-nothing", "delete", f"watch *(long*){jiffies}", "continue", "delete", "info threads",
                           "set $r11=$rcx", "print $r11 == $rcx", "print $xmm0.v2_int64[0] == $xmm0.v2_int64[0]", "print $cr0 != 0 && $fs_base >= 0",
                           "set $before=*(int*)$rsp", "set *(int*)$rsp=0x5e60e", "print *(int*)$rsp", "set *(int*)$rsp=$before",
                           "print *(int*)0x123456789abcd", "monitor info status", "detach")
                expect(said, f"Breakpoint 1, {openat}", f"= {openat}\n", f"=> {openat}:", r"= 0xffffffff", f"Breakpoint 1, {openat}",
                       r"unknown command|not", "Old value = (\\d+)\nNew value = (\\d+)", f"Thread {ncpus} .CPU#{ncpus - 1}", "= 1\n", "= 1\n", "= 1\n",
                       f"= {0x5e60e}\n", "Cannot access memory", "VM status: paused", "detached")
                if qmp.ok("query-status")["status"] != "running":
                    raise Failure("the guest does not go on when its debugger has gone")
                # A breakpoint that stays while the engine changes; a debugger that is interrupted; one that leaves without a word.
                with subprocess.Popen(["gdb", "-nx", "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                    process.stdin.write(f"set pagination off\nset confirm off\nset architecture i386:x86-64\ntarget remote {work}/gdb\n"
                                        f"break *{openat}\necho set\\n\ncontinue\nquit\n")
                    process.stdin.flush()
                    process.wait(30)
                machine.send("kill %2\r")
                peer = Peer(f"{work}/gdb")
                if peer.ask(f"Z0,{openat[2:]},1".encode()) != b"OK":
                    raise Failure("Z0 is refused")
                peer.send(b"c")
                for _turn in range(4):
                    if qmp.ok("query-status")["status"] != "running":
                        break
                    for engine in ("bt-one-insn", "bt"):
                        qmp.run("x-switch-engine", engine=engine)
                machine.send("cat /proc/version\r")
                if not peer.answer().startswith(b"T05"):
                    raise Failure("the breakpoint is not hit")
                if qmp.ok("query-status")["status"] != "debug":
                    raise Failure("a guest at a breakpoint is not in the state 'debug'")
                peer.ask(f"z0,{openat[2:]},1".encode())
                peer.send(b"vCont;c")
                time.sleep(0.2)
                peer.socket.sendall(b"\x03")
                if not peer.answer().startswith(b"T02"):
                    raise Failure("Ctrl-C does not stop the guest")
                peer.socket.close()
                goes_on(machine, *shell_state(machine, "last"))

    @test("a debugger before the guest's first instruction", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work, Machine(guest(work, "-S")) as machine:
            Qmp(f"{work}/qmp")
            said = gdb(f"{work}/gdb", "print/x $pc", "stepi", "print/x $pc", "hbreak *0x1000000", "info registers", "monitor stop", "kill")
            expect(said, r"\$1 = 0x1000", r"\$2 = 0x1000", "Hardware assisted breakpoint 1", r"rip +0x1000", r"efer +0x", "killed")
            machine.expect_status(0, 20)

    @test("a debugger that says anything", segue_only=True)
    def _():
        with tempfile.TemporaryDirectory() as work, Machine(guest(work), on_terminal=True) as machine:
            Qmp(f"{work}/qmp")
            shell_ready(machine)
            count, uptime = shell_state(machine, "before")
            peer, randomly = Peer(f"{work}/gdb"), random.Random(20261123)
            whole = peer.ask(b"g")
            for body in (b"", b"G", b"Gzz", b"P", b"P0", b"P0=", b"P0=1", b"Pffffffffffffffff=00", b"pffffff", b"m", b"m,", b"m0,", b"mffffffffffffffff,ffffffffffffffff",
                         b"M0,10:00", b"X0,ffffffffffffffff:", b"M0,8000000000000000:", b"Z", b"Z9,0,0", b"Z0", b"Z2,0,0", b"Z2,ffffffffffffffff,8", b"z0,1,1", b"H", b"Hx1", b"Hg99", b"T",
                         b"T0x", b"vCont", b"vCont;", b"vCont;q", b"vCont;c:99", b"q", b"qXfer:features:read:target.xml:ffffff,1",
                         b"qXfer:features:read:../../etc/passwd:0,100", b"qRcmd,", b"qRcmd,zz", b"qRcmd,ff", b"qThreadExtraInfo,", b"Cx", b"c zz", b"?" * 16384,
                         b"m0," + b"1" * 17):
                answer = peer.ask(body)
                if answer not in (b"", b"OK") and not answer.startswith((b"E", b"T", b"l", b"QC")) and body != b"qRcmd,":
                    raise Failure(f"{body[:60]!r} is answered with {answer[:60]!r}")
            peer.socket.sendall(b"$" + b"a" * 100000 + b"#00" + b"$g#00" + b"#" * 100 + bytes(range(4, 256)).replace(b"$", b"").replace(b"-", b""))
            for _turn in range(300):
                letters = b"gGpPmMXzZHTqQv?" if randomly.random() < 0.9 else bytes(range(0x21, 0x63))
                body = bytes([randomly.choice(letters)]) + bytes(randomly.choice(b"0123456789abcdef,;:=-zcs") for _byte in range(randomly.randrange(30)))
                if body[:1] in b"cCsSkD" or body.startswith((b"vCont", b"vKill", b"GM")):
                    continue
                if body[:1] in b"GPMX":
                    body = b"m" + body[1:]
                peer.send(body)
            if len(peer.ask(b"qC")) and Peer(f"{work}/gdb").answer() != b"E.another debugger is here":
                raise Failure("a second debugger is not refused")
            peer.socket.close()
            deadline = time.monotonic() + 20
            while True:
                again = Peer(f"{work}/gdb")
                answer = again.ask(b"g")
                if not answer.startswith(b"E."):  # the first one's leaving has been seen
                    break
                if time.monotonic() > deadline:
                    raise Failure("a debugger that has left is still there")
                time.sleep(0.05)
            if len(answer) != len(whole):
                raise Failure("the stub is not what it was")
            again.ask(b"D")
            again.socket.close()
            goes_on(machine, count, uptime)
