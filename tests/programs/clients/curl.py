"""curl against nginx: every way in, ranges, chunks, 100-continue, keep-alive, 200 MB both ways, HTTP/2."""

import hashlib
import json
import time

from clients import nginx
from lab import equal, free_port, holds
import tools

NEEDS = ["curl", "nginx"]
BIG = 200_000_000


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(lab):
    folder, port, port2 = nginx.serve(lab)
    www = folder / "www"
    big = lab.file(BIG)
    big.rename(www / "big")
    # The raw way and `expose --http` carry the same requests.
    for name, flags in (("forward", []), ("expose --http", ["--http"])):
        whole_set(lab, name, lambda flags=flags: f"http://127.0.0.1:{lab.way(port, *flags)}", www)
    # curl before 8 cannot use a connection of HTTP/2 with prior knowledge again; `h2load` does that.
    with lab.row("forward: HTTP/2 with prior knowledge"):
        url, small = f"http://127.0.0.1:{lab.way(port2)}/small", (www / "small").read_bytes()
        for _ in range(10):
            got = lab.primary.run("curl", "-sS", "--fail", "--http2-prior-knowledge", "-w", "%{http_version}", url).stdout
            equal(got, small + b"2", "body and version")
    with lab.row("forward: 20 MB up over HTTP/2"):
        upload(lab, f"http://127.0.0.1:{lab.way(port2)}", ["--http2-prior-knowledge"], www, 20_000_000)
    proxy(lab, port, www)
    with lab.row("pilotctl run: curl by the peer's name, exit status"):
        url = f"http://worker-node.pilot:{lab.expose(port)}"
        got = lab.primary.run(lab.pilotctl, "run", "--", "curl", "-sS", "--fail", f"{url}/small").stdout
        equal(got, (www / "small").read_bytes(), "body")
        done = lab.primary.run(lab.pilotctl, "run", "--", "curl", "-sS", "--fail", f"{url}/none", check=False)
        equal(done.returncode, 22, "exit status")
    with lab.row("no other way leads there"):
        if not lab.plain:
            done = lab.primary.run("curl", "-sS", "-m", "3", "http://10.2.0.2/", check=False)
            holds(done.returncode in (7, 28), f"exit status {done.returncode}")
    dead(lab)


def whole_set(lab, name, open_way, www):
    curl = lambda *args: lab.primary.run("curl", "-sS", "--fail", *args)
    small = (www / "small").read_bytes()
    with lab.row(f"{name}: ranges"):
        equal(curl("-r", "100-199", f"{open_way()}/small").stdout, small[100:200], "a range")
        equal(curl("-r", "-17", f"{open_way()}/small").stdout, small[-17:], "the end")
        several = curl("-r", "0-9,50-59", "-D", "-", f"{open_way()}/small").stdout
        holds(b"multipart/byteranges" in several and small[50:60] in several, "two ranges in one answer")
        out = lab.folder / f"resumed-{lab.next()}"
        out.write_bytes(small[:5000])
        curl("-C", "-", "-o", out, f"{open_way()}/small")
        equal(out.read_bytes(), small, "a resumed download")
    with lab.row(f"{name}: chunked upload"):
        upload(lab, open_way(), ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"], www, 3_000_000)
    with lab.row(f"{name}: 100-continue"):
        said = upload(lab, open_way(), ["-H", "Expect: 100-continue", "-v"], www, 2_000_000)
        holds("HTTP/1.1 100 Continue" in said, "no interim answer")
    with lab.row(f"{name}: keep-alive"):
        args = ["-w", "%{num_connects} ", *[word for _ in range(20) for word in ("-o", "/dev/null", f"{open_way()}/small")]]
        equal(sum(map(int, curl(*args).stdout.split())), 1, "connections for 20 requests")
    with lab.row(f"{name}: 200 MB down with hash"):
        out = lab.folder / f"down-{lab.next()}"
        curl("-o", out, f"{open_way()}/big")
        equal(sha256(out), sha256(www / "big"), "hash")
        out.unlink()
    with lab.row(f"{name}: 200 MB up with hash"):
        upload(lab, open_way(), [], www, BIG)


def upload(lab, base, flags, www, size):
    file, name = lab.file(size, "up"), f"up-{lab.next()}"
    done = lab.primary.run("curl", "-sS", "--fail", *flags, "-T", file, f"{base}/{name}")
    equal(sha256(www / name), sha256(file), "hash")
    file.unlink()
    (www / name).unlink()
    return done.stderr.decode(errors="replace")


def proxy(lab, port, www):
    small = (www / "small").read_bytes()
    opened = []

    def way():
        """Opens the proxy once; returns its address, and the base of the peer's URLs."""
        if not opened:
            opened.extend((lab.proxy(), lab.expose(port)))
        return opened[0], f"worker-node.pilot:{opened[1]}"

    forms = [("--socks5-hostname", lambda at: ["--socks5-hostname", at]), ("-x, CONNECT", lambda at: ["-x", f"http://{at}", "-p"]),
             ("-x, absolute form", lambda at: ["-x", f"http://{at}"])]
    for form, flags in forms:
        with lab.row(f"proxy, {form}: three names of the peer"):
            at, there = way()
            address = lab.primary.pilot("find", "worker-node")["address"].replace(":", "-")
            for host in ("worker-node", "worker-node.pilot", address):
                url = there.replace("worker-node.pilot", host)
                equal(lab.primary.run("curl", "-sS", "--fail", *flags(at), f"http://{url}/small").stdout, small, host)
        with lab.row(f"proxy, {form}: 20 MB up with hash, keep-alive"):
            at, there = way()
            upload(lab, f"http://{there}", flags(at), www, 20_000_000)
            args = ["-w", "%{num_connects} ", *["-o", "/dev/null", f"http://{there}/small"] * 10]
            done = lab.primary.text("curl", "-sS", "--fail", *flags(at), *args)
            equal(sum(map(int, done.split())), 1, "connections for 10 requests")
        with lab.row(f"proxy, {form}: a host that is no Pilot name is refused"):
            done = lab.primary.run("curl", "-sS", "--fail", "-m", "10", *flags(way()[0]), "http://example.com/", check=False)
            holds(done.returncode in (22, 56, 97), f"exit status {done.returncode}: {done.stderr.decode()}")


def dead(lab):
    """A target that is down is refused at once, and the next request finds it when it is up again."""
    with lab.row("a dead target is refused at once, and found when it is up"):
        port = free_port()
        ways = [lab.way(port), lab.way(port, "--http")] if not lab.plain else [port]
        for i, local in enumerate(ways):
            begin = time.monotonic()
            done = lab.primary.run("curl", "-sS", "-m", "20", "-w", "%{http_code}", f"http://127.0.0.1:{local}/", check=False)
            holds(time.monotonic() - begin < 5, "that took longer than five seconds")
            said = done.stdout.decode()
            holds(done.returncode in (7, 52, 56) if i == 0 else said.endswith("502"), f"{done.returncode} {said}")
        lab.worker.start(tools.sys.executable, tools.HERE / "servers/headers.py", port, port=port)
        for local in ways:
            seen = json.loads(lab.primary.text("curl", "-sS", "--fail", f"http://127.0.0.1:{local}/up"))
            equal(seen["path"], "/up", "path")
