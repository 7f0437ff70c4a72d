#!/usr/bin/python3
"""vic-host from outside: pyVmomi against the real program, with real VMs.

usage: host_test.py VIC_HOST GUEST_ISO [TEST...]     (needs root: namespaces and taps)

Each test leaves the datastore, the processes and the taps as it found them; tearDown checks it.
"""
import os
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostlib import (Host, PC, disk_spec, disks_of, extra_of, places, task_end, vm_spec,  # noqa: E402
                     wait)
from pyVmomi import vim, vmodl  # noqa: E402

BINARY = ISO = None
ISO_PATH = "[datastore1] iso/guest.iso"


def remove(disk, destroy=False):
    return vim.vm.device.VirtualDeviceSpec(operation="remove", device=disk,
                                           fileOperation="destroy" if destroy else None)


class Base(unittest.TestCase):
    args = ("--strict",)

    def setUp(self):
        self.host = Host(BINARY, *self.args).start()
        self.addCleanup(self.host.end)
        self.connect()
        self.si.content.fileManager.MakeDirectory("[datastore1] iso", self.dc, True)

    def connect(self):
        self.si = self.host.login()
        self.dc, self.pool, self.hostsystem, self.ds = places(self.si)
        self.folder = self.dc.vmFolder

    def need_iso(self):
        with open(ISO, "rb") as f:
            status, _, _ = self.host.http(self.si, "PUT", "iso/guest.iso", f)
        self.assertEqual(status, 201)

    def end(self, task):
        return task_end(self.si, task)

    def create(self, name="vm", **kw):
        return self.end(self.folder.CreateVM_Task(vm_spec(name, **kw), self.pool))

    def fault(self, kind, call, *args):
        """The call, or the task it returns, ends with this fault."""
        with self.assertRaises(kind) as seen:
            task = call(*args)
            if isinstance(task, vim.Task):
                self.end(task)
        return seen.exception

    def console(self, name, text, seconds=60):
        def look():
            status, data, _ = self.host.http(self.si, "GET", f"{name}/console.log")
            return status == 200 and text.encode() in data
        wait(look, seconds, f"{text!r} on the console")

    def check_clean(self, files=("iso",)):
        self.assertEqual(self.host.files(), sorted(files))
        wait(lambda: not self.host.qemus(), 10, "no QEMU left")
        wait(lambda: not self.host.taps(), 10, "no tap left")
        self.assertEqual(self.folder.childEntity, [])


class Browse(Base):
    def test_inventory(self):
        about = self.si.content.about
        self.assertEqual((about.apiType, about.apiVersion, about.instanceUuid),
                         ("HostAgent", "6.7", None))
        self.assertEqual(self.dc._GetMoId(), "ha-datacenter")
        self.assertEqual(self.hostsystem.runtime.connectionState, "connected")
        self.assertEqual(self.hostsystem.summary.hardware.numCpuThreads, os.cpu_count())
        self.assertEqual(sorted(n.name for n in self.dc.network), ["VM Network", "vic-bridge"])
        self.assertTrue(self.ds.summary.freeSpace > 0)
        view = self.si.content.viewManager.CreateContainerView(
            self.si.content.rootFolder, [vim.ManagedEntity], True)
        self.assertEqual(len(view.view), 11)
        found = self.si.content.searchIndex
        self.assertEqual(found.FindByInventoryPath("/ha-datacenter/vm"), self.folder)
        self.assertIsNone(found.FindByInventoryPath("ha-datacenter/vm/none"))
        self.assertIsNone(found.FindByUuid(None, "0" * 32, True))

    def test_sessions(self):
        for user, password in (("root", "wrong"), ("other", None), ("root", " ")):
            with self.assertRaises(vim.fault.InvalidLogin):
                self.host.login(user, password)
        other = self.host.login()
        keys = [s.key for s in self.si.content.sessionManager.sessionList]
        self.assertEqual(len(keys), 2)
        view = other.content.viewManager.CreateListView([self.ds])
        with self.assertRaises(vmodl.fault.ManagedObjectNotFound):  # another session's
            vim.view.ListView(view._GetMoId(), self.si._stub).view
        mine = self.si.content.sessionManager.currentSession.key
        self.si.content.sessionManager.TerminateSession([k for k in keys if k != mine])
        with self.assertRaises(vim.fault.NotAuthenticated):
            other.CurrentTime()
        self.host.sessions.remove(other)

    def test_property_collector(self):
        pc = self.si.content.propertyCollector
        view = self.si.content.viewManager.CreateContainerView(
            self.si.content.rootFolder, [vim.ManagedEntity], True)
        way = PC.TraversalSpec(name="v", type=vim.view.ContainerView, path="view", skip=False)
        spec = PC.FilterSpec(objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[way])],
                             propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=["name"])])
        result, names = pc.RetrievePropertiesEx([spec], PC.RetrieveOptions(maxObjects=4)), []
        while True:
            names += [o.propSet[0].val for o in result.objects]
            if not result.token:
                break
            result = pc.ContinueRetrievePropertiesEx(result.token)
        self.assertEqual(len(names), 11)
        self.fault(vmodl.query.InvalidProperty, pc.ContinueRetrievePropertiesEx, "none")
        up = PC.TraversalSpec(name="up", type=vim.ManagedEntity, path="parent",
                              selectSet=[PC.SelectionSpec(name="up")])
        climb = PC.FilterSpec(objectSet=[PC.ObjectSpec(obj=self.ds, selectSet=[up])],
                              propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=["name"])])
        self.assertEqual([o.propSet[0].val for o in pc.RetrieveContents([climb])],
                         ["datastore1", "datastore", "ha-datacenter", "ha-folder-root"])
        up.selectSet[0].name = "nowhere"
        self.fault(vmodl.fault.InvalidArgument, pc.RetrieveContents, [climb])
        bogus = PC.FilterSpec(objectSet=[PC.ObjectSpec(obj=self.ds)],
                              propSet=[PC.PropertySpec(type=vim.Datastore, pathSet=["bogus"])])
        self.assertEqual(self.fault(vmodl.query.InvalidProperty, pc.RetrieveContents, [bogus]).name,
                         "bogus")
        every = PC.FilterSpec(objectSet=[PC.ObjectSpec(obj=self.hostsystem)],
                              propSet=[PC.PropertySpec(type=vim.HostSystem, all=True)])
        self.assertIn("summary", [p.name for p in pc.RetrieveContents([every])[0].propSet])

    def test_updates(self):
        pc = self.si.content.propertyCollector.CreatePropertyCollector()
        view = self.si.content.viewManager.CreateContainerView(self.pool, [vim.VirtualMachine], True)
        way = PC.TraversalSpec(type=vim.view.ContainerView, path="view")
        pc.CreateFilter(PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[way])],
            propSet=[PC.PropertySpec(type=vim.VirtualMachine,
                                     pathSet=["name", "config.annotation"])]), False)
        self.assertIsNone(pc.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=0)))
        vms = [self.create(f"vm{i}", console=False) for i in range(5)]
        first = pc.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=0, maxObjectUpdates=3))
        self.assertTrue(first.truncated)
        self.assertEqual([o.kind for o in first.filterSet[0].objectSet], ["enter"] * 3)
        rest = pc.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=0))
        self.assertEqual(len(rest.filterSet[0].objectSet), 2)
        # A reply that was lost is asked for again.
        again = pc.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=0))
        self.assertEqual(len(again.filterSet[0].objectSet), 2)
        version = again.version
        self.fault(vmodl.query.InvalidCollectorVersion, pc.WaitForUpdatesEx, "999999")
        # A parked wait is woken by a change, and shows only that.
        seen = []
        waiter = threading.Thread(target=lambda: seen.append(
            (pc.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=20)), time.monotonic())))
        waiter.start()
        time.sleep(0.3)
        changed = time.monotonic()
        self.end(vms[2].ReconfigVM_Task(vim.vm.ConfigSpec(annotation="hello")))
        waiter.join(20)
        update, at = seen[0]
        self.assertLess(at - changed, 5)
        change = update.filterSet[0].objectSet
        self.assertEqual([(o.kind, o.obj, [(c.name, c.op, c.val) for c in o.changeSet])
                          for o in change],
                         [("modify", vms[2], [("config.annotation", "assign", "hello")])])
        self.end(vms[2].Destroy_Task())
        gone = pc.WaitForUpdatesEx(update.version, PC.WaitOptions(maxWaitSeconds=5))
        self.assertEqual([(o.kind, o.obj) for o in gone.filterSet[0].objectSet],
                         [("leave", vms[2])])
        # Cancel ends a wait.
        seen.clear()

        def cancelled():
            try:
                pc.WaitForUpdatesEx(gone.version, PC.WaitOptions(maxWaitSeconds=20))
            except vmodl.fault.RequestCanceled as e:
                seen.append(e)
        waiter = threading.Thread(target=cancelled)
        waiter.start()
        time.sleep(0.3)
        pc.CancelWaitForUpdates()
        waiter.join(20)
        self.assertEqual(len(seen), 1)
        for vm in vms[:2] + vms[3:]:
            self.end(vm.Destroy_Task())
        self.check_clean()

    def test_partial_updates(self):
        vm = self.create(console=False, extra=[("a", "1")])
        pc = self.si.content.propertyCollector.CreatePropertyCollector()
        pc.CreateFilter(PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=vm)],
            propSet=[PC.PropertySpec(type=vim.VirtualMachine, pathSet=["config"])]), True)
        version = pc.WaitForUpdatesEx("", None).version
        self.end(vm.ReconfigVM_Task(vim.vm.ConfigSpec(
            annotation="x", extraConfig=[vim.option.OptionValue(key="a", value=""),
                                         vim.option.OptionValue(key="b", value="2")])))
        update = pc.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=5))
        changes = {c.name: c.op for c in update.filterSet[0].objectSet[0].changeSet}
        self.assertEqual(changes.get("config.annotation"), "assign")
        self.assertEqual(changes.get('config.extraConfig["a"]'), "remove")
        self.assertEqual(changes.get('config.extraConfig["b"]'), "add")
        self.assertNotIn("config", changes)
        self.end(vm.Destroy_Task())

    def test_list_view(self):
        vm = self.create(console=False)
        task = vm.Destroy_Task()
        view = self.si.content.viewManager.CreateListView([task])
        none = vim.Task("none", self.si._stub)
        self.assertEqual(view.ModifyListView([none, self.ds], []), [none])
        self.assertEqual(len(view.view), 2)
        view.ModifyListView([], [task])
        self.assertEqual(view.view, [self.ds])
        self.end(task)

    def test_pools(self):
        share = vim.SharesInfo(shares=0, level="normal")
        part = vim.ResourceAllocationInfo(reservation=0, expandableReservation=True, limit=-1,
                                          shares=share)
        spec = vim.ResourceConfigSpec(cpuAllocation=part, memoryAllocation=part)
        pool = self.pool.CreateResourcePool("p", spec)
        fault = self.fault(vim.fault.DuplicateName, self.pool.CreateResourcePool, "p", spec)
        self.assertEqual(fault.object, pool)
        vm = self.end(self.folder.CreateVM_Task(vm_spec("vm", console=False), pool))
        self.assertEqual((pool.vm, vm.resourcePool), ([vm], pool))
        self.end(pool.Destroy_Task())
        self.assertEqual(vm.resourcePool, self.pool)
        self.end(vm.Destroy_Task())
        self.fault(vmodl.fault.NotSupported, self.pool.Destroy_Task)


class Files(Base):
    def test_http(self):
        put = lambda path, body, **kw: self.host.http(self.si, "PUT", path, body, **kw)[0]
        self.assertEqual(put("iso/a%20b%25", b"hello"), 201)
        self.assertEqual(put("iso/a%20b%25", b"hello world"), 200)
        status, data, _ = self.host.http(self.si, "GET", "iso/a%20b%25")
        self.assertEqual((status, data), (200, b"hello world"))
        status, data, r = self.host.http(self.si, "GET", "iso/a%20b%25",
                                         headers={"Range": "bytes=6-"})
        self.assertEqual((status, data, r.getheader("Content-Range")),
                         (206, b"world", "bytes 6-10/11"))
        self.assertEqual(self.host.http(self.si, "GET", "iso/a%20b%25",
                                        headers={"Range": "bytes=11-"})[0], 416)
        status, data, r = self.host.http(self.si, "HEAD", "iso/a%20b%25")
        self.assertEqual((status, data, r.getheader("Content-Length")), (200, b"", "11"))
        self.assertEqual(self.host.http(self.si, "POST", "iso/a%20b%25", b"x")[0], 409)
        for bad in ("../x", "iso/../../x", "iso/%2e%2e/%2e%2e/x", "a%00b", "%zz"):
            self.assertEqual(put(bad, b"x"), 400, bad)
        self.assertEqual(put("none/x", b"x"), 404)  # --strict: no folder is made
        self.assertEqual(self.host.http(self.si, "GET", "iso/none")[0], 404)
        self.assertEqual(self.host.http(self.si, "GET", "iso")[0], 404)
        self.assertEqual(put("iso/x", b"x", ds="none"), 404)
        self.assertEqual(put("iso/x", b"x", cookie=False), 401)
        os.symlink("/etc", self.host.file("iso/link"))
        self.assertEqual(self.host.http(self.si, "GET", "iso/link/passwd")[0], 404)
        self.assertEqual(put("iso/link/x", b"x"), 404)
        os.unlink(self.host.file("iso/link"))
        chunks = iter([b"a" * 100000, b"b" * 100000])
        self.assertEqual(put("iso/chunked", chunks), 201)
        self.assertEqual(os.path.getsize(self.host.file("iso/chunked")), 200000)
        for name in ("iso/chunked", "iso/a%20b%25"):
            self.assertEqual(self.host.http(self.si, "DELETE", name)[0], 204)
        self.check_clean()

    def test_cut_upload(self):
        class Cut(Exception):
            pass

        def body():
            yield b"x" * 100000
            raise Cut
        with self.assertRaises(Cut):
            self.host.http(self.si, "PUT", "iso/cut", body())
        wait(lambda: os.listdir(self.host.file("iso")) == [], 10, "no half file stays")

    def test_file_manager(self):
        fm = self.si.content.fileManager
        self.fault(vim.fault.FileAlreadyExists, fm.MakeDirectory, "[datastore1] iso", self.dc, False)
        self.fault(vim.fault.FileNotFound, fm.MakeDirectory, "[datastore1] x/y", self.dc, False)
        for bad, kind in (("x", vim.fault.InvalidDatastorePath),
                          ("[datastore1] ../x", vim.fault.InvalidDatastorePath),
                          ("[none] x", vim.fault.InvalidDatastore)):
            self.fault(kind, fm.MakeDirectory, bad, self.dc, True)
            self.fault(kind, fm.DeleteDatastoreFile_Task, bad, self.dc)
        self.host.http(self.si, "PUT", "iso/a", b"1")
        self.host.http(self.si, "PUT", "iso/b", b"2")
        a, b = "[datastore1] iso/a", "[datastore1] iso/b"
        self.fault(vim.fault.FileAlreadyExists, fm.MoveDatastoreFile_Task, a, self.dc, b, self.dc,
                   False)
        self.fault(vim.fault.FileNotFound, fm.MoveDatastoreFile_Task, "[datastore1] iso/none",
                   self.dc, b, self.dc, True)
        self.end(fm.MoveDatastoreFile_Task(a, self.dc, b, self.dc, True))
        self.assertEqual(self.host.http(self.si, "GET", "iso/b")[1], b"1")
        self.end(fm.CopyDatastoreFile_Task(b, self.dc, a, self.dc, False))
        self.fault(vim.fault.FileAlreadyExists, fm.CopyDatastoreFile_Task, b, self.dc, a, self.dc,
                   False)
        fm.MakeDirectory("[datastore1] iso/d/e", self.dc, True)
        spec = vim.host.DatastoreBrowser.SearchSpec(
            details=vim.host.DatastoreBrowser.FileInfo.Details(
                fileType=True, fileSize=True, modification=True, fileOwner=False))
        result = self.end(self.ds.browser.SearchDatastore_Task("[datastore1] iso", spec))
        self.assertEqual([(type(f).__name__.split(".")[-1], f.path) for f in result.file],
                         [("FileInfo", "a"), ("FileInfo", "b"), ("FolderInfo", "d")])
        self.assertEqual(result.file[0].fileSize, 1)
        below = self.end(self.ds.browser.SearchDatastoreSubFolders_Task("[datastore1] iso", None))
        self.assertEqual([r.folderPath for r in below],
                         ["[datastore1] iso/", "[datastore1] iso/d/", "[datastore1] iso/d/e/"])
        self.fault(vim.fault.FileNotFound, self.ds.browser.SearchDatastore_Task,
                   "[datastore1] none", None)
        for path in (a, b, "[datastore1] iso/d"):
            self.end(fm.DeleteDatastoreFile_Task(path, self.dc))
        self.fault(vim.fault.FileNotFound, fm.DeleteDatastoreFile_Task, a, self.dc)
        self.check_clean()

    def test_virtual_disks(self):
        vdm = self.si.content.virtualDiskManager
        spec = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
            diskType="thin", adapterType="lsiLogic", capacityKb=1 << 20)
        a, b = "[datastore1] iso/a.vmdk", "[datastore1] iso/b.vmdk"
        self.end(vdm.CreateVirtualDisk_Task(a, self.dc, spec))
        self.fault(vim.fault.FileAlreadyExists, vdm.CreateVirtualDisk_Task, a, self.dc, spec)
        self.fault(vim.fault.FileNotFound, vdm.CreateVirtualDisk_Task, "[datastore1] no/a.vmdk",
                   self.dc, spec)
        uuid = "60 00 C2 91 23 45 67 89-ab cd ef 01 23 45 67 89"
        vdm.SetVirtualDiskUuid(a, self.dc, uuid)
        self.assertEqual(vdm.QueryVirtualDiskUuid(a, self.dc), uuid.lower())
        self.fault(vmodl.fault.InvalidArgument, vdm.SetVirtualDiskUuid, a, self.dc, "x")
        self.fault(vim.fault.FileNotFound, vdm.QueryVirtualDiskUuid, b, self.dc)
        self.end(vdm.MoveVirtualDisk_Task(a, self.dc, b, self.dc, False, None))
        self.assertEqual(vdm.QueryVirtualDiskUuid(b, self.dc), uuid.lower())
        self.end(vdm.DeleteVirtualDisk_Task(b, self.dc))
        self.fault(vim.fault.FileNotFound, vdm.DeleteVirtualDisk_Task, b, self.dc)
        self.check_clean()


class Machines(Base):
    def test_rules(self):
        vm = self.create(extra=[("hidden", "1"), ("guestinfo.a", "x")])
        self.assertEqual(vm.config.files.vmPathName, "[datastore1] vm/vm.vmx")
        self.assertEqual(extra_of(vm)["hidden"], "1")
        self.fault(vim.fault.DuplicateName, self.folder.CreateVM_Task, vm_spec("vm"), self.pool)
        self.fault(vim.fault.InvalidName, self.folder.CreateVM_Task, vm_spec(""), self.pool)
        spec = vm_spec("other")
        spec.files.vmPathName = "[none]"
        self.fault(vim.fault.InvalidDatastore, self.folder.CreateVM_Task, spec, self.pool)
        spec.files.vmPathName = "[datastore1] vm/vm.vmx"
        self.fault(vim.fault.FileAlreadyExists, self.folder.CreateVM_Task, spec, self.pool)
        fault = self.fault(vim.fault.InvalidPowerState, vm.PowerOffVM_Task)
        self.assertEqual((fault.requestedState, fault.existingState), ("poweredOn", "poweredOff"))
        self.fault(vim.fault.InvalidPowerState, vm.ResetVM_Task)
        self.fault(vim.fault.InvalidPowerState, vm.ShutdownGuest)
        self.fault(vim.fault.ConcurrentAccess, vm.ReconfigVM_Task,
                   vim.vm.ConfigSpec(changeVersion="old"))
        self.end(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=vm.config.changeVersion,
                                                      numCPUs=2, memoryMB=256)))
        self.assertEqual((vm.config.hardware.numCPU, vm.summary.config.memorySizeMB), (2, 256))
        self.fault(vmodl.fault.InvalidArgument, vm.ReconfigVM_Task, vim.vm.ConfigSpec(numCPUs=0))
        self.fault(vmodl.fault.NotSupported, vm.CreateSnapshot_Task, "s", "", False, False)
        with self.assertRaises(vmodl.fault.ManagedObjectNotFound):
            vim.VirtualMachine("no", self.si._stub).name
        self.end(vm.Rename_Task("renamed"))
        self.assertEqual((vm.name, vm.config.name), ("renamed", "renamed"))
        self.assertEqual(vm.config.files.vmPathName, "[datastore1] vm/vm.vmx")
        vm.UnregisterVM()
        self.assertEqual(self.folder.childEntity, [])
        self.end(self.si.content.fileManager.DeleteDatastoreFile_Task("[datastore1] vm", self.dc))
        self.check_clean()

    def test_bad_messages(self):
        body = ('<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>%s</Body>'
                '</Envelope>')
        call = '<%s xmlns="urn:vim25"><_this type="%s">%s</_this></%s>'
        cookie = {"Cookie": self.si._stub.cookie.split(";")[0]}
        for text, fault in (
                (body % (call % ("Bogus", "HostSystem", "ha-host", "Bogus")), b"MethodNotFound"),
                (body % (call % ("ShutdownGuest", "HostSystem", "ha-host", "ShutdownGuest")),
                 b"MethodNotFound"),
                (body % (call % ("RebootGuest", "VirtualMachine", "1", "RebootGuest")),
                 b"ManagedObjectNotFound"),
                (body % (call % ("Login", "SessionManager", "ha-sessionmgr", "Login")),
                 b"InvalidRequest"),
                ("<Envelope", b"InvalidRequest"), ("", b"InvalidRequest")):
            status, data = self.host.post(text, cookie)
            self.assertEqual(status, 500)
            self.assertIn(fault, data)
        logout = body % (call % ("Logout", "SessionManager", "ha-sessionmgr", "Logout"))
        self.assertIn(b"NotAuthenticated", self.host.post(logout, {})[1])

    def test_devices(self):
        vm = self.create()
        keys = {d.key for d in vm.config.hardware.device}
        self.assertTrue({100, 200, 201, 300, 400, 500, 600, 700, 1000, 9000} <= keys, keys)
        bad = lambda kind, *specs: self.fault(kind, vm.ReconfigVM_Task,
                                              vim.vm.ConfigSpec(deviceChange=list(specs)))
        good = lambda *specs: self.end(vm.ReconfigVM_Task(
            vim.vm.ConfigSpec(deviceChange=list(specs))))
        path = "[datastore1] vm/%s.vmdk"
        good(disk_spec(path % "base", kb=1 << 20), disk_spec(path % "b", kb=2048, unit=3),
             disk_spec(path % "c", kb=2048))
        self.assertEqual([(d.key, d.unitNumber) for d in disks_of(vm)],
                         [(2000, 0), (2003, 3), (2001, 1)])
        bad(vim.fault.FileAlreadyExists, disk_spec(path % "base", kb=1 << 20))
        bad(vim.fault.FileNotFound, disk_spec(path % "none", create=False))
        bad(vim.fault.FileNotFound, disk_spec("[datastore1] no/x.vmdk", kb=2048))
        for unit in (7, 16, 3):
            fault = bad(vim.fault.InvalidDeviceSpec, disk_spec(path % "x", kb=2048, unit=unit))
            self.assertEqual(fault.deviceIndex, 0)
        bad(vim.fault.InvalidDeviceSpec, disk_spec(path % "x", kb=0))
        bad(vim.fault.MissingController, disk_spec(path % "x", kb=2048, controller=1234))
        bad(vim.fault.InvalidController, disk_spec(path % "x", kb=2048, controller=200))
        bad(vim.fault.DeviceNotFound, remove(vim.vm.device.VirtualDisk(
            key=2010, capacityInKB=0)))
        bad(vim.fault.InvalidDeviceBacking, disk_spec(path % "base", create=False))
        # All or nothing: the second change fails, so the first one's file goes again.
        bad(vim.fault.FileNotFound, disk_spec(path % "y", kb=2048),
            disk_spec(path % "none", create=False))
        self.assertFalse(os.path.exists(self.host.file("vm/y.vmdk")))
        base, b, c = disks_of(vm)
        good(remove(base), remove(b, destroy=True), remove(c))
        self.assertFalse(os.path.exists(self.host.file("vm/b.vmdk")))
        # A child has its parent's capacity, whatever is asked, and shows its chain.
        good(disk_spec(path % "child", parent=path % "base", kb=1 << 30))
        child = disks_of(vm)[0]
        self.assertEqual(child.capacityInKB, 1 << 20)
        self.assertEqual(child.backing.parent.fileName, path % "base")
        good(disk_spec(path % "grand", parent=path % "child"))
        self.assertEqual(disks_of(vm)[1].backing.parent.parent.fileName, path % "base")
        vdm = self.si.content.virtualDiskManager
        self.fault(vim.fault.CannotDeleteFile, vdm.DeleteVirtualDisk_Task, path % "base", self.dc)
        self.assertEqual(len(vm.layoutEx.disk), 2)
        # Destroy deletes what is attached (both children), and nothing else.
        good(remove(disks_of(vm)[0]))
        self.end(vm.Destroy_Task())
        self.assertEqual(self.host.files(), ["iso", "vm", "vm/base.vmdk", "vm/c.vmdk",
                                             "vm/child.vmdk"])

    def test_life(self):
        self.need_iso()
        self.end(self.folder.CreateVM_Task(vm_spec("vm", ISO_PATH, "vic-bridge", extra=[
            ("guestinfo.word", "secret")]), self.pool))
        vm = self.folder.childEntity[0]
        self.assertEqual(vm.network[0].name, "vic-bridge")
        task = vm.PowerOnVM_Task()
        fault = self.fault(vim.fault.TaskInProgress, vm.PowerOnVM_Task)
        self.assertEqual(fault.task, task)
        self.end(task)
        self.assertEqual((vm.runtime.powerState, len(self.host.qemus())), ("poweredOn", 1))
        self.fault(vim.fault.InvalidPowerState, vm.PowerOnVM_Task)
        self.fault(vim.fault.InvalidPowerState, vm.Destroy_Task)
        self.fault(vim.fault.InvalidPowerState, vm.UnregisterVM)
        self.fault(vim.fault.InvalidPowerState, vm.ReconfigVM_Task, vim.vm.ConfigSpec(numCPUs=2))
        self.console("vm", "guest: hello on Linux")
        wait(lambda: vm.guest.toolsRunningStatus == "guestToolsRunning", 30)
        self.guestinfo(vm)
        self.hot_disks(vm)
        # The host ends and comes back; the VM goes on, and is found.
        pid = self.host.qemus()
        for end in (self.host.stop, self.host.kill):
            end()
            self.assertEqual(self.host.qemus(), pid)
            self.host.start()
            self.connect()
            vm = self.folder.childEntity[0]
            self.assertEqual(vm.runtime.powerState, "poweredOn")
            self.assertEqual(extra_of(vm).get("guestinfo.said"), "hello from here")
            self.guest_run(vm, "echo still-here")
            self.console("vm", "still-here")
        self.fault(vim.fault.InvalidPowerState, vm.Destroy_Task)
        # The guest powers itself off: the state follows, and what the run had set is gone.
        vm.ShutdownGuest()
        wait(lambda: vm.runtime.powerState == "poweredOff", 30, "power-off by the guest")
        self.assertNotIn("guestinfo.said", extra_of(vm))
        self.assertNotIn("guestinfo.cmd", extra_of(vm))
        self.assertEqual(extra_of(vm)["guestinfo.word"], "secret")
        self.end(vm.Destroy_Task())
        fm = self.si.content.fileManager
        self.end(fm.DeleteDatastoreFile_Task("[datastore1] disks", self.dc))
        self.end(fm.DeleteDatastoreFile_Task("[datastore1] iso/guest.iso", self.dc))
        self.check_clean()

    def guest_run(self, vm, command):
        """The guest runs it once: the key is taken away by the guest itself."""
        once = "echo 'info-set guestinfo.cmd ' >&3; read -r r <&3; " + command
        self.end(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[
            vim.option.OptionValue(key="guestinfo.cmd", value=once)])))

    def guestinfo(self, vm):
        self.guest_run(vm, "echo 'info-get guestinfo.word' >&3; read -r a b <&3; echo got-$b; "
                           "echo 'info-set guestinfo.said hello from here' >&3; read -r a <&3; "
                           "echo 'info-get hidden' >&3; read -r a b <&3; echo hidden-$a; "
                           "echo 'info-set guestinfo.ro/x y' >&3; read -r a b <&3; echo ro-$a")
        self.console("vm", "got-secret")
        self.console("vm", "hidden-0")
        self.console("vm", "ro-0")
        wait(lambda: extra_of(vm).get("guestinfo.said") == "hello from here")

    def hot_disks(self, vm):
        """Add with a parent on the running VM; the guest sees it; locked elsewhere; off again."""
        self.si.content.fileManager.MakeDirectory("[datastore1] disks", self.dc, True)
        base, child = "[datastore1] disks/base.vmdk", "[datastore1] disks/child.vmdk"
        reconfig = lambda *c: self.end(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=list(c))))
        reconfig(disk_spec(base, kb=1 << 20, unit=4))
        scan = "for h in /sys/class/scsi_host/*; do echo '0 %d 0' >$h/scan; done; sleep 1; "
        self.guest_run(vm, scan % 4 + "echo mark >/dev/sda && sync && echo written-$?")
        self.console("vm", "written-0")
        self.guest_run(vm, "echo 1 >/sys/block/sda/device/delete; echo released-$?")
        self.console("vm", "released-0")
        reconfig(remove(disks_of(vm)[0]))
        self.assertTrue(os.path.exists(self.host.file("disks/base.vmdk")))
        reconfig(disk_spec(child, parent=base, unit=5))
        self.guest_run(vm, scan % 5 + "echo read-$(head -c 4 /dev/sda || head -c 4 /dev/sdb)")
        self.console("vm", "read-mark")
        # What a running VM holds is locked.
        vdm, fm = self.si.content.virtualDiskManager, self.si.content.fileManager
        self.fault(vim.fault.FileLocked, vdm.DeleteVirtualDisk_Task, child, self.dc)
        self.fault(vim.fault.FileLocked, vdm.DeleteVirtualDisk_Task, base, self.dc)
        self.fault(vim.fault.FileLocked, fm.DeleteDatastoreFile_Task, "[datastore1] disks", self.dc)
        self.assertEqual(self.host.http(self.si, "PUT", "disks/base.vmdk", b"x")[0], 409)
        other = self.create("other", console=False)
        self.end(other.ReconfigVM_Task(vim.vm.ConfigSpec(
            deviceChange=[disk_spec(child, create=False)])))
        self.fault(vim.fault.FileLocked, other.PowerOnVM_Task)
        self.end(other.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[remove(disks_of(other)[0])])))
        self.end(other.Destroy_Task())
        self.guest_run(vm, "for d in sda sdb; do echo 1 >/sys/block/$d/device/delete; done; "
                           "echo gone-5")
        self.console("vm", "gone-5")
        reconfig(remove(disks_of(vm)[0]))
        self.assertEqual(disks_of(vm), [])

    def test_strict_extra_config(self):
        self.need_iso()
        vm = self.create(iso=ISO_PATH, extra=[("kept", "1")])
        self.end(vm.PowerOnVM_Task())
        self.end(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[
            vim.option.OptionValue(key="kept", value="2"),
            vim.option.OptionValue(key="late", value="x")])))
        self.assertEqual((extra_of(vm)["kept"], extra_of(vm)["late"]), ("2", "x"))
        self.end(vm.PowerOffVM_Task())
        self.assertEqual((extra_of(vm)["kept"], extra_of(vm).get("late")), ("1", None))
        self.end(vm.Destroy_Task())

    def test_bios_boot(self):
        self.need_iso()
        vm = self.create(iso=ISO_PATH, extra=[("vic-host.boot", "bios")])
        self.end(vm.PowerOnVM_Task())
        self.console("vm", "guest: hello on Linux", 90)
        self.end(vm.PowerOffVM_Task())
        self.end(vm.Destroy_Task())


class Hostile(Base):
    """Every method of the schema with parameters left out, nil, empty and of odd types: each is
    answered, and the host goes on."""

    def bodies(self, info, this):
        head = f'<{info.wsdlName} xmlns="urn:vim25" ' \
               'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">' + this
        tail = f"</{info.wsdlName}>"
        yield head + tail
        for text in ('<%s/>', '<%s xsi:nil="true"/>', '<%s>-1</%s>',
                     '<%s type="VirtualMachine">ha-host</%s>',
                     '<%s xsi:type="VirtualDisk"><key>1</key></%s>',
                     '<%s xsi:type="FileBackedVirtualDiskSpec"><diskType/><adapterType/>'
                     '<capacityKb>-5</capacityKb></%s>',
                     '<%s><propSet><type>Nothing</type><all>true</all></propSet><objectSet>'
                     '<obj type="Folder">ha-folder-root</obj></objectSet></%s>',
                     '<%s><name>x</name><files/><deviceChange xsi:nil="true"/><deviceChange/>'
                     '<extraConfig/></%s>'):
            yield head + "".join(text.replace("%s", p.name) for p in info.params) + tail

    def test_every_method(self):
        vm = self.create(console=False)
        self.si.content.viewManager.CreateListView([vm])
        view = self.si.content.viewManager.CreateContainerView(self.pool, [], True)
        pc = self.si.content.propertyCollector.CreatePropertyCollector()
        c = self.si.content
        targets = [self.si, vm, self.folder, self.pool, self.dc, self.ds, self.hostsystem, view, pc,
                   c.propertyCollector, c.viewManager, c.searchIndex, c.taskManager, c.fileManager,
                   c.virtualDiskManager, self.ds.browser, c.setting, c.licenseManager,
                   c.authorizationManager, c.eventManager, c.perfManager, c.userDirectory,
                   c.sessionManager, self.dc.network[0], self.dc.hostFolder.childEntity[0]]
        count = 0
        for target in targets:
            kind = type(target).__name__.split(".")[-1]
            this = f'<_this type="{kind}">{target._GetMoId()}</_this>'
            for info in self.methods(type(target)):
                for body in self.bodies(info, this):
                    for headers in ({}, {"Cookie": self.si._stub.cookie.split(";")[0]}):
                        status, data = self.host.post(
                            '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>'
                            + body + "</Body></Envelope>", headers)
                        self.assertIn(status, (200, 500), body)
                        count += 1
        self.assertGreater(count, 2000)
        self.assertEqual(self.host.login().content.about.apiType, "HostAgent")

    def methods(self, kind):
        """All of the class and its bases, but what would wait or end the session."""
        out = {}
        for base in kind.__mro__:
            for name, info in getattr(base, "_methodInfo", {}).items():
                out[info.wsdlName] = info
        for name in ("Logout", "WaitForUpdates", "WaitForUpdatesEx", "TerminateSession"):
            out.pop(name, None)
        return out.values()


class Crash(Base):
    def test_kill_while_tasks_run(self):
        """kill -9 in the middle of creations: what is there afterwards is whole."""
        for round_ in range(6):
            tasks = [self.folder.CreateVM_Task(vm_spec(f"vm{round_}-{i}", console=False), self.pool)
                     for i in range(4)]
            time.sleep(0.004 * round_)
            self.host.kill()
            self.host.start()
            self.connect()
            vms = self.folder.childEntity
            folders = {vm.config.files.vmPathName.split("/")[0].split(" ")[1] for vm in vms}
            self.assertEqual({f.split("/")[0] for f in self.host.files()} - {"iso"}, folders)
            for task in tasks:
                try:
                    info = vim.Task(task._GetMoId(), self.si._stub).info
                except vmodl.fault.ManagedObjectNotFound:
                    continue
                self.assertEqual(info.state, "error")
                self.assertIsInstance(info.error, vmodl.fault.SystemError)
            for vm in vms:
                self.end(vm.Destroy_Task())
            self.check_clean()


    def test_kill_in_a_life(self):
        """kill -9 while a VM starts, gets a disk, loses it, stops, is destroyed: QEMU, record and
        files agree afterwards."""
        base = "[datastore1] iso/base.vmdk"
        self.end(self.si.content.virtualDiskManager.CreateVirtualDisk_Task(
            base, self.dc, vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType="thin", adapterType="lsiLogic", capacityKb=1 << 20)))
        add = disk_spec("[datastore1] iso/child.vmdk", parent=base, unit=2)
        reconfig = lambda vm, change: vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change]))
        steps = (
            ("on", lambda vm: vm.PowerOnVM_Task()),
            ("add", lambda vm: reconfig(vm, add)),
            ("remove", lambda vm: reconfig(vm, remove(disks_of(vm)[0], destroy=True))),
            ("off", lambda vm: vm.PowerOffVM_Task()),
            ("destroy", lambda vm: vm.Destroy_Task()),
        )
        for cut in range(len(steps)):
            for delay in (0, 0.01, 0.03, 0.1):
                try:
                    self.one_cut(steps, cut, delay)
                except Exception as e:
                    raise AssertionError(f"cut {delay} s after '{steps[cut][0]}':\n"
                                         + self.host.log()) from e

    def one_cut(self, steps, cut, delay):
        vm = self.create(console=False)
        for _, step in steps[:cut]:
            self.end(step(vm))
        steps[cut][1](vm)
        time.sleep(delay)
        self.host.kill()
        self.host.start()
        self.connect()
        self.agree()
        for vm in self.folder.childEntity:
            if vm.runtime.powerState == "poweredOn":
                self.end(vm.PowerOffVM_Task())
            for disk in disks_of(vm):
                self.end(vm.ReconfigVM_Task(vim.vm.ConfigSpec(
                    deviceChange=[remove(disk, destroy=True)])))
            self.end(vm.Destroy_Task())
        self.check_clean(["iso", "iso/base.vmdk"])

    def agree(self):
        vms = self.folder.childEntity
        on = [vm for vm in vms if vm.runtime.powerState == "poweredOn"]
        wait(lambda: len(self.host.qemus()) == len(on), 10, "a QEMU per VM that is on")
        child = self.host.file("iso/child.vmdk")
        attached = any(disks_of(vm) for vm in vms)
        self.assertEqual(os.path.exists(child), attached)
        if on:
            fds = f"/proc/{self.host.qemus()[0]}/fd"
            held = any(os.readlink(os.path.join(fds, n)) == child for n in os.listdir(fds))
            self.assertEqual(held, attached)


def main():
    global BINARY, ISO
    BINARY, ISO = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)


if __name__ == "__main__":
    main()
