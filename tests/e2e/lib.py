"""What end-to-end tests share: a rig with an image loaded, asserts with deadlines, the leak check."""
import json
import os
import pty
import re
import select
import subprocess
import time

import rig as rigs

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def until(what, condition, timeout=30):
    """Waits for a condition with a deadline; returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.05)


def same(got, expected, what=""):
    if got != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {got!r}")


def contains(text, part, what=""):
    if part not in text:
        raise AssertionError(f"{what}: {part!r} is not in {text!r}")


class Terminal:
    """A docker command on a terminal of its own."""

    def __init__(self, rig, *args):
        self.master, slave = pty.openpty()
        env = {**os.environ, "DOCKER_HOST": rig.docker_host, "TERM": "xterm"}
        self.process = subprocess.Popen(["docker", *args], stdin=slave, stdout=slave, stderr=slave,
                                        env=env, start_new_session=True,
                                        preexec_fn=lambda: self.own(slave))
        os.close(slave)
        self.text = ""

    @staticmethod
    def own(slave):
        import fcntl
        import termios
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    def size(self, rows, cols):
        import fcntl
        import signal
        import struct
        import termios
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        os.kill(self.process.pid, signal.SIGWINCH)

    def write(self, text):
        os.write(self.master, text.encode())

    def read(self, timeout):
        ready, _, _ = select.select([self.master], [], [], timeout)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, timeout=40):
        end = time.monotonic() + timeout
        while not re.search(pattern, self.text):
            if time.monotonic() > end:
                raise AssertionError(f"terminal: {pattern!r} not within {timeout} s in {self.text!r}")
            if not self.read(0.2) and self.process.poll() is not None and \
                    not re.search(pattern, self.text):
                raise AssertionError(f"terminal: ended without {pattern!r}: {self.text!r}")

    def wait(self, timeout=40):
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            self.read(0.1)
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"terminal: docker did not end: {self.text!r}")
        while self.read(0):
            pass
        os.close(self.master)
        return self.process.returncode


class TestRig(rigs.Rig):
    full = False

    def up(self):
        os.makedirs(self.folder, exist_ok=True)
        self.start_host(env=self.sanitizer_env("host"))
        self.start_engine(env=self.sanitizer_env("engine"))
        self.load_busybox()

    def sanitizer_env(self, who):
        options = f"log_path={self.folder}/san.{who}:abort_on_error=0:exitcode=77"
        if who == "engine":
            options = options.replace(self.folder, self.engine_dir)
        return {"ASAN_OPTIONS": options, "UBSAN_OPTIONS": options + ":print_stacktrace=1"}

    def sanitizer_reports(self):
        for folder in (self.folder, self.engine_dir):
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                if name.startswith("san."):
                    with open(os.path.join(folder, name), errors="replace") as f:
                        yield f.read()

    def load_busybox(self):
        image = os.path.join(self.folder, "busybox.tar")
        rigs.run([os.path.join(ROOT, "tools", "make-image"), image])
        contains(self.docker("load", "-i", image, timeout=300, check=True).stdout,
                 "Loaded image: busybox:latest")

    def restart_engine(self, kill=False, env=None):
        if not self.engine:
            pass
        elif kill:
            self.engine.signal(9)
            self.engine.wait(10)
            self.engine = None
        else:
            self.stop_engine()
        self.start_engine(env={**self.sanitizer_env("engine"), **(env or {})})

    def healthy(self):
        return self.engine and self.engine.alive() and self.host and self.host.alive()

    def inspect(self, name):
        return json.loads(self.docker("inspect", name, check=True).stdout)[0]

    def state(self, name):
        return self.inspect(name)["State"]

    def popen(self, *args, **kw):
        env = {**os.environ, "DOCKER_HOST": self.docker_host}
        return subprocess.Popen(["docker", *args], env=env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **{"stdin": subprocess.DEVNULL, **kw})

    # --- the leak check -----------------------------------------------------------------------------
    def datastore_files(self, sub):
        folder = os.path.join(self.host_dir, "datastore1", self.name, sub)
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def check_leaks(self):
        """No test leaves a container, a VM, a tap, a container disk or a console file."""
        left = self.docker("ps", "-aq", "--no-trunc", check=True).stdout.split()
        if left:
            self.docker("rm", "-f", *left)
            raise AssertionError(f"the test left containers: {left}")
        until("no VM process is left", lambda: not self.vm_processes(), 60)
        until("no tap is left", lambda: not self.taps(), 10)
        until("no container disk is left", lambda: not self.datastore_files("disks"), 30)
        until("no console file is left", lambda: not self.datastore_files("console"), 30)
