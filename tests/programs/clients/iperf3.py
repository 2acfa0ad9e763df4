"""iperf3: one stream each way, four at once, both directions together."""

import json
import time

from lab import free_port, holds

NEEDS = ["iperf3"]


def measure(lab, port, flags):
    """Runs a test. The server takes one at a time, and may still be at the end of the one before."""
    for _ in range(10):
        done = lab.primary.run("iperf3", "-c", "127.0.0.1", "-p", lab.way(port), "-t", 2, "-J", *flags, check=False)
        said = json.loads(done.stdout)
        if "busy" not in said.get("error", ""):
            break
        time.sleep(0.3)
    return said


def run(lab):
    port = free_port()
    lab.worker.start("iperf3", "-s", "-B", "127.0.0.1", "-p", port, port=port)
    rows = [("one stream", []), ("one stream back", ["-R"]), ("four streams", ["-P", 4]), ("both directions", ["--bidir"])]
    for name, flags in rows:
        with lab.row(name):
            said = measure(lab, port, flags)
            holds("error" not in said, said.get("error"))
            holds(said["end"]["sum_received"]["bytes"] > 1_000_000, "less than a megabyte in two seconds")
