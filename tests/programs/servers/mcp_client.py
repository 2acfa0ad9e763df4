"""An MCP client of the Python SDK: by a URL, or by the command that speaks stdio."""

import asyncio
import sys

from mcp import Client, StdioServerParameters


async def main():
    where = sys.argv[1] if len(sys.argv) == 2 else StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=environment())
    async with Client(where, read_timeout_seconds=60) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"add", "repeat", "count"} <= tools, tools
        for i in range(20):
            result = await client.call_tool("add", {"a": i, "b": 1})
            assert result.content[0].text == str(i + 1), result
        result = await client.call_tool("repeat", {"text": "x", "count": 1_000_000})
        assert result.content[0].text == "x" * 1_000_000
        steps = []

        async def step(done, total, _message):
            steps.append(done)

        result = await client.call_tool("count", {"to": 10}, progress_callback=step)
        assert result.content[0].text == "counted to 10", result
        assert steps, "no progress was reported"
        together = await asyncio.gather(*(client.call_tool("add", {"a": i, "b": i}) for i in range(20)))
        assert [result.content[0].text for result in together] == [str(2 * i) for i in range(20)]
        read = await client.read_resource("lab://greeting/pilot")
        assert read.contents[0].text == "hello pilot", read


def environment():
    import os

    return {name: os.environ[name] for name in ("PATH", "PILOT_HOME") if name in os.environ}


asyncio.run(main())
