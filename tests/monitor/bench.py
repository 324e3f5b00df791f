#!/usr/bin/env python3
"""segue bench: a whole run and a typed script in two ways of running bt, the report, the chart, and what is refused.

usage: bench.py SEGUE KERNEL    KERNEL: the small guest `selftest`, which powers off with "batch" and echoes lines without
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

SEGUE, KERNEL = sys.argv[1], os.path.abspath(sys.argv[2])
COLUMNS = ["--accel", "bt", "--accel", "bt,one-insn-per-tb=on"]


def bench(*arguments):
    done = subprocess.run([SEGUE, "bench", *arguments], capture_output=True, text=True, timeout=280)
    return done.returncode, done.stdout, done.stderr


def guest(folder, append):
    path = f"{folder}/guest-{append}.vmx"
    with open(path, "w") as file:
        file.write(f'memsize = "64"\nsegue.kernel = "{KERNEL}"\nsegue.append = "{append}"\n')
    return path


with tempfile.TemporaryDirectory() as folder:
    vmx, page, script = guest(folder, "batch"), folder + "/page.html", folder + "/script"
    status, out, err = bench("--modes", "--rounds", "1", *COLUMNS[2:], "--html", page, vmx)
    assert status == 0, err
    assert re.search(r"medians +bt +hv +hwmmu +bt,one-insn-per-tb=on\nseconds +\d+\.\d\d ", out), out
    assert re.search(r"\nbt-blocks +\d+ .* \d+\n", out) and re.search(r"\n(Use|bt|Only|hv|hwmmu).*\.\n$", out), out
    with open(page) as file:
        text = file.read()
    svg = text[text.index("<svg"):text.index("</svg>") + 6]
    assert svg.count("<rect") >= 2 and xml.etree.ElementTree.fromstring(svg) is not None
    print("ok a whole run", flush=True)

    with open(script, "w") as file:
        file.write("# two lines\nhello\n\nworld\n")
    vmx = guest(folder, "")
    status, out, err = bench(*COLUMNS, "--rounds", "2", "--script", script, "--prompt", "> $", vmx)
    assert status == 0 and err.count("round") >= 4, err
    assert [line.split(":")[1].split()[0] for line in err.splitlines() if line.startswith("round")] == ["bt", COLUMNS[3]] * 2, err
    print("ok a script, in turns", flush=True)

    for words, code, why in (([], 2, "--modes and a .vmx file"), (["--modes", "--rounds", "0", vmx], 2, "--rounds"),
                             (["--modes", "--script", folder + "/none", vmx], 2, "No such file"),
                             ([*COLUMNS[:2], "--prompt", "never$", "--limit", "2", "--script", script, vmx], 1, "time limit"),
                             ([*COLUMNS[:2], "--script", script, guest(folder, "batch")], 1, "powered off before")):
        status, out, err = bench(*words)
        assert status == code and why in err, (words, status, err)
    print("ok what is refused", flush=True)
