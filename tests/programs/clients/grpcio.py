"""gRPC by Python's grpcio: unary, the three streamings, 16 MB, deadlines, keepalive."""

from lab import free_port
import tools

NEEDS = ["pypi:grpc"]
ROWS = [
    ("unary, 500 at once on one connection", "unary"), ("streams up, down and both ways", "streams"),
    ("16 MB both ways", "large"), ("deadline and cancelling", "deadline"), ("keepalive", "keepalive"),
    ("an unknown method", "metadata"),
]


def run(lab):
    port, client = free_port(), tools.HERE / "servers/grpc_client.py"
    lab.worker.start(tools.PYTHON, tools.HERE / "servers/grpc_server.py", port, port=port)
    for name, kind in ROWS:
        with lab.row(f"forward: {name}"):
            lab.primary.run(tools.PYTHON, client, f"127.0.0.1:{lab.way(port)}", kind)
    with lab.row("grpc_proxy: unary by the peer's name"):
        proxy, virtual = lab.proxy(), lab.expose(port)
        lab.primary.run(tools.PYTHON, client, f"worker-node.pilot:{virtual}", "unary", env={"grpc_proxy": f"http://{proxy}"})
    with lab.row("pilotctl run: streams by the peer's name"):
        virtual = lab.expose(port)
        lab.primary.run(lab.pilotctl, "run", "--", tools.PYTHON, client, f"worker-node.pilot:{virtual}", "streams")
