"""WebSocket by Python's `websockets`: texts, 10 MB, ping, pushes, close codes, 50 at once."""

from lab import equal, free_port
import tools

NEEDS = ["pypi:websockets"]


def run(lab):
    port = free_port()
    lab.worker.start(tools.PYTHON, tools.HERE / "servers/websocket.py", port, port=port)
    client = tools.HERE / "servers/websocket_client.py"
    with lab.row("forward"):
        lab.primary.run(tools.PYTHON, client, f"ws://127.0.0.1:{lab.way(port)}")
    with lab.row("expose --http: the server knows the peer after the upgrade"):
        said = lab.primary.text(tools.PYTHON, client, f"ws://127.0.0.1:{lab.way(port, '--http')}")
        equal(said.strip(), "primary-node", "Pilot-Peer")
    with lab.row("proxy, CONNECT"):
        proxy, virtual = lab.proxy(), lab.expose(port)
        lab.primary.run(tools.PYTHON, client, f"ws://worker-node.pilot:{virtual}", f"http://{proxy}")
