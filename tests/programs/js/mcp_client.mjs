// An MCP client of the TypeScript SDK: by a URL, or by the command that speaks stdio.
import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const [command, ...args] = process.argv.slice(2);
const transport = command.startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(command))
  : new StdioClientTransport({ command, args, env: process.env });
const client = new Client({ name: "laboratory", version: "1" });
await client.connect(transport);
const { tools } = await client.listTools();
assert.ok(["add", "repeat"].every((name) => tools.some((tool) => tool.name === name)));
for (let i = 0; i < 20; i++) {
  const { content } = await client.callTool({ name: "add", arguments: { a: i, b: 1 } });
  assert.equal(content[0].text, String(i + 1));
}
const { content } = await client.callTool({ name: "repeat", arguments: { text: "x", count: 1_000_000 } });
assert.equal(content[0].text, "x".repeat(1_000_000));
const together = await Promise.all(Array.from({ length: 20 }, (_, i) => client.callTool({ name: "add", arguments: { a: i, b: i } })));
assert.deepEqual(together.map(({ content }) => content[0].text), Array.from({ length: 20 }, (_, i) => String(2 * i)));
await client.close();
