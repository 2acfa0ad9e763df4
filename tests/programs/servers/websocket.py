"""A WebSocket server of `websockets`: echoes, pushes ten numbers on `/push`, closes with 4000 on `close`."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def handle(connection):
    if connection.request.path == "/push":
        for i in range(10):
            await connection.send(str(i))
            await asyncio.sleep(0.01)
        return
    async for message in connection:
        if message == "close":
            await connection.close(4000, "as asked")
        elif message == "who":
            await connection.send(connection.request.headers.get("Pilot-Peer", ""))
        else:
            await connection.send(message)


async def main():
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), max_size=1 << 25) as server:
        await server.serve_forever()


asyncio.run(main())
