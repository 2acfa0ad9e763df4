"""MCP by the TypeScript SDK: stdio over `listen --exec` and `connect`, streamable HTTP over `expose --http`."""

from clients.mcp_python import SERVER, exec_port
from lab import free_port
import tools

NEEDS = ["npm:mcp", "npm:mcp-server", "npm:zod", "pypi:mcp", "pypi:uvicorn"]


def run(lab):
    client, server = tools.script("mcp_client.mjs"), tools.script("mcp_server.mjs")
    for name, serving in (("its own server", ["node", server]), ("the Python SDK's server", [tools.PYTHON, SERVER])):
        with lab.row(f"stdio, {name}"):
            way = serving if lab.plain else [lab.pilotctl, "connect", "worker-node", exec_port(lab, *serving)]
            lab.primary.run("node", client, *way)
    port = free_port()
    lab.worker.start(tools.PYTHON, SERVER, port, port=port)
    with lab.row("streamable HTTP, expose --http"):
        lab.primary.run("node", client, f"http://127.0.0.1:{lab.way(port, '--http')}/mcp")
