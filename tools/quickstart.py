"""The work of tools/quickstart, on tools/rig.py; see there."""
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rig as rigs  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "release")
FOLDER = os.environ.get("VIC_QUICKSTART", os.path.join(ROOT, "out", "quickstart"))
BEGAN = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def build():
    os.makedirs(os.path.dirname(BUILD), exist_ok=True)
    log = BUILD + ".log"
    with open(log, "w") as out:
        for argv in (["cmake", "--preset", "release"], ["cmake", "--build", BUILD, "--target",
                     "vic-engine", "vic-host", "vic-dump", "bootstrap_iso"]):
            if subprocess.run(argv, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT).returncode:
                out.flush()
                with open(log) as f:
                    sys.stderr.write("".join(f.readlines()[-30:]))
                raise rigs.RigError(f"{' '.join(argv)} failed; the whole log is {log}")


def show_env(rig):
    print(f"export DOCKER_HOST={rig.docker_host}")
    print("unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH")


def up(rig):
    say("building (Release)")
    build()
    say("starting vic-host")
    rig.start_host()
    say("starting vic-engine")
    rig.start_engine()
    if not rig.docker("images", "-q", "busybox").stdout.strip():
        say("making an image from Debian's busybox and loading it: docker load")
        image = os.path.join(rig.folder, "busybox.tar")
        rigs.run([os.path.join(ROOT, "tools", "make-image"), image])
        print(rig.docker("load", "-i", image, timeout=300, check=True).stdout, end="")
    say("docker run --rm busybox echo hello from a VM")
    began = time.monotonic()
    done = rig.docker("run", "--rm", "busybox", "echo", "hello from a VM", timeout=300)
    print(done.stdout, end="")
    if done.returncode:
        raise rigs.RigError(f"docker run: exit {done.returncode}: {done.stderr}")
    say(f"that container was a virtual machine; it took {time.monotonic() - began:.1f} s")
    print(f"""
Use it:      export DOCKER_HOST={rig.docker_host}
             docker run -it --rm busybox
Look at it:  tools/quickstart status      logs: {rig.folder}/*.log
End it:      tools/quickstart stop""")


def status(rig):
    for what, process in (("vic-host", rig.host), ("vic-engine", rig.engine)):
        print(f"{what:11} {'running, pid ' + str(process.pid) if process else 'not running'}")
    vms = rig.vm_processes()
    print(f"{'VMs':11} {len(vms)}{': pids ' + ' '.join(map(str, vms)) if vms else ''}")
    print(f"{'state':11} {rig.folder}")
    return 0 if rig.host and rig.engine else 3


def main():
    rig = rigs.Rig(FOLDER, BUILD)
    command = sys.argv[1]
    if command == "up":
        up(rig)
    elif command == "env":
        show_env(rig)
    elif command == "status":
        return status(rig)
    else:
        rig.stop()
        say("stopped")
        if command == "purge":
            shutil.rmtree(rig.folder, ignore_errors=True)
            say(f"removed {rig.folder}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (rigs.RigError, subprocess.TimeoutExpired) as e:
        sys.exit(f"tools/quickstart: {e}")
