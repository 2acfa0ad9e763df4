"""HTTP/2 with prior knowledge by nghttp2's h2load: many requests at once on few connections."""

from clients import nginx
from lab import holds

NEEDS = ["h2load", "nginx"]


def run(lab):
    _, _, port = nginx.serve(lab)
    for name, flags in (("1,000 requests, 4 connections, 50 at once", ["-n", 1000, "-c", 4, "-m", 50]),
                        ("100 connections", ["-n", 500, "-c", 100, "-m", 5])):
        with lab.row(f"forward: {name}"):
            said = lab.primary.text("h2load", *flags, f"http://127.0.0.1:{lab.way(port)}/small")
            holds(f"{flags[1]} succeeded, 0 failed, 0 errored" in said, said)
