//! The JSON of every request, and what is no request.

use super::*;

/// The JSON of every verb, as the CLI, the C library, the Go package and the translation of official commands send it,
/// and the request that it means.
fn table() -> Vec<(&'static str, Request)> {
    let all =
        [of_nodes(), of_trust(), of_codes(), of_mail(), of_questions(), of_streams(), of_programs(), of_clients()];
    all.concat()
}

/// Nodes.
fn of_nodes() -> Vec<(&'static str, Request)> {
    let node = || "worker-node".to_owned();
    vec![
        (r#"{"op":"info"}"#, Request::Info),
        (r#"{"op":"version"}"#, Request::Version),
        (r#"{"op":"peers"}"#, Request::Peers),
        (r#"{"op":"path","node":"worker-node"}"#, Request::Path { node: node() }),
        (r#"{"op":"connections"}"#, Request::Connections),
        (r#"{"op":"pending"}"#, Request::Pending),
        (r#"{"op":"trust"}"#, Request::Trust),
        (r#"{"op":"received"}"#, Request::Received),
        (r#"{"op":"stop"}"#, Request::Stop),
        (r#"{"op":"find","node":"worker-node"}"#, Request::Find { node: node() }),
        (r#"{"op":"search","tag":"gpu"}"#, Request::Search { tag: "gpu".into() }),
    ]
}

/// Trust among nodes.
fn of_trust() -> Vec<(&'static str, Request)> {
    let node = || "worker-node".to_owned();
    vec![
        (
            r#"{"op":"handshake","node":"worker-node"}"#,
            Request::Handshake { node: node(), note: None, ports: None, expires_s: None, quota: None },
        ),
        (
            r#"{"op":"handshake","node":"worker-node","note":"demo","ports":"all","expires_s":60,"quota":"memory=64MB,streams=9"}"#,
            Request::Handshake {
                node: node(),
                note: Some("demo".into()),
                ports: Some("all".into()),
                expires_s: Some(60),
                quota: Some("memory=64MB,streams=9".into()),
            },
        ),
        (r#"{"op":"take_back","node":"worker-node"}"#, Request::TakeBack { node: node() }),
        (
            r#"{"op":"approve","node":"worker-node","ports":"1000,1001","expires_s":60}"#,
            Request::Approve {
                node: node(),
                note: None,
                ports: Some("1000,1001".into()),
                expires_s: Some(60),
                quota: None,
            },
        ),
        (
            r#"{"op":"approve","node":"worker-node","quota":"memory=64MB,streams=1000"}"#,
            Request::Approve {
                node: node(),
                note: None,
                ports: None,
                expires_s: None,
                quota: Some("memory=64MB,streams=1000".into()),
            },
        ),
        (r#"{"op":"reject","node":"worker-node"}"#, Request::Reject { node: node(), note: None }),
        (
            r#"{"op":"reject","node":"worker-node","note":"no"}"#,
            Request::Reject { node: node(), note: Some("no".into()) },
        ),
        (
            r#"{"op":"grant","node":"worker-node","ports":"messages,80,8000-8010"}"#,
            Request::Grant { node: node(), ports: Some("messages,80,8000-8010".into()), expires_s: None, quota: None },
        ),
        (
            r#"{"op":"grant","node":"worker-node","ports":"all","expires_s":86400}"#,
            Request::Grant { node: node(), ports: Some("all".into()), expires_s: Some(86_400), quota: None },
        ),
        (
            r#"{"op":"grant","node":"worker-node","quota":"disk=1GB,messages=10000/day"}"#,
            Request::Grant {
                node: node(),
                ports: None,
                expires_s: None,
                quota: Some("disk=1GB,messages=10000/day".into()),
            },
        ),
        (r#"{"op":"revoke","node":"worker-node","ports":"80"}"#, Request::Revoke { node: node(), ports: "80".into() }),
        (r#"{"op":"untrust","node":"worker-node"}"#, Request::Untrust { node: node() }),
        (
            r#"{"op":"wait_trust","node":"worker-node","timeout_ms":200}"#,
            Request::WaitTrust { node: node(), timeout_ms: Some(200) },
        ),
    ]
}

/// Pairing codes and groups.
fn of_codes() -> Vec<(&'static str, Request)> {
    vec![
        (
            r#"{"op":"invite","ports":"messages","expires_s":60,"uses":3,"short":false,"direct":true}"#,
            Request::Invite {
                ports: Some("messages".into()),
                expires_s: Some(60),
                uses: Some(3),
                short: Some(false),
                direct: Some(true),
            },
        ),
        (r#"{"op":"invites"}"#, Request::Invites),
        (r#"{"op":"uninvite","invite":"0badcafe"}"#, Request::Uninvite { invite: "0badcafe".into() }),
        (
            r#"{"op":"join","code":"pilot:qq","ports":"echo","timeout_ms":200}"#,
            Request::Join { code: "pilot:qq".into(), ports: Some("echo".into()), timeout_ms: Some(200) },
        ),
        (r#"{"op":"groups"}"#, Request::Groups),
        (r#"{"op":"group_members","group":"fleet"}"#, Request::GroupMembers { group: "fleet".into() }),
        (
            r#"{"op":"group_invite","group":"fleet","expires_s":60,"uses":3,"short":false,"direct":true,"offline":true}"#,
            Request::GroupInvite {
                group: "fleet".into(),
                expires_s: Some(60),
                uses: Some(3),
                short: Some(false),
                direct: Some(true),
                offline: Some(true),
            },
        ),
        (
            r#"{"op":"group","act":"allow","group":"fleet","node":"a","ports":"echo","role":"admin"}"#,
            Request::Group {
                act: GroupAct::Allow,
                group: "fleet".into(),
                node: Some("a".into()),
                ports: Some("echo".into()),
                role: Some("admin".into()),
            },
        ),
        (r#"{"op":"group_export","group":"fleet"}"#, Request::GroupExport { group: "fleet".into() }),
        (
            r#"{"op":"group_import","group":"fleet","key":"00ff"}"#,
            Request::GroupImport { group: "fleet".into(), key: "00ff".into() },
        ),
    ]
}

/// What a node says of itself, and its mail.
fn of_mail() -> Vec<(&'static str, Request)> {
    let node = || "worker-node".to_owned();
    vec![
        (
            r#"{"op":"profile","hostname":""}"#,
            Request::Profile { hostname: Some(String::new()), public: None, tags: None },
        ),
        (
            r#"{"op":"profile","hostname":"a","public":false,"tags":["x","y"]}"#,
            Request::Profile {
                hostname: Some("a".into()),
                public: Some(false),
                tags: Some(vec!["x".into(), "y".into()]),
            },
        ),
        (
            r#"{"op":"send_message","node":"worker-node","type":"json","queue":false,"timeout_ms":10000}"#,
            Request::SendMessage {
                node: node(),
                kind: Some(MessageKind::Json),
                queue: Some(false),
                timeout_ms: Some(10_000),
            },
        ),
        (r#"{"op":"outbox"}"#, Request::Outbox { limit: None }),
        (r#"{"op":"outbox","limit":20}"#, Request::Outbox { limit: Some(20) }),
        (r#"{"op":"inbox"}"#, Request::Inbox { limit: None, before: None, only: None }),
        (r#"{"op":"inbox","limit":20,"before":7}"#, Request::Inbox { limit: Some(20), before: Some(7), only: None }),
        (r#"{"op":"inbox_read","seq":7}"#, Request::InboxRead { seq: 7 }),
        (r#"{"op":"inbox_next","after":7}"#, Request::InboxNext { after: Some(7), only: None }),
        (r#"{"op":"inbox_take"}"#, Request::InboxTake { seqs: None }),
        (r#"{"op":"inbox_take","seqs":[1,2]}"#, Request::InboxTake { seqs: Some(vec![1, 2]) }),
        (r#"{"op":"inbox_take","seqs":[]}"#, Request::InboxTake { seqs: Some(Vec::new()) }),
    ]
}

/// Questions and their answers.
fn of_questions() -> Vec<(&'static str, Request)> {
    let node = || "worker-node".to_owned();
    vec![
        (
            r#"{"op":"ask","node":"worker-node"}"#,
            Request::Ask { node: node(), kind: None, timeout_ms: None, deadline_s: None },
        ),
        (
            r#"{"op":"ask","node":"worker-node","type":"json","timeout_ms":10000,"deadline_s":60}"#,
            Request::Ask {
                node: node(),
                kind: Some(MessageKind::Json),
                timeout_ms: Some(10_000),
                deadline_s: Some(60),
            },
        ),
        (
            r#"{"op":"reply","question":"7","type":"json"}"#,
            Request::Reply { question: "7".into(), kind: Some(MessageKind::Json) },
        ),
        (
            r#"{"op":"wait_answer","question":"07","timeout_ms":10000}"#,
            Request::WaitAnswer { question: "07".into(), timeout_ms: Some(10_000) },
        ),
        (r#"{"op":"answers"}"#, Request::Answers { limit: None }),
        (r#"{"op":"answers","limit":20}"#, Request::Answers { limit: Some(20) }),
        (
            r#"{"op":"fail_question","seq":7,"reason":"no"}"#,
            Request::FailQuestion { seq: 7, reason: Some("no".into()) },
        ),
        (
            r#"{"op":"inbox","only":"failed"}"#,
            Request::Inbox { limit: None, before: None, only: Some(InboxPart::Failed) },
        ),
        (
            r#"{"op":"inbox_next","only":"questions"}"#,
            Request::InboxNext { after: None, only: Some(InboxPart::Questions) },
        ),
    ]
}

/// Streams, datagrams and events.
fn of_streams() -> Vec<(&'static str, Request)> {
    let node = || "worker-node".to_owned();
    vec![
        (r#"{"op":"publish","topic":"a.b"}"#, Request::Publish { topic: "a.b".into() }),
        (
            r#"{"op":"send_datagram","node":"worker-node","port":5353}"#,
            Request::SendDatagram { node: node(), port: 5353, source: None },
        ),
        (
            r#"{"op":"send_datagram","node":"worker-node","port":5353,"source":65535}"#,
            Request::SendDatagram { node: node(), port: 5353, source: Some(65_535) },
        ),
        (r#"{"op":"disconnect","stream":18446744073709551615}"#, Request::Disconnect { stream: u64::MAX }),
        (r#"{"op":"set_webhook","url":""}"#, Request::SetWebhook { url: String::new(), insecure: None, secret: None }),
        (
            r#"{"op":"set_webhook","url":"http://a/","insecure":true,"secret":"0123456789abcdef"}"#,
            Request::SetWebhook {
                url: "http://a/".into(),
                insecure: Some(true),
                secret: Some("0123456789abcdef".into()),
            },
        ),
        (r#"{"op":"connect","node":"worker-node","port":1000}"#, Request::Connect { node: node(), port: 1000 }),
    ]
}

/// Programs that know nothing of the node.
fn of_programs() -> Vec<(&'static str, Request)> {
    let node = || "worker-node".to_owned();
    vec![
        (
            r#"{"op":"forward","node":"worker-node","port":22,"listen":"2222"}"#,
            Request::Forward { node: node(), port: 22, listen: "2222".into(), temporary: None },
        ),
        (
            r#"{"op":"forward","node":"worker-node","port":22,"listen":"unix:/run/x","temporary":true}"#,
            Request::Forward { node: node(), port: 22, listen: "unix:/run/x".into(), temporary: Some(true) },
        ),
        (r#"{"op":"forwards"}"#, Request::Forwards),
        (r#"{"op":"unforward","listen":"2222"}"#, Request::Unforward { listen: "2222".into() }),
        (
            r#"{"op":"expose","port":80,"target":"8080"}"#,
            Request::Expose {
                port: 80,
                target: "8080".into(),
                http: None,
                a2a: None,
                proxy_protocol: None,
                nodes: None,
                temporary: None,
            },
        ),
        (
            r#"{"op":"expose","port":80,"target":"8080","http":true,"a2a":true,"nodes":["worker-node"],"temporary":true}"#,
            Request::Expose {
                port: 80,
                target: "8080".into(),
                http: Some(true),
                a2a: Some(true),
                proxy_protocol: None,
                nodes: Some(vec![node()]),
                temporary: Some(true),
            },
        ),
        (r#"{"op":"exposes"}"#, Request::Exposes),
        (r#"{"op":"unexpose","port":80}"#, Request::Unexpose { port: 80 }),
        (
            r#"{"op":"proxy","listen":"1080"}"#,
            Request::Proxy { listen: "1080".into(), direct: None, auth_file: None, temporary: None },
        ),
        (
            r#"{"op":"proxy","listen":"0.0.0.0:1080","direct":true,"auth_file":"/etc/users","temporary":true}"#,
            Request::Proxy {
                listen: "0.0.0.0:1080".into(),
                direct: Some(true),
                auth_file: Some("/etc/users".into()),
                temporary: Some(true),
            },
        ),
        (r#"{"op":"proxies"}"#, Request::Proxies),
        (r#"{"op":"unproxy","listen":"1080"}"#, Request::Unproxy { listen: "1080".into() }),
        (r#"{"op":"whois","local":"127.0.0.1:40000"}"#, Request::Whois { local: "127.0.0.1:40000".into() }),
    ]
}

/// Streams and ports of one client.
fn of_clients() -> Vec<(&'static str, Request)> {
    vec![
        (r#"{"op":"cancel"}"#, Request::Cancel { request: None }),
        (r#"{"op":"cancel","request":3}"#, Request::Cancel { request: Some(3) }),
        (r#"{"op":"listen","port":0}"#, Request::Listen { port: 0 }),
        (r#"{"op":"unlisten","port":1000}"#, Request::Unlisten { port: 1000 }),
        (r#"{"op":"accept","port":1000}"#, Request::Accept { port: 1000, hold: None }),
        (r#"{"op":"accept","port":1000,"hold":true}"#, Request::Accept { port: 1000, hold: Some(true) }),
        (r#"{"op":"take","stream":9}"#, Request::Take { stream: 9 }),
        (r#"{"op":"stream_end","inode":123456}"#, Request::StreamEnd { inode: 123_456 }),
        (r#"{"op":"end_explicitly"}"#, Request::EndExplicitly { inode: None }),
        (r#"{"op":"end_explicitly","inode":123456}"#, Request::EndExplicitly { inode: Some(123_456) }),
        (r#"{"op":"finish","inode":123456}"#, Request::Finish { inode: 123_456, reset: None }),
        (r#"{"op":"finish","inode":123456,"reset":true}"#, Request::Finish { inode: 123_456, reset: Some(true) }),
        (r#"{"op":"datagrams","port":0}"#, Request::Datagrams { port: 0 }),
        (r#"{"op":"events"}"#, Request::Events { topics: None }),
        (r#"{"op":"events","topics":"sensor.*"}"#, Request::Events { topics: Some("sensor.*".into()) }),
        (r#"{"op":"claim_question","seq":7,"timeout_ms":1000}"#, Request::ClaimQuestion { seq: 7, timeout_ms: 1000 }),
        (r#"{"op":"capture"}"#, Request::Capture { node: None, port: None, max_bytes: None }),
        (
            r#"{"op":"capture","node":"worker-node","port":80,"max_bytes":4096}"#,
            Request::Capture { node: Some("worker-node".into()), port: Some(80), max_bytes: Some(4096) },
        ),
        (r#"{"op":"capture_next"}"#, Request::CaptureNext { end: None }),
        (r#"{"op":"capture_next","end":true}"#, Request::CaptureNext { end: Some(true) }),
    ]
}

fn refused(json: &str) -> String {
    let failure = Request::from_json(json.as_bytes()).expect_err(json);
    assert_eq!(failure.code, Code::InvalidArgument, "{json}");
    failure.message
}

#[test]
fn every_request_is_read_and_written_as_the_same_json() {
    for (json, request) in table() {
        assert_eq!(Request::from_json(json.as_bytes()).as_ref(), Ok(&request), "{json}");
        assert_eq!(request.to_json(), json);
    }
}

/// The Go package writes requests itself: its tests compare what it writes with this table of those that it may make.
#[test]
fn the_go_package_knows_every_request() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ffi/go/testdata/requests.json");
    let lines: Vec<&str> =
        table().iter().filter(|(_, request)| !request.is_of_client()).map(|(json, _)| *json).collect();
    let made = format!("[\n{}\n]\n", lines.join(",\n"));
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, &made).expect("a writable file");
    }
    let known = std::fs::read_to_string(path).expect("a file");
    assert!(known == made, "requests.json is stale: PILOT_BLESS=1 cargo test -p pilot-node --lib request");
}

/// The members of every verb, for `pilotctl mcp`, which describes its tools by them: JSON schemas as small as they can be.
fn schemas() -> Map<String, Value> {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Request>().to_value();
    let verbs = schema["oneOf"].as_array_mut().expect("a list of verbs");
    verbs
        .iter_mut()
        .map(|verb| {
            let Some(tag) = verb["properties"].as_object_mut().and_then(|p| p.remove("op")) else { panic!("{verb}") };
            let name = tag["const"].as_str().expect("a name").to_owned();
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let required: Vec<Value> = list(&verb["required"]).into_iter().filter(|key| key != "op").collect();
            for member in verb["properties"].as_object_mut().expect("members").values_mut() {
                simplify(member);
            }
            let text = one_line(&verb["description"]);
            (name, serde_json::json!({"description": text, "properties": verb["properties"], "required": required}))
        })
        .collect()
}

/// Takes away what the description of one member need not say: formats that only Rust knows, and null beside a type.
fn simplify(member: &mut Value) {
    if let Some(kinds) = member["anyOf"].as_array() {
        let (kind, text) = (kinds[0].clone(), member["description"].clone());
        *member = kind;
        member["description"] = text;
    }
    // The kinds of a message, each with its own description.
    if let Some(kinds) = member["oneOf"].as_array() {
        let names: Vec<Value> = kinds.iter().map(|kind| kind["const"].clone()).collect();
        *member = serde_json::json!({"type": "string", "enum": names, "description": member["description"]});
    }
    let text = one_line(&member["description"]);
    let object = member.as_object_mut().expect("a schema");
    object.insert("description".into(), text.into());
    object.retain(|key, _| !["format", "default"].contains(&key.as_str()));
    if let Some(kind) = object.get_mut("type").filter(|kind| kind.is_array()) {
        *kind = kind[0].take();
    }
    if let Some(items) = object.get_mut("items").and_then(Value::as_object_mut) {
        items.remove("format");
    }
}

fn one_line(text: &Value) -> String {
    text.as_str().expect("a description").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_schemas_of_all_requests_are_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../pilotctl/src/mcp/schemas.json");
    let schemas = schemas();
    for (json, request) in table() {
        let members = serde_json::from_str::<Value>(json).expect("JSON");
        let name = members["op"].as_str().expect("a verb");
        let schema = &schemas[name];
        let known = |key: &str| key == "op" || schema["properties"].get(key).is_some();
        assert!(members.as_object().is_some_and(|m| m.keys().all(|key| known(key))), "{request:?}: {schema}");
    }
    let lines: Vec<String> = schemas.iter().map(|(name, schema)| format!("\"{name}\":{schema}")).collect();
    let made = format!("{{\n{}\n}}\n", lines.join(",\n"));
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, &made).expect("a writable file");
    }
    let known = std::fs::read_to_string(path).expect("a file");
    assert!(known == made, "schemas.json is stale: PILOT_BLESS=1 cargo test -p pilot-node --lib request");
}

#[test]
fn the_request_of_a_verb_is_read_from_its_members() {
    for (json, request) in table() {
        let Ok(Value::Object(mut members)) = serde_json::from_str(json) else { panic!("{json}") };
        let again = Request::from_members(request.to_json().split('"').nth(3).expect("a verb"), members.clone());
        assert!(again.is_err_and(|f| f.message.contains("unknown field `op`")), "{json}");
        let verb = members.remove("op").expect("a verb");
        assert_eq!(Request::from_members(verb.as_str().expect("text"), members), Ok(request));
    }
    assert!(Request::from_members("fly", Map::new()).is_err());
}

#[test]
fn a_member_that_is_null_is_absent() {
    let json = r#"{ "op": "approve", "node": "worker-node", "ports": null, "expires_s": null }"#;
    let approve =
        Request::Approve { node: "worker-node".into(), note: None, ports: None, expires_s: None, quota: None };
    assert_eq!(Request::from_json(json.as_bytes()), Ok(approve));
    assert_eq!(Request::from_json(br#"{"topics":null,"op":"events"}"#), Ok(Request::Events { topics: None }));
}

#[test]
fn no_verb_takes_an_unknown_member() {
    for (json, _) in table() {
        let more = json.replacen("{", r#"{"colour":"red","#, 1);
        let text = refused(&more);
        assert!(text.contains("unknown field `colour`"), "{more}: {text}");
    }
}

#[test]
fn a_member_that_is_missing_is_named() {
    for (json, _) in table() {
        let Ok(Value::Object(members)) = serde_json::from_str(json) else { panic!("{json}") };
        for key in members.keys() {
            let mut less = members.clone();
            less.remove(key);
            if let Err(failure) = Request::from_json(Value::Object(less).to_string().as_bytes()) {
                assert!(failure.message.contains(&format!("missing field `{key}`")), "{json}: {failure}");
            }
        }
    }
}

#[test]
fn a_member_with_a_wrong_type_is_named() {
    for (json, _) in table() {
        let Ok(Value::Object(members)) = serde_json::from_str(json) else { panic!("{json}") };
        for key in members.keys() {
            let mut wrong = members.clone();
            wrong.insert(key.clone(), serde_json::json!({"not": "this"}));
            let text = refused(&Value::Object(wrong).to_string());
            assert!(text.contains(&format!("{key}: ")), "{json}: {text}");
        }
    }
}

#[test]
fn bad_requests_are_explained() {
    for (json, text) in [
        ("", "a request is a JSON object"),
        ("[\"info\"]", "a request is a JSON object"),
        ("not json", "a request is a JSON object"),
        ("{\"op\":\"info\"", "a request is a JSON object: EOF"),
        ("{\"op\":\"info\"} {}", "a request is a JSON object: trailing characters"),
        ("{}", "missing field `op`"),
        (r#"{"op":7}"#, "op: "),
        (r#"{"op":"fly"}"#, "unknown operation \"fly\""),
        (r#"{"op":"info","op":"stop"}"#, "stop: duplicate field `op`"),
        (r#"{"op":"listen","port":1,"port":2}"#, "listen: duplicate field `port`"),
        (r#"{"op":"listen","port":65536}"#, "listen: port: invalid value: integer `65536`, expected u16"),
        (r#"{"op":"listen","port":-1}"#, "listen: port: invalid value: integer `-1`, expected u16"),
        (r#"{"op":"listen","port":"1000"}"#, "listen: port: invalid type: string \"1000\", expected u16"),
        (r#"{"op":"send_message","node":"a","type":"xml"}"#, "send_message: type: unknown variant `xml`"),
        (r#"{"op":"inbox_take","seqs":[1,"2"]}"#, "inbox_take: seqs: invalid type: string \"2\", expected u64"),
    ] {
        let message = refused(json);
        assert!(message.starts_with(text), "{json}: {message}");
    }
}

#[test]
fn damaged_json_is_refused_or_is_another_request() {
    for (json, _) in table() {
        for at in 0..json.len() {
            assert!(Request::from_json(&json.as_bytes()[..at]).is_err(), "{json} up to {at}");
            for flip in [1, 2, 16, 32, 128] {
                let mut damaged = json.as_bytes().to_vec();
                damaged[at] ^= flip;
                if let Ok(request) = Request::from_json(&damaged) {
                    assert_eq!(Request::from_json(request.to_json().as_bytes()), Ok(request));
                }
            }
        }
    }
}

#[test]
fn kinds_are_read_from_their_names() {
    for (name, kind) in [("text", MessageKind::Text), ("binary", MessageKind::Binary), ("json", MessageKind::Json)] {
        assert_eq!((name.parse(), Kind::from(kind).name()), (Ok(kind), name));
    }
    assert_eq!("xml".parse::<MessageKind>().expect_err("no kind").code, Code::InvalidArgument);
}
