"""Looks at a running monitor's memory from outside: /proc/PID/maps and smaps."""

import collections
import re

from harness import Failure

GUARD = 2 << 20

Mapping = collections.namedtuple("Mapping", "start end rights offset inode name")


def read(pid):
    found = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ (\d+)\s*(.*)", line)
            start, end, rights, offset, inode, name = match.groups()
            found.append(Mapping(int(start, 16), int(end, 16), rights, int(offset, 16), int(inode), name))
    return found


def rights_are_narrow(maps):
    wide = [m for m in maps if "w" in m.rights and "x" in m.rights]
    if wide:
        raise Failure(f"writable and executable: {wide[0]}")


def code_caches(maps):
    """The views of each code cache, by inode. What may be executed and is not a program, a library or the kernel's is one of these."""
    views = collections.defaultdict(list)
    for m in maps:
        if "memfd:segue-code" in m.name:
            views[m.inode].append(m)
        elif "x" in m.rights and not m.name.startswith("/") and m.name not in ("[vdso]", "[vsyscall]"):
            raise Failure(f"executable, and no file's: {m}")
    return views


def guarded(maps, window):
    """Nothing may touch GUARD bytes on either side."""
    below = [m for m in maps if m.end == window.start and m.rights == "---p" and m.end - m.start >= GUARD]
    above = [m for m in maps if m.start == window.end and m.rights == "---p" and m.end - m.start >= GUARD]
    return below and above


def check(pid, ncaches, ram_bytes):
    """@ncaches: code caches there must be; None: any number. @ram_bytes: of the guest, below the PCI hole; it stands in one guarded mapping."""
    maps = read(pid)
    rights_are_narrow(maps)
    caches = code_caches(maps)
    if ncaches is not None and len(caches) != ncaches:
        raise Failure(f"{len(caches)} code caches, not {ncaches}")
    for views in caches.values():
        if sorted(m.rights for m in views) != ["r-xs", "rw-s"]:
            raise Failure(f"a code cache has not one view to write and one to execute: {views}")
        sizes = {(m.end - m.start, m.offset) for m in views}
        if len(sizes) != 1:
            raise Failure(f"the views of a code cache differ: {views}")
        for m in views:
            if not guarded(maps, m):
                raise Failure(f"no guard beside {m}")
    if not any(m.end - m.start == ram_bytes and guarded(maps, m) for m in maps):
        raise Failure(f"no guarded window of {ram_bytes} bytes for the guest's RAM")
