"""MCP by the Python SDK: stdio over `listen --exec` and `connect`, streamable HTTP over `expose --http`."""

from lab import free_port
import tools

NEEDS = ["pypi:mcp", "pypi:uvicorn"]
CLIENT, SERVER = tools.HERE / "servers/mcp_client.py", tools.HERE / "servers/mcp_server.py"


def exec_port(lab, *command):
    """Serves a command on a port of the worker, a process a stream; returns the port."""
    port = 20000 + lab.next()
    lab.worker.start(lab.pilotctl, "listen", port, "--exec", *command)
    return port


def run(lab):
    with lab.row("stdio"):
        if lab.plain:
            command = [tools.PYTHON, SERVER]
        else:
            command = [lab.pilotctl, "connect", "worker-node", exec_port(lab, tools.PYTHON, SERVER)]
        lab.primary.run(tools.PYTHON, CLIENT, *command)
    port = free_port()
    lab.worker.start(tools.PYTHON, SERVER, port, port=port)
    for name, flags in (("streamable HTTP, expose --http", ["--http"]), ("streamable HTTP, forward", [])):
        with lab.row(name):
            lab.primary.run(tools.PYTHON, CLIENT, f"http://127.0.0.1:{lab.way(port, *flags)}/mcp")
