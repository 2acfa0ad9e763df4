"""A2A by its Python SDK: card, send and stream, where the card names the server by its caller's name."""

from lab import equal, free_port
import tools

NEEDS = ["pypi:a2a", "pypi:uvicorn"]


def run(lab):
    port, client = free_port(), tools.HERE / "servers/a2a_client.py"
    lab.worker.start(tools.PYTHON, tools.HERE / "servers/a2a_server.py", port, port=port)
    if lab.plain:
        with lab.row("without Pilot"):
            lab.primary.run(tools.PYTHON, client, f"http://127.0.0.1:{port}")
    with lab.row("forward: card, send, stream"):
        local = lab.way(port, "--http", "--a2a")
        lab.primary.run(tools.PYTHON, client, f"http://127.0.0.1:{local}")
    with lab.row("proxy: card, send, stream by the peer's name"):
        proxy, virtual = lab.proxy(), lab.expose(port, "--http", "--a2a")
        said = lab.primary.text(tools.PYTHON, client, f"http://worker-node.pilot:{virtual}", f"http://{proxy}")
        equal(said.split("/")[2], f"worker-node.pilot:{virtual}", "the card's host")
    with lab.row("pilotctl run: card, send, stream by the peer's name"):
        virtual = lab.expose(port, "--http", "--a2a")
        lab.primary.run(lab.pilotctl, "run", "--", tools.PYTHON, client, f"http://worker-node.pilot:{virtual}")
