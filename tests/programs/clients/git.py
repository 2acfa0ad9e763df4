"""git: clone, push and fetch over ssh and over git://."""

import os

from clients import ssh
from lab import equal, free_port

NEEDS = ["git", "ssh", "sshd"]
IDENTITY = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@a",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@a"}


def repository(lab, place):
    work = lab.new_folder("origin")
    git = lambda *args, cwd=work: lab.worker.run("git", *args, cwd=cwd, env=IDENTITY)
    git("init", "-q", "-b", "main")
    for i in range(30):
        (work / f"file{i}").write_bytes(os.urandom(50_000))
        git("add", ".")
        git("commit", "-qm", f"change {i}")
    git("clone", "-q", "--bare", str(work), str(place))


def work_with(lab, url, env):
    clone, second = lab.new_folder("clone"), lab.new_folder("second")
    git = lambda *args, cwd: lab.primary.run("git", *args, cwd=cwd, env={**IDENTITY, **env}).stdout.decode()
    git("clone", "-q", url, ".", cwd=clone)
    equal(len(git("log", "--oneline", cwd=clone).splitlines()), 30, "commits")
    (clone / "pushed").write_bytes(os.urandom(5_000_000))
    git("add", ".", cwd=clone)
    git("commit", "-qm", "pushed", cwd=clone)
    git("push", "-q", "origin", "HEAD", cwd=clone)
    git("clone", "-q", "--depth", "1", url, ".", cwd=second)
    equal((second / "pushed").read_bytes(), (clone / "pushed").read_bytes(), "the pushed file")
    git("fsck", cwd=second)


def run(lab):
    folder = lab.new_folder("git")
    port, options = ssh.serve(lab)
    for name, open_way in ssh.ways(lab, port):
        with lab.row(f"ssh, {name}: clone, push, a shallow clone"):
            repository(lab, folder / f"{name}.git")
            shell = " ".join(["ssh", *(f"'{o}'" if " " in o else o for o in [*options, *open_way()])])
            work_with(lab, f"ssh://root@there{folder}/{name}.git", {"GIT_SSH_COMMAND": shell})
    with lab.row("git://: clone, push, a shallow clone"):
        repository(lab, folder / "d.git")
        port = free_port()
        lab.worker.start("git", "daemon", "--export-all", "--enable=receive-pack", "--listen=127.0.0.1", f"--port={port}",
                         f"--base-path={folder}", env=IDENTITY | {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                                                                  "GIT_CONFIG_VALUE_0": "*"}, port=port)
        work_with(lab, f"git://127.0.0.1:{lab.way(port)}/d.git", {})
