//! Owns the form of what travels: JSON-RPC 2.0, one JSON object a line.

use crate::mcp::clean;
use pilot_node::{Failure, FrameReader};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest line that is read; a longer one is refused and skipped. Unit: bytes. Source: a message has as many (docs/messages.md).
pub(super) const LINE_MAX: usize = 16 << 20;

/// Codes of JSON-RPC 2.0, and of MCP 2026-07-28.
pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
pub(super) const INTERNAL_ERROR: i32 = -32603;
pub(super) const UNSUPPORTED_REVISION: i32 = -32022;
/// A resource that does not exist, in the revisions before 2026-07-28.
pub(super) const RESOURCE_NOT_FOUND: i32 = -32002;

/// The error that a request is answered with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RpcError {
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }
}

impl From<Failure> for RpcError {
    fn from(failure: Failure) -> Self {
        let mut data = json!(failure);
        clean::value(&mut data);
        Self { code: INTERNAL_ERROR, message: clean::text(&failure.to_string()), data: Some(data) }
    }
}

/// One message from the client.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    Request {
        id: Value,
        method: String,
        params: Map<String, Value>,
    },
    Notification {
        method: String,
        params: Map<String, Value>,
    },
    /// An answer, although this server asks nothing.
    Answer,
    /// No valid message; the answer to it.
    Refused {
        id: Value,
        error: RpcError,
    },
}

/// Reads a line as JSON.
pub(super) fn parse(line: &[u8]) -> Result<Value, RpcError> {
    serde_json::from_slice(line).map_err(|e| RpcError::new(PARSE_ERROR, format!("the line is no JSON: {e}")))
}

/// Reads one message.
pub(super) fn read(message: Value) -> Incoming {
    let refused = |id: &Value, text: &str| {
        let id = if is_id(id) { id.clone() } else { Value::Null };
        Incoming::Refused { id, error: RpcError::new(INVALID_REQUEST, text) }
    };
    let Value::Object(mut message) = message else { return refused(&Value::Null, "a message is a JSON object") };
    let id = message.remove("id");
    let shown = id.clone().unwrap_or_default();
    if message.get("jsonrpc").is_none_or(|version| version != "2.0") {
        return refused(&shown, "jsonrpc is not \"2.0\"");
    }
    let method = match message.remove("method") {
        Some(Value::String(method)) => method,
        None if message.contains_key("result") || message.contains_key("error") => return Incoming::Answer,
        _ => return refused(&shown, "method is missing or no string"),
    };
    let params = match message.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return refused(&shown, "params is no JSON object"),
    };
    match id {
        None => Incoming::Notification { method, params },
        Some(id) if is_id(&id) => Incoming::Request { id, method, params },
        Some(_) => refused(&shown, "id is neither a string nor an integer"),
    }
}

fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_i64() || id.is_u64()
}

/// The answer to a request.
pub(super) fn answer(id: &Value, result: Result<Value, RpcError>) -> Value {
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(RpcError { code, message, data: None }) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
        Err(RpcError { code, message, data }) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": data}})
        }
    }
}

/// A message that asks for no answer.
pub(super) fn notification(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// Where messages for the client go: each a whole line, from any thread.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Mutex<dyn Write + Send>>);

impl Outgoing {
    pub(super) fn new(to: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(to)))
    }

    pub(super) fn send(&self, message: &Value) {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The loop sees that the client is gone.
        let _ = to.write_all(format!("{message}\n").as_bytes()).and_then(|()| to.flush());
    }
}

/// Splits input into lines.
#[derive(Default)]
pub(super) struct Lines {
    input: FrameReader,
    /// Bytes at the front that have no end of a line.
    searched: usize,
    /// The line was too long, and its rest is not kept.
    is_skipping: bool,
}

/// A piece of input.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// A line of more than [`LINE_MAX`] bytes.
    TooLong,
}

impl Lines {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
    }

    /// The next line, without its end.
    pub(super) fn next(&mut self) -> Option<Line> {
        loop {
            let input = self.input.rest();
            let Some(len) = input[self.searched..].iter().position(|b| *b == b'\n') else {
                self.searched = input.len();
                let is_too_long = !self.is_skipping && self.searched > LINE_MAX;
                if is_too_long || self.is_skipping {
                    self.input.clear();
                    (self.searched, self.is_skipping) = (0, true);
                }
                return is_too_long.then_some(Line::TooLong);
            };
            let len = std::mem::take(&mut self.searched) + len;
            let line = input[..len].trim_ascii();
            let line = match line.len() {
                _ if std::mem::take(&mut self.is_skipping) => None,
                0 => None,
                len if len > LINE_MAX => Some(Line::TooLong),
                _ => Some(Line::Whole(line.to_vec())),
            };
            self.input.consume(len + 1);
            if line.is_some() {
                return line;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &str) -> (Value, i32) {
        match parse(line.as_bytes()).map(read) {
            Ok(Incoming::Refused { id, error }) => (id, error.code),
            Err(error) => (Value::Null, error.code),
            Ok(other) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_code_of_its_fault() {
        let deep = "[".repeat(100_000);
        for line in ["{", "", "{\"a\":1}x", "\"\u{1}\"", "1e999", &deep] {
            assert_eq!(error_of(line), (Value::Null, PARSE_ERROR), "{}", &line[..line.len().min(20)]);
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}").map_err(|e| e.code), Err(PARSE_ERROR));
        for (line, id) in [
            ("[]", json!(null)),
            ("7", json!(null)),
            (r#"{"id":1,"method":"ping"}"#, json!(1)),
            (r#"{"jsonrpc":"1.0","id":"a","method":"ping"}"#, json!("a")),
            (r#"{"jsonrpc":"2.0","id":1}"#, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, json!(1)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, json!(1)),
        ] {
            assert_eq!(error_of(line), (id, INVALID_REQUEST), "{line}");
        }
        assert_eq!(read(json!({"jsonrpc": "2.0", "id": 1, "result": {}})), Incoming::Answer);
    }

    #[test]
    fn lines_are_found_however_they_come_and_a_line_that_is_too_long_is_skipped() {
        let mut lines = Lines::default();
        for byte in b"one\r\n\n  \ntwo\nrest" {
            lines.extend(&[*byte]);
        }
        assert_eq!(lines.next(), Some(Line::Whole(b"one".to_vec())));
        assert_eq!(lines.next(), Some(Line::Whole(b"two".to_vec())));
        assert_eq!(lines.next(), None);
        lines.extend(b" of it\n");
        assert_eq!(lines.next(), Some(Line::Whole(b"rest of it".to_vec())));
        for _ in 0..3 {
            lines.extend(&vec![b'x'; LINE_MAX / 2]);
            lines.next().inspect(|line| assert_eq!(*line, Line::TooLong));
        }
        assert!(lines.is_skipping && lines.input.held() == 0, "the rest is not kept");
        lines.extend(b"tail\nnext\n");
        assert_eq!((lines.next(), lines.next()), (Some(Line::Whole(b"next".to_vec())), None));
        lines.extend(&vec![b'y'; LINE_MAX]);
        lines.extend(b"\n");
        assert!(matches!(lines.next(), Some(Line::Whole(line)) if line.len() == LINE_MAX));
        lines.extend(&vec![b'y'; LINE_MAX + 1]);
        lines.extend(b"\nz\n");
        assert_eq!((lines.next(), lines.next()), (Some(Line::TooLong), Some(Line::Whole(b"z".to_vec()))));
    }
}
