#!/usr/bin/python3
"""Two witnesses of the wire format: what one codec writes, the other must read and write again alike.

  wire_test.py BUILD_DIR SOURCE_DIR

1. Our client runs its tests against govmomi's simulator and records them.  govmomi reads our requests
   (govcodec) and writes them again: the same elements, in the same order, with the same values.
2. govmomi's client works on the simulator and records itself.  We read its requests (strictly) and
   the simulator's replies, and write them again (reencode).
3. The same for the sample kept in tests/vsphere/recorded, so that a change of either side is seen
   against the past as well.

A difference fails, but for elements that the schema requires and govmomi leaves out (the simulator
speaks as an old server there): we write them as false, 0 or empty.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"

def local(tag):
    return tag.rsplit("}", 1)[-1]


def value(text):
    """Text, made comparable: times in microseconds UTC, numbers as numbers."""
    text = (text or "").strip()
    m = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if m:
        digits = (m[2] or ".")[1:7].ljust(6, "0")
        return f"{m[1]}.{digits}{'Z' if m[3] == '+00:00' else m[3]}"
    if re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", text):
        return str(float(text)) if not re.fullmatch(r"-?\d+", text) else text
    return text


def compare(a, b, path, out):
    """Differences between two elements."""
    here = f"{path}/{local(a.tag)}"
    if local(a.tag) != local(b.tag):
        out.append(f"{here}: {local(a.tag)} became {local(b.tag)}")
        return
    if a.get("type") != b.get("type"):
        out.append(f"{here}: type {a.get('type')} became {b.get('type')}")
    types = [x.get(XSI_TYPE, "").rsplit(":", 1)[-1] for x in (a, b)]
    if all(types) and types[0] != types[1]:
        out.append(f"{here}: xsi:type {types[0]} became {types[1]}")
    if not len(a) and not len(b) and value(a.text) != value(b.text):
        out.append(f"{here}: '{a.text}' became '{b.text}'")
    theirs, ours = list(a), list(b)
    while theirs and ours:
        if local(theirs[0].tag) != local(ours[0].tag) and is_zero(ours[0]):
            ours.pop(0)
        else:
            compare(theirs.pop(0), ours.pop(0), here, out)
    extra = [local(c.tag) for c in theirs], [local(c.tag) for c in ours if not is_zero(c)]
    for verb, names in zip(("lost", "gained"), extra):
        if names:
            out.append(f"{here}: {verb} {names}")


def is_zero(e):
    return not len(e) and (e.text or "") in ("", "0", "false", "0001-01-01T00:00:00Z")


def body(path):
    root = ET.parse(path).getroot()
    for child in root:
        if local(child.tag) == "Body":
            return child[0]
    return root


def check(paths, suffix):
    bad = 0
    for path in paths:
        out = []
        compare(body(path), body(path + suffix), "", out)
        for line in out:
            print(f"{os.path.basename(path)}: {line}")
        bad += bool(out)
    return bad


def run(*args, **kw):
    subprocess.run(args, check=True, timeout=100, **kw)


def our_requests(build, folder):
    run(f"{build}/tests/vsphere_client_test", env={**os.environ, "VIC_RECORD_DIR": folder},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    requests = sorted(glob.glob(f"{folder}/*.req.xml"))
    run(f"{build}/tests/sim/govcodec", *requests)
    return requests


def govmomi_messages(build, folder):
    sim = subprocess.Popen([f"{build}/tests/sim/vcsim", "-esx"], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True)
    try:
        url = sim.stdout.readline().split()[0]
        for n, command in enumerate((["about"], ["ls", "/"], ["ls", "/ha-datacenter/vm"],
                                     ["create", "g", "LocalDS_0"], ["on", "g"],
                                     ["reconfigure", "g", "vic.x", "a<b>"], ["info", "g"], ["info", "ha-host_VM0"],
                                     ["all", "HostSystem", "ha-host"],
                                     ["all", "ResourcePool", "ha-root-pool"],
                                     ["all", "VirtualMachine", "vm-9"],
                                     ["off", "g"], ["destroy", "g"])):
            part = f"{folder}/{n}"
            os.mkdir(part)
            run(f"{build}/tests/sim/govclient", url, "root", "secret", *command,
                env={**os.environ, "GOVCLIENT_DUMP": part}, stdout=subprocess.DEVNULL)
    finally:
        sim.stdin.close()
        sim.wait(timeout=10)
    return sorted(glob.glob(f"{folder}/*/*.re[qs].xml"))


def main():
    build, source = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as tmp:
        for name in ("ours", "theirs", "kept"):
            os.mkdir(f"{tmp}/{name}")
        ours = our_requests(build, f"{tmp}/ours")
        bad = check(ours, ".gov")
        theirs = govmomi_messages(build, f"{tmp}/theirs")
        kept = []
        for path in glob.glob(f"{source}/tests/vsphere/recorded/*.xml"):
            kept.append(f"{tmp}/kept/{os.path.basename(path)}")
            with open(path, "rb") as src, open(kept[-1], "wb") as dst:
                dst.write(src.read())
        for paths in (theirs, sorted(kept)):
            run(f"{build}/tests/vsphere_reencode", *paths)
            bad += check(paths, ".vic")
        print(f"{len(ours)} requests of ours, {len(theirs)} messages of govmomi, {len(kept)} kept: "
              f"{bad} differ")
        if "-keep" in sys.argv:
            subprocess.run(["cp", "-r", tmp, sys.argv[sys.argv.index("-keep") + 1]], check=True)
        sys.exit(bool(bad) or not ours or not theirs)


if __name__ == "__main__":
    main()
