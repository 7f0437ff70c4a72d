#!/usr/bin/env python3
"""Makes bootstrap.iso: the distribution's kernel, tether as /init, the drivers it may need.

Steps: fetch and unpack the kernel package (no installation, no root), write the initramfs (newc
cpio by hand: sorted, times 0, owner 0), then an ISO 9660 image that isolinux boots by BIOS.  The
same inputs give the same bytes: nothing of the build's time, place or user goes in.

The kernel and the initramfs lie beside the image too, for hosts that boot them directly.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys

METAPACKAGE = "linux-image-cloud-amd64"
# What tether's table of drivers (tether/agent/boot.c) may ask for.
DRIVERS = ["vmw_pvscsi", "sd_mod", "vmxnet3", "virtio_pci", "virtio_console", "virtio_rng"]
KERNEL_LINE = ("console=ttyS0 quiet loglevel=3 panic=1 rcupdate.rcu_expedited=1 "
               "random.trust_cpu=on tsc=reliable no_timer_check cryptomgr.notests audit=0 "
               "8250.nr_uarts=1")
ISOLINUX_CFG = """DEFAULT vic
PROMPT 0
TIMEOUT 0
LABEL vic
  KERNEL /boot/vmlinuz
  INITRD /boot/core.img
  APPEND {line}
"""
EPOCH = "1577836800"  # 2020-01-01, in every file's and volume's time


def run(*args, **kwargs):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, **kwargs).stdout.decode()


def kernel_package():
    """The package that the metapackage depends on now, with its version."""
    for line in run("apt-cache", "depends", METAPACKAGE).splitlines():
        found = re.match(r"\s*Depends: (linux-image-\S+)", line)
        if found:
            return found.group(1)
    sys.exit(f"{METAPACKAGE} depends on no kernel")


def unpack_kernel(cache):
    """Returns the folder with boot/ and lib/modules/; fetched once for each kernel version."""
    name = kernel_package()
    version = re.search(r"^Version: (\S+)", run("apt-cache", "show", name), re.M).group(1)
    folder = os.path.join(cache, f"{name}_{version.replace(':', '.')}")
    if os.path.isdir(folder):
        return folder
    partial = f"{folder}.{os.getpid()}"
    os.makedirs(partial)
    run("apt-get", "download", f"{name}={version}", cwd=partial, stderr=subprocess.DEVNULL)
    package = glob.glob(os.path.join(partial, "*.deb"))[0]
    run("dpkg-deb", "-x", package, partial)
    os.remove(package)
    os.rename(partial, folder)
    return folder


def module_files(kernel):
    paths = glob.glob(os.path.join(kernel, "lib/modules/*/kernel/**/*.ko*"), recursive=True)
    return {os.path.basename(p).split(".")[0].replace("-", "_"): p for p in paths}


def module_bytes(path):
    if path.endswith(".xz"):
        return subprocess.run(["xz", "-dc", path], check=True, stdout=subprocess.PIPE).stdout
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    with open(path, "rb") as f:
        return f.read()


def load_order(name, files, seen):
    """'name' after all that its .modinfo section says it depends on."""
    if name in seen or name not in files:
        return []
    seen.add(name)
    depends = re.search(rb"\0depends=([^\0]*)\0", module_bytes(files[name])).group(1).decode()
    order = []
    for d in filter(None, depends.replace("-", "_").split(",")):
        order += load_order(d, files, seen)
    return order + [name]


def cpio_entry(ino, name, mode, data=b"", rdev=(0, 0)):
    fields = [ino, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def initramfs(tether, kernel):
    """The files of the initramfs, as one newc archive."""
    files = module_files(kernel)
    order = {d: load_order(d, files, set()) for d in DRIVERS}
    with open(tether, "rb") as f:
        entries = {"init": (0o100755, f.read(), (0, 0))}
    for folder in ("dev", "lib", "lib/modules"):
        entries[folder] = (0o040755, b"", (0, 0))
    entries["dev/console"] = (0o020600, b"", (5, 1))
    entries["dev/null"] = (0o020666, b"", (1, 3))
    for module in sorted({m for mods in order.values() for m in mods}):
        entries[f"lib/modules/{module}.ko"] = (0o100644, module_bytes(files[module]), (0, 0))
    lines = "".join(f"{d} {' '.join(mods)}\n" for d, mods in sorted(order.items()))
    entries["lib/modules/list"] = (0o100644, lines.encode(), (0, 0))
    out = b"".join(cpio_entry(i + 1, name, mode, data, rdev)
                   for i, (name, (mode, data, rdev)) in enumerate(sorted(entries.items())))
    out += cpio_entry(0, "TRAILER!!!", 0)
    return out + b"\0" * (-len(out) % 512)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def make_iso(tree, out):
    env = dict(os.environ, SOURCE_DATE_EPOCH=EPOCH, TZ="UTC", LC_ALL="C")
    for folder, _, names in os.walk(tree):
        for name in names + ["."]:
            os.utime(os.path.join(folder, name), (int(EPOCH), int(EPOCH)))
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", out, "-V", "VIC_BOOTSTRAP", "-R",
                    "-uid", "0", "-gid", "0", "-dir-mode", "0755", "-file-mode", "0644",
                    "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot",
                    "-boot-load-size", "4", "-boot-info-table", tree],
                   check=True, env=env, stdin=subprocess.DEVNULL)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tether", required=True, help="the static binary that becomes /init")
    p.add_argument("--cache", required=True, help="folder for the unpacked kernel package")
    p.add_argument("--out", required=True, help="bootstrap.iso; vmlinuz, core.img go beside it")
    p.add_argument("--isolinux", default="/usr/lib/ISOLINUX/isolinux.bin")
    p.add_argument("--ldlinux", default="/usr/lib/syslinux/modules/bios/ldlinux.c32")
    a = p.parse_args()
    os.umask(0o022)
    os.makedirs(a.cache, exist_ok=True)
    folder = os.path.dirname(os.path.abspath(a.out))
    kernel = unpack_kernel(os.path.abspath(a.cache))
    tree = f"{os.path.abspath(a.out)}.tree"
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, "boot"))
    os.makedirs(os.path.join(tree, "isolinux"))
    shutil.copyfile(glob.glob(os.path.join(kernel, "boot/vmlinuz-*"))[0],
                    os.path.join(tree, "boot/vmlinuz"))
    write(os.path.join(tree, "boot/core.img"), initramfs(a.tether, kernel))
    shutil.copyfile(a.isolinux, os.path.join(tree, "isolinux/isolinux.bin"))
    shutil.copyfile(a.ldlinux, os.path.join(tree, "isolinux/ldlinux.c32"))
    write(os.path.join(tree, "isolinux/isolinux.cfg"),
          ISOLINUX_CFG.format(line=KERNEL_LINE).encode())
    for name in ("vmlinuz", "core.img"):
        shutil.copyfile(os.path.join(tree, "boot", name), os.path.join(folder, name))
    write(os.path.join(folder, "cmdline"), (KERNEL_LINE + "\n").encode())
    make_iso(tree, a.out + ".new")
    shutil.rmtree(tree)
    os.replace(a.out + ".new", a.out)


if __name__ == "__main__":
    main()
