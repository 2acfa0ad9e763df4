"""Owns the programs that nobody here wrote: where they are, and how they come from Debian, PyPI, npm and Go's modules."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "programs"
VENV = FOLDER / "venv"
PYTHON = str(VENV / "bin" / "python")

# A program and the Debian package that has it.
DEBIAN = {
    "curl": "curl", "git": "git", "h2load": "nghttp2-client", "ip": "iproute2", "iperf3": "iperf3", "nft": "nftables", "nginx": "nginx-light",
    "node": "nodejs", "npm": "npm", "psql": "postgresql-client", "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools", "redis-server": "redis-server", "rsync": "rsync", "ssh": "openssh-client",
    "sshd": "openssh-server",
}
# Distributions and packages with the versions that the rows were written for.
PYPI = {
    "a2a": "a2a-sdk[http-server]==1.3.0", "fastapi": "fastapi==0.165.0", "grpc": "grpcio==1.85.3",
    "mcp": "mcp==2.3.0", "uvicorn": "uvicorn==0.54.0", "websockets": "websockets==17.4",
}
NPM = {"ws": "ws@8.23.0", "mcp": "@modelcontextprotocol/client@2.4.0", "mcp-server": "@modelcontextprotocol/server@2.4.0", "zod": "zod@4"}
PLACES = ["/usr/local/go/bin", "/usr/sbin", "/sbin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin"]
# Longest installation of one package. Unit: seconds. Own choice: a slow mirror is no failure of a row.
INSTALL_S = 300

os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *PLACES])
updated = False


class Missing(Exception):
    """A program is not here and could not be installed."""


def run(args, **more):
    try:
        done = subprocess.run(args, capture_output=True, text=True, timeout=INSTALL_S, **more)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Missing(f"{args[0]}: {e}") from e
    if done.returncode:
        raise Missing(f"{' '.join(map(str, args))}: {done.stderr.strip()[-300:]}")
    return done.stdout


def need(*names):
    """Installs what is missing: `curl` is a program, `pypi:mcp` a Python package, `npm:ws` one of npm, `go` the rows in Go."""
    for name in names:
        kind, _, package = name.partition(":")
        if package:
            {"pypi": from_pypi, "npm": from_npm}[kind](package)
        elif name == "go":
            build_go()
        elif name == "postgres":
            program("postgres", "postgresql")
            program("initdb", "postgresql")
        else:
            program(name, DEBIAN[name])


def program(name, package):
    global updated
    if shutil.which(name):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Missing(f"{name} is not installed (Debian: {package})")
    if not updated:
        run(["apt-get", "update", "-q"])
        updated = True
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    run(["apt-get", "install", "-qy", "--no-install-recommends", package], env=quiet)
    if not shutil.which(name):
        raise Missing(f"{package} has no {name}")


def marked(name):
    """A file that says that a package was installed, so that the registry is asked once."""
    return FOLDER / "installed" / name.replace("/", "_")


def mark(name):
    marked(name).parent.mkdir(parents=True, exist_ok=True)
    marked(name).touch()


def from_pypi(name):
    wanted = PYPI[name]
    if marked(wanted).exists():
        return
    if not Path(PYTHON).exists():
        run([sys.executable, "-m", "venv", VENV])
    run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted])
    mark(wanted)


def from_npm(name):
    wanted = NPM[name]
    need("node", "npm")
    if not marked(wanted).exists():
        folder = FOLDER / "js"
        folder.mkdir(parents=True, exist_ok=True)
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, wanted])
        mark(wanted)


def script(name):
    """Returns a script of `js/` where it finds the packages of npm."""
    place = FOLDER / "js" / name
    shutil.copyfile(HERE / "js" / name, place)
    return str(place)


def build_go():
    if not shutil.which("go"):
        raise Missing("go is not installed (version 1.26)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    run(["go", "build", "-o", FOLDER / "grpc-go", "."], cwd=HERE / "go")
