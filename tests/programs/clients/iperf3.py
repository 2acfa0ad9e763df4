"""iperf3: one stream each way, four at once, both directions together."""

import json

from lab import free_port, holds

NEEDS = ["iperf3"]


def run(lab):
    port = free_port()
    lab.worker.start("iperf3", "-s", "-B", "127.0.0.1", "-p", port, port=port)
    rows = [("one stream", []), ("one stream back", ["-R"]), ("four streams", ["-P", 4]), ("both directions", ["--bidir"])]
    for name, flags in rows:
        with lab.row(name):
            said = json.loads(lab.primary.text("iperf3", "-c", "127.0.0.1", "-p", lab.way(port), "-t", 2, "-J", *flags))
            holds(said["end"]["sum_received"]["bytes"] > 1_000_000, "less than a megabyte in two seconds")
