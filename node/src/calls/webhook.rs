//! The call that sets or clears the webhook: answered once the setting is on disk.

use crate::answer;
use crate::call::Call;
use crate::context::Context;
use crate::crypto::entropy;
use crate::disk::job::{Job, Meta};
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use crate::webhook::WebhookSetting;
use std::net::IpAddr;

/// Longest URL of a webhook. Unit: bytes. Own choice: what servers take as a request's line.
const URL_LEN_MAX: usize = 2048;
/// Shortest secret. Unit: bytes. Own choice: 128 bits, if the bytes are random.
const SECRET_LEN_MIN: usize = 16;
/// Longest secret. Unit: bytes. Own choice; HMAC hashes what is longer than a block of 64 bytes.
const SECRET_LEN_MAX: usize = 256;
const HINT: &str = "https://HOST/PATH, or http:// to this machine; --insecure allows http:// to others";

/// Sets the webhook; an empty `url` clears it. Without a secret, one is made and told with the answer, once.
pub(crate) fn set(cx: &mut Context, url: &str, insecure: bool, secret: Option<String>, caller: Caller) {
    let made = match setting(cx, url, insecure, secret) {
        Ok(made) => made,
        Err(failure) => return cx.fail(caller, failure),
    };
    let (setting, told) = made.map_or((None, None), |(setting, told)| (Some(setting), told));
    if let Some(webhook) = &cx.config.webhook {
        webhook.set(setting.clone());
    }
    let applied = cx.config.webhook.is_some();
    let answer = answer::WebhookSet { webhook: url.into(), insecure, applied, secret: told }.into();
    let row = setting.as_ref().map(emit).unwrap_or_default();
    cx.submit(Job::Put(Meta::Webhook, row), Call::Saved { caller, answer });
}

/// The setting that a caller wants, and the secret that was made for it; `None`: no webhook.
fn setting(
    cx: &Context,
    url: &str,
    insecure: bool,
    secret: Option<String>,
) -> Result<Option<(WebhookSetting, Option<String>)>, Failure> {
    if url.is_empty() {
        return Ok(None);
    }
    if cx.config.webhook.is_none() {
        return Err(Failure::new(Code::InvalidArgument, "this node is no daemon with a webhook, and posts to no URL")
            .hint("watch the node's events instead"));
    }
    check_url(url, insecure)?;
    let made = secret.is_none().then(|| entropy::<32>().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let secret = secret.or_else(|| made.clone()).unwrap_or_default();
    if !(SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&secret.len()) {
        let text = format!("a secret has {SECRET_LEN_MIN} to {SECRET_LEN_MAX} bytes, not {}", secret.len());
        return Err(Failure::new(Code::InvalidArgument, text));
    }
    Ok(Some((WebhookSetting { url: url.into(), insecure, secret }, made)))
}

/// Refuses a URL that events should not be posted to.
fn check_url(url: &str, insecure: bool) -> Result<(), Failure> {
    let invalid = |why: &str| Err(Failure::new(Code::InvalidArgument, format!("{url:?} {why}")).hint(HINT));
    if url.len() > URL_LEN_MAX || !url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return invalid("is no URL");
    }
    let Some((scheme, rest)) = url.split_once("://") else { return invalid("is no URL") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return invalid("has a password in it, which logs would show");
    }
    let bare = authority.strip_prefix('[').and_then(|v6| v6.split_once(']'));
    let (host, port) = bare.unwrap_or_else(|| authority.split_at(authority.find(':').unwrap_or(authority.len())));
    let has_port = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    if host.is_empty() || !has_port {
        return invalid("names no host and port");
    }
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => Ok(()),
        "http" if insecure || is_here => Ok(()),
        "http" => invalid("would show every event to the network"),
        _ => invalid("is neither https:// nor http://"),
    }
}

/// The row of the books: `insecure u8 | length of the secret u16 (big-endian) | secret | URL`; empty without a webhook.
fn emit(setting: &WebhookSetting) -> Vec<u8> {
    let secret = setting.secret.as_bytes();
    debug_assert!(secret.len() <= SECRET_LEN_MAX, "the length fits in two bytes");
    let len = (secret.len() as u16).to_be_bytes();
    [&[u8::from(setting.insecure)][..], &len, secret, setting.url.as_bytes()].concat()
}

/// The inverse of [`emit`]; `None` also for a row that cannot be read, which leaves the node without a webhook.
pub(crate) fn parse(row: &[u8]) -> Option<WebhookSetting> {
    let ([insecure, high, low], rest) = row.split_first_chunk()?;
    let (secret, url) = rest.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(WebhookSetting { insecure: *insecure != 0, secret: text(secret)?, url: text(url)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Lab, caller, json};
    use crate::webhook::Webhook;

    /// A node with a worker that posts.
    fn node() -> (Context, Webhook) {
        let mut cx = Lab::alone().nodes.remove(0);
        let webhook = Webhook::new().expect("descriptors");
        cx.config.webhook = Some(webhook.clone());
        (cx, webhook)
    }

    /// The row that is saved, and the answer.
    fn saved(cx: &mut Context) -> (Vec<u8>, serde_json::Value) {
        let (job, ticket) = cx.jobs().remove(0);
        let Job::Put(Meta::Webhook, row) = job else { panic!("{job:?}") };
        let Some(Call::Saved { answer, .. }) = cx.calls.take(ticket) else { panic!("no answer waits") };
        (row, json(&answer))
    }

    #[test]
    fn a_webhook_is_kept_and_its_secret_told_once() {
        let (mut cx, webhook) = node();
        set(&mut cx, "https://example.org/x", false, None, caller(1));
        let (row, answer) = saved(&mut cx);
        let setting = webhook.setting().expect("a setting");
        assert_eq!((answer["webhook"].as_str(), answer["applied"].as_bool()), (Some(&*setting.url), Some(true)));
        assert_eq!((answer["secret"].as_str(), setting.secret.len()), (Some(&*setting.secret), 64));
        assert_eq!(parse(&row), Some(setting.clone()));
        assert!(!format!("{:?}", cx.config).contains(&setting.secret), "no log shows the secret");
        let brought = "x".repeat(SECRET_LEN_MAX);
        set(&mut cx, "http://10.0.0.1/", true, Some(brought.clone()), caller(1));
        let (row, answer) = saved(&mut cx);
        assert_eq!((answer.get("secret"), parse(&row).map(|s| s.secret)), (None, Some(brought)));
        webhook.report(|state| state.delivered = 7);
        assert_eq!(webhook.state().map(|s| (s.url, s.delivered)), Some(("http://10.0.0.1/".into(), 7)));
        set(&mut cx, "", false, None, caller(1));
        assert_eq!((saved(&mut cx).0, webhook.setting(), webhook.state()), (Vec::new(), None, None));
        assert_eq!(parse(&[]), None);
        (0..row.len()).for_each(|len| drop(parse(&row[..len])));
    }

    #[test]
    fn urls_that_show_events_to_others_are_refused() {
        for good in [
            "https://example.org",
            "https://example.org:8443/a?b=c#d",
            "http://127.0.0.1:80/",
            "http://localhost/x",
            "http://[::1]:8080/",
        ] {
            assert_eq!(check_url(good, false), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("example.org", "is no URL"),
            ("https://a b/", "is no URL"),
            ("https://a\\b/", "is no URL"),
            ("https://a\n/", "is no URL"),
            ("https://é/", "is no URL"),
            ("ftp://127.0.0.1/", "is neither"),
            ("https://", "names no host"),
            ("https:///x", "names no host"),
            ("https://a:0/", "names no host"),
            ("https://a:65536/", "names no host"),
            ("https://a:b/", "names no host"),
            ("https://[::1]x/", "names no host"),
            ("https://user:word@example.org/", "has a password"),
            ("http://example.org/", "would show"),
            ("http://127.0.0.1.example.org/", "would show"),
            ("http://localhost.example.org/", "would show"),
            ("http://localhost@example.org/", "has a password"),
            (&format!("https://example.org/{}", "x".repeat(URL_LEN_MAX)), "is no URL"),
        ] {
            let failure = check_url(bad, false).expect_err(bad);
            assert!(failure.message.contains(why), "{bad}: {failure}");
        }
        assert_eq!(check_url("http://example.org/", true), Ok(()));
    }

    #[test]
    fn short_secrets_and_nodes_without_a_worker_are_refused() {
        let (mut cx, webhook) = node();
        for len in [0, SECRET_LEN_MIN - 1, SECRET_LEN_MAX + 1] {
            let failure = setting(&cx, "https://a/", false, Some("x".repeat(len))).expect_err("a bad secret");
            assert_eq!(failure.code, Code::InvalidArgument);
        }
        cx.config.webhook = None;
        let failure = setting(&cx, "https://a/", false, None).expect_err("no worker");
        assert_eq!((failure.code, webhook.setting()), (Code::InvalidArgument, None));
        set(&mut cx, "", false, None, caller(1));
        assert_eq!(saved(&mut cx).1["applied"], false, "clearing nothing is no mistake");
    }
}
