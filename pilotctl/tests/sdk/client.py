"""Drives `pilotctl mcp` with the official Python SDK: client.py PILOTCTL HOME_OF_A HOME_OF_B MODE."""

import asyncio
import json
import sys

from mcp import Client
from mcp.client.stdio import StdioServerParameters

PROGRAM, HOME_A, HOME_B, MODE = sys.argv[1:]


def client(home):
    server = StdioServerParameters(command=PROGRAM, args=["mcp"], env={"PILOT_HOME": home})
    return Client(server, mode=MODE, read_timeout_seconds=60)


async def main():
    async with client(HOME_A) as a, client(HOME_B) as b:
        tools = [tool.name for tool in (await a.list_tools()).tools]
        templates = [t.uri_template for t in (await a.list_resource_templates()).resource_templates]
        updates = []
        if MODE != "legacy":
            async with b.listen(resource_subscriptions=["pilot://inbox"]) as events:
                sent = await a.call_tool("send_message", {"node": "worker-node", "text": "from python " + MODE})
                async for event in events:
                    updates.append(str(event.uri))
                    break
        else:
            await a.send_ping()
            sent = await a.call_tool("send_message", {"node": "worker-node", "text": "from python " + MODE})
        inbox = json.loads((await b.read_resource("pilot://inbox")).contents[0].text)
        newest = inbox["messages"][-1]["uri"]
        message = (await b.read_resource(newest)).contents[0].text
        answer = await a.call_tool("connect_and_ask", {"node": "worker-node", "port": 7, "text": "echo"})
        failed = await a.call_tool("path", {"node": "nobody"})
        listed = [str(resource.uri) for resource in (await b.list_resources()).resources]
        print(json.dumps({
            "revision": a.session.protocol_version,
            "tools": tools,
            "templates": templates,
            "ack": sent.structured_content["ack"],
            "message": message,
            "answer": answer.structured_content["text"],
            "is_error": failed.is_error,
            "code": failed.structured_content["error"]["code"],
            "is_listed": newest in listed,
            "updates": updates,
        }))


asyncio.run(main())
