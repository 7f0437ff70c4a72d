"""Same as Docker: a table of commands run against Debian's dockerd and against us.

Each row is one docker command.  It runs on both engines at the same time; exit code, stdout and stderr
must be the same bytes once ids, times and durations are replaced by words.  Rows run in order, since
most of them need what earlier ones left.  Both engines have the same image (tools/make-image); dockerd
has no network, so its containers say --network none.

Where dockerd is older than the Docker whose texts we speak, a row names an entry of EXCEPTIONS: there
stand what dockerd says, what we say, and why.  An exception that a row names and that does not fit its
output fails, so the list cannot go stale.

Against two engines that run already:  tests/e2e/same_as_docker_test.py PEER_SOCKET OUR_SOCKET [ROW...]
"""
import concurrent.futures
import difflib
import os
import re
import sys
import time

if __name__ == "__main__":
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [HERE, os.path.join(os.path.dirname(os.path.dirname(HERE)), "tools")]

import peer as peers
import rig as rigs
from lib import ROOT, until

# name: (a pattern of what dockerd 20.10 says, what we say instead, why)
EXCEPTIONS = {
    "start": (r"failed to create shim task: OCI runtime create failed: runc create failed: unable to "
              r"start container process: ", "failed to create task for container: ",
              "today's dockerd begins so; what follows names shim and runc, which a VM does not have"),
    "invalid filter": ("Invalid filter '", "invalid filter '", "today's text is in lower case"),
    "invalid signal": ("Invalid signal: ", "invalid signal: ", "today's text is in lower case"),
    "is not running": ("Container <id> is not running", "container <id> is not running",
                       "today's text is in lower case"),
    "cannot kill": ("Cannot kill container: ", "cannot kill container: ", "today's text is in lower case"),
    "rm running": (r"You cannot remove a running container <id>. Stop the container before attempting "
                   r"removal or force remove", 'cannot remove container "/r1": container is running: '
                   "stop the container before removing or force remove", "today's text"),
    "policy name": ("invalid restart policy 'sometimes'",
                    "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', "
                    "'on-failure', or 'unless-stopped'", "today's text"),
    "policy count": ("maximum retry count cannot be used with restart policy 'always'",
                     "invalid restart policy: maximum retry count can only be used with 'on-failure'",
                     "today's text"),
    "no such image": (r"no such image: \S+: No such image: ", "No such image: ",
                      "today's text says it once"),
    "exec code": ("^exit 126", "exit 127", "today's dockerd tells 'not found' from 'cannot run'"),
    "exec folder": ("exec failed: Cwd must be", "exec failed: unable to start container process: Cwd must be",
                    "runc finds this fault one step earlier"),
    "garbage": (r"Error processing tar file\(exit status 1\): archive/tar: invalid tar header",
                "Error response from daemon: entry 1: not a tar header (checksum does not fit)",
                "ours names the entry, and answers before it streams"),
    "nothing": (r"open \S+/docker-import-\d+/repositories: no such file or directory",
                "Error response from daemon: the archive is empty: no tar header",
                "ours tells what is wrong, not a path of the daemon's"),
}

# What differs from run to run.  An image id is the digest of its config: the same on both sides.
WORDS = (
    (re.compile(r"(?<!sha256:)\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4} UTC"), "<time>"),
    (re.compile(r"\b(Less than a second|About a minute|\d+ (second|minute|month)s?)\b"), "<duration>"),
)

# Debian's docker CLI (20.10) logs that it gave up its own wait, or ends before it does: a race.
NOISE = re.compile(r'^time="[^"]*" level=error msg="error waiting for container: context canceled"\n', re.M)


class Side:
    """One of the two engines."""

    def __init__(self, host):
        self.host = host
        self.image = self.docker("image", "inspect", "-f", "{{.Id}}", "busybox")[1].strip()[7:]

    def docker(self, *args, stdin=None, timeout=90):
        done = rigs.docker(self.host, *args, stdin=stdin, timeout=timeout, text=False)
        out, err = (data.decode(errors="backslashreplace") for data in (done.stdout, done.stderr))
        return done.returncode, out, err

    def plain(self, text):
        text = NOISE.sub("", text)
        for pattern, word in WORDS:
            text = pattern.sub(word, text)
        return re.sub(r"(?<!sha256:)\b[0-9a-f]{12}\b",
                      lambda m: m[0] if self.image.startswith(m[0]) else "<short id>", text)

    def run(self, row):
        if row.ready:
            until(f"{row.name}: {row.ready}",
                  lambda: self.docker(*row.ready[:-1])[1] == row.ready[-1], 60)
        code, out, err = self.docker(*row.args, stdin=row.stdin)
        if row.unordered:
            out = "".join(sorted(out.splitlines(keepends=True)))
        if row.table:
            out = re.sub(r" {2,}", "  ", out)
        return f"exit {code}\n--- stdout\n{self.plain(out)}\n--- stderr\n{self.plain(err)}\n"


class Row:
    """name; the arguments of docker; stdin: bytes; but: names of EXCEPTIONS; unordered: sort the lines;
    table: columns are as wide as their durations, so any number of blanks is as good as another;
    ready: (a docker command..., the stdout to wait for before this row runs)."""

    def __init__(self, name, *args, stdin=None, but=(), unordered=False, table=False, ready=()):
        self.name, self.args, self.stdin, self.unordered = name, args, stdin, unordered
        self.but, self.table, self.ready = but, table, ready


def once(*args):
    """run --rm without a network, as dockerd here has none."""
    return ("run", "--rm", "--network", "none", *args)


SAY = "echo out; sleep 0.2; echo err >&2; exit 4"
LOOP = "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done"
FIELDS = ("{{.Name}} {{.Path}} {{json .Args}} {{json .State.Status}} {{.State.Running}} {{.State.Paused}} "
          "{{.State.Restarting}} {{.State.OOMKilled}} {{.State.Dead}} {{.State.ExitCode}} "
          "[{{.State.Error}}] {{.State.StartedAt}} {{.State.FinishedAt}} {{.Created}} {{.RestartCount}} "
          "{{.Image}} {{json .Mounts}}")
HOST_FIELDS = ("{{json .HostConfig.RestartPolicy}} {{.HostConfig.NetworkMode}} "
               "{{json .HostConfig.LogConfig}} {{.HostConfig.AutoRemove}} {{.HostConfig.Memory}} "
               "{{.HostConfig.NanoCpus}} {{.HostConfig.Privileged}} {{json .HostConfig.PortBindings}}")
IMAGE_FIELDS = ("{{.Id}} {{json .RepoTags}} {{json .RepoDigests}} {{.Architecture}} {{.Os}} "
                "{{json .RootFS}} {{json .Config.Cmd}} {{json .Config.Env}} {{.Created}} {{.Parent}}")
PS = "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.Status}} {{.Ports}} {{.Labels}} {{.RunningFor}}"

ROWS = [
    # --- one run each
    Row("echo", *once("busybox", "echo", "hello from a VM")),
    Row("own exit code", *once("busybox", "sh", "-c", SAY)),
    Row("no such program", *once("busybox", "nosuch"), but=("start",)),
    Row("not executable", *once("busybox", "/etc/passwd"), but=("start",)),
    Row("no such path", *once("busybox", "/nosuch/program", "x"), but=("start",)),
    Row("killed", *once("busybox", "sh", "-c", "kill -9 $$")),
    Row("no such user", *once("-u", "nobodyatall", "busybox", "true")),
    Row("no such group", *once("-u", "0:nogroupatall", "busybox", "true")),
    Row("environment", *once("-e", "A=b c", "-e", "EMPTY=", "-h", "box", "busybox", "env"),
        unordered=True),
    Row("user, folder, name", *once("-w", "/var/new", "-u", "1:100", "-h", "box.example.org", "busybox",
                                    "sh", "-c", "id -u; id -g; pwd; hostname; echo $HOME; umask")),
    Row("entrypoint", *once("--entrypoint", "echo", "busybox", "x  y", "$HOME")),
    Row("stdin", *once("-i", "busybox", "cat"), stdin=b"one\ntwo\x00\xff\nno end"),
    Row("stdin is not asked for", *once("busybox", "cat"), stdin=b"lost"),
    Row("terminal", *once("-t", "busybox", "sh", "-c", "tty; echo out; echo err >&2")),
    Row("pid 1", *once("busybox", "sh", "-c", "echo $$; cat /proc/1/comm; ls /; cat /etc/hostname | wc -c")),

    # --- refused before anything is made
    Row("no such image", *once("--pull", "never", "nosuch:1", "true")),
    Row("image name in capitals", *once("--pull", "never", "NoSuch", "true")),
    Row("no such flag", "run", "--nosuchflag", "busybox"),
    Row("relative folder", *once("-w", "rel", "busybox", "true")),
    Row("tiny memory", *once("-m", "1k", "busybox", "true")),
    Row("stop signal", *once("--stop-signal", "NOPE", "busybox", "true"), but=("invalid signal",)),
    Row("restart policy", "create", "--network", "none", "--restart", "sometimes", "busybox", but=("policy name",)),
    Row("restart count", "create", "--network", "none", "--restart", "always:3", "busybox", but=("policy count",)),
    Row("bad name", "create", "--network", "none", "--name", "a/b", "busybox"),
    Row("oom score", "create", "--network", "none", "--oom-score-adj", "2000", "busybox"),

    # --- the life of a container that ends by itself
    Row("create", "create", "--network", "none", "--name", "c1", "-l", "app=same", "-e", "A=1", "busybox",
        "sh", "-c", SAY),
    Row("name is taken", "create", "--network", "none", "--name", "c1", "busybox"),
    Row("ps", "ps"),
    Row("ps -a", "ps", "-a", table=True),
    Row("ps format", "ps", "-a", "--format", PS),
    Row("ps whole", "ps", "-a", "--no-trunc", "--format", PS),
    Row("ps -q", "ps", "-aq", "--no-trunc"),
    Row("ps of a state", "ps", "--filter", "status=created", "--format", "{{.Names}} {{.Status}}"),
    Row("ps by label", "ps", "-a", "--filter", "label=app=same", "--format", "{{.Names}} {{.State}}"),
    Row("ps by name", "ps", "-a", "--filter", "name=^c1$", "--format", "{{.Names}}"),
    Row("ps bad filter", "ps", "--filter", "nosuch=1", but=("invalid filter",)),
    Row("ps bad state", "ps", "--filter", "status=nosuch", but=("invalid filter",)),
    Row("inspect created", "inspect", "-f", FIELDS, "c1"),
    Row("inspect config", "inspect", "-f", "{{json .Config}}", "c1"),
    Row("inspect host", "inspect", "-f", HOST_FIELDS, "c1"),
    Row("inspect a bad field", "inspect", "-f", "{{.NoSuchField}}", "c1"),
    Row("logs of a created one", "logs", "c1"),
    Row("attach to a created one", "attach", "c1"),
    Row("exec in a created one", "exec", "c1", "true", but=("is not running",)),
    Row("kill a created one", "kill", "c1", but=("cannot kill", "is not running")),
    Row("stop a created one", "stop", "c1"),
    Row("start attached", "start", "-a", "c1"),
    Row("inspect exited", "inspect", "-f", FIELDS, "c1"),
    Row("ps exited", "ps", "-a", "--format", PS),
    Row("ps by exit", "ps", "-a", "--filter", "exited=4", "--format", "{{.Names}}"),
    Row("logs", "logs", "c1"),
    Row("logs with times", "logs", "-t", "c1"),
    Row("logs, last line", "logs", "--tail", "1", "c1"),
    Row("logs, no line", "logs", "--tail", "0", "c1"),
    Row("logs since an hour", "logs", "--since", "1h", "c1"),
    Row("logs since tomorrow", "logs", "--since", "2100-01-01T00:00:00Z", "c1"),
    Row("logs until long ago", "logs", "--until", "2001-01-01T00:00:00Z", "c1"),
    Row("logs followed", "logs", "-f", "c1"),
    Row("logs of nothing", "logs", "nosuch"),
    Row("wait", "wait", "c1"),
    Row("stop an exited one", "stop", "c1"),
    Row("kill an exited one", "kill", "c1", but=("cannot kill", "is not running")),
    Row("attach to an exited one", "attach", "c1"),
    Row("exec in an exited one", "exec", "c1", "true", but=("is not running",)),
    Row("rename", "rename", "c1", "c2"),
    Row("create another", "create", "--network", "none", "--name", "c3", "busybox"),
    Row("rename to a taken name", "rename", "c2", "c3"),
    Row("ps, the newest", "ps", "-l", "--format", "{{.Names}} {{.Command}}"),
    Row("ps, the two newest", "ps", "-n", "2", "--format", "{{.Names}} {{.Status}}"),
    Row("rm a created one", "rm", "c3"),
    Row("rename to itself", "rename", "c2", "c2"),
    Row("rename to a bad name", "rename", "c2", "a b"),
    Row("rename nothing", "rename", "nosuch", "c3"),
    Row("start of nothing", "start", "nosuch"),
    Row("wait for nothing", "wait", "nosuch"),
    Row("several, one is missing", "stop", "nosuch", "c2"),
    Row("start a second time", "start", "-a", "c2"),
    Row("logs of two runs", "logs", "c2"),
    Row("rm", "rm", "c2"),
    Row("rm again", "rm", "c2"),
    Row("rm -f of nothing", "rm", "-f", "c2"),
    Row("inspect what is gone", "inspect", "c2"),
    Row("container inspect", "container", "inspect", "c2"),
    Row("a start that fails", "run", "--network", "none", "--name", "f1", "busybox", "nosuch", but=("start",)),
    Row("inspect a failed start", "inspect", "-f", FIELDS, "f1", but=("start",)),
    Row("ps of a failed start", "ps", "-a", "--format", PS),
    Row("logs of a failed start", "logs", "f1"),
    Row("rm of a failed start", "rm", "f1"),

    # --- the life of one that runs
    Row("run -d", "run", "-d", "--network", "none", "--name", "r1", "busybox", "sh", "-c", LOOP),
    Row("ps of a running one", "ps", "--format", PS, ready=("logs", "r1", "up\n")),
    Row("inspect running", "inspect", "-f", FIELDS, "r1"),
    Row("start a running one", "start", "r1"),
    Row("rm a running one", "rm", "r1", but=("rm running",)),
    Row("exec", "exec", "r1", "sh", "-c", SAY),
    Row("exec of no program", "exec", "r1", "nosuch", but=("exec code",)),
    Row("exec of no path", "exec", "r1", "/nosuch/program", but=("exec code",)),
    Row("exec of a file", "exec", "r1", "/etc/passwd"),
    Row("exec with more", "exec", "-e", "A=b", "-w", "/tmp", "-u", "nobody", "r1", "sh", "-c",
        "echo $A $HOME; pwd; id -u; id -g"),
    Row("exec stdin", "exec", "-i", "r1", "wc", "-c", stdin=b"12345"),
    Row("exec terminal", "exec", "-t", "r1", "sh", "-c", "tty >/dev/null && echo yes"),
    Row("exec -d", "exec", "-d", "r1", "sh", "-c", "echo kept >/kept"),
    Row("exec saw it", "exec", "r1", "sh", "-c", "while ! grep kept /kept 2>/dev/null; do :; done"),
    Row("exec no user", "exec", "-u", "nobodyatall", "r1", "true"),
    Row("exec no folder", "exec", "-w", "/nosuch", "r1", "pwd"),
    Row("exec relative folder", "exec", "-w", "rel", "r1", "pwd", but=("exec folder",)),
    Row("exec in nothing", "exec", "nosuch", "true"),
    Row("kill with no signal", "kill", "-s", "NOPE", "r1", but=("invalid signal",)),
    Row("kill, no harm", "kill", "-s", "WINCH", "r1"),
    Row("image in use", "rmi", "busybox"),
    Row("image in use, forced", "rmi", "-f", "busybox:latest"),
    Row("images, dangling", "images", "-f", "dangling=true", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"),
    Row("ps of an image without a name", "ps", "--format", "{{.Names}} {{.Image}}"),
    Row("tag it again", "tag", "IMAGE", "busybox:latest"),
    Row("stop", "stop", "r1"),
    Row("stopped", "inspect", "-f", FIELDS, "r1"),
    Row("logs of a stopped one", "logs", "r1"),
    Row("restart", "restart", "r1"),
    Row("restarted", "logs", "r1", ready=("logs", "r1", "up\nbye\nup\n")),
    Row("kill", "kill", "r1"),
    Row("killed by us", "wait", "r1"),
    Row("inspect killed", "inspect", "-f", FIELDS, "r1"),
    Row("events", "events", "--since", "1h", "--until", "0s", "--filter", "container=r1", "--format",
        "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.image}} "
        "[{{.Actor.Attributes.exitCode}}] [{{.Actor.Attributes.signal}}]"),
    Row("rm -f", "rm", "-f", "r1"),

    # --- images
    Row("images", "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}} {{.CreatedSince}}"),
    Row("images -q", "images", "-q", "--no-trunc"),
    Row("images of a name", "images", "nosuch"),
    Row("images bad filter", "images", "--filter", "nosuch=1", but=("invalid filter",)),
    Row("inspect image", "image", "inspect", "-f", IMAGE_FIELDS, "busybox"),
    Row("history", "history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}} [{{.Comment}}]", "busybox"),
    Row("history of nothing", "history", "nosuch"),
    Row("tag", "tag", "busybox", "other:1"),
    Row("tag nothing", "tag", "nosuch", "other:2"),
    Row("tag badly", "tag", "busybox", "Other:2"),
    Row("images of a tag", "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "other"),
    Row("rmi by id, two names", "rmi", "IMAGE"),
    Row("untag", "rmi", "other:1"),
    Row("rmi nothing", "rmi", "nosuch"),
    Row("image inspect nothing", "image", "inspect", "nosuch", but=("no such image",)),
    Row("load garbage", "load", stdin=b"this is not an archive" * 100, but=("garbage",)),
    Row("load nothing", "load", stdin=b"", but=("nothing",)),
    Row("no such command", "nosuchcommand"),
    Row("rmi", "rmi", "busybox"),
    Row("images, none", "images"),
]


def show(row, want, got):
    lines = difflib.unified_diff(want.splitlines(), got.splitlines(), "dockerd", "ours", lineterm="", n=1)
    return f"{row.name}: docker {' '.join(row.args)}\n    " + "\n    ".join(lines)


def expected(row, text):
    """What dockerd said, with the row's exceptions applied; and what is wrong with these."""
    stale = []
    for name in row.but:
        pattern, ours, _ = EXCEPTIONS[name]
        text, count = re.subn(pattern, ours, text)
        if not count and ours not in text:
            stale.append(f"{row.name}: the exception '{name}' changes nothing")
    return text, stale


def compare(peer, ours, rows):
    problems = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for row in rows:
            row.args = tuple(ours.image if a == "IMAGE" else a for a in row.args)
            began = time.monotonic()
            want, got = pool.map(lambda side: side.run(row), (peer, ours))
            want, stale = expected(row, want)
            problems += stale
            if want != got:
                problems.append(show(row, want, got))
            if __name__ == "__main__":
                print(f"{time.monotonic() - began:5.1f} s {'same' if want == got else problems[-1]}"
                      f" {row.name}", flush=True)
    return problems


def test_same_as_docker(rig):
    peer = peers.Peer(os.path.join(rig.folder, "peer"))
    image = os.path.join(rig.folder, "busybox.tar")
    peer.start()
    try:
        peer.docker("load", "-i", image, check=True)
        problems = compare(Side(peer.docker_host), Side(rig.docker_host), ROWS)
    finally:
        peer.stop()
        rig.load_busybox()
    if problems:
        raise AssertionError(f"{len(problems)} of {len(ROWS)} differ from dockerd:\n" +
                             "\n".join(problems))


def main():
    peer, ours = (Side("unix://" + os.path.abspath(path)) for path in sys.argv[1:3])
    rows = [row for row in ROWS if not sys.argv[3:] or any(n in row.name for n in sys.argv[3:])]
    return 1 if compare(peer, ours, rows) else 0


if __name__ == "__main__":
    sys.exit(main())
