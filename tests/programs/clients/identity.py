"""The peer's identity as servers see it: headers of `expose --http`, and `whois --local` for plain sockets."""

import json
import subprocess
import sys

from lab import Skipped, equal, free_port, holds
import tools

NEEDS = ["curl"]
# A client that shows one answer and keeps its connection until its input ends.
HOLD = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("GET", "/")
print(connection.getresponse().read().decode(), flush=True)
sys.stdin.read()
"""


def run(lab):
    port = free_port()
    lab.worker.start(sys.executable, tools.HERE / "servers/headers.py", port, port=port)
    pins = None if lab.plain else lab.worker.pilot("trust")["trusted"][0]
    with lab.row("a server sees the peer in headers, and none from outside"):
        local = lab.way(port, "--http")
        forged = ["-H", "Pilot-Peer: root", "-H", "pilot-peer-address: 0:0000.0000.0001", "-H", "PILOT-PEER-FINGERPRINT: f",
                  "-H", "Pilot_Peer: root"]
        seen = json.loads(lab.primary.text("curl", "-sS", "--fail", *forged, f"http://127.0.0.1:{local}/who"))
        headers = seen["headers"]
        equal(headers.get("pilot-peer"), "primary-node", "Pilot-Peer")
        equal(headers.get("pilot-peer-address"), pins["address"], "Pilot-Peer-Address")
        holds(headers.get("pilot-peer-fingerprint"), "no fingerprint")
        holds("pilot_peer" not in headers, "a forged header passed")
        equal(headers["host"], f"127.0.0.1:{port}", "Host")
    with lab.row("every request of a kept connection has them"):
        url = f"http://127.0.0.1:{lab.way(port, '--http')}/"
        said = lab.primary.text("curl", "-sS", "--fail", "-H", "Pilot-Peer: root", url + "1", url + "2", url + "3")
        equal(said.count('"pilot-peer": "primary-node"'), 3, "answers that name the peer")
    with lab.row("whois --local says the same of a plain connection"):
        if lab.plain:
            raise Skipped("whois is Pilot's")
        held = subprocess.Popen(lab.primary.line([sys.executable, "-c", HOLD, lab.way(port)]), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        try:
            client = json.loads(held.stdout.readline())["client"]
            known = lab.worker.pilot("whois", "--local", client)
        finally:
            held.communicate("")
        holds("primary-node" in json.dumps(known), known)
        equal(known["address"], pins["address"], "address")
