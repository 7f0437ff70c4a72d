"""The user's day: run, exec, attach, logs, ps, wait, stop, kill, rm, images."""
import os
import subprocess
import time

from lib import Terminal, contains, same, until


def test_run_echo(rig):
    done = rig.docker("run", "--rm", "busybox", "echo", "hello from a VM")
    same((done.returncode, done.stdout), (0, "hello from a VM\n"), done.stderr)


def test_it_is_a_vm(rig):
    boots = [rig.docker("run", "--rm", "busybox", "cat", "/proc/sys/kernel/random/boot_id",
                        check=True).stdout for _ in range(2)]
    with open("/proc/sys/kernel/random/boot_id") as f:
        boots.append(f.read())
    same(len(set(boots)), 3, "boot ids")
    rig.docker("run", "-d", "--name", "vm", "busybox", "sleep", "1000", check=True)
    same(len(rig.vm_processes()), 1, "VM processes")
    rig.docker("rm", "-f", "vm", check=True)


def test_exit_codes(rig):
    cases = [(("true",), 0), (("sh", "-c", "exit 3"), 3), (("nosuch",), 127), (("/etc/passwd",), 126),
             (("/nosuch/x",), 127), (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
             (("sh", "-c", "sh -c 'kill -15 $$'; exit $?"), 143)]
    for argv, code in cases:
        done = rig.docker("run", "--rm", "busybox", *argv)
        same(done.returncode, code, f"{argv}: {done.stderr}")
    same(rig.docker("run", "--rm", "nosuchimage:1").returncode, 125, "missing image")
    done = rig.docker("run", "--rm", "busybox", "nosuch")
    contains(done.stderr, 'exec: "nosuch": executable file not found in $PATH')


def test_stderr_is_apart(rig):
    done = rig.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    same((done.stdout, done.stderr), ("out\n", "err\n"))


def test_detached_logs_stop(rig):
    rig.docker("run", "-d", "--name", "web", "busybox", "sh", "-c",
               "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done", check=True)
    until("the log says up", lambda: rig.docker("logs", "web").stdout == "up\n")
    contains(rig.docker("ps", check=True).stdout, "web")
    same(rig.state("web")["Status"], "running")
    rig.docker("stop", "web", check=True)
    same(rig.docker("logs", "web").stdout, "up\nbye\n")
    same((rig.state("web")["Status"], rig.state("web")["ExitCode"]), ("exited", 0))
    contains(rig.docker("ps", "-a", check=True).stdout, "Exited (0)")
    rig.docker("start", "web", check=True)
    until("it ran twice", lambda: rig.docker("logs", "web").stdout.count("up\n") == 2)
    rig.docker("kill", "web", check=True)
    until("killed", lambda: rig.state("web")["Status"] == "exited")
    same(rig.state("web")["ExitCode"], 137)
    rig.docker("rm", "web", check=True)


def test_stop_escalates(rig):
    rig.docker("run", "-d", "--name", "deaf", "busybox", "sh", "-c",
               "trap '' TERM; echo up; while :; do sleep 0.1; done", check=True)
    until("up", lambda: rig.docker("logs", "deaf").stdout == "up\n")
    rig.docker("stop", "-t", "1", "deaf", check=True)
    same(rig.state("deaf")["ExitCode"], 137)
    rig.docker("rm", "deaf", check=True)


def test_logs_follow(rig):
    rig.docker("run", "-d", "--name", "ff", "busybox", "sh", "-c",
               "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done", check=True)
    done = rig.docker("logs", "-f", "ff", timeout=60)
    same(done.stdout, "".join(f"line {i}\n" for i in range(1, 6)))
    same(rig.docker("logs", "--tail", "2", "ff").stdout, "line 4\nline 5\n")
    contains(rig.docker("logs", "-t", "ff").stdout.splitlines()[0], "Z line 1")
    rig.docker("rm", "ff", check=True)


def test_wait(rig):
    rig.docker("run", "-d", "--name", "ww", "busybox", "sh", "-c", "sleep 1; exit 7", check=True)
    same(rig.docker("wait", "ww").stdout, "7\n")
    same(rig.docker("wait", "ww").stdout, "7\n")
    rig.docker("rm", "ww", check=True)


def test_stdin(rig):
    data = "".join(f"{i} some words\n" for i in range(20000))
    done = rig.docker("run", "-i", "--rm", "busybox", "cat", stdin=data)
    same(done.returncode, 0, done.stderr)
    same(done.stdout == data, True, "cat gives back what it was given")
    done = rig.docker("run", "-i", "--rm", "busybox", "wc", "-c", stdin="abc")
    same(done.stdout.strip(), "3")


def test_big_output(rig):
    done = rig.docker("run", "--rm", "busybox", "sh", "-c", "seq 1 200000", timeout=120)
    same(done.stdout == "".join(f"{i}\n" for i in range(1, 200001)), True, "every line arrived")


def test_start_attached_again(rig):
    for tty in ((), ("-t",)):
        rig.docker("create", *tty, "--name", "one", "busybox", "echo", "one", check=True)
        for _ in range(2):
            same(rig.docker("start", "-a", "one").stdout.strip(), "one")
        rig.docker("rm", "one", check=True)


def test_terminal(rig):
    t = Terminal(rig, "run", "-it", "--rm", "--name", "tty", "busybox")
    t.expect(r"/ # ")
    t.size(33, 77)
    until("the size arrived", lambda: size_is(t, "33 77"), 20)
    t.write("exit 5\n")
    same(t.wait(), 5)


def size_is(t, text):
    t.text = ""
    t.write("stty size\n")
    try:
        t.expect(r"\d+ \d+", 5)
    except AssertionError:
        return False
    return text in t.text


def test_detach_keys(rig):
    t = Terminal(rig, "run", "-it", "--name", "dd", "busybox")
    t.expect(r"/ # ")
    t.write("\x10\x11")
    t.wait()
    same(rig.state("dd")["Running"], True)
    t = Terminal(rig, "attach", "dd")
    t.write("echo agai''n\n")
    t.expect("again")
    t.write("exit 0\n")
    same(t.wait(), 0)
    rig.docker("rm", "dd", check=True)


def test_exec(rig):
    rig.docker("run", "-d", "--name", "xx", "busybox", "sleep", "1000", check=True)
    done = rig.docker("exec", "xx", "sh", "-c", "echo in; echo bad >&2; exit 4")
    same((done.stdout, done.stderr, done.returncode), ("in\n", "bad\n", 4))
    same(rig.docker("exec", "xx", "nosuch").returncode, 127)
    same(rig.docker("exec", "-i", "xx", "cat", stdin="through").stdout, "through")
    same(rig.docker("exec", "-e", "A=b", "-w", "/tmp", "xx", "sh", "-c", "echo $A; pwd").stdout,
         "b\n/tmp\n")
    t = Terminal(rig, "exec", "-it", "xx", "sh")
    t.expect(r"/ # ")
    t.write("exit 6\n")
    same(t.wait(), 6)
    rig.docker("rm", "-f", "xx", check=True)


def test_attach(rig):
    rig.docker("run", "-d", "--name", "aa", "busybox", "sh", "-c",
               "sleep 2; echo late; sleep 1; exit 9", check=True)
    done = rig.docker("attach", "aa", timeout=60)
    contains(done.stdout, "late")
    same(done.returncode, 9)
    rig.docker("rm", "aa", check=True)


def test_remove(rig):
    rig.docker("run", "-d", "--name", "rr", "busybox", "sleep", "1000", check=True)
    done = rig.docker("rm", "rr")
    same(done.returncode, 1)
    contains(done.stderr, "container is running: stop the container before removing or force remove")
    rig.docker("rm", "-f", "rr", check=True)
    contains(rig.docker("rm", "rr").stderr, "No such container: rr")


def test_files_stay(rig):
    rig.docker("create", "--name", "kk", "busybox", "sh", "-c", "cat /f 2>/dev/null; echo kept >/f",
               check=True)
    same(rig.docker("start", "-a", "kk").stdout, "")
    same(rig.docker("start", "-a", "kk").stdout, "kept\n")
    rig.docker("rm", "kk", check=True)
    same(rig.docker("run", "--rm", "busybox", "ls", "/f").returncode, 1, "another container sees none")


def test_images(rig):
    contains(rig.docker("images", check=True).stdout, "busybox")
    rig.docker("tag", "busybox", "other:1", check=True)
    contains(rig.docker("images", check=True).stdout, "other")
    contains(rig.docker("rmi", "other:1", check=True).stdout, "Untagged: other:1")
    same(rig.docker("rmi", "nosuch").returncode, 1)
    rig.docker("create", "--name", "uu", "busybox", check=True)
    done = rig.docker("rmi", "busybox")
    same(done.returncode, 1)
    contains(done.stderr, "must force")
    rig.docker("rm", "uu", check=True)


def test_load_compressed(rig):
    plain = os.path.join(rig.folder, "busybox.tar")
    subprocess.run(["gzip", "-kf", plain], check=True)
    contains(rig.docker("load", "-i", plain + ".gz", check=True).stdout,
             "Loaded image: busybox:latest")
    bad = os.path.join(rig.folder, "bad.tar")
    with open(plain, "rb") as f, open(bad, "wb") as out:
        out.write(f.read()[:100000])
    done = rig.docker("load", "-i", bad)
    same(done.returncode, 1, "a cut archive")
    contains(done.stderr, "truncated")


def test_names_and_prefixes(rig):
    cid = rig.docker("create", "--name", "n1", "busybox", check=True).stdout.strip()
    done = rig.docker("create", "--name", "n1", "busybox")
    contains(done.stderr, 'Conflict. The container name "/n1" is already in use by container')
    same(rig.inspect(cid[:12])["Id"], cid)
    same(rig.inspect("n1")["Id"], cid)
    rig.docker("rename", "n1", "n2", check=True)
    same(rig.inspect("n2")["Name"], "/n2")
    rig.docker("rm", cid[:5], check=True)


def test_environment(rig):
    done = rig.docker("run", "--rm", "-e", "X=y z", "-h", "box", "-w", "/var/new", "-u", "1:100",
                      "busybox", "sh", "-c", 'echo "$X"; hostname; pwd; id -u; id -g')
    same(done.stdout, "y z\nbox\n/var/new\n1\n100\n", done.stderr)


def test_loopback_works(rig):
    done = rig.docker("run", "--rm", "busybox", "sh", "-c",
                      "(echo hi | nc -l -p 8000 &) ; sleep 0.5; nc 127.0.0.1 8000 </dev/null")
    same(done.stdout, "hi\n", done.stderr)


def test_memory_limit(rig):
    done = rig.docker("run", "--name", "oom", "-m", "32m", "busybox", "sh", "-c",
                      "tail /dev/zero", timeout=120)
    same(done.returncode, 137)
    same(rig.state("oom")["OOMKilled"], True)
    rig.docker("rm", "oom", check=True)
