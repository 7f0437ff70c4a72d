"""The engine dies at the n-th store commit, before and after the n-th vSphere call, of
create-start-exit-remove; a new one takes over: it converges, no orphan, no double, no lost exit status.

The short form takes points spread over the scenario, --full every one.
"""
import time

from lib import same, until

OWN_RIG = True
SHORT = 4  # points of each kind


def alive(rig):
    return rig.engine and rig.engine.alive()


def docker(rig, *args):
    """A docker command that may fail when the engine dies under it."""
    return rig.docker(*args, timeout=120)


def scenario(rig):
    docker(rig, "create", "--name", "fp", "busybox", "sh", "-c", "echo ran; exit 7")
    docker(rig, "start", "fp")
    docker(rig, "wait", "fp")
    docker(rig, "rm", "fp")
    until("the VM is gone", lambda: not rig.vm_processes() or not alive(rig), 60)


def status(rig):
    done = rig.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "fp")
    return done.stdout.strip() if done.returncode == 0 else None


def finish(rig):
    """What a user would do after the engine came back, whatever was done before."""
    now = status(rig)
    if now is None:
        return
    if now.startswith("created"):  # was the start asked for?  Then it goes on by itself.
        end = time.monotonic() + 3
        while time.monotonic() < end and (status(rig) or "").startswith("created"):
            time.sleep(0.1)
        if (status(rig) or "").startswith("created"):
            same(rig.docker("start", "fp").returncode, 0, "start after the restart")
    same(rig.docker("wait", "fp", timeout=150).stdout.strip(), "7", "exit status")
    same(rig.docker("logs", "fp").stdout, "ran\n", "it ran once")
    rig.docker("rm", "fp", check=True)


def counts(rig):
    file = rig.engine_dir + "/count"
    rig.restart_engine(env={"VIC_FAIL_COUNT": file})
    time.sleep(1)  # not a race: commits of the start itself only move the numbers a little
    scenario(rig)
    rig.stop_engine()
    with open(file) as f:
        return {k: int(v) for k, v in (word.split("=") for word in f.read().split())}


def points(rig, n):
    return range(1, n + 1) if rig.full else sorted({1 + i * (n - 1) // (SHORT - 1) for i in range(SHORT)})


def die_at(rig, variable, n):
    rig.restart_engine(env={variable: str(n)})
    scenario(rig)
    # It died on the way, or the point lies behind the scenario: a new one without failpoints.
    if rig.engine.wait(0):
        rig.engine = None
    rig.restart_engine()
    finish(rig)
    rig.check_leaks()


def test_killed_at_commits_and_calls(rig):
    total = counts(rig)
    rig.start_engine(env=rig.sanitizer_env("engine"))
    for variable, n in (("VIC_FAIL_COMMIT", total["commits"]), ("VIC_FAIL_CALL", total["calls"]),
                        ("VIC_FAIL_REPLY", total["replies"])):
        for point in points(rig, n):
            try:
                die_at(rig, variable, point)
            except Exception as e:
                raise AssertionError(f"{variable}={point} of {n}: {e}") from e
