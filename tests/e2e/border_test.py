"""Nobody takes a short cut: what vic-engine may touch, and who may talk to it."""
import os
import subprocess

import rig as rigs
from lib import contains, same, until


def as_engine(rig, *argv):
    return rigs.run(["ip", "netns", "exec", rig.netns, "setpriv", "--reuid", rigs.ENGINE_USER,
                     "--regid", rigs.ENGINE_USER, "--clear-groups", "--no-new-privs", *argv],
                    check=False)


def test_engine_reads_nothing_of_the_host(rig):
    files = [os.path.join(folder, name) for folder, _, names in os.walk(rig.host_dir)
             for name in names]
    same(len(files) > 5, True, "vic-host has files")
    for path in [rig.host_dir, *files]:
        same(as_engine(rig, "test", "-r", path).returncode, 1, f"{path} is readable")
    with open(f"/proc/{rig.engine.pid}/status") as f:
        status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
    same(status["CapEff"].strip(), "0000000000000000", "capabilities of vic-engine")
    same(status["NoNewPrivs"].strip(), "1")
    same("0" in status["Uid"].split(), False, "vic-engine is not root")


def test_engine_reaches_the_host_by_https_only(rig):
    seen = as_engine(rig, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}",
                     f"https://{rigs.ADDRESS}:{rig.port}/sdk/vimServiceVersions.xml")
    same(seen.stdout, "200", seen.stderr)
    listening = rigs.run(["ip", "netns", "exec", rig.netns, "ss", "-Htln"]).stdout.split("\n")
    ports = sorted({line.split()[3].rsplit(":", 1)[1] for line in listening if line})
    same(ports, sorted([str(rig.port), "2377"]), "ports open beside the engine")


def test_host_user_of_vms(rig):
    rig.docker("run", "-d", "--name", "who", "busybox", "sleep", "1000", check=True)
    for pid in rig.vm_processes():
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
        same(status["CapEff"].strip(), "0000000000000000", "capabilities of a VM's process")
        same(status["Seccomp"].strip(), "2", "its seccomp mode")
        same("0" in status["Uid"].split(), False, "it is not root")
    rig.docker("rm", "-f", "who", check=True)


def make_certificates(folder):
    def openssl(*argv):
        rigs.run(["openssl", *argv], cwd=folder)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "2", "-subj",
            "/CN=test ca", "-addext", "basicConstraints=critical,CA:TRUE")
    for name, extra in (("server", "subjectAltName=IP:127.0.0.1"),
                        ("client", "extendedKeyUsage=clientAuth")):
        openssl("req", *new, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj",
                f"/CN={name}")
        with open(os.path.join(folder, f"{name}.ext"), "w") as f:
            f.write(extra + "\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
                "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")


def test_tls_on_tcp(rig):
    folder = os.path.join(rig.folder, "tls")
    os.makedirs(folder, exist_ok=True)
    make_certificates(folder)
    inside = os.path.join(rig.engine_dir, "tls")
    os.makedirs(inside, exist_ok=True)
    for name in ("ca.pem", "server.pem", "server-key.pem"):
        rigs.run(["install", "-m", "0600", "-o", rigs.ENGINE_USER,
                  os.path.join(folder, name), os.path.join(inside, name)])
    rig.stop_engine()
    rig.start_engine(env=rig.sanitizer_env("engine"), args=[
        "--host", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", inside + "/ca.pem",
        "--tlscert", inside + "/server.pem", "--tlskey", inside + "/server-key.pem"])

    def docker(*argv):
        return rigs.run(["ip", "netns", "exec", rig.netns, "docker", "--host",
                         "tcp://127.0.0.1:2376", *argv], check=False)

    client = ["--tlsverify", "--tlscacert", folder + "/ca.pem", "--tlscert", folder + "/client.pem",
              "--tlskey", folder + "/client-key.pem"]
    done = docker(*client, "run", "--rm", "busybox", "echo", "over TLS")
    same((done.returncode, done.stdout), (0, "over TLS\n"), done.stderr)
    bare = docker("--tls", "--tlscacert", folder + "/ca.pem", "ps")
    same(bare.returncode, 1, "without a certificate")
    contains(bare.stderr, "tls")
    same(docker("ps").returncode, 1, "without TLS")
    rig.restart_engine()


def test_socket_mode(rig):
    same(oct(os.stat(os.path.join(rig.engine_dir, "docker.sock")).st_mode & 0o777), "0o600")
