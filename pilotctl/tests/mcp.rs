//! `pilotctl mcp` with real daemons: an agent that speaks raw lines of JSON.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::agent::Agent;
use harness::{Lab, until};
use pilot_node::Request;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Calls under way at once, as `pilotctl/src/mcp/calls.rs` has it.
const CALLS_MAX: usize = 32;
/// Longest line, as `pilotctl/src/mcp/rpc.rs` has it. Unit: bytes.
const LINE_MAX: usize = 16 << 20;

/// Longest message or file that is read, as `pilotctl/src/mcp/resources.rs` has it. Unit: bytes.
const READ_MAX: usize = 1 << 20;

fn names(list: &Value, key: &str) -> Vec<String> {
    let names = list[key].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn two_agents_make_trust_and_do_everything_a_tool_is_for() {
    let mut lab = Lab::new();
    let (a, b) = (lab.node("primary-node"), lab.node("worker-node"));
    let (mut one, mut two) = (Agent::new(&a, &[]), Agent::newest(&b, &["--allow-approve"]));
    assert_eq!(one.call("info", json!({}))["hostname"], "primary-node");
    assert_eq!(one.call("find", json!({"node": "worker-node"}))["hostname"], "worker-node");

    // A call that waits holds nothing else up.
    let asked = one.begin("handshake", json!({"node": "worker-node", "note": "hello there", "wait_s": 60}));
    until("the request arrives", || two.call("pending", json!({}))["pending"][0]["hostname"] == "primary-node");
    assert_eq!(one.ask("ping", json!({}))["result"], json!({}));
    assert!(!one.has_answer(asked));
    assert_eq!(two.call("approve", json!({"node": "primary-node"}))["status"], "approved");
    assert_eq!(one.outcome(asked)["trusted"], true);

    let sent = one.call("send_message", json!({"node": "worker-node", "text": "hello", "timeout_s": 60}));
    assert_eq!(sent["ack"], "ACK TEXT 5 bytes");
    one.call("send_message", json!({"node": "worker-node", "base64": "/wA=", "type": "binary"}));
    let message = two.call("inbox", json!({}))["messages"][0].clone();
    assert_eq!((&message["hostname"], &message["preview"]), (&json!("primary-node"), &json!("hello")));
    let seq = message["id"].as_u64().unwrap();
    let read = two.call("read", json!({"seq": seq}));
    assert_eq!((&read["text"], read["notice"].is_string()), (&json!("hello"), true));
    assert_eq!(two.call("read", json!({"seq": seq + 1}))["base64"], "/wA=");
    assert_eq!(two.call("ack", json!({"seqs": [seq]}))["cleared"], 1);
    assert_eq!(two.fails("read", json!({"seq": seq}))["code"], "not_found");
    let long = "é".repeat(READ_MAX / 2 + 1);
    one.call("send_message", json!({"node": "worker-node", "text": long, "timeout_s": 60}));
    let seq = two.call("inbox", json!({"limit": 1}))["messages"][0]["id"].as_u64().unwrap();
    let read = two.call("read", json!({"seq": seq}));
    assert_eq!((read["text"].as_str().map(str::len), &read["is_complete"]), (Some(READ_MAX), &json!(false)));
    let refused = two.ask("resources/read", json!({"uri": format!("pilot://inbox/{seq}")}));
    assert_eq!(refused["error"]["data"]["hint"], format!("pilotctl inbox read {seq}"));

    let answer = one.call("connect_and_ask", json!({"node": "worker-node", "port": 7, "text": "echo this"}));
    assert_eq!((&answer["text"], &answer["is_complete"]), (&json!("echo this"), &json!(true)));
    let large = "x".repeat(3_000_000);
    let answer = one.call("connect_and_ask", json!({"node": "worker-node", "port": 7, "text": large, "limit": 100}));
    assert_eq!((&answer["bytes"], &answer["is_complete"]), (&json!(100), &json!(false)));
    let refused = one.fails("connect_and_ask", json!({"node": "worker-node", "port": 4242, "text": ""}));
    assert_eq!(refused["code"], "trust_required", "the port is not granted: {refused}");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("pilotctl")), "{refused}");

    let peer = one.call("peers", json!({"search": "worker"}))["peers"][0].clone();
    assert_eq!(one.call("path", json!({"node": "worker-node"}))["address"], peer["address"]);
    assert_eq!(one.call("peers", json!({"search": "nothing like it"}))["total"], 0);
    assert_eq!(one.fails("path", json!({"node": "nobody"}))["code"], "not_found");
    assert_eq!(one.call("publish", json!({"topic": "room", "text": "21.5"}))["status"], "published");
    assert_eq!(one.call("publish", json!({"node": "worker-node", "topic": "room", "text": "21.5"}))["bytes"], 4);
    assert!(one.close().success() && two.close().success());
}

#[test]
fn files_go_and_are_read_up_to_a_limit() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let folder = lab.folder.join("to send");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("notes ä.txt"), "a\x1b[31mb").unwrap();
    std::fs::write(folder.join("large.bin"), vec![255; READ_MAX + 1]).unwrap();
    std::fs::write(lab.folder.join("secret"), "secret").unwrap();
    let (mut one, mut two) = (Agent::new(&a, &["--files", folder.to_str().unwrap()]), Agent::newest(&b, &[]));
    for name in ["notes ä.txt", "large.bin"] {
        let path = folder.join(name);
        let params = json!({"name": "send_file", "arguments": {"node": "worker-node", "path": path}, "_meta": {"progressToken": name}});
        let sent = one.send("tools/call", params);
        let sent = one.outcome(sent);
        assert_eq!((&sent["filename"], &sent["verified"]), (&json!(name), &json!(true)));
        let told =
            one.wait("progress", |m| m["method"] == "notifications/progress" && m["params"]["progressToken"] == name);
        assert_eq!(told["params"]["total"], path.metadata().unwrap().len());
    }
    let outside = one.fails("send_file", json!({"node": "worker-node", "path": lab.folder.join("secret")}));
    assert_eq!(outside["code"], "invalid_argument");

    let files = two.call("received", json!({}))["files"].clone();
    let uri = |name: &str| {
        let file = files.as_array().unwrap().iter().find(|file| file["name"] == name);
        file.unwrap()["uri"].as_str().unwrap().to_owned()
    };
    let notes = two.read(&uri("notes ä.txt"));
    assert_eq!((&notes["text"], &notes["mimeType"]), (&json!("a [31mb"), &json!("text/plain")));
    let refused = two.ask("resources/read", json!({"uri": uri("large.bin")}));
    let hint = refused["error"]["data"]["hint"].as_str().unwrap();
    assert!(hint.contains(b.home.join("received/large.bin").to_str().unwrap()), "{refused}");
    let missing = two.ask("resources/read", json!({"uri": "pilot://received/..%2Fpilot.sock"}));
    assert_eq!(missing["error"]["code"], -32602);
    let listed = two.ask("resources/list", json!({}))["result"].clone();
    assert!(names(&listed, "resources").contains(&"notes ä.txt".to_owned()), "{listed}");
    assert_eq!((&listed["resultType"], &listed["ttlMs"]), (&json!("complete"), &json!(0)));
}

#[test]
fn an_agent_asks_another_one_and_the_answer_comes_once() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let (mut one, mut two) = (Agent::new(&a, &[]), Agent::new(&b, &[]));
    let asked = one.begin("ask", json!({"node": "worker-node", "text": "how many?", "timeout_s": 20}));
    let mut id = Value::Null;
    until("the question arrives", || {
        id = two.call("inbox", json!({"only": "questions"}))["messages"][0]["message_id"].clone();
        id.is_string()
    });
    assert_eq!(two.call("reply", json!({"question": id, "text": "42"}))["again"], false);
    let answer = one.outcome(asked);
    assert_eq!((&answer["text"], &answer["state"]), (&json!("42"), &json!("answered")));
    assert_eq!(two.fails("reply", json!({"question": id, "text": "43"}))["code"], "already_exists");
    let late = one.call("ask", json!({"node": "worker-node", "text": "and now?", "timeout_s": 0}));
    assert_eq!(one.call("answers", json!({}))["questions"][0]["message_id"], late["message_id"]);
    let wait = |one: &mut Agent| one.call("wait_answer", json!({"question": late["message_id"], "timeout_s": 20}));
    until("the question arrives", || two.call("inbox", json!({"only": "questions"}))["total"] == 1);
    two.call("reply", json!({"question": late["message_id"], "base64": "/wA=", "type": "binary"}));
    assert_eq!(wait(&mut one)["base64"], "/wA=");
    assert_eq!(one.call("answers", json!({}))["total"], 0, "what was shown is taken");
}

#[test]
fn without_the_owners_word_an_agent_approves_nothing_and_grants_nothing() {
    let mut lab = Lab::new();
    let (a, b) = (lab.node("primary-node"), lab.node("worker-node"));
    a.ok(&["handshake", "worker-node"]);
    let mut agent = Agent::new(&b, &[]);
    until("the request arrives", || {
        agent.call("pending", json!({}))["pending"].as_array().is_some_and(|p| p.len() == 1)
    });
    let listed = agent.ask("tools/list", json!({}))["result"].clone();
    assert!(!names(&listed, "tools").contains(&"approve".to_owned()));
    let answer = agent.ask("tools/call", json!({"name": "approve", "arguments": {"node": "primary-node"}}));
    assert_eq!(answer["error"]["code"], -32602);
    assert!(answer["error"]["message"].as_str().unwrap().contains("--allow-approve"));
    let address = b.json(&["pending"])["pending"][0]["address"].as_str().unwrap().to_owned();
    for node in ["primary-node", &address, &format!("{address}#0000")] {
        let refused = agent.fails("handshake", json!({"node": node}));
        assert_eq!(refused["code"], "trust_required", "{node}: {refused}");
    }
    assert_eq!(agent.fails("handshake", json!({"node": "x", "ports": "all"}))["code"], "invalid_argument");
    assert_eq!(b.json(&["trust"])["total"], 0);
    let mut allowed = Agent::new(&b, &["--allow-approve"]);
    assert_eq!(allowed.call("handshake", json!({"node": "primary-node"}))["status"], "approved");
}

#[test]
fn an_agent_founds_a_group_and_another_one_joins_it_where_their_owners_allow_that() {
    let mut lab = Lab::new();
    let (a, b) = (lab.node("primary-node"), lab.node("worker-node"));
    let mut unallowed = Agent::new(&a, &[]);
    let listed = unallowed.ask("tools/list", json!({}))["result"].clone();
    for name in ["group", "group_invite"] {
        assert!(!names(&listed, "tools").contains(&name.to_owned()));
        let answer = unallowed.ask("tools/call", json!({"name": name, "arguments": {"group": "fleet"}}));
        assert!(answer["error"]["message"].as_str().unwrap().contains("--allow-approve"), "{answer}");
    }
    let [mut one, mut two] = [&a, &b].map(|node| Agent::new(node, &["--allow-approve"]));
    assert_eq!(one.call("group", json!({"act": "create", "group": "fleet"}))["role"], "admin");
    let ports = one.fails("group", json!({"act": "allow", "group": "fleet", "ports": "all"}));
    assert_eq!(ports["code"], "invalid_argument", "more ports than configured are the owner's to grant");
    let allow = one.fails("group", json!({"act": "allow", "group": "fleet"}));
    assert!(allow["hint"].as_str().unwrap().contains("pilotctl group allow"), "{allow}");
    let listed = one.ask("tools/list", json!({}))["result"]["tools"].clone();
    let tool = listed.as_array().unwrap().iter().find(|tool| tool["name"] == "group").unwrap().clone();
    let acts = &tool["inputSchema"]["properties"]["act"]["enum"];
    assert!(acts.to_string().contains("role") && !acts.to_string().contains("allow"), "{acts}");
    let code = one.call("group_invite", json!({"group": "fleet", "uses": 1}))["code"].clone();
    two.call("join", json!({"code": code}));
    until("both are members", || {
        two.call("group_members", json!({"group": "fleet"}))["members"].as_array().is_some_and(|m| m.len() == 2)
    });
    one.call("group", json!({"act": "remove", "group": "fleet", "node": "worker-node"}));
    assert_eq!(one.call("groups", json!({}))["groups"][0]["members"], 1);

    // What it hands out, an agent sees and takes back.
    let made = one.call("invite", json!({}))["invite"].clone();
    one.call("uninvite", json!({"invite": made}));
    let states = one.call("invites", json!({}))["invites"].clone();
    let state = states.as_array().unwrap().iter().find(|invite| invite["invite"] == made).unwrap();
    assert_eq!(state["state"], "withdrawn");
    assert!(
        unallowed.ask("tools/call", json!({"name": "uninvite", "arguments": {"invite": made}}))["error"].is_object()
    );
}

#[test]
fn bad_input_gets_an_error_and_the_server_goes_on() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    let mut agent = Agent::silent(&a, &[]);
    let early = agent.ask("tools/list", json!({}));
    assert_eq!(early["error"]["code"], -32600, "{early}");
    agent.ask("initialize", json!({"protocolVersion": "2025-06-18"}));
    let refused = |agent: &mut Agent, bytes: &[u8], code: i32| {
        agent.write_bytes(bytes);
        let answer = agent.wait("a refusal", |message| message.get("error").is_some());
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)), "{answer}");
    };
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    for line in [&b"{\n"[..], b"\xff\xfe\n", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xc3\"}\n", deep.as_bytes()] {
        refused(&mut agent, line, -32700);
    }
    for line in [&b"[]\n"[..], b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]\n", b"\"ping\"\n", b"{}\n"] {
        refused(&mut agent, line, -32600);
    }
    let mut long = vec![b'x'; LINE_MAX + 1];
    long.push(b'\n');
    refused(&mut agent, &long, -32700);
    for (method, params, code) in [
        ("fly", json!({}), -32601),
        ("server/discover", json!({}), -32601),
        ("tools/call", json!({"name": "fly"}), -32602),
        ("tools/call", json!({"arguments": {}}), -32602),
        ("tools/list", json!({"cursor": "x"}), -32602),
        ("resources/read", json!({"uri": "file:///etc/passwd"}), -32002),
        ("resources/read", json!({"uri": "pilot://inbox/999"}), -32002),
        ("resources/subscribe", json!({"uri": "pilot://nothing"}), -32602),
        ("initialize", json!({}), -32602),
        ("ping", json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "1999-01-01"}}), -32022),
    ] {
        let answer = agent.ask(method, params.clone());
        assert_eq!(answer["error"]["code"], code, "{method} {params}: {answer}");
    }
    agent.write(&json!({"jsonrpc": "2.0", "method": "notifications/fly"}));
    agent.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "none"}}));
    agent.write(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(agent.ask("ping", json!({}))["result"], json!({}));
    assert!(agent.close().success());
}

#[test]
fn damaged_lines_are_refused_or_served_and_nothing_else_happens() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    let mut agent = Agent::new(&a, &[]);
    let samples = [
        json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": {"name": "info", "arguments": {}}}),
        json!({"jsonrpc": "2.0", "id": "x", "method": "resources/read", "params": {"uri": "pilot://inbox/1"}}),
        json!({"jsonrpc": "2.0", "id": "x", "method": "ping", "params": {"_meta": {"progressToken": 1}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "x"}}),
    ];
    let mut random = 0x9e37_79b9_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for _ in 0..200 {
        for sample in &samples {
            let mut line = sample.to_string().into_bytes();
            for _ in 0..=next(3) {
                let at = next(line.len());
                match next(3) {
                    0 => line[at] ^= 1 << next(8),
                    1 => line.truncate(at.max(1)),
                    _ => line.insert(at, b"{}[]\",:\0\xff9e-"[next(12)]),
                }
            }
            line.push(b'\n');
            agent.write_bytes(&line);
        }
    }
    assert_eq!(agent.ask("ping", json!({}))["result"], json!({}));
    assert_eq!(agent.call("info", json!({}))["trusted"], 0);
    assert!(agent.close().success());
}

#[test]
fn a_batch_is_served_in_the_one_revision_that_has_batches() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    let mut agent = Agent::silent(&a, &[]);
    agent.ask("initialize", json!({"protocolVersion": "2025-03-26"}));
    let ping = |id: &str| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    agent.write(&json!([ping("x"), ping("y"), 7]));
    agent.wait("the first", |message| message["id"] == "x" && message["result"].is_object());
    agent.wait("the second", |message| message["id"] == "y" && message["result"].is_object());
    agent.wait("the third", |message| message["error"]["code"] == -32600);
}

#[test]
fn a_daemon_that_is_not_there_is_told_of_and_found_later() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    a.ok(&["daemon", "stop"]);
    let mut agent = Agent::newest(&a, &[]);
    let failure = agent.fails("peers", json!({}));
    assert_eq!((&failure["code"], &failure["hint"]), (&json!("not_running"), &json!("pilotctl daemon start")));
    assert_eq!(names(&agent.ask("resources/list", json!({}))["result"], "resources"), ["inbox", "received"]);
    assert!(agent.ask("resources/read", json!({"uri": "pilot://inbox"}))["error"]["data"]["code"] == "not_running");
    let listen = json!({"notifications": {"resourceSubscriptions": ["pilot://inbox"]}});
    let id = agent.send("subscriptions/listen", listen);
    let key = "io.modelcontextprotocol/subscriptionId";
    agent.wait("the acknowledgement", |m| {
        m["method"] == "notifications/subscriptions/acknowledged" && m["params"]["_meta"][key] == id
    });
    a.start();
    assert_eq!(agent.call("peers", json!({}))["total"], 0);
    // What happened meanwhile is not known, so the inbox may have changed.
    agent.wait("a notification", |m| {
        m["method"] == "notifications/resources/updated" && m["params"]["_meta"][key] == id
    });
}

#[test]
fn calls_have_a_maximum_and_a_cancelled_call_makes_room_without_an_answer() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let mut agent = Agent::new(&a, &[]);
    // A program that accepts streams and never answers.
    let (mut client, port) = (b.client(), 1000);
    client.request(&Request::Listen { port }, &[], Some(Duration::from_secs(20))).unwrap();
    let ask = json!({"node": "worker-node", "port": port, "text": "hello", "timeout_s": 600});
    let calls: Vec<u64> = (0..CALLS_MAX).map(|_| agent.begin("connect_and_ask", ask.clone())).collect();
    let full = agent.fails("info", json!({}));
    assert_eq!(full["code"], "full", "{full}");
    let full = agent.ask("resources/read", json!({"uri": "pilot://inbox"}));
    assert_eq!(full["error"]["data"]["code"], "full");
    let mut states = || {
        let data = client.request(&Request::Connections, &[], Some(Duration::from_secs(20))).unwrap().data;
        let streams = data["connections"].as_array().unwrap().iter();
        streams.map(|stream| stream["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("everything was asked", || states().iter().filter(|state| *state == "CLOSE_WAIT").count() == CALLS_MAX);
    for id in &calls {
        agent.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}));
    }
    until("there is room", || {
        let id = agent.begin("info", json!({}));
        agent.answer(id)["result"]["isError"] == false
    });
    assert!(!calls.iter().any(|id| agent.has_answer(*id)));
    until("the streams are gone", || a.json(&["connections"])["total"] == 0);
    until("the peer knows it", || states().iter().all(|state| state == "CLOSED"));
    // The end of the input ends a call that waits.
    agent.begin("connect_and_ask", ask);
    let begin = Instant::now();
    assert!(agent.close().success());
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn subscribers_hear_of_messages_and_files() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let (mut old, mut new) = (Agent::new(&b, &[]), Agent::newest(&b, &[]));
    for uri in ["pilot://inbox", "pilot://received"] {
        assert_eq!(old.ask("resources/subscribe", json!({"uri": uri}))["result"], json!({}));
    }
    let id = new.send("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": ["pilot://inbox"]}}));
    new.wait("the acknowledgement", |m| m["method"] == "notifications/subscriptions/acknowledged");
    a.ok(&["send-message", "worker-node", "--data", "hello"]);
    let is_updated = |uri: &'static str| {
        move |m: &Value| m["method"] == "notifications/resources/updated" && m["params"]["uri"] == uri
    };
    old.wait("the message", is_updated("pilot://inbox"));
    let told = new.wait("the message", is_updated("pilot://inbox"));
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], id);
    let file = lab.folder.join("notes.txt");
    std::fs::write(&file, "x").unwrap();
    a.ok(&["send-file", "worker-node", file.to_str().unwrap()]);
    old.wait("the file", is_updated("pilot://received"));
    assert_eq!(old.ask("resources/unsubscribe", json!({"uri": "pilot://inbox"}))["result"], json!({}));
    let seq = old.call("inbox", json!({}))["messages"][0]["id"].as_u64().unwrap();
    let body = new.read(&format!("pilot://inbox/{seq}"));
    assert_eq!((&body["text"], &body["_meta"]["hostname"]), (&json!("hello"), &json!("primary-node")));
}

#[test]
fn a_forward_is_local_and_ends_with_the_server() {
    let mut lab = Lab::new();
    let (a, _b) = lab.friends();
    let mut agent = Agent::new(&a, &[]);
    for listen in ["0.0.0.0:0", "[::]:0", "unix:/tmp/x", "nonsense"] {
        let refused = agent.fails("forward", json!({"node": "worker-node", "port": 7, "listen": listen}));
        assert_eq!(refused["code"], "invalid_argument", "{listen}");
    }
    let mut forward = || {
        let made = agent.call("forward", json!({"node": "worker-node", "port": 7, "listen": "0"}));
        assert_eq!(made["temporary"], true);
        made["listen"].as_str().unwrap().parse::<SocketAddr>().unwrap()
    };
    let echo = |address: SocketAddr| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"through a forward").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "through a forward");
    };
    let (first, second) = (forward(), forward());
    assert!(first.ip().is_loopback() && first != second);
    [first, second].into_iter().for_each(echo);
    a.ok(&["daemon", "stop"]);
    a.start();
    let third = forward();
    until("the peers are connected", || a.run(&["ping", "worker-node", "--count", "1"]).status.success());
    echo(third);
    assert!(agent.close().success());
    until("the forward has ended", || TcpStream::connect(third).is_err());
}

#[test]
fn a_server_is_reached_across_pilot_with_connect_as_its_command() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    b.ok(&["grant", "primary-node", "--ports", "4000"]);
    let mut listener = b.command(&["listen", "4000", "--count", "1", "--exec", env!("CARGO_BIN_EXE_pilotctl"), "mcp"]);
    let mut listener = listener.stdin(Stdio::null()).spawn().unwrap();
    until("the port is bound", || b.json(&["info"])["ports"].as_array().unwrap().contains(&4000.into()));
    let mut agent = Agent::over(a.command(&["connect", "worker-node", "4000"])).initialized();
    assert_eq!(agent.call("info", json!({}))["hostname"], "worker-node");
    assert_eq!(agent.call("send_message", json!({"node": "primary-node", "text": "back"}))["delivered"], true);
    assert!(agent.close().success());
    until("the listener ends", || listener.try_wait().unwrap().is_some());
    assert!(listener.wait().unwrap().success());
}

#[test]
fn the_server_ends_when_its_output_is_closed() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    let mut child = a.command(&["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    drop(child.stdout.take());
    until("it ends", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
    drop(stdin);
}

#[test]
fn entries_for_agent_programs_start_this_server() {
    let lab = Lab::new();
    let home = lab.folder.join("home");
    let print = |words: &[&str]| {
        let mut command = harness::pilotctl(&[&["mcp", "--print-config"], words].concat());
        command.env("PILOT_HOME", &home).output().unwrap()
    };
    for (words, key) in
        [(&[][..], "mcpServers"), (&["vscode"], "servers"), (&["claude", "--allow-approve"], "mcpServers")]
    {
        let output = print(words);
        let entry: Value = serde_json::from_slice(&output.stdout).unwrap();
        let server = &entry[key]["pilot"];
        assert_eq!(server["env"]["PILOT_HOME"], home.to_str().unwrap());
        assert_eq!(server["args"].as_array().unwrap().len(), words.len().max(1));
        let mut command = std::process::Command::new(server["command"].as_str().unwrap());
        let started = command.arg("mcp").stdin(Stdio::null()).output().unwrap();
        assert!(started.status.success() && started.stdout.is_empty());
    }
    let mut command = harness::pilotctl(&["mcp", "--print-config", "--json"]);
    let output = command.env_remove("PILOT_HOME").env("XDG_RUNTIME_DIR", "/run/user/7").output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entry: Value = serde_json::from_str(answer["data"]["entry"].as_str().unwrap()).unwrap();
    let socket = &entry["mcpServers"]["pilot"]["env"]["PILOT_SOCKET"];
    assert_eq!(socket, "/run/user/7/pilot.sock", "agent programs do not hand XDG_RUNTIME_DIR on");
    assert_eq!(print(&["emacs"]).status.code(), Some(2));
    let alone = harness::pilotctl(&["mcp", "claude"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
}
