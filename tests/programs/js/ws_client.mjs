// A WebSocket client of `ws`: everything in one program, an assertion each.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { WebSocket } from "ws";

const base = process.argv[2];

async function open() {
  const socket = new WebSocket(base, { maxPayload: 1 << 25 });
  await once(socket, "open");
  return socket;
}

async function echo(socket, data) {
  const answer = once(socket, "message");
  socket.send(data);
  const [got, binary] = await answer;
  assert.equal(binary, typeof data !== "string");
  assert.ok(Buffer.from(data).equals(got));
}

const socket = await open();
for (const data of ["hello", "ä".repeat(1000), Buffer.alloc(0), randomBytes(1 << 20), randomBytes(10 << 20)]) await echo(socket, data);
for (let i = 0; i < 200; i++) await echo(socket, `short ${i}`);
const pong = once(socket, "pong");
socket.ping("p");
assert.equal((await pong)[0].toString(), "p");
const closed = once(socket, "close");
socket.send("close");
const [code, reason] = await closed;
assert.deepEqual([code, reason.toString()], [4000, "as asked"]);

await Promise.all(Array.from({ length: 50 }, async (_, i) => {
  const one = await open();
  for (let j = 0; j < 10; j++) await echo(one, `${i} ${j}`);
  one.close();
  await once(one, "close");
}));

const last = await open();
const who = once(last, "message");
last.send("who");
console.log((await who)[0].toString());
last.terminate();
