"""rsync over ssh and its own protocol: a tree there and back, and what changed of it."""

import os

from clients import ssh
from lab import equal, free_port, holds

NEEDS = ["rsync", "ssh", "sshd"]


def tree(lab):
    folder = lab.new_folder("tree")
    for i in range(200):
        place = folder / f"d{i % 10}"
        place.mkdir(exist_ok=True)
        (place / f"f{i}").write_bytes(os.urandom(i * 300))
    (folder / "large").write_bytes(os.urandom(10_000_000))
    (folder / "link").symlink_to("large")
    return folder


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def change(file):
    """Writes seven bytes; rsync compares sizes and whole seconds, so the file's time moves by more than one."""
    time = file.stat().st_mtime + 2
    with open(file, "r+b") as opened:
        opened.seek(5_000_000)
        opened.write(os.urandom(7))
    os.utime(file, (time, time))


def run(lab):
    folder = tree(lab)
    port, options = ssh.serve(lab)
    for name, open_way in ssh.ways(lab, port):
        with lab.row(f"over ssh, {name}: a tree there, a change, and back"):
            shell = " ".join(["ssh", *(f"'{o}'" if " " in o else o for o in [*options, *open_way()])])
            there, back = lab.new_folder("there"), lab.new_folder("back")
            lab.primary.run("rsync", "-a", "-e", shell, f"{folder}/", f"root@there:{there}/")
            equal(contents(there), contents(folder), "the tree there")
            change(folder / "large")
            said = lab.primary.text("rsync", "-a", "--stats", "-e", shell, f"{folder}/", f"root@there:{there}/")
            sent = int(next(l for l in said.splitlines() if l.startswith("Total bytes sent")).split(":")[1].replace(",", ""))
            holds(sent < 1_000_000, f"{sent} bytes were sent for seven")
            equal(contents(there), contents(folder), "the changed tree there")
            lab.primary.run("rsync", "-a", "-e", shell, f"root@there:{there}/", f"{back}/")
            equal(contents(back), contents(folder), "the tree back")
    with lab.row("rsync's own daemon through a forward"):
        there, port = lab.new_folder("module"), free_port()
        config = lab.folder / "rsyncd.conf"
        config.write_text(f"[m]\npath = {there}\nread only = no\nuse chroot = no\nmunge symlinks = no\nuid = root\ngid = root\n")
        lab.worker.start("rsync", "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}", f"--config={config}",
                         port=port)
        lab.primary.run("rsync", "-a", f"{folder}/", f"rsync://127.0.0.1:{lab.way(port)}/m/")
        equal(contents(there), contents(folder), "the tree")
