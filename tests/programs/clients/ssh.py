"""OpenSSH: through a forward and with `pilotctl connect` as its ProxyCommand; rsync and git over both."""

import hashlib
import os
from pathlib import Path

from lab import Skipped, equal, free_port, holds
import tools

NEEDS = ["ssh", "sshd"]

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PidFile none
Subsystem sftp internal-sftp
"""


def serve(lab):
    """Starts sshd on the worker; returns the port and the options of its client."""
    folder, port = lab.new_folder("ssh"), free_port()
    folder.chmod(0o755)
    for key in ("host", "user"):
        lab.worker.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)
    lab.worker.start(tools.shutil.which("sshd"), "-D", "-e", "-f", folder / "config", port=port)
    options = ["-F", "/dev/null", "-i", str(folder / "user"), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
               "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    return port, options


def ways(lab, port):
    """Names of the ways, and what opens each: options of ssh that reach the server as `root@there`."""
    def forward():
        return ["-o", "HostName=127.0.0.1", "-p", str(lab.way(port))]

    def command():
        if lab.plain:
            raise Skipped("ProxyCommand is Pilot's")
        return ["-o", f"ProxyCommand={lab.pilotctl} connect worker-node {lab.expose(port)}"]

    return [("forward", forward), ("ProxyCommand", command)]


def run(lab):
    port, options = serve(lab)
    for name, open_way in ways(lab, port):
        ssh = lambda open_way=open_way: ["ssh", *options, *open_way(), "root@there"]
        with lab.row(f"{name}: commands, exit status, 20 MB both ways"):
            args = ssh()
            equal(lab.primary.text(*args, "echo hello").strip(), "hello", "answer")
            equal(lab.primary.run(*args, "exit 7", check=False).returncode, 7, "exit status")
            blob = os.urandom(20_000_000)
            equal(hashlib.sha256(lab.primary.run(*args, "cat", input=blob).stdout).digest(), hashlib.sha256(blob).digest(), "hash")
        with lab.row(f"{name}: half-close reaches the command"):
            equal(lab.primary.text(*ssh(), "wc -c", input=b"x" * 1000).strip(), "1000", "length")
        with lab.row(f"{name}: a forward inside ssh"):
            with_forward = [*ssh()[:-1], "-L", f"{free_port()}:127.0.0.1:{port}", "root@there", "echo inside"]
            equal(lab.primary.text(*with_forward).strip(), "inside", "answer")
