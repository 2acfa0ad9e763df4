//! Owns the table of tools: what each is called, takes and does, and how its result is shown.

use crate::mcp::actions;
use crate::mcp::arguments::{Arguments, invalid};
use crate::mcp::ask;
use crate::mcp::calls::Call;
use crate::mcp::clean;
use crate::mcp::files;
use crate::mcp::questions;
use crate::mcp::resources::INBOX;
use crate::mcp::rpc::RpcError;
use crate::mcp::schema::Input;
use crate::mcp::subscriptions::Subscriptions;
use pilot_node::{Client, Code, Failure, socket_path};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for the daemon to make a forward.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(15);

/// What the owner allows, and what outlives one call.
pub(super) struct Powers {
    /// Whether the agent may decide on requests for trust.
    pub(super) may_approve: bool,
    /// The folder that files to be sent lie in; absent: any.
    pub(super) files: Option<PathBuf>,
    pub(super) subscriptions: Subscriptions,
    /// The connection that holds the agent's forwards.
    pub(super) forwards: Mutex<Option<Client>>,
}

/// One tool.
struct Tool {
    name: &'static str,
    title: &'static str,
    /// What the tool does; empty: what the request does.
    description: &'static str,
    input: Input,
    does: Does,
    /// Whether the result has text that other nodes wrote.
    is_from_peers: bool,
    run: fn(&Powers, &Call, Arguments) -> Result<Value, Failure>,
}

/// What a call changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Nothing.
    Read,
    /// Adds something here or at a peer.
    Add,
    /// The same as `Add`, and a second call adds nothing.
    AddOnce,
    /// Takes something away.
    Take,
}

const TOOLS: [Tool; 29] = [
    Tool {
        name: "info",
        title: "This node",
        description: "",
        input: Input::of("info"),
        does: Does::Read,
        is_from_peers: false,
        run: |_, call, arguments| actions::plain(call, arguments, "info"),
    },
    Tool {
        name: "find",
        title: "Find a node",
        description: "Looks a node up by hostname, address, node number, key or fingerprint: among the trusted peers, then at the rendezvous.",
        input: Input::of("find"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::plain(call, arguments, "find"),
    },
    Tool {
        name: "handshake",
        title: "Ask for trust",
        description: "Asks another node's owner for trust. Until that owner approves, no data flows between the nodes.",
        input: Input {
            verb: Some("handshake"),
            without: &["ports", "expires_s"],
            more: r#"{"wait_s":{"type":"integer","minimum":0,"maximum":600,
                "description":"How long to wait for the other owner's decision; absent: not at all. Unit: seconds."}}"#,
            needed: &[],
        },
        does: Does::AddOnce,
        is_from_peers: true,
        run: |powers, call, arguments| actions::handshake(call, arguments, powers.may_approve),
    },
    Tool {
        name: "pending",
        title: "Who asks for trust",
        description: "",
        input: Input::of("pending"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::plain(call, arguments, "pending"),
    },
    Tool {
        name: APPROVE,
        title: "Approve a request for trust",
        description: "Approves a request for trust: from then on the node reaches the granted ports of this one.",
        input: Input::of("approve"),
        does: Does::AddOnce,
        is_from_peers: true,
        run: |_, call, arguments| actions::plain(call, arguments, "approve"),
    },
    Tool {
        name: INVITE,
        title: "Make a pairing code",
        description: "Makes a code: whoever has it becomes a trusted peer of this node at once, with pilotctl join CODE or the tool join.",
        input: Input { without: &["ports"], ..Input::of("invite") },
        does: Does::Add,
        is_from_peers: false,
        run: |_, call, arguments| actions::plain(call, arguments, "invite"),
    },
    Tool {
        name: "invites",
        title: "Pairing codes of this node",
        description: "",
        input: Input::of("invites"),
        does: Does::Read,
        is_from_peers: false,
        run: |_, call, arguments| actions::plain(call, arguments, "invites"),
    },
    Tool {
        name: UNINVITE,
        title: "Withdraw a code",
        description: "",
        input: Input::of("uninvite"),
        does: Does::Take,
        is_from_peers: false,
        run: |_, call, arguments| actions::plain(call, arguments, "uninvite"),
    },
    Tool {
        name: JOIN,
        title: "Join by a pairing code",
        description: "Makes a trusted peer of the node that has made a pairing code, and waits for its answer.",
        input: Input { without: &["ports"], ..Input::of("join") },
        does: Does::AddOnce,
        is_from_peers: true,
        run: |_, call, arguments| actions::join(call, arguments),
    },
    Tool {
        name: "groups",
        title: "Groups of this node",
        description: "",
        input: Input::of("groups"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::plain(call, arguments, "groups"),
    },
    Tool {
        name: "group_members",
        title: "Members of a group",
        description: "",
        input: Input::of("group_members"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::plain(call, arguments, "group_members"),
    },
    Tool {
        name: GROUP_INVITE,
        title: "Make a code of a group",
        description: "Makes a code: whoever has it becomes a member of the group at once, with pilotctl join CODE or the tool join.",
        input: Input::of("group_invite"),
        does: Does::Add,
        is_from_peers: false,
        run: |_, call, arguments| actions::plain(call, arguments, "group_invite"),
    },
    Tool {
        name: GROUP,
        title: "Change a group",
        description: "",
        input: Input {
            verb: Some("group"),
            without: &["act", "ports"],
            more: r#"{"act":{"type":"string","enum":["create","remove","leave","renew","role","rekey"],
                "description":"What is done. What members may reach here is said by the owner."}}"#,
            needed: &["act"],
        },
        does: Does::Take,
        is_from_peers: true,
        run: |_, call, arguments| actions::group(call, arguments),
    },
    Tool {
        name: "connect_and_ask",
        title: "Ask a peer's port",
        description: "Opens a stream to a trusted peer's port, sends the text, ends its own direction, and returns the answer.",
        input: Input {
            verb: None,
            without: &[],
            more: r#"{"node":{"type":"string","description":"The peer."},
                "port":{"type":"integer","minimum":0,"maximum":65535,"description":"The peer's port; absent: 1000."},
                "text":{"type":"string","description":"The text to send; or base64."},
                "base64":{"type":"string","description":"Bytes to send, in base64; or text."},
                "limit":{"type":"integer","minimum":0,"maximum":1048576,
                    "description":"Longest answer; absent: 65536. Unit: bytes."},
                "timeout_s":{"type":"integer","minimum":0,"maximum":600,
                    "description":"Longest time for all of it; absent: 30. Unit: seconds."}}"#,
            needed: &["node"],
        },
        does: Does::Add,
        is_from_peers: true,
        run: |_, call, arguments| ask::run(call, arguments),
    },
    Tool {
        name: "send_message",
        title: "Leave a message",
        description: "Puts a message into a trusted peer's inbox; done once it is on the peer's disk. When the peer does not answer in time, the message waits in the outbox, and the error says so.",
        input: Input {
            verb: Some("send_message"),
            without: &["timeout_ms"],
            more: r#"{"text":{"type":"string","description":"The message; or base64."},
                "base64":{"type":"string","description":"The message's bytes, in base64; or text."},
                "timeout_s":{"type":"integer","minimum":0,"maximum":600,
                    "description":"Longest wait for the peer; absent: 10. Unit: seconds."}}"#,
            needed: &[],
        },
        does: Does::Add,
        is_from_peers: false,
        run: |_, call, arguments| actions::send_message(call, arguments),
    },
    Tool {
        name: "ask",
        title: "Ask a peer a question",
        description: "Puts a question into a trusted peer's inbox and waits for the answer, which another agent or a person there gives. Without an answer in time, the result has the question's message_id, for wait_answer: the answer may come later.",
        input: Input {
            verb: Some("ask"),
            without: &["timeout_ms"],
            more: r#"{"text":{"type":"string","description":"The question; or base64."},
                "base64":{"type":"string","description":"The question's bytes, in base64; or text."},
                "timeout_s":{"type":"integer","minimum":0,"maximum":600,
                    "description":"Longest wait for the answer; absent: 60. Unit: seconds."}}"#,
            needed: &[],
        },
        does: Does::Add,
        is_from_peers: true,
        run: |_, call, arguments| questions::ask(call, arguments),
    },
    Tool {
        name: "wait_answer",
        title: "Wait for an answer",
        description: "Tells how far a question is that this node has asked, and waits for its answer, which is taken away with this.",
        input: Input {
            verb: Some("wait_answer"),
            without: &["timeout_ms"],
            more: r#"{"timeout_s":{"type":"integer","minimum":0,"maximum":600,
                "description":"Longest wait for the answer; absent: not at all. Unit: seconds."}}"#,
            needed: &[],
        },
        does: Does::Take,
        is_from_peers: true,
        run: |_, call, arguments| questions::wait_answer(call, arguments),
    },
    Tool {
        name: "reply",
        title: "Answer a question",
        description: "Answers a question of the inbox, once, and takes it away. The inbox lists questions with a deadline_at; read gives their text.",
        input: Input {
            verb: Some("reply"),
            without: &[],
            more: r#"{"text":{"type":"string","description":"The answer; or base64."},
                "base64":{"type":"string","description":"The answer's bytes, in base64; or text."}}"#,
            needed: &[],
        },
        does: Does::AddOnce,
        is_from_peers: false,
        run: |powers, call, arguments| {
            let replied = questions::reply(call, arguments)?;
            powers.subscriptions.updated(INBOX);
            Ok(replied)
        },
    },
    Tool {
        name: "answers",
        title: "List questions asked",
        description: "",
        input: Input::of("answers"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::plain(call, arguments, "answers"),
    },
    Tool {
        name: "inbox",
        title: "List messages",
        description: "",
        input: Input::of("inbox"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::inbox(call, arguments),
    },
    Tool {
        name: "read",
        title: "Read a message",
        description: "Reads one message of the inbox, as text or base64; the message stays.",
        input: Input::of("inbox_read"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::read(call, arguments),
    },
    Tool {
        name: "ack",
        title: "Take messages away",
        description: "Takes messages that were dealt with out of the inbox; they cannot be read again.",
        input: Input {
            verb: Some("inbox_take"),
            without: &[],
            more: r#"{"seqs":{"type":"array","items":{"type":"integer","minimum":0},
                "description":"The numbers of the messages."}}"#,
            needed: &["seqs"],
        },
        does: Does::Take,
        is_from_peers: false,
        run: ack,
    },
    Tool {
        name: "send_file",
        title: "Send a file",
        description: "Sends a file to a trusted peer; a transfer that broke goes on where it was.",
        input: Input {
            verb: None,
            without: &[],
            more: r#"{"node":{"type":"string","description":"The peer."},
                "path":{"type":"string","description":"The file's absolute path on this machine."},
                "timeout_s":{"type":"integer","minimum":0,"maximum":600,
                    "description":"How long the peer may be silent; absent: 60. Unit: seconds."}}"#,
            needed: &["node", "path"],
        },
        does: Does::Add,
        is_from_peers: false,
        run: |powers, call, arguments| files::send_file(call, arguments, powers.files.as_deref()),
    },
    Tool {
        name: "received",
        title: "List received files",
        description: "",
        input: Input::of("received"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| files::received(call, arguments),
    },
    Tool {
        name: "publish",
        title: "Publish an event",
        description: "Publishes an event to the subscribers of this node's event stream, or of a trusted peer's.",
        input: Input {
            verb: Some("publish"),
            without: &[],
            more: r#"{"node":{"type":"string","description":"The peer; absent: this node."},
                "text":{"type":"string","description":"The payload; or base64."},
                "base64":{"type":"string","description":"The payload's bytes, in base64; or text."}}"#,
            needed: &[],
        },
        does: Does::Add,
        is_from_peers: false,
        run: |_, call, arguments| actions::publish(call, arguments),
    },
    Tool {
        name: "peers",
        title: "List trusted peers",
        description: "",
        input: Input {
            verb: Some("peers"),
            without: &[],
            more: r#"{"search":{"type":"string","description":"Only peers whose hostname or address contains this."}}"#,
            needed: &[],
        },
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::peers(call, arguments),
    },
    Tool {
        name: "path",
        title: "How a peer is reached",
        description: "Tells of one trusted peer its path in use, its other paths, round-trip time and losses.",
        input: Input {
            verb: None,
            without: &[],
            more: r#"{"node":{"type":"string","description":"The peer."}}"#,
            needed: &["node"],
        },
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::path(call, arguments),
    },
    Tool {
        name: "search",
        title: "Search public nodes",
        description: "",
        input: Input::of("search"),
        does: Does::Read,
        is_from_peers: true,
        run: |_, call, arguments| actions::plain(call, arguments, "search"),
    },
    Tool {
        name: "forward",
        title: "Make a peer's port local",
        description: "Lets programs of this machine reach a trusted peer's port at the address in the answer, until this server ends.",
        input: Input {
            verb: Some("forward"),
            without: &["temporary"],
            more: r#"{"listen":{"type":"string",
                "description":"The listener: PORT or 127.0.0.1:PORT of this machine; port 0: any free one."}}"#,
            needed: &[],
        },
        does: Does::Add,
        is_from_peers: true,
        run: forward,
    },
];

/// The tool that is there only if the owner has said so.
const APPROVE: &str = "approve";
const INVITE: &str = "invite";
const UNINVITE: &str = "uninvite";
const JOIN: &str = "join";
const GROUP_INVITE: &str = "group_invite";
const GROUP: &str = "group";
/// The tools that make trusted peers, or end what others trust: they are there if the owner allows approving.
const DECIDING: [&str; 6] = [APPROVE, INVITE, UNINVITE, JOIN, GROUP_INVITE, GROUP];

fn ack(powers: &Powers, call: &Call, arguments: Arguments) -> Result<Value, Failure> {
    if !arguments.has("seqs") {
        return Err(invalid("missing argument \"seqs\""));
    }
    let taken = actions::plain(call, arguments, "inbox_take")?;
    powers.subscriptions.updated(INBOX);
    Ok(taken)
}

/// Makes a forward that ends with this server, over a connection that lives as long.
fn forward(powers: &Powers, _: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    actions::loopback(arguments.peek("listen").unwrap_or_default())?;
    arguments.set("temporary", true);
    let request = arguments.request("forward")?;
    let mut kept = powers.forwards.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = kept.as_mut() {
        match client.request(&request, &[], Some(FORWARD_TIMEOUT)) {
            // The daemon has gone since; a new connection shows whether it is back.
            Err(failure) if failure.code == Code::NotRunning => {}
            answered => return Ok(answered?.data),
        }
    }
    let client = kept.insert(Client::connect(&socket_path())?);
    Ok(client.request(&request, &[], Some(FORWARD_TIMEOUT))?.data)
}

/// The tools that this owner allows and this node knows.
fn offered(powers: &Powers) -> impl Iterator<Item = &'static Tool> {
    let may_approve = powers.may_approve;
    const { &TOOLS }.iter().filter(move |tool| tool.input.is_known() && (may_approve || !DECIDING.contains(&tool.name)))
}

/// The answer to `tools/list`.
pub(super) fn list(powers: &Powers) -> Value {
    json!({"tools": offered(powers).map(describe).collect::<Vec<_>>()})
}

fn describe(tool: &Tool) -> Value {
    let of_request = tool.input.description();
    json!({
        "name": tool.name,
        "title": tool.title,
        "description": if tool.description.is_empty() { of_request } else { tool.description },
        "inputSchema": tool.input.schema(),
        "annotations": {
            "title": tool.title,
            "readOnlyHint": tool.does == Does::Read,
            "destructiveHint": tool.does == Does::Take,
            "idempotentHint": tool.does != Does::Add,
            "openWorldHint": true,
        },
    })
}

/// Whether there is such a tool.
pub(super) fn check(powers: &Powers, name: &str) -> Result<(), RpcError> {
    match offered(powers).any(|tool| tool.name == name) {
        true => Ok(()),
        false if DECIDING.contains(&name) => {
            Err(RpcError::invalid_params("the owner has not allowed approving: pilotctl mcp --allow-approve"))
        }
        false => Err(RpcError::invalid_params(format!("there is no tool {name:?}"))),
    }
}

/// Calls a tool. A failure is a result too, so that the agent sees the reason and the hint.
pub(super) fn call(powers: &Powers, call: &Call, name: &str, arguments: Option<Value>) -> Value {
    let run = || {
        let tool = offered(powers).find(|tool| tool.name == name);
        let tool = tool.ok_or_else(|| invalid(format!("there is no tool {name:?}")))?;
        let mut result = (tool.run)(powers, call, Arguments::new(arguments, &tool.input.members())?)?;
        if tool.is_from_peers && result.is_object() {
            result["notice"] = clean::NOTICE.into();
        }
        Ok(result)
    };
    run().map_or_else(|failure| failed(&failure), |result| shown(result, false))
}

/// The result of a call that failed.
pub(super) fn failed(failure: &Failure) -> Value {
    shown(json!({"error": failure}), true)
}

fn shown(mut result: Value, is_error: bool) -> Value {
    clean::value(&mut result);
    json!({"content": [{"type": "text", "text": result.to_string()}], "structuredContent": result, "isError": is_error})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::arguments::WAIT_MAX_S;
    use crate::mcp::calls::Calls;
    use crate::mcp::rpc::Outgoing;

    fn powers(may_approve: bool) -> Powers {
        let subscriptions = Subscriptions::new(Outgoing::new(std::io::sink()));
        Powers { may_approve, files: None, subscriptions, forwards: Mutex::default() }
    }

    #[test]
    fn every_tool_has_a_description_and_a_schema_that_names_what_it_needs() {
        let list = list(&powers(true));
        for tool in list["tools"].as_array().expect("a list") {
            let (name, schema) = (tool["name"].as_str().expect("a name"), &tool["inputSchema"]);
            assert!(tool["description"].as_str().is_some_and(|text| text.len() > 20 && !text.contains("  ")), "{name}");
            assert!(!tool.to_string().contains("beside"), "{name}: an agent sees no bytes beside the JSON");
            let members = schema["properties"].as_object().expect("members");
            assert!(
                members.values().all(|member| member["type"].is_string() && member["description"].is_string()),
                "{tool}"
            );
            let required = schema["required"].as_array().expect("a list");
            assert!(required.iter().all(|key| key.as_str().is_some_and(|key| members.contains_key(key))), "{tool}");
        }
        let names: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        assert!(names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1));
    }

    #[test]
    fn approving_is_offered_only_if_the_owner_allows_it() {
        for name in DECIDING {
            let has = |may_approve| check(&powers(may_approve), name).is_ok();
            assert!(has(true) && !has(false), "{name}");
        }
        assert!(check(&powers(false), "fly").is_err());
        let handshake = TOOLS.iter().find(|tool| tool.name == "handshake").expect("a tool");
        assert!(!handshake.input.members().contains_key("ports"), "an agent grants what is configured, no more");
    }

    #[test]
    fn a_call_with_bad_arguments_fails_with_a_reason_and_without_a_daemon() {
        let (powers, calls) = (powers(false), Calls::default());
        let begun = calls.begin(&json!(1), None, &Outgoing::new(std::io::sink())).expect("room");
        for (name, arguments) in [
            ("find", json!({})),
            ("find", json!({"node": 7})),
            ("find", json!([])),
            ("peers", json!({"colour": "red"})),
            ("ack", json!({})),
            ("handshake", json!({"node": "a", "ports": "all"})),
            ("connect_and_ask", json!({"node": "a", "port": 65_536, "text": ""})),
            ("connect_and_ask", json!({"node": "a", "text": "", "timeout_s": WAIT_MAX_S + 1})),
            ("connect_and_ask", json!({"node": "a", "text": "", "limit": ask::ANSWER_MAX + 1})),
            ("send_message", json!({"node": "a"})),
            ("send_file", json!({"node": "a", "path": "relative"})),
            ("approve", json!({"node": "a"})),
        ] {
            let result = call(&powers, &begun, name, Some(arguments.clone()));
            assert_eq!(result["isError"], true, "{name} {arguments}");
            let code = &result["structuredContent"]["error"]["code"];
            assert!(*code == "invalid_argument" || *code == "not_running", "{name} {arguments}: {result}");
        }
    }

    #[test]
    fn what_peers_wrote_is_cleaned_in_results_and_failures() {
        let result = shown(json!({"name": "a\x1b[0m"}), false);
        assert_eq!(result["structuredContent"]["name"], "a [0m");
        let failure = Failure::new(Code::NotFound, "no \u{202e}node").hint("x\x07");
        let text = failed(&failure).to_string();
        assert!(!text.contains('\u{202e}') && !text.contains("\\u0007"), "{text}");
    }
}
