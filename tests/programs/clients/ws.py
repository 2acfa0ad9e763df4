"""WebSocket by Node's `ws`, with compression: texts, 10 MB, ping, close codes, 50 at once."""

from lab import equal, free_port
import tools

NEEDS = ["npm:ws"]


def run(lab):
    port, client = free_port(), tools.script("ws_client.mjs")
    lab.worker.start("node", tools.script("ws_server.mjs"), port, port=port)
    with lab.row("forward"):
        lab.primary.run("node", client, f"ws://127.0.0.1:{lab.way(port)}")
    with lab.row("expose --http: the server knows the peer after the upgrade"):
        said = lab.primary.text("node", client, f"ws://127.0.0.1:{lab.way(port, '--http')}")
        equal(said.strip(), "primary-node", "Pilot-Peer")
