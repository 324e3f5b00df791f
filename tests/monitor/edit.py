#!/usr/bin/env python3
"""segue edit on a terminal: what it shows, what it writes, what it refuses.

usage: edit.py SEGUE
"""

import subprocess
import sys
import tempfile

from terminal import Terminal

SEGUE = sys.argv[1]
UP, DOWN, RIGHT, LEFT = b"\x1bOA", b"\x1bOB", b"\x1bOC", b"\x1bOD"
TEXT = '# mine\nmemsize = "64"\nguestOS = "other-64"   \n\nmonitor.virtual_exec = "automatic"\nfoo.bar = "kept"\n'


def edited(keys, text=TEXT):
    """keys: what is typed and what is waited for behind it, in pairs.  Returns: the file afterwards."""
    with tempfile.NamedTemporaryFile("w+", suffix=".vmx") as file:
        file.write(text)
        file.flush()
        terminal = Terminal([SEGUE, "edit", file.name])
        terminal.expect(r"Processors.*start: +\w+")
        for data, wanted in keys:
            terminal.send(data)
            if wanted:
                terminal.expect(wanted)
        assert terminal.wait() == 0
        with open(file.name) as result:
            return result.read()


def check(name, result, wanted):
    assert result == wanted, f"{name}: {result!r}"
    print("ok", name, flush=True)


check("looking changes nothing", edited([(b"q", None)]), TEXT)
check("a choice that the file has", edited([(DOWN * 3 + RIGHT, "software"), (b"s", "saved"), (b"q", None)]),
      TEXT.replace('"automatic"', '"software"'))
check("a choice that the file lacks", edited([(DOWN + RIGHT, "changed"), (b"q", "save the changes"), (b"y", None)]),
      TEXT + 'numvcpus = "2"\n')
check("not saved", edited([(DOWN + RIGHT, "changed"), (b"q", "save the changes"), (b"n", None)]), TEXT)
check("back to the default takes the key out again", edited([(DOWN + RIGHT, "changed"), (LEFT + b"s", "saved"), (b"q", None)]), TEXT)
check("typed text", edited([(DOWN * 2 + b"\n", "Enter done"), (b"\x7f" * 8 + b"winxppro\n", "32-bit Windows XP"), (b"s", "saved"), (b"q", None)]),
      TEXT.replace('guestOS = "other-64"   ', 'guestOS = "winxppro"'))
check("a contradiction is not written",
      edited([(DOWN * 3 + RIGHT, "software"), (DOWN + LEFT, "nested paging"), (b"s", "not saved"), (b"q", "save"), (b"n", None)]), TEXT)
check("another dialect loses its keys", edited([(RIGHT, r"taken out of the file"), (b"s", "saved"), (b"q", None)]),
      TEXT.replace('monitor.virtual_exec = "automatic"\n', "") + 'config.dialect = "ws5.5"\n')
check("another host", edited([(UP + RIGHT, "intel-modern.*hwmmu"), (b"q", None)]), TEXT)

with tempfile.NamedTemporaryFile("w+", suffix=".vmx") as plain:
    done = subprocess.run([SEGUE, "edit", plain.name], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no terminal" in done.stderr, done
