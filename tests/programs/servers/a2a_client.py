"""An A2A client of the Python SDK: fetches the card, sends, streams; everything else goes where the card says."""

import asyncio
import sys

import httpx
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers import get_message_text, new_text_message
from a2a.types.a2a_pb2 import Role, SendMessageRequest

BASE = sys.argv[1]


def say(text):
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


async def main():
    # Without a proxy named here, the environment names one, as it does for every program of httpx.
    async with httpx.AsyncClient(timeout=60, proxy=sys.argv[2] if len(sys.argv) > 2 else None) as http:
        card = await A2ACardResolver(http, BASE).get_agent_card()
        urls = [interface.url for interface in card.supported_interfaces]
        print(*urls)
        assert all(url.startswith(BASE) for url in urls), f"the card leads to {urls} and not to {BASE}"
        for streaming in (False, True):
            client = await create_client(card, ClientConfig(streaming=streaming, httpx_client=http))
            answers = [answer async for answer in client.send_message(say("hello"))]
            assert get_message_text(answers[-1].message) == "HELLO", answers
        events = [event async for event in client.send_message(say("stream"))]
        parts = [event.artifact_update.artifact.parts[0].text for event in events if event.HasField("artifact_update")]
        assert parts == ["part 0", "part 1", "part 2"], events


asyncio.run(main())
