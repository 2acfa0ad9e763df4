// Drives `pilotctl mcp` with the official TypeScript SDK: client.mjs PILOTCTL HOME_OF_A HOME_OF_B MODE. Mode `auto` takes the
// newest SDK and lets it choose the revision, `legacy` takes its predecessor, which many agent programs still use.

const [program, homeA, homeB, mode] = process.argv.slice(2);
const { Client } = await import(mode === 'auto' ? '@modelcontextprotocol/client' : '@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = await import(
    mode === 'auto' ? '@modelcontextprotocol/client/stdio' : '@modelcontextprotocol/sdk/client/stdio.js');

async function connect(home) {
    const options = mode === 'auto' ? { versionNegotiation: { mode: 'auto' } } : {};
    const client = new Client({ name: 'test', version: '0' }, options);
    await client.connect(new StdioClientTransport({ command: program, args: ['mcp'], env: { PILOT_HOME: home } }));
    return client;
}

const [a, b] = [await connect(homeA), await connect(homeB)];
const tools = (await a.listTools()).tools.map((tool) => tool.name);
const templates = (await a.listResourceTemplates()).resourceTemplates.map((t) => t.uriTemplate);
const sent = await a.callTool({ name: 'send_message', arguments: { node: 'worker-node', text: `from typescript ${mode}` } });
const inbox = JSON.parse((await b.readResource({ uri: 'pilot://inbox' })).contents[0].text);
const newest = inbox.messages.at(-1).uri;
const message = (await b.readResource({ uri: newest })).contents[0].text;
const answer = await a.callTool({ name: 'connect_and_ask', arguments: { node: 'worker-node', port: 7, text: 'echo' } });
const failed = await a.callTool({ name: 'path', arguments: { node: 'nobody' } });
const listed = (await b.listResources()).resources.map((resource) => resource.uri);
console.log(JSON.stringify({
    revision: mode === 'auto' ? a.getNegotiatedProtocolVersion() : '2025-11-25',
    tools,
    templates,
    ack: sent.structuredContent.ack,
    message,
    answer: answer.structuredContent.text,
    is_error: failed.isError,
    code: failed.structuredContent.error.code,
    is_listed: listed.includes(newest),
    updates: [],
}));
await a.close();
await b.close();
