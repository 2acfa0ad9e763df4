"""gRPC by grpc-go: unary, the three streamings, 16 MB, deadlines, keepalive."""

from lab import free_port
import tools

NEEDS = ["go"]
ROWS = [
    ("unary, 500 at once on one connection", "unary"), ("streams up, down and both ways", "streams"),
    ("16 MB both ways", "large"), ("deadline", "deadline"), ("keepalive", "keepalive"),
]


def run(lab):
    port, program = free_port(), tools.FOLDER / "grpc-go"
    lab.worker.start(program, "serve", port, port=port)
    for name, kind in ROWS:
        with lab.row(f"forward: {name}"):
            lab.primary.run(program, kind, f"127.0.0.1:{lab.way(port)}")
