"""A WebSocket client of `websockets`: everything in one program, an assertion each."""

import asyncio
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

BASE = sys.argv[1]
MORE = {"proxy": sys.argv[2]} if len(sys.argv) > 2 else {"proxy": None}


async def echo(connection, message):
    await connection.send(message)
    assert await connection.recv() == message


async def main():
    async with connect(BASE, max_size=1 << 25, **MORE) as connection:
        for message in ("hello", "ä" * 1000, b"", os.urandom(1 << 20), os.urandom(10 << 20)):
            await echo(connection, message)
        for _ in range(200):
            await echo(connection, "short")
        await asyncio.wait_for(await connection.ping(), 10)
    async with connect(BASE + "/push", **MORE) as connection:
        assert [message async for message in connection] == [str(i) for i in range(10)]
    async with connect(BASE, **MORE) as connection:
        await connection.send("close")
        try:
            await connection.recv()
            raise AssertionError("the connection stays open")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4000, "as asked"), closed

    async def one(i):
        async with connect(BASE, **MORE) as connection:
            for j in range(10):
                await echo(connection, f"{i} {j}")

    await asyncio.gather(*(one(i) for i in range(50)))
    async with connect(BASE, **MORE) as connection:
        await connection.send("who")
        print(await connection.recv())


asyncio.run(main())
