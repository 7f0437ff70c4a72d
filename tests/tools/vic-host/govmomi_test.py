#!/usr/bin/python3
"""vic-host seen by govmomi's client (tests/sim/govclient).

usage: govmomi_test.py VIC_HOST GOVCLIENT
"""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostlib import Host  # noqa: E402

BINARY = CLIENT = None


class Govmomi(unittest.TestCase):
    def setUp(self):
        self.host = Host(BINARY, "--strict").start()
        self.addCleanup(self.host.end)

    def run_client(self, *args, stdin="", good=True):
        done = subprocess.run(
            [CLIENT, f"https://127.0.0.1:{self.host.port}/sdk", "root", self.host.password(),
             *args], input=stdin, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode == 0, good, done.stderr + done.stdout)
        return done.stdout if good else done.stderr

    def test_everything(self):
        self.assertIn("HostAgent 6.7", self.run_client("about"))
        listing = self.run_client("ls", "/ha-datacenter/*")
        for line in ("/ha-datacenter/host/localhost.localdomain ComputeResource:ha-compute-res",
                     "/ha-datacenter/network/VM Network Network:HaNetwork-VM Network"):
            self.assertIn(line, listing)
        ref = self.run_client("create", "c1", "datastore1").split(":")[1].strip()
        self.assertIn("DuplicateName",
                      self.run_client("create", "c1", "datastore1", good=False).replace(
                          "already exists", "DuplicateName"))
        self.run_client("reconfigure", "c1", "foo", "b\u00e4r <&>\n\"x\"")
        info = json.loads(self.run_client("info", "c1"))
        self.assertEqual((info["power"], info["extra"]["foo"]), ("poweredOff", "b\u00e4r <&>\n\"x\""))
        self.assertIn("*types.ParaVirtualSCSIController", info["devices"])
        self.run_client("on", "c1")
        self.assertEqual(json.loads(self.run_client("info", "c1"))["power"], "poweredOn")
        self.run_client("destroy", "c1", good=False)
        self.run_client("off", "c1")
        self.run_client("upload", "datastore1", "c1/x y.txt", stdin="hello")
        self.assertEqual(self.run_client("download", "datastore1", "c1/x y.txt"), "hello")
        every = (("VirtualMachine", ref), ("HostSystem", "ha-host"), ("Folder", "ha-folder-vm"),
                 ("ResourcePool", "ha-root-pool"), ("ComputeResource", "ha-compute-res"),
                 ("Datacenter", "ha-datacenter"), ("Network", "HaNetwork-vic-bridge"),
                 ("TaskManager", "ha-taskmgr"), ("SessionManager", "ha-sessionmgr"))
        for kind, value in every:
            self.assertTrue(json.loads(self.run_client("all", kind, value)), kind)
        self.run_client("destroy", "c1")
        self.assertEqual(self.host.files(), ["c1", "c1/x y.txt"])


if __name__ == "__main__":
    BINARY, CLIENT = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
