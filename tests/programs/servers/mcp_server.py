"""An MCP server of the Python SDK: on stdio, or with a port as argument by streamable HTTP."""

import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("laboratory")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def repeat(text: str, count: int) -> str:
    """Repeats a text."""
    return text * count


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Counts, and reports every step."""
    for i in range(to):
        await ctx.report_progress(i + 1, to)
    return f"counted to {to}"


@server.resource("lab://greeting/{name}")
def greeting(name: str) -> str:
    return f"hello {name}"


if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run("stdio")
