"""A vic-host for tests: its process, a pyVmomi session, datastore HTTP, and the leak check.

Everything lies in one temporary folder; the network namespace carries the process's number.  Only
what was started here is stopped.
"""
import http.client
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.parse

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

PC = vmodl.query.PropertyCollector


class Host:
    def __init__(self, binary, *args):
        self.binary, self.args = binary, list(args)
        self.dir = tempfile.mkdtemp(prefix="vic-host-test-")
        self.state = os.path.join(self.dir, "state")
        self.netns = f"vh-{os.getpid()}"
        self.process, self.sessions, self.connection = None, [], None

    # --- the process -------------------------------------------------------------------------------
    def start(self):
        ready = os.path.join(self.state, "ready")
        if os.path.exists(ready):
            os.unlink(ready)
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "--state-dir", self.state, "--listen", "tcp:127.0.0.1:0", "--netns",
                 self.netns, "--log-level", "debug", *self.args],
                stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        found = re.match(r"vic-host: listening on tcp:127\.0\.0\.1:(\d+) thumbprint (\S+)", line)
        if not found:
            raise AssertionError(f"vic-host said {line!r}:\n{self.log()}")
        self.port, self.thumbprint = int(found[1]), found[2]
        return self

    def log(self, lines=30):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def kill(self):
        self.process.kill()
        self.process.wait(20)
        self.sessions = []

    def stop(self):
        for si in self.sessions:
            Disconnect(si)
        self.sessions = []
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if code != 0:
            raise AssertionError(f"vic-host ended with {code}:\n{self.log()}")

    def end(self):
        if self.process and self.process.poll() is None:
            self.stop()
        for pid in self.qemus():
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.netns], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir)

    # --- sessions ------------------------------------------------------------------------------------
    def password(self):
        with open(os.path.join(self.state, "password")) as f:
            return f.read().strip()

    def login(self, user="root", password=None):
        si = SmartConnect(host="127.0.0.1", port=self.port, user=user,
                          pwd=password or self.password(),
                          sslContext=ssl._create_unverified_context())
        self.sessions.append(si)
        return si

    def http(self, si, method, path, body=None, ds="datastore1", headers=None, cookie=True):
        c = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30,
                                        context=ssl._create_unverified_context())
        h = dict(headers or {})
        if cookie:
            h["Cookie"] = si._stub.cookie.split(";")[0]
        query = urllib.parse.urlencode({"dcPath": "ha-datacenter", "dsName": ds})
        c.request(method, f"/folder/{path}?{query}", body=body, headers=h)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, data, r

    def post(self, text, headers):
        """A raw SOAP call; one connection serves them all."""
        if not self.connection:
            self.connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=30, context=ssl._create_unverified_context())
        self.connection.request("POST", "/sdk", body=text.encode(), headers=headers)
        r = self.connection.getresponse()
        return r.status, r.read()

    def file(self, path):
        return os.path.join(self.state, "datastore1", path)

    # --- what is left ---------------------------------------------------------------------------------
    def qemus(self):
        """QEMU processes that have something of our state folder open (their log is there)."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/comm") as f:
                    if not f.read().startswith("qemu"):
                        continue
                fds = [os.readlink(f"/proc/{entry}/fd/{n}") for n in os.listdir(f"/proc/{entry}/fd")]
            except OSError:
                continue
            if any(name.startswith(self.state + "/") for name in fds):
                found.append(int(entry))
        return found

    def files(self):
        """All files and folders of the datastore."""
        root = os.path.join(self.state, "datastore1")
        return sorted(os.path.relpath(os.path.join(d, n), root) for d, ds, fs in os.walk(root)
                      for n in ds + fs if not n.startswith(".vic-host"))

    def taps(self):
        done = subprocess.run(["ip", "-n", self.netns, "-o", "link", "show", "type", "tun"],
                              capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if line]


def wait(condition, seconds=30, what=""):
    """Until it is true: for what no update tells (files, processes)."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.05)


def task_end(si, task, seconds=60):
    """Waits by a filter, as clients do; the result, or the task's fault is raised."""
    pc = si.content.propertyCollector.CreatePropertyCollector()
    try:
        pc.CreateFilter(PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=task)],
            propSet=[PC.PropertySpec(type=vim.Task, pathSet=["info"])]), False)
        version, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            update = pc.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=5))
            if not update:
                continue
            version = update.version
            for change in update.filterSet[0].objectSet[0].changeSet:
                info = change.val
                if info.state == "success":
                    return info.result
                if info.state == "error":
                    raise info.error
        raise AssertionError("the task does not end")
    finally:
        pc.DestroyPropertyCollector()


def places(si):
    dc = si.content.rootFolder.childEntity[0]
    compute = dc.hostFolder.childEntity[0]
    return dc, compute.resourcePool, compute.host[0], dc.datastore[0]


def vm_spec(name, iso=None, network=None, extra=(), memory=128, console=True):
    add = lambda d, **kw: vim.vm.device.VirtualDeviceSpec(operation="add", device=d, **kw)
    connect = vim.vm.device.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True,
                                                      connected=True)
    changes = [add(vim.vm.device.ParaVirtualSCSIController(key=-10, busNumber=0,
                                                           sharedBus="noSharing"))]
    if iso:
        changes += [add(vim.vm.device.VirtualIDEController(key=-20, busNumber=0)),
                    add(vim.vm.device.VirtualCdrom(
                        key=-21, controllerKey=-20, unitNumber=0, connectable=connect,
                        backing=vim.vm.device.VirtualCdrom.IsoBackingInfo(fileName=iso)))]
    if network:
        changes.append(add(vim.vm.device.VirtualVmxnet3(
            key=-30, connectable=connect,
            backing=vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName=network))))
    if console:
        changes.append(add(vim.vm.device.VirtualSerialPort(
            key=-40, yieldOnPoll=True, connectable=connect,
            backing=vim.vm.device.VirtualSerialPort.FileBackingInfo(
                fileName=f"[datastore1] {name}/console.log"))))
    return vim.vm.ConfigSpec(
        name=name, guestId="otherLinux64Guest", numCPUs=1, memoryMB=memory,
        files=vim.vm.FileInfo(vmPathName="[datastore1]"), deviceChange=changes,
        extraConfig=[vim.option.OptionValue(key=k, value=v) for k, v in extra])


def disk_spec(path, create=True, parent=None, kb=0, unit=-1, controller=1000):
    FlatVer2 = vim.vm.device.VirtualDisk.FlatVer2BackingInfo
    backing = FlatVer2(fileName=path, diskMode="independent_persistent", thinProvisioned=True,
                       parent=FlatVer2(fileName=parent, diskMode="") if parent else None)
    disk = vim.vm.device.VirtualDisk(key=-1, controllerKey=controller, unitNumber=unit,
                                     capacityInKB=kb, backing=backing)
    return vim.vm.device.VirtualDeviceSpec(operation="add", device=disk,
                                           fileOperation="create" if create else None)


def disks_of(vm):
    return [d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]


def extra_of(vm):
    return {o.key: o.value for o in vm.config.extraConfig}
