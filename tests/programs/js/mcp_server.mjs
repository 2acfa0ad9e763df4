// An MCP server of the TypeScript SDK on stdio.
import { McpServer } from "@modelcontextprotocol/server";
import { StdioServerTransport } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";

const server = new McpServer({ name: "laboratory", version: "1" });
const text = (text) => ({ content: [{ type: "text", text }] });
server.registerTool("add", { description: "Adds.", inputSchema: z.object({ a: z.number(), b: z.number() }) }, ({ a, b }) => text(String(a + b)));
server.registerTool("repeat", { description: "Repeats.", inputSchema: z.object({ text: z.string(), count: z.number() }) }, (asked) => text(asked.text.repeat(asked.count)));
await server.connect(new StdioServerTransport());
