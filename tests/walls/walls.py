#!/usr/bin/env python3
"""The walls of the house: usage: walls.py SOURCE_DIR BUILD_DIR

For each room that this build has, with the very command line that compiles it, each door that the
room may not see must be refused by the compiler, and each one that it sees must compile by itself.
The table below is docs/architecture.md's; that a room's CMakeLists.txt says more is what is tested.
Also: no include climbs out of its room, and no folder but those that may names the hypervisor that
stands behind vic-host.  Prints every breach; exits 1 when there is one.
"""

import concurrent.futures
import glob
import json
import os
import re
import shlex
import subprocess
import sys

# Room (a folder; the longest that fits counts) -> the doors that it may see, by prefix.
MAY_SEE = {
    "base": ["base/"],
    "store": ["base/", "store/"],
    "vsphere": ["base/", "vsphere/"],
    "tether": ["base/", "tether/wire.h"],
    "tether/hub": ["base/", "tether/wire.h", "tether/hub.h"],
    "control": ["base/", "store/", "vsphere/", "tether/", "control/"],
    "api": ["base/", "store/", "tether/hub.h", "api/"],
    "vic-machine": ["base/", "store/", "vsphere/"],
}
# A program's main puts rooms together that do not see each other: target -> doors beside the room's.
PROGRAM_SEES = {"vic-engine": ["api/"]}
HYPERVISOR = b"qe" + b"mu"
MAY_NAME_IT = ("tools/", "tests/", "docs/", "README")


class Target:
    """One room's library or program, as compile_commands.json knows it."""

    def __init__(self, name, room, folder, flags):
        self.name, self.room, self.folder, self.flags = name, room, folder, flags

    def probe(self, includes, preprocess_only):
        """Compiles a file of these includes, as if it lay in the room's folder."""
        text = "".join('#include "%s"\n' % i for i in includes) + "extern int walls_probe;\n"
        mode = ["-E", "-o", os.devnull] if preprocess_only else ["-fsyntax-only"]
        run = subprocess.run(self.flags + mode + ["-x", "c", "-"], input=text, text=True,
                             cwd=self.folder, capture_output=True, timeout=60, check=False)
        return run.returncode == 0, run.stderr


def compile_flags(entry):
    """The command without its input, output and dependency file."""
    words = shlex.split(entry["command"])
    flags, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("-o", "-c", "-MF", "-MT", "-MQ"):
            skip = True
        elif word not in ("-MD", "-MMD", "-Werror"):
            flags.append(word)
    return flags


def room_of(path):
    fits = [r for r in MAY_SEE if path.startswith(r + "/")]
    return max(fits, key=len) if fits else None


def find_targets(source, build):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        entries = json.load(f)
    targets = {}
    for entry in entries:
        room = room_of(os.path.relpath(entry["file"], source))
        doors = re.search(r"-I\S*/doors/(\S+)", entry["command"])
        if room and doors:
            key = (doors.group(1), room)
            folder = os.path.dirname(entry["file"])
            targets.setdefault(key, Target(*key, folder, compile_flags(entry)))
    # A program that compiles base's sources itself (the static agent) is tested as its own room;
    # base's walls are tested on base's libraries.
    others = {name for name, room in targets if room != "base"}
    return [t for (name, room), t in targets.items() if room != "base" or name not in others]


def find_doors(source, build):
    """Every public header there is: the globs of cmake/VicRoom.cmake."""
    doors = set()
    with open(os.path.join(source, "cmake/VicRoom.cmake"), encoding="utf-8") as f:
        for globs in re.findall(r"^set\(VIC_DOORS_\S+ ([^)]*)\)", f.read(), re.M):
            for pattern in globs.split():
                for root in (source, build):
                    for path in glob.glob(os.path.join(root, pattern)):
                        if not path.endswith("_priv.h"):
                            doors.add(os.path.relpath(path, root))
    return sorted(doors)


def may_see(target, door):
    allowed = MAY_SEE[target.room] + PROGRAM_SEES.get(target.name, [])
    return any(door.startswith(prefix) for prefix in allowed)


def visible(build, target):
    """The doors in the target's folder whose files exist (a generated one may not, yet)."""
    root = os.path.join(build, "doors", target.name)
    found = []
    for folder, _, files in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, f), root) for f in files
                  if os.path.exists(os.path.join(folder, f))]
    return sorted(found)


def check_refused(target, door):
    compiled, message = target.probe([door], True)
    if compiled:
        return "%s (room %s) can include %s" % (target.name, target.room, door)
    if "No such file" not in message and "file not found" not in message:
        return "%s: probing %s failed for another reason:\n%s" % (target.name, door, message)
    return None


def check_compiles(target, door):
    compiled, message = target.probe([door], door.endswith(".def"))
    return None if compiled else "%s: %s does not compile alone:\n%s" % (target.name, door, message)


def compiler_checks(source, build):
    doors, jobs = find_doors(source, build), []
    alone = set()  # a door is as self-contained in one room as in another
    for target in find_targets(source, build):
        for door in doors:
            if not may_see(target, door):
                jobs.append((check_refused, target, door))
        for door in visible(build, target):
            if may_see(target, door) and (door, target.room) not in alone:
                alone.add((door, target.room))
                jobs.append((check_compiles, target, door))
    return jobs


def source_files(source):
    """What git tracks or would; without git, everything outside of build folders."""
    git = subprocess.run(["git", "-C", source, "ls-files", "-co", "--exclude-standard", "-z"],
                         capture_output=True, timeout=60, check=False)
    if git.returncode == 0:
        return [f for f in git.stdout.decode().split("\0") if f]
    found = []
    for folder, folders, files in os.walk(source):
        folders[:] = [d for d in folders if d not in ("build", ".git")]
        found += [os.path.relpath(os.path.join(folder, f), source) for f in files]
    return found


def text_checks(source):
    breaches = []
    for name in source_files(source):
        path = os.path.join(source, name)
        if not os.path.isfile(path):
            continue
        with open(path, "rb") as f:
            text = f.read()
        if not name.startswith(MAY_NAME_IT) and HYPERVISOR in text.lower():
            breaches.append("%s names the hypervisor" % name)
        if room_of(name) and name.endswith((".c", ".h", ".def")):
            for include in re.findall(rb'^\s*#\s*include\s*["<]((?:\.\.?|)/[^">]*)', text, re.M):
                breaches.append("%s climbs over the wall: %s" % (name, include.decode()))
    return breaches


def main():
    source, build = (os.path.realpath(p) for p in sys.argv[1:3])
    jobs = compiler_checks(source, build)
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(lambda job: job[0](*job[1:]), jobs))
    breaches = [r for r in results if r] + text_checks(source)
    refused = sum(1 for job in jobs if job[0] is check_refused)
    if not jobs:
        breaches.append("no room of this build could be tested")
    print("\n".join(breaches + ["%d includes refused, %d doors compiled, %d breaches" %
                                (refused, len(jobs) - refused, len(breaches))]))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
