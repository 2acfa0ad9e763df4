//! An agent's end of `pilotctl mcp`: raw lines of JSON.

use super::Node;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longest wait for one line of the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, and the client that talks with it.
pub(crate) struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Messages that came while another was waited for.
    others: Vec<Value>,
    next: u64,
    meta: Value,
}

impl Agent {
    /// Starts a server of a node's daemon, without saying anything to it.
    pub(crate) fn silent(node: &Node, options: &[&str]) -> Self {
        Self::over(node.command(&[&["mcp"], options].concat()))
    }

    /// Starts a command that is a server, or leads to one.
    pub(crate) fn over(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (out, lines) = (child.stdout.take().unwrap(), channel());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let line = line.unwrap();
                let message = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if lines.0.send(message).is_err() {
                    return;
                }
            }
        });
        Self { stdin: child.stdin.take(), child, lines: lines.1, others: Vec::new(), next: 1, meta: Value::Null }
    }

    /// Starts a server and initializes it in the newest revision that begins so.
    pub(crate) fn new(node: &Node, options: &[&str]) -> Self {
        Self::silent(node, options).initialized()
    }

    /// Initializes the server in the newest revision that begins so.
    pub(crate) fn initialized(mut self) -> Self {
        let client = json!({"name": "test", "version": "0"});
        let answer =
            self.ask("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}));
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
        self.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        self
    }

    /// Starts a server for requests that tell their revision themselves.
    pub(crate) fn newest(node: &Node, options: &[&str]) -> Self {
        let mut agent = Self::silent(node, options);
        let prefix = "io.modelcontextprotocol";
        agent.meta =
            json!({format!("{prefix}/protocolVersion"): "2026-07-28", format!("{prefix}/clientCapabilities"): {}});
        agent
    }

    pub(crate) fn write(&mut self, message: &Value) {
        self.write_bytes(format!("{message}\n").as_bytes());
    }

    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Sends a request; gives its id.
    pub(crate) fn send(&mut self, method: &str, mut params: Value) -> u64 {
        let id = self.next;
        self.next += 1;
        if !self.meta.is_null() {
            params["_meta"] = self.meta.clone();
        }
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The next message for which `wanted` is true.
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.others.iter().position(&wanted) {
            return self.others.remove(at);
        }
        loop {
            let message = self.lines.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|e| panic!("until {what}: {e}; came: {:?}", self.others));
            if wanted(&message) {
                return message;
            }
            self.others.push(message);
        }
    }

    pub(crate) fn answer(&mut self, id: u64) -> Value {
        self.wait("the answer", |message| message["id"] == id && message.get("method").is_none())
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Whether an answer has come.
    pub(crate) fn has_answer(&self, id: u64) -> bool {
        self.others.iter().any(|message| message["id"] == id)
    }

    /// Begins the call of a tool; gives the request's id.
    pub(crate) fn begin(&mut self, tool: &str, arguments: Value) -> u64 {
        self.send("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Calls a tool that must succeed; gives its structured result.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin(tool, arguments);
        self.outcome(id)
    }

    /// The structured result of a call that must succeed.
    pub(crate) fn outcome(&mut self, id: u64) -> Value {
        let answer = self.answer(id);
        assert_eq!(answer["result"]["isError"], false, "{answer}");
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), answer["result"]["structuredContent"]);
        answer["result"]["structuredContent"].clone()
    }

    /// Calls a tool that must fail; gives the failure.
    pub(crate) fn fails(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin(tool, arguments);
        let answer = self.answer(id);
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        answer["result"]["structuredContent"]["error"].clone()
    }

    /// Reads a resource that must be there; gives its contents.
    pub(crate) fn read(&mut self, uri: &str) -> Value {
        let answer = self.ask("resources/read", json!({"uri": uri}));
        assert!(answer["result"]["contents"][0].is_object(), "{answer}");
        answer["result"]["contents"][0].clone()
    }

    /// Closes the server's input, and gives how it ends.
    pub(crate) fn close(mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
