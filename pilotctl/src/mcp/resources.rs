//! Owns the resources: the inbox and the files that have arrived, each under an address of its own.

use crate::client::CALL_TIMEOUT;
use crate::mcp::calls::Call;
use crate::mcp::clean;
use crate::mcp::rpc::{INVALID_PARAMS, RESOURCE_NOT_FOUND, RpcError};
use data_encoding::BASE64;
use pilot_node::answer::{Inbox, Message, Received, ReceivedFile};
use pilot_node::{Code, Failure, MessageKind, Request};
use serde_json::{Value, json};
use std::path::Path;

/// Longest resource that is read. Unit: bytes. Source: a client holds all of it, in base64, in one line.
pub(super) const READ_MAX: u64 = 1 << 20;
/// Messages, and files, that are listed one by one.
const LISTED_MAX: usize = 100;

pub(super) const INBOX: &str = "pilot://inbox";
pub(super) const RECEIVED: &str = "pilot://received";

/// What an address names.
#[derive(Debug, PartialEq)]
pub(super) enum Resource {
    Inbox,
    Message(u64),
    Received,
    File(String),
}

/// Reads an address.
pub(super) fn parse(uri: &str) -> Option<Resource> {
    match uri {
        INBOX => return Some(Resource::Inbox),
        RECEIVED => return Some(Resource::Received),
        _ => {}
    }
    if let Some(seq) = uri.strip_prefix(INBOX).and_then(|rest| rest.strip_prefix('/')) {
        // One message has one address.
        return seq.parse().ok().filter(|number| message_uri(*number) == uri).map(Resource::Message);
    }
    let name = decoded(uri.strip_prefix(RECEIVED)?.strip_prefix('/')?)?;
    (!name.is_empty()).then_some(Resource::File(name))
}

pub(super) fn message_uri(seq: u64) -> String {
    format!("{INBOX}/{seq}")
}

/// The address of a file, with every byte but letters, digits and `-._~` encoded (RFC 3986, 2.1).
pub(super) fn file_uri(name: &str) -> String {
    let mut uri = format!("{RECEIVED}/");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut out) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        out.push(if byte == b'%' { (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8 } else { byte });
    }
    String::from_utf8(out).ok()
}

/// The answer to `resources/templates/list`.
pub(super) fn templates() -> Value {
    json!({"resourceTemplates": [
        {"uriTemplate": format!("{INBOX}/{{seq}}"), "name": "message", "title": "A message of the inbox",
            "description": "The body of the message with this number, written by another node."},
        {"uriTemplate": format!("{RECEIVED}/{{name}}"), "name": "received-file", "title": "A file that has arrived",
            "description": "A file that another node sent; at most 1 MiB is read."},
    ]})
}

/// The answer to `resources/list`: both lists, and the newest messages and files. Without daemon, both lists alone.
pub(super) fn list(call: &Call) -> Result<Value, RpcError> {
    let mut resources = vec![
        json!({"uri": INBOX, "name": "inbox", "title": "Inbox", "mimeType": "application/json",
            "description": "The newest messages that other nodes left."}),
        json!({"uri": RECEIVED, "name": "received", "title": "Received files", "mimeType": "application/json",
            "description": "The files that other nodes sent."}),
    ];
    let mut client = match call.client() {
        Err(failure) if failure.code == Code::NotRunning => return Ok(json!({"resources": resources})),
        client => client?,
    };
    let limit = Some(LISTED_MAX as u64);
    let inbox: Inbox = client.ask(&Request::Inbox { limit, before: None, only: None }, Some(CALL_TIMEOUT))?;
    resources.extend(inbox.messages.iter().rev().map(describe_message));
    let received: Received = client.ask(&Request::Received, Some(CALL_TIMEOUT))?;
    let mut files: Vec<&ReceivedFile> = received.files.iter().collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.received_at));
    resources.extend(files.into_iter().take(LISTED_MAX).map(|file| {
        json!({"uri": file_uri(&file.name), "name": clean::text(&file.name), "size": file.bytes,
            "description": "A file that another node sent."})
    }));
    Ok(json!({"resources": resources}))
}

fn describe_message(message: &Message) -> Value {
    let from = if message.hostname.is_empty() { &message.from } else { &message.hostname };
    json!({"uri": message_uri(message.id), "name": format!("message-{}", message.id), "size": message.bytes,
        "mimeType": mime_type(message.kind), "description": clean::text(&format!("A message from {from}."))})
}

const fn mime_type(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Text => "text/plain",
        MessageKind::Json => "application/json",
        MessageKind::Binary => "application/octet-stream",
    }
}

/// The answer to `resources/read`.
pub(super) fn read(call: &Call, uri: &str, is_newest: bool) -> Result<Value, RpcError> {
    let missing = || RpcError {
        code: if is_newest { INVALID_PARAMS } else { RESOURCE_NOT_FOUND },
        message: format!("there is no resource {uri:?}"),
        data: Some(json!({"uri": uri})),
    };
    let resource = parse(uri).ok_or_else(missing)?;
    let contents = contents(call, uri, &resource).map_err(|failure| match failure.code {
        Code::NotFound => missing(),
        _ => failure.into(),
    })?;
    Ok(json!({"contents": [contents]}))
}

fn contents(call: &Call, uri: &str, resource: &Resource) -> Result<Value, Failure> {
    let mut client = call.client()?;
    let of_data = |mut data: Value| {
        clean::value(&mut data);
        json!({"uri": uri, "mimeType": "application/json", "text": data.to_string(), "_meta": {"pilot/notice": clean::NOTICE}})
    };
    match resource {
        Resource::Inbox => {
            let request = Request::Inbox { limit: Some(LISTED_MAX as u64), before: None, only: None };
            let mut data = client.request(&request, &[], Some(CALL_TIMEOUT))?.data;
            for message in data["messages"].as_array_mut().into_iter().flatten() {
                message["uri"] = message_uri(message["id"].as_u64().unwrap_or_default()).into();
            }
            Ok(of_data(data))
        }
        Resource::Received => {
            let mut data = client.request(&Request::Received, &[], Some(CALL_TIMEOUT))?.data;
            for file in data["files"].as_array_mut().into_iter().flatten() {
                file["uri"] = file_uri(file["name"].as_str().unwrap_or_default()).into();
            }
            Ok(of_data(data))
        }
        Resource::Message(seq) => {
            let reply = client.request(&Request::InboxRead { seq: *seq }, &[], Some(CALL_TIMEOUT))?;
            let message: Message = reply.read()?;
            if reply.blob.len() as u64 > READ_MAX {
                return Err(Failure::new(
                    Code::Full,
                    format!("message {seq} has {} bytes, more than {READ_MAX}", message.bytes),
                )
                .hint(format!("pilotctl inbox read {seq}")));
            }
            let mut from =
                json!({"from": message.from, "hostname": message.hostname, "received_at": message.received_at});
            clean::value(&mut from);
            Ok(body(uri, Some(mime_type(message.kind)), &reply.blob, &from))
        }
        Resource::File(name) => {
            let received: Received = client.ask(&Request::Received, Some(CALL_TIMEOUT))?;
            let file = received.files.iter().find(|file| file.name == *name);
            let file = file.ok_or_else(|| Failure::new(Code::NotFound, "there is no such file"))?;
            Ok(body(uri, None, &file_bytes(Path::new(&received.folder), file)?, &json!({})))
        }
    }
}

/// The bytes of a file, unless there are too many.
fn file_bytes(folder: &Path, file: &ReceivedFile) -> Result<Vec<u8>, Failure> {
    let path = folder.join(&file.name);
    let len = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
    match len {
        None => Err(Failure::new(Code::NotFound, "there is no such file")),
        Some(len) if len > READ_MAX => {
            Err(Failure::new(Code::Full, format!("{} has {len} bytes, more than {READ_MAX}", file.name))
                .hint(format!("the file lies at {}", path.display())))
        }
        Some(_) => Ok(std::fs::read(&path)?),
    }
}

/// The contents of one resource that another node wrote: text if the bytes are, else base64.
fn body(uri: &str, kind: Option<&str>, bytes: &[u8], about: &Value) -> Value {
    let mut meta = about.clone();
    meta["pilot/notice"] = clean::NOTICE.into();
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let kind = kind.unwrap_or("text/plain");
            json!({"uri": uri, "mimeType": kind, "text": clean::text(text), "_meta": meta})
        }
        Err(_) => {
            let kind = kind.unwrap_or("application/octet-stream");
            json!({"uri": uri, "mimeType": kind, "blob": BASE64.encode(bytes), "_meta": meta})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_one_thing_each() {
        assert_eq!(parse("pilot://inbox"), Some(Resource::Inbox));
        assert_eq!(parse("pilot://inbox/7"), Some(Resource::Message(7)));
        assert_eq!(parse("pilot://received"), Some(Resource::Received));
        for name in ["a.txt", "ä b%.pdf", "..", "x/y", "100%"] {
            assert_eq!(parse(&file_uri(name)), Some(Resource::File(name.into())), "{name}");
        }
        for bad in [
            "",
            "pilot://",
            "pilot://inbox/",
            "pilot://inbox/07",
            "pilot://inbox/x",
            "pilot://inboxes",
            "pilot://inbox/-1",
            "pilot://inbox/99999999999999999999",
            "pilot://received/",
            "pilot://received/%",
            "pilot://received/%f",
            "pilot://received/%ff",
            "file:///etc/passwd",
            "pilot://received/%zz",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_the_limit_and_no_link_is_followed() {
        let folder = std::env::temp_dir().join(format!("pilot-mcp-read-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = |name: &str| ReceivedFile { name: name.into(), bytes: 0, received_at: 0, of: None, sender: None };
        std::fs::write(folder.join("full"), vec![7; READ_MAX as usize]).expect("a file");
        std::fs::write(folder.join("more"), vec![7; READ_MAX as usize + 1]).expect("a file");
        std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).expect("a link");
        assert_eq!(file_bytes(&folder, &file("full")).map(|bytes| bytes.len() as u64), Ok(READ_MAX));
        let refused = file_bytes(&folder, &file("more")).expect_err("too long");
        assert!(refused.hint.contains(folder.join("more").to_str().expect("text")), "{refused}");
        for missing in ["link", "gone", "."] {
            assert_eq!(file_bytes(&folder, &file(missing)).map_err(|f| f.code), Err(Code::NotFound), "{missing}");
        }
        std::fs::remove_dir_all(folder).expect("a folder");
    }

    #[test]
    fn a_body_is_text_or_base64_and_says_where_it_is_from() {
        let text = body("u", Some("text/plain"), b"a\x1bb", &json!({"from": "x"}));
        assert_eq!((&text["text"], &text["_meta"]["from"]), (&json!("a b"), &json!("x")));
        assert_eq!(text["_meta"]["pilot/notice"], clean::NOTICE);
        assert_eq!(body("u", None, b"\xff", &json!({}))["blob"], "/w==");
    }
}
