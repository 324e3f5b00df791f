"""What the exams made of user programs share: programs packed behind a guest's initrd, run there one after the other, what they printed
brought back over the serial port (gzip, base64)."""
import base64
import glob
import gzip
import os
import re
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEGUE = os.path.abspath(os.environ.get("SEGUE", os.path.join(ROOT, "build", "segue")))
CACHE = os.environ.get("CACHE", os.path.expanduser("~/.cache/segue"))
KERNEL = os.path.join(CACHE, "kernel-amd64", "vmlinuz")
INITRD = os.path.join(CACHE, "initrd-busybox64.cpio")
PEER = shutil.which(os.environ.get("PEER", "qemu-system-x86_64"))
SCRIPT = """cd /exam
echo 0 >/proc/sys/kernel/randomize_va_space
while read -r name command; do
    timeout {seconds} sh -c "$command" >/tmp/out 2>&1 </dev/null
    echo "EXAM $name $?"
    gzip -c /tmp/out | base64
    echo EXAM-END
done <LIST
"""


def missing(*paths):
    """The first of @paths, and of what every exam needs, that is not there; or None."""
    return next((path for path in (SEGUE, KERNEL, INITRD, *paths) if not os.path.exists(path)), None)


def initrd_make(work, folder, commands, seconds):
    """An initrd with @folder as /exam and what runs @commands there, {name: shell command}; @seconds for each.  Returns its path."""
    target = os.path.join(work, "exam")
    if os.path.abspath(folder) != target:
        shutil.copytree(folder, target)
    lines = "".join(f"{name} {command}\n" for name, command in commands.items())
    for name, text in (("LIST", lines), ("run", SCRIPT.format(seconds=seconds))):
        with open(os.path.join(target, name), "w", encoding="utf-8") as file:
            file.write(text)
    listing = "\n".join(["exam"] + sorted(os.path.relpath(path, work) for path in glob.glob(target + "/**", recursive=True)))
    packed = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=work, input=listing.encode(), stdout=subprocess.PIPE, check=True)
    path = os.path.join(work, "initrd.cpio")
    with open(path, "wb") as out, open(INITRD, "rb") as base:
        shutil.copyfileobj(base, out)
        out.write(packed.stdout)
    return path


def run(program, initrd, limit, smp=2):
    """Returns {name: (status, bytes printed)} of what ran in the guest within @limit seconds."""
    command = [program, "-m", "1024", "-smp", str(smp), "-cpu", "max", "-nographic", "-no-reboot", "-kernel", KERNEL, "-initrd", initrd,
               "-append", 'console=ttyS0 quiet vsyscall=emulate segue.run="sh /exam/run"']
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit,
                              check=False).stdout
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
    results = {}
    for name, status, text in re.findall(r"^EXAM (\S+) (\d+)\n(.*?)^EXAM-END$", said.decode("latin-1").replace("\r", ""), re.M | re.S):
        packed = "".join(line for line in text.split("\n") if re.fullmatch(r"[A-Za-z0-9+/=]+", line))
        try:
            results[name] = (int(status), gzip.decompress(base64.b64decode(packed)))
        except (OSError, EOFError, ValueError):
            results[name] = (int(status), b"(what it printed was lost)")
    return results


def run_native(folder, commands, seconds):
    """The same on this machine."""
    results = {}
    for name, command in commands.items():
        try:
            done = subprocess.run(["timeout", str(seconds), "setarch", "-R", "sh", "-c", command], cwd=folder, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            results[name] = (done.returncode, done.stdout)
        except OSError as error:
            results[name] = (126, str(error).encode())
    return results


def first_difference(ours, theirs):
    """The first pair of lines that differ, for a table."""
    left, right = ours.split(b"\n"), theirs.split(b"\n")
    for line, (a, b) in enumerate(zip(left, right)):
        if a != b:
            text = f"line {line + 1}: `{a.decode('latin-1').strip()}`, should be `{b.decode('latin-1').strip()}`"
            return text.replace("|", "/")
    return f"{len(left)} lines, should be {len(right)}"


def write_table(name, lines):
    path = os.path.join(ROOT, "tests", "exams", name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return os.path.relpath(path, ROOT)
