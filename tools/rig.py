"""Starts and stops a whole system on one machine: vic-host, its VMs, vic-engine.

One place for tools/quickstart, tests/e2e and tools/bench.  A rig is a folder:

    host/       vic-host's state (root's alone)
    engine/     vic-engine's state: store, logs, spool (the user vic-engine's alone)
    docker.sock the Docker API
    rig.json    what was started: pids with their start times, names

vic-engine runs as an unprivileged user inside vic-host's network namespace: it reaches vic-host on its
HTTPS port and the bridge, and can read none of its files.  Only what the rig started is stopped, by
pid and start time.
"""
import hashlib
import json
import os
import pwd
import secrets
import signal
import subprocess
import time

ENGINE_USER = "vic-engine"
QEMU_USER = "vic-qemu"
PORT = 8989
ADDRESS = "127.0.0.1"


class RigError(Exception):
    pass


def run(argv, timeout=60, check=True, **kw):
    done = subprocess.run(argv, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, **kw)
    if check and done.returncode != 0:
        raise RigError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def docker(host, *args, timeout=120, check=False, stdin=None, text=True):
    """Runs the docker CLI against DOCKER_HOST 'host'."""
    env = {**os.environ, "DOCKER_HOST": host}
    env.pop("DOCKER_CONTEXT", None)
    done = subprocess.run(["docker", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=text, timeout=timeout, env=env,
                          **({"input": stdin} if stdin is not None else
                             {"stdin": subprocess.DEVNULL}))
    if check and done.returncode != 0:
        raise RigError(f"docker {' '.join(args)}: exit {done.returncode}: {done.stderr}")
    return done


def ensure_user(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        run(["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", "/usr/sbin/nologin", name])
        return pwd.getpwnam(name)


def start_time(pid):
    """Start time in clock ticks since boot: with the pid it names a process for good."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return None


class Process:
    def __init__(self, pid, start):
        self.pid, self.start = pid, start

    @classmethod
    def of(cls, pid):
        return cls(pid, start_time(pid))

    def alive(self):
        if self.start is None or start_time(self.pid) != self.start:
            return False
        try:
            with open(f"/proc/{self.pid}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def stop(self, grace=20):
        """SIGTERM, then SIGKILL after the grace; returns whether SIGTERM was enough."""
        self.signal(signal.SIGTERM)
        if self.wait(grace):
            return True
        self.signal(signal.SIGKILL)
        self.wait(5)
        return False

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while self.alive():
            try:  # our own child: reap it
                os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pass
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


class Rig:
    def __init__(self, folder, build, name="vch", port=PORT, strict=True, engine_args=()):
        self.folder = os.path.abspath(folder)
        self.build = os.path.abspath(build)
        self.name, self.port, self.strict = name, port, strict
        self.engine_args = list(engine_args)
        self.host_dir = os.path.join(self.folder, "host")
        self.engine_dir = os.path.join(self.folder, "engine")
        self.socket = os.path.join(self.folder, "docker.sock")
        self.state_file = os.path.join(self.folder, "rig.json")
        self.host = self.engine = None
        self.load()

    # --- state -------------------------------------------------------------------------------------
    def load(self):
        self.vch_id = secrets.token_hex(32)
        self.netns = "vic-" + hashlib.sha256(self.folder.encode()).hexdigest()[:8]
        try:
            with open(self.state_file) as f:
                state = json.load(f)
        except FileNotFoundError:
            return
        self.vch_id = state["vch_id"]
        for which in ("host", "engine"):
            if state.get(which):
                process = Process(*state[which])
                setattr(self, which, process if process.alive() else None)

    def save(self):
        state = {"vch_id": self.vch_id, "netns": self.netns}
        for which in ("host", "engine"):
            process = getattr(self, which)
            state[which] = [process.pid, process.start] if process else None
        with open(self.state_file + ".new", "w") as f:
            json.dump(state, f)
        os.rename(self.state_file + ".new", self.state_file)

    def binary(self, name):
        path = os.path.join(self.build, "bin", name)
        if not os.path.exists(path):
            raise RigError(f"{path} is not built")
        return path

    @property
    def docker_host(self):
        return "unix://" + self.socket

    @property
    def endpoint_address(self):
        digest = hashlib.sha256(self.vch_id.encode()).hexdigest()[:16]
        return "fe80::" + ":".join(digest[i:i + 4] for i in range(0, 16, 4))

    # --- starting ----------------------------------------------------------------------------------
    def prepare(self):
        if os.geteuid() != 0:
            raise RigError("network namespaces and taps need root: run it with sudo")
        self.users = (ensure_user(ENGINE_USER), ensure_user(QEMU_USER))
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        os.makedirs(self.host_dir, mode=0o700, exist_ok=True)
        os.makedirs(self.engine_dir, mode=0o700, exist_ok=True)
        os.chown(self.engine_dir, self.users[0].pw_uid, self.users[0].pw_gid)

    def spawn(self, argv, log, env=None):
        with open(os.path.join(self.folder, log), "ab") as out:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                     start_new_session=True, env={**os.environ, **(env or {})})
        self.children = getattr(self, "children", [])
        self.children.append(child)
        return Process.of(child.pid)

    def log_tail(self, log, lines=15):
        try:
            with open(os.path.join(self.folder, log), errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except OSError:
            return ""

    def wait_for(self, what, condition, process, log, timeout):
        end = time.monotonic() + timeout
        while not condition():
            if process and not process.wait(0):
                pass
            elif process:
                raise RigError(f"{what} ended at once:\n{self.log_tail(log)}")
            if time.monotonic() > end:
                raise RigError(f"{what} is not ready after {timeout} s:\n{self.log_tail(log)}")
            time.sleep(0.02)

    def start_host(self, env=None):
        if self.host and self.host.alive():
            return
        self.prepare()
        ready = os.path.join(self.host_dir, "ready")
        if os.path.exists(ready):
            os.unlink(ready)
        argv = [self.binary("vic-host"), "--state-dir", self.host_dir, "--netns", self.netns,
                "--listen", f"netns:{ADDRESS}:{self.port}", "--qemu-user", QEMU_USER]
        if self.strict:
            argv.append("--strict")
        self.host = self.spawn(argv, "vic-host.log", env)
        self.save()
        self.wait_for("vic-host", lambda: os.path.exists(ready), self.host, "vic-host.log", 30)

    def bridge(self):
        with open(os.path.join(self.host_dir, "bridge")) as f:
            return f.read().strip()

    def start_engine(self, env=None, args=(), wait=True, iso=None):
        """'iso': another boot image than the build's (tools/bench)."""
        if self.engine and self.engine.alive():
            return
        self.prepare()
        bridge = self.bridge()
        run(["ip", "-n", self.netns, "-6", "addr", "replace", self.endpoint_address + "/64", "dev",
             bridge, "nodad", "scope", "link"])
        for name in ("password", "thumbprint"):
            target = os.path.join(self.engine_dir, name)
            with open(os.path.join(self.host_dir, name)) as f:
                text = f.read()
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
                f.write(text)
            os.chown(target, self.users[0].pw_uid, self.users[0].pw_gid)
        image = iso or os.path.join(self.build, "isoimage", "bootstrap.iso")
        iso = os.path.join(self.folder, "bootstrap.iso")
        run(["install", "-m", "0644", image, iso])
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        inner = os.path.join(self.engine_dir, "docker.sock")
        argv = ["ip", "netns", "exec", self.netns, "setpriv", "--reuid", ENGINE_USER, "--regid",
                ENGINE_USER, "--clear-groups", "--no-new-privs", "--inh-caps=-all",
                "--bounding-set=-all", self.binary("vic-engine"),
                "--state-dir", self.engine_dir, "--host", "unix://" + inner,
                "--channel", bridge, "--target", f"https://{ADDRESS}:{self.port}",
                "--password-file", os.path.join(self.engine_dir, "password"),
                "--thumbprint-file", os.path.join(self.engine_dir, "thumbprint"),
                "--bridge-network", "vic-bridge", "--bootstrap-iso", iso, "--name", self.name,
                "--vch-id", self.vch_id, *self.engine_args, *args]
        if os.path.exists(inner):
            os.unlink(inner)
        self.engine = self.spawn(argv, "vic-engine.log", env)
        self.save()
        if not wait:
            return
        self.wait_for("vic-engine", lambda: os.path.exists(inner), self.engine, "vic-engine.log", 30)
        os.symlink(inner, self.socket)

    # --- docker ------------------------------------------------------------------------------------
    def docker(self, *args, timeout=120, check=False, stdin=None, text=True):
        socket = os.path.join(self.engine_dir, "docker.sock")
        return docker("unix://" + socket, *args, timeout=timeout, check=check, stdin=stdin, text=text)

    # --- looking -----------------------------------------------------------------------------------
    def vm_processes(self):
        """The rig's QEMU processes: those that hold a file of its vic-host open."""
        return sorted(int(p) for p in os.listdir("/proc") if p.isdigit() and self.is_vm(p))

    def is_vm(self, pid):
        try:
            with open(f"/proc/{pid}/comm") as f:
                if not f.read().startswith("qemu-system"):
                    return False
            fds = f"/proc/{pid}/fd"
            return any(os.readlink(os.path.join(fds, fd)).startswith(self.host_dir + "/")
                       for fd in os.listdir(fds))
        except OSError:
            return False

    def taps(self):
        done = run(["ip", "-n", self.netns, "-o", "link", "show", "type", "tun"], check=False)
        return [line.split(":")[1].strip() for line in done.stdout.splitlines()]

    # --- stopping ----------------------------------------------------------------------------------
    def stop_engine(self):
        clean = self.engine.stop() if self.engine else True
        self.engine = None
        if os.path.islink(self.socket):
            os.unlink(self.socket)
        self.save()
        return clean

    def stop_host(self):
        clean = self.host.stop() if self.host else True
        self.host = None
        self.save()
        return clean

    def stop_vms(self):
        """Powers off what still runs; vic-host has ended."""
        if self.vm_processes():
            run([self.binary("vic-host"), "--state-dir", self.host_dir, "--netns", self.netns,
                 "--qemu-user", QEMU_USER, "--stop-vms"], timeout=60, check=False)
        for pid in self.vm_processes():
            Process.of(pid).stop(5)

    def stop(self):
        clean = self.stop_engine()
        clean = self.stop_host() and clean
        self.stop_vms()
        run(["ip", "netns", "del", self.netns], check=False)
        return clean
