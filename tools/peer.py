"""Starts and stops Debian's dockerd as a peer: to compare with (tests/e2e) and to run beside (tools/bench).

It lives in a folder of its own, touches no network of the machine (no iptables, no bridge: its
containers run with --network none) and is stopped by pid, with the containerd that it starts itself.
"""
import os
import shutil
import subprocess
import time

import rig as rigs

DOCKERD = "/usr/sbin/dockerd"
TOOLS = os.path.dirname(os.path.abspath(__file__))


class Peer:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.socket = os.path.join(self.folder, "docker.sock")
        self.log = os.path.join(self.folder, "dockerd.log")
        self.child = None

    @property
    def docker_host(self):
        return "unix://" + self.socket

    def start(self):
        if not os.path.exists(DOCKERD):
            rigs.run([os.path.join(TOOLS, "install"), "peer"], timeout=600)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        here = {name: os.path.join(self.folder, name) for name in ("data", "exec", "docker.pid")}
        argv = [DOCKERD, "--iptables=false", "--ip6tables=false", "--bridge=none",
                "--data-root", here["data"], "--exec-root", here["exec"],
                "--host", self.docker_host, "--pidfile", here["docker.pid"]]
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          start_new_session=True)
        end = time.monotonic() + 60
        while self.docker("version").returncode:
            if self.child.poll() is not None or time.monotonic() > end:
                self.stop()
                raise rigs.RigError(f"dockerd did not start:\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self, lines=15):
        with open(self.log, errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def docker(self, *args, timeout=120, check=False, stdin=None, text=True):
        return rigs.docker(self.docker_host, *args, timeout=timeout, check=check, stdin=stdin,
                           text=text)

    def stop(self):
        """dockerd stops its containers and its containerd; then the folder goes."""
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(10)
        self.child = None
        for mount in self.mounts():  # what a dockerd that was killed has left
            rigs.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def mounts(self):
        with open("/proc/mounts") as f:
            points = [line.split()[1] for line in f]
        return [p for p in reversed(points) if p.startswith(self.folder + "/")]
