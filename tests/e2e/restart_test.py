"""The engine and vic-host come and go; containers go on; nothing is lost."""
import subprocess
import time

from lib import contains, same, until

OWN_RIG = False


def ticker(rig, name):
    rig.docker("run", "-d", "--name", name, "busybox", "sh", "-c",
               "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done", check=True)
    until("ticks", lambda: "tick 3" in rig.docker("logs", name).stdout)


def ticks_are_whole(rig, name):
    lines = rig.docker("logs", name, check=True).stdout.splitlines()
    same(lines, [f"tick {i}" for i in range(1, len(lines) + 1)], "no line is lost or doubled")
    return len(lines)


def test_engine_restart(rig):
    ticker(rig, "tt")
    pids = rig.vm_processes()
    for kill in (False, True):
        before = ticks_are_whole(rig, "tt")
        rig.restart_engine(kill=kill)
        same(rig.state("tt")["Running"], True)
        until("logs catch up", lambda: ticks_are_whole(rig, "tt") > before + 3)
    same(rig.vm_processes(), pids, "the same VM ran on")
    same(rig.docker("exec", "tt", "echo", "still").stdout, "still\n")
    rig.docker("rm", "-f", "tt", check=True)


def test_exit_while_engine_is_away(rig):
    rig.docker("run", "-d", "--name", "ee", "busybox", "sh", "-c", "sleep 3; echo last; exit 42",
               check=True)
    rig.engine.signal(9)
    rig.engine.wait(10)
    rig.engine = None
    time.sleep(5)
    rig.start_engine(env=rig.sanitizer_env("engine"))
    until("the exit is known", lambda: rig.state("ee")["Status"] == "exited", 60)
    same(rig.state("ee")["ExitCode"], 42)
    contains(rig.docker("logs", "ee").stdout, "last")
    rig.docker("rm", "ee", check=True)


def test_host_away(rig):
    ticker(rig, "hh")
    pids = rig.vm_processes()
    rig.host.signal(9)
    rig.host.wait(10)
    rig.host = None
    cid = rig.docker("create", "--name", "later", "busybox", "echo", "later", check=True).stdout
    same(rig.inspect("later")["Id"], cid.strip())
    contains(rig.docker("ps", "-a", check=True).stdout, "later")
    same(rig.docker("exec", "hh", "echo", "fine").stdout, "fine\n")
    start = rig.popen("start", "-a", "later")
    time.sleep(1)
    same(start.poll(), None, "a start waits while vic-host is away")
    rig.start_host(env=rig.sanitizer_env("host"))
    same(rig.vm_processes()[:1], pids, "the VM ran on")
    out, err = start.communicate(timeout=120)
    same(out, b"later\n", err)
    rig.docker("rm", "-f", "hh", "later", check=True)


def test_removed_while_host_is_away(rig):
    rig.docker("run", "--name", "gone", "busybox", "true", check=True)
    rig.host.signal(9)
    rig.host.wait(10)
    rig.host = None
    rig.docker("rm", "gone", check=True)
    same(rig.docker("inspect", "gone").returncode, 1)
    rig.start_host(env=rig.sanitizer_env("host"))
