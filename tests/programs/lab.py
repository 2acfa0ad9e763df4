"""Owns a run: the two daemons, the ways between programs, the rows with their outcome."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
from pathlib import Path

import net
import tools

# Longest command of a row. Unit: seconds. Own choice: a debug build on a shared machine takes a tenth of it.
COMMAND_S = 120
# Longest wait for a server, a daemon or an approval. Unit: seconds.
READY_S = 30
PEER = {"primary": "worker-node", "worker": "primary-node"}


class Skipped(Exception):
    """A row cannot run here."""


def until(what, done, seconds=READY_S):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"until {what}: {seconds} s have passed")
        time.sleep(0.05)


class Machine:
    """One side: commands run in its namespace and, for `pilot`, against its daemon."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.folder = lab.folder / name
        self.folder.mkdir()
        self.folder.chmod(0o755)

    def line(self, args):
        args = [str(arg) for arg in args]
        return args if self.lab.plain else net.enter(self.name, args)

    def environment(self, more=None):
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith("PILOT_") and not name.lower().endswith("_proxy")}
        kept["PATH"] = os.pathsep.join([str(self.lab.pilotctl.parent), kept["PATH"]])
        return {**kept, "PILOT_HOME": str(self.folder / "pilot"), **(more or {})}

    def run(self, *args, input=None, check=True, seconds=COMMAND_S, env=None, cwd=None):
        """Runs a command to its end; its output is bytes."""
        stdin = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(self.line(args), capture_output=True, timeout=seconds, env=self.environment(env), cwd=cwd,
                              **stdin)
        if check and done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()[-600:]
            raise AssertionError(f"{' '.join(map(str, args))[:200]}: exit status {done.returncode}: {said}")
        return done

    def text(self, *args, **more):
        return self.run(*args, **more).stdout.decode()

    def start(self, *args, port=None, env=None, cwd=None):
        """Starts a server, which ends with the row's client; waits until it listens on a port."""
        log = open(self.folder / f"{Path(str(args[0])).name}-{self.lab.next()}.log", "wb")
        child = subprocess.Popen(self.line(args), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 env=self.environment(env), cwd=cwd, start_new_session=True)
        self.lab.children.append(child)
        if port is not None:
            def listens():
                if child.poll() is not None:
                    raise AssertionError(f"{args[0]} has ended: {Path(log.name).read_text(errors='replace')[-600:]}")
                return self.listens(port)
            until(f"{args[0]} listens on {port}", listens)
        return child

    def listens(self, port):
        """Looks at the kernel's table of sockets, so that no server sees a connection."""
        hexed = f":{port:04X}"
        table = self.run("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.decode()
        rows = [line.split() for line in table.splitlines()]
        return any(row[1].endswith(hexed) and row[3] == "0A" for row in rows if len(row) > 3)

    def pilot(self, *args, **more):
        """Runs `pilotctl`; returns its data."""
        words = list(args)
        place = words.index("--") if "--" in words else len(words)
        done = self.run(self.lab.pilotctl, *words[:place], "--json", *words[place:], **more)
        text = done.stdout.decode().strip()
        return json.loads(text.splitlines()[-1]).get("data") if text else None


class Lab:
    def __init__(self, pilotctl, plain=False):
        self.pilotctl, self.plain = Path(pilotctl).absolute(), plain
        self.net, self.children, self.rows, self.numbers = net.Net(), [], [], 0
        self.folder = Path(tempfile.mkdtemp(prefix="pilot-lab-"))
        self.folder.chmod(0o755)
        self.client = ""
        self.primary, self.worker = Machine(self, "primary"), Machine(self, "worker")
        self.undo, self.ways = [], {}

    # The daemons.

    def up(self):
        if self.plain:
            return
        self.net.up()
        said = self.folder / "rendezvous.out"
        home = self.folder / "rendezvous"
        args = [self.pilotctl, "rendezvous", "run", "--home", home, "--listen", net.RENDEZVOUS]
        subprocess.Popen(net.enter("net", list(map(str, args))), stdin=subprocess.DEVNULL, stdout=open(said, "wb"),
                         stderr=subprocess.DEVNULL)
        until("the rendezvous serves", lambda: "@" in said.read_text())
        endpoint = next(word for word in said.read_text().split() if "@" in word)
        for machine, name in ((self.primary, "primary-node"), (self.worker, "worker-node")):
            machine.pilot("daemon", "start", "--hostname", name, "--rendezvous", endpoint)
        self.befriend()

    def befriend(self):
        primary, worker = self.primary, self.worker
        primary.pilot("handshake", "worker-node", "--ports", "all")
        until("the request arrives", lambda: worker.pilot("pending")["pending"])
        worker.pilot("approve", "primary-node", "--ports", "all")
        until("the approval arrives", lambda: primary.pilot("trust")["trusted"])
        until("the tunnel is direct", lambda: "direct" in json.dumps(self.path()), 10)

    def path(self):
        self.primary.pilot("ping", "worker-node", "--count", "1")
        return self.primary.pilot("peers")["peers"][0]["path"]

    def down(self):
        self.end_client()
        if not self.plain:
            for machine in (self.primary, self.worker):
                with contextlib.suppress(Exception):
                    machine.pilot("daemon", "stop", seconds=10)
            self.net.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    # The ways.

    def way(self, target, *flags):
        """Exposes a server of the worker and forwards a port of the primary to it; returns the port on loopback.

        A client's rows share the ways that they open."""
        if self.plain:
            if flags:
                raise Skipped(f"{' '.join(flags)} is Pilot's")
            return target
        if (target, flags) not in self.ways:
            self.ways[target, flags] = self.forward(self.expose(target, *flags))
        return self.ways[target, flags]

    def expose(self, target, *flags):
        """Exposes a target of the worker; returns the virtual port."""
        if self.plain:
            raise Skipped("it is Pilot's")
        port = 20000 + self.next()
        self.worker.pilot("expose", port, target, *flags)
        self.undo.append((self.worker, ("expose", "--remove", port)))
        return port

    def forward(self, port):
        listen = free_port()
        self.primary.pilot("forward", listen, f"worker-node:{port}")
        self.undo.append((self.primary, ("forward", "--remove", listen)))
        return listen

    def proxy(self, *flags):
        """Opens the proxy of the primary; returns HOST:PORT."""
        if self.plain:
            raise Skipped("the proxy is Pilot's")
        listen = f"127.0.0.1:{free_port()}"
        self.primary.pilot("proxy", "--listen", listen, *flags)
        self.undo.append((self.primary, ("proxy", "--remove", listen)))
        return listen

    def file(self, size, name="blob"):
        """Makes a file of random bytes; returns its path."""
        place = self.folder / f"{name}-{self.next()}"
        with open(place, "wb") as out:
            for _ in range(0, size, 1 << 20):
                out.write(os.urandom(min(1 << 20, size - out.tell())))
        place.chmod(0o644)
        return place

    def new_folder(self, name):
        place = self.folder / f"{name}-{self.next()}"
        place.mkdir()
        place.chmod(0o777)
        return place

    def next(self):
        self.numbers += 1
        return self.numbers

    # The rows.

    @contextlib.contextmanager
    def row(self, name):
        """A named row: what fails inside fails this row and no other."""
        begin, outcome, why = time.monotonic(), "PASS", ""
        try:
            yield
        except (Skipped, tools.Missing) as e:
            outcome, why = "SKIP", str(e)
        except Exception as e:  # every kind of failure is a row's outcome
            outcome, why = "FAIL", f"{type(e).__name__}: {e}"
            if os.environ.get("PILOT_TRACE"):
                traceback.print_exc()
        self.add(name, outcome, why, time.monotonic() - begin)

    def add(self, name, outcome, why, seconds):
        self.rows.append({"client": self.client, "row": name, "outcome": outcome, "why": why, "seconds": round(seconds, 1)})
        print(f"{outcome}  {self.client}: {name}  ({seconds:.1f} s)" + (f"  {why}" if why else ""), flush=True)

    def run_client(self, name, module):
        self.client = name
        begin = time.monotonic()
        try:
            tools.need(*module.NEEDS)
            module.run(self)
        except (Skipped, tools.Missing) as e:
            self.add("all", "SKIP", str(e), time.monotonic() - begin)
        except Exception as e:  # the server of a client did not start
            self.add("all", "FAIL", f"{type(e).__name__}: {e}", time.monotonic() - begin)
            if os.environ.get("PILOT_TRACE"):
                traceback.print_exc()
        finally:
            self.end_client()

    def end_client(self):
        for machine, args in reversed(self.undo):
            with contextlib.suppress(Exception):
                machine.pilot(*args, seconds=10)
        for child in reversed(self.children):
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(3)
                    break
        self.undo, self.children, self.ways = [], [], {}


def free_port():
    """A port that is free in this namespace. Ports of the laboratory's machines are freer still."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(count, work):
    """Runs `work(i)` in threads; raises the first failure."""
    failures = []

    def one(i):
        try:
            work(i)
        except Exception as e:  # told to the caller below
            failures.append(e)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def equal(got, wanted, what="value"):
    if got != wanted:
        raise AssertionError(f"{what}: {str(got)[:300]!r} instead of {str(wanted)[:300]!r}")


def holds(condition, text):
    if not condition:
        raise AssertionError(text)
