//! HTTP as programs and attackers write it.

use super::head::{HEAD_LEN_MAX, HEADERS_MAX};
use super::*;

fn server(a2a: bool) -> Http {
    let peer = Peer { name: "ann", address: "0:0000.0000.0007", fingerprint: "aa-bb" };
    Http::exposed(Exposed::new("127.0.0.1:8080".into(), &peer, a2a))
}

/// The lines that every request behind `expose --http` gets.
const PEER: &str = "Pilot-Peer: ann\r\nPilot-Peer-Address: 0:0000.0000.0007\r\nPilot-Peer-Fingerprint: aa-bb\r\n";

fn request(http: &mut Http, input: &[u8]) -> Result<(usize, String), Reject> {
    let mut out = Vec::new();
    let used = http.push_request(input, &mut out)?;
    Ok((used, String::from_utf8_lossy(&out).into_owned()))
}

/// A request that is taken whole.
fn sent(http: &mut Http, input: &str) -> String {
    let (used, out) = request(http, input.as_bytes()).expect(input);
    assert_eq!(used, input.len(), "{input}");
    out
}

fn answered(http: &mut Http, input: &str) -> String {
    let mut out = Vec::new();
    http.push_response(input.as_bytes(), &mut out).expect(input);
    String::from_utf8(out).expect("text")
}

fn status(result: Result<(usize, String), Reject>) -> u16 {
    result.expect_err("a refusal").status
}

#[test]
fn a_head_is_rewritten_and_everything_else_stays() {
    let mut http = server(false);
    let out = sent(
        &mut http,
        "GET /a?b HTTP/1.1\r\nhost: worker-node.pilot:80\r\nX-A:  1 \r\nx-a: 2\r\nPilot-Peer: root\r\n\
         pilot_peer_address: x\r\nPILOT.PEER-FINGERPRINT: y\r\nPilot-Peers: z\r\nPilot: p\r\n\r\n",
    );
    let expected = format!(
        "GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-A:  1 \r\nx-a: 2\r\nPilot: p\r\n\
         X-Forwarded-Host: worker-node.pilot:80\r\n{PEER}\r\n"
    );
    assert_eq!(out, expected);
}

#[test]
fn an_absolute_url_counts_for_more_than_the_host() {
    let out = sent(&mut server(false), "GET HTTP://b:1?q HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(out.starts_with("GET /?q HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-Forwarded-Host: b:1\r\n"), "{out}");
    let out = sent(&mut server(false), "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(out, format!("GET / HTTP/1.0\r\nHost: 127.0.0.1:8080\r\n{PEER}\r\n"));
    let out = sent(&mut server(false), "OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: outer\r\n\r\n");
    assert!(
        out.starts_with("OPTIONS * HTTP/1.1\r\n") && out.contains("\r\nX-Forwarded-Host: outer\r\nPilot-Peer:"),
        "{out}"
    );
}

#[test]
fn requests_that_two_readers_could_understand_differently_are_refused() {
    let post = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let chunked = |chunks: &str| post("Transfer-Encoding: chunked\r\n") + chunks;
    for (name, bytes) in [
        ("CL and TE", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")),
        ("TE and CL", post("Transfer-Encoding: chunked\r\ncontent-length: 4\r\n")),
        ("two lengths", post("Content-Length: 4\r\nContent-Length: 5\r\n")),
        ("a list of lengths", post("Content-Length: 4, 5\r\n")),
        ("a signed length", post("Content-Length: +4\r\n")),
        ("an empty length", post("Content-Length:\r\n")),
        ("a huge length", post("Content-Length: 99999999999999999999\r\n")),
        ("another coding", post("Transfer-Encoding: gzip, chunked\r\n")),
        ("a hidden coding", post("Transfer-Encoding: xchunked\r\n")),
        ("two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
        ("a coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into()),
        ("obs-fold", post("X-A: 1\r\n Content-Length: 4\r\n")),
        ("a bare LF", "GET / HTTP/1.1\nHost: a\n\n".into()),
        ("a bare LF inside", post("X-A: 1\nContent-Length: 4\r\n")),
        ("a bare CR", post("X-A: 1\rContent-Length: 4\r\n")),
        ("a space before the colon", post("Content-Length : 4\r\n")),
        ("a NUL", post("X-A: \0\r\n")),
        ("a control character in the path", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("a header without a colon", post("X-A\r\n")),
        ("a header without a name", post(": 1\r\n")),
        ("two Hosts", post("Host: b\r\n")),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("a hop's framing", post("Connection: Content-Length\r\nContent-Length: 1\r\n")),
        ("a hop's peer", post("Connection: close, pilot_peer\r\n")),
        ("a chunk without a size", chunked("\r\n")),
        ("a chunk of letters", chunked("x\r\n")),
        ("a negative chunk", chunked("-1\r\n")),
        ("a chunk with 0x", chunked("0x1\r\n")),
        ("a huge chunk", chunked("ffffffffffffffff\r\n")),
        ("a long chunk", chunked("1\r\nab\r\n")),
        ("a bare LF behind a size", chunked("1\na\r\n")),
        ("a bare CR behind a size", chunked("1;\rx\r\n")),
        ("a fold in a trailer", chunked("0\r\nA: 1\r\n b\r\n\r\n")),
        ("a long size", chunked(&("1;".to_owned() + &"x".repeat(body::CHUNK_LINE_MAX) + "\r\n"))),
    ] {
        let mut http = server(false);
        let result = request(&mut http, bytes.as_bytes());
        assert_eq!(result.as_ref().expect_err(name).status, 400, "{name}");
        let reject = result.expect_err(name);
        let answer = String::from_utf8(http.farewell(&reject)).expect("text");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{name}: {answer}");
    }
}

#[test]
fn heads_have_limits() {
    let fill = HEAD_LEN_MAX - "GET / HTTP/1.0\r\nA: \r\n\r\n".len();
    let head = |len| format!("GET / HTTP/1.0\r\nA: {}\r\n\r\n", "x".repeat(len));
    sent(&mut server(false), &head(fill));
    assert_eq!(status(request(&mut server(false), head(fill + 1).as_bytes())), 431);
    // Also when it never ends.
    assert_eq!(status(request(&mut server(false), "x".repeat(HEAD_LEN_MAX + 1).as_bytes())), 431);
    let head = |count| format!("GET / HTTP/1.0\r\n{}\r\n", "A: 1\r\n".repeat(count));
    sent(&mut server(false), &head(HEADERS_MAX));
    assert_eq!(status(request(&mut server(false), head(HEADERS_MAX + 1).as_bytes())), 431);
}

#[test]
fn http_2_and_later_are_refused_with_their_status() {
    for bytes in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"] {
        assert_eq!(status(request(&mut server(false), bytes.as_bytes())), 505, "{bytes}");
    }
    let out = sent(
        &mut server(false),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
    );
    assert!(!out.contains("h2c") && !out.contains("\r\nHTTP2-Settings:"), "{out}");
}

#[test]
fn bodies_end_where_they_say_and_the_next_head_is_rewritten() {
    let mut http = server(false);
    let next = "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in [
        "Content-Length: 3\r\n\r\nabc",
        "Content-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
        "\r\n",
    ] {
        let out = sent(&mut http, &format!("POST /1 HTTP/1.1\r\nHost: a\r\n{body}{next}"));
        let (_, content) = body.split_once("\r\n\r\n").unwrap_or_default();
        assert!(out.contains(&format!("\r\n\r\n{content}GET /2 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")), "{out}");
        assert!(out.ends_with(&format!("{PEER}\r\n")), "{out}");
    }
    let out = sent(
        &mut http,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\nPilot_Peer: x\r\nContent-Length: 5\r\nSum: 1\r\n\r\n",
    );
    assert!(out.ends_with("\r\n\r\n0\r\nSum: 1\r\n\r\n"), "{out}");
}

#[test]
fn at_most_so_many_requests_wait_for_their_answers() {
    let mut http = server(false);
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (used, _) = request(&mut http, one.repeat(PIPELINE_MAX + 3).as_bytes()).expect("requests");
    assert_eq!(used, one.len() * PIPELINE_MAX);
    assert_eq!(request(&mut http, one.as_bytes()).expect("a request").0, 0);
    answered(&mut http, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(request(&mut http, one.repeat(2).as_bytes()).expect("a request").0, one.len());
}

#[test]
fn an_upgrade_ends_http_in_both_directions_or_in_none() {
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut http = server(false);
    let both = upgrade.to_owned() + "\x01\x02\n";
    assert_eq!(
        request(&mut http, both.as_bytes()).expect("a request").0,
        upgrade.len(),
        "the rest waits for the answer"
    );
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x03\n";
    assert_eq!(answered(&mut http, answer), answer);
    assert_eq!(sent(&mut http, "\x01\x02\nGET / HTTP/1.1\n"), "\x01\x02\nGET / HTTP/1.1\n");
    assert!(http.is_raw());

    let mut http = server(false);
    sent(&mut http, upgrade);
    assert_eq!(request(&mut http, upgrade.as_bytes()).expect("a request").0, 0);
    answered(&mut http, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert!(sent(&mut http, upgrade).contains("Pilot-Peer: ann"));
    assert!(!http.is_raw());

    let mut http = server(false);
    sent(&mut http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let unasked = http.push_response(answer.as_bytes(), &mut Vec::new());
    assert_eq!(unasked.expect_err("a refusal").status, 502);
}

#[test]
fn answers_end_where_their_kind_says() {
    let mut http = server(false);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (ask, answers) in [
        (get, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
        (get, "HTTP/1.1 200 OK\nContent-Length: 1\n\na"),
        (get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: 1\r\n\r\n"),
        (get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    ] {
        sent(&mut http, ask);
        assert_eq!(answered(&mut http, answers), answers);
        assert!(http.waiting.is_empty() && http.responses.is_between(), "{answers}");
    }
    sent(&mut http, get);
    let answer = "HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(answered(&mut http, answer), answer);
    assert_eq!(http.waiting.len(), 1, "only the end of the connection ends this answer");
    http.end_response(&mut Vec::new()).expect("an end");
}

#[test]
fn a_server_without_an_answer_is_reported() {
    let mut http = server(false);
    http.end_response(&mut Vec::new()).expect("nothing was asked");
    sent(&mut http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let reject = http.end_response(&mut Vec::new()).expect_err("a refusal");
    assert!(http.farewell_of_server(&reject).starts_with(b"HTTP/1.1 502 Bad Gateway\r\n"));
    let mut http = server(false);
    sent(&mut http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let reject = http.push_response(b"SSH-2.0-x\r\n\r\n", &mut Vec::new()).expect_err("a refusal");
    assert_eq!((reject.status, http.farewell_of_server(&reject).is_empty()), (502, false));
}

#[test]
fn a_refusal_is_never_taken_for_another_answer() {
    let mut http = server(false);
    sent(&mut http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let reject = request(&mut http, b"bad\r\n\r\n").expect_err("a refusal");
    assert!(http.farewell(&reject).is_empty(), "the first request has no answer yet");
    let mut http = server(false);
    sent(&mut http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    answered(&mut http, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
    assert!(http.farewell_of_server(&Reject::new(502, "the server is gone")).is_empty(), "an answer has begun");
}

#[test]
fn a_head_has_its_time_from_the_start_and_later_from_its_first_byte() {
    let mut http = server(false);
    assert_eq!(http.awaited_head(), Some(0));
    sent(&mut http, "GET / HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(http.awaited_head(), Some(0));
    sent(&mut http, "\r\n");
    answered(&mut http, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(http.awaited_head(), None, "an idle connection may stay");
    sent(&mut http, "G");
    assert_eq!(http.awaited_head(), Some(1));
    sent(&mut http, "ET / HTTP/1.1\r\nHost: a\r\n\r\nG");
    assert_eq!(http.awaited_head(), Some(2), "another head has its own time");
}

#[test]
fn the_card_of_an_agent_gets_the_name_that_the_caller_used() {
    let mut http = server(true);
    let out = sent(
        &mut http,
        "GET /.well-known/agent-card.json HTTP/1.1\r\nHost: worker-node.pilot:8080\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\n\r\n",
    );
    assert!(!out.contains("Accept-Encoding") && !out.contains("Range"), "{out}");
    let card = r#"{"name":"x","url":"http://0.0.0.0:9999/a2a","additionalInterfaces":[{"url":"https://localhost"},{"url":"grpc:1"}],"supportedInterfaces":[{"url":"HTTP://127.0.0.1:1/v1?x"}],"provider":{"url":"http://example.com/"}}"#;
    let base = "http://worker-node.pilot:8080";
    let expected: serde_json::Value = serde_json::from_str(&format!(
        r#"{{"name":"x","url":"{base}/a2a","additionalInterfaces":[{{"url":"{base}"}},{{"url":"grpc:1"}}],"supportedInterfaces":[{{"url":"{base}/v1?x"}}],"provider":{{"url":"http://example.com/"}}}}"#
    ))
    .expect("JSON");
    let ask = "GET /x/.well-known/agent.json?a HTTP/1.1\r\nHost: b\r\nX-Forwarded-Host: worker-node.pilot:8080\r\n\r\n";
    for answer in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nETag: e\r\n\r\n{card}", card.len()),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: e\r\n\r\n{:x}\r\n{card}\r\n0\r\n\r\n",
            card.len()
        ),
        format!("HTTP/1.0 200 OK\r\nETag: e\r\n\r\n{card}"),
    ] {
        let mut out = Vec::new();
        http.push_response(answer.as_bytes(), &mut out).expect("an answer");
        http.end_response(&mut out).expect("an end");
        let out = String::from_utf8(out).expect("text");
        let (head, body) = out.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.contains("\r\nETag: e") && head.ends_with(&format!("\r\nContent-Length: {}", body.len())),
            "{head}"
        );
        assert!(!head.contains("Transfer-Encoding") && !head.contains("content-length"), "{head}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON"), expected);
        sent(&mut http, ask);
    }
}

#[test]
fn what_is_no_card_is_not_touched_and_a_card_has_a_limit() {
    let ask = "GET /.well-known/agent-card.json HTTP/1.1\r\nHost: a\r\n\r\n";
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ] {
        let mut http = server(true);
        sent(&mut http, ask);
        assert_eq!(answered(&mut http, answer), answer);
        assert!(http.waiting.is_empty());
    }
    let mut http = server(true);
    sent(&mut http, ask);
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(card::CARD_LEN_MAX + 1));
    assert_eq!(http.push_response(long.as_bytes(), &mut Vec::new()).expect_err("a refusal").status, 502);
    let mut http = server(false);
    assert!(
        sent(&mut http, "GET /.well-known/agent.json HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
            .contains("gzip")
    );
}

// The proxy.

fn to(host: &str, port: u16) -> Authority {
    Authority::new(host, port).expect("a host and a port")
}

fn proxy() -> Http {
    Http::proxied(Arc::new([]))
}

#[test]
fn each_request_of_a_client_may_name_another_server() {
    let mut http = proxy();
    let first = "GET http://a/1 HTTP/1.1\r\nHost: evil\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
                 Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nAccept: */*\r\n\r\n";
    let second = "GET http://a/2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let third = "GET http://b:81?x HTTP/1.1\r\nHost: b\r\n\r\n";
    let all = format!("{first}{second}{third}");
    let (used, out) = request(&mut http, all.as_bytes()).expect("a request");
    assert_eq!((used, out.as_str(), http.wanted()), (first.len(), "", Some((&to("a", 80), false))));
    let mut out = Vec::new();
    assert_eq!(http.connected(&mut out), Ok(&[][..]));
    assert_eq!(String::from_utf8_lossy(&out), "GET /1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n");
    assert_eq!(request(&mut http, second.as_bytes()).expect("a request"), (0, String::new()), "one request at a time");
    answered(&mut http, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(sent(&mut http, second), "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(http.wanted(), None, "the stream to the same server goes on");
    answered(&mut http, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(sent(&mut http, third), "");
    assert_eq!(http.wanted(), Some((&to("b", 81), false)));
    let mut out = Vec::new();
    http.connected(&mut out).expect("a stream");
    assert_eq!(String::from_utf8_lossy(&out), "GET /?x HTTP/1.1\r\nHost: b:81\r\n\r\n");
}

#[test]
fn what_is_no_request_to_a_proxy_is_refused() {
    for head in [
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: 127.0.0.1:1080\r\nOrigin: http://evil.example\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a:0/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:65536 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a\x01b:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a\tb:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT http://a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
    ] {
        assert_eq!(status(request(&mut proxy(), head.as_bytes())), 400, "{head:?}");
    }
}
