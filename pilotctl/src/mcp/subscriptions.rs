//! Owns the subscriptions to resources: which the client wants to hear of, and the thread that hears of them.

use crate::mcp::resources::{INBOX, RECEIVED, parse};
use crate::mcp::rpc::{INTERNAL_ERROR, Outgoing, RpcError, answer, notification};
use pilot_node::{Client, Event, Failure, socket_path};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Addresses subscribed to, and streams of notifications, at once: each. Source: few resources change.
pub(super) const SUBSCRIPTIONS_MAX: usize = 64;
/// Time between two attempts to reach a daemon that does not answer.
const RETRY: Duration = Duration::from_secs(1);

const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";

/// What the client wants to hear of.
#[derive(Clone)]
pub(super) struct Subscriptions {
    state: Arc<Mutex<State>>,
    out: Outgoing,
}

#[derive(Default)]
struct State {
    /// By `resources/subscribe`.
    uris: Vec<String>,
    /// By `subscriptions/listen`: the request's id, and the addresses.
    listens: Vec<(Value, Vec<String>)>,
    is_watching: bool,
}

impl Subscriptions {
    pub(super) fn new(out: Outgoing) -> Self {
        Self { state: Arc::default(), out }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to one address; what happens once this has returned is told.
    pub(super) fn subscribe(&self, uri: &str) -> Result<(), RpcError> {
        check(uri)?;
        let mut state = self.state();
        if !state.uris.iter().any(|known| known == uri) {
            if state.uris.len() >= SUBSCRIPTIONS_MAX {
                return Err(full());
            }
            state.uris.push(uri.into());
        }
        self.watch(&mut state);
        Ok(())
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        self.state().uris.retain(|known| known != uri);
    }

    /// Opens a stream of notifications, which begins with an acknowledgement and lasts until the request is cancelled; what happens
    /// once that is sent is told.
    pub(super) fn listen(&self, id: &Value, wanted: &Map<String, Value>) -> Result<(), RpcError> {
        let uris = match wanted.get("resourceSubscriptions") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(uris)) => {
                uris.iter().map(|uri| uri.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(no_list)?
            }
            Some(_) => return Err(no_list()),
        };
        uris.iter().try_for_each(|uri| check(uri))?;
        let mut state = self.state();
        if state.listens.len() >= SUBSCRIPTIONS_MAX || uris.len() > SUBSCRIPTIONS_MAX {
            return Err(full());
        }
        let honoured = if uris.is_empty() { json!({}) } else { json!({"resourceSubscriptions": uris}) };
        let params = json!({"_meta": {SUBSCRIPTION_KEY: id}, "notifications": honoured});
        // What happens after the acknowledgement is heard, and is told after it, since the lock is held.
        self.watch(&mut state);
        self.out.send(&notification("notifications/subscriptions/acknowledged", &params));
        state.listens.push((id.clone(), uris));
        Ok(())
    }

    /// Ends the stream of notifications with this id, if there is one.
    pub(super) fn cancel(&self, id: &Value) {
        self.state().listens.retain(|(known, _)| known != id);
    }

    /// Whether a stream of notifications has this id.
    pub(super) fn has(&self, id: &Value) -> bool {
        self.state().listens.iter().any(|(known, _)| known == id)
    }

    /// Answers every stream of notifications, since the server ends.
    pub(super) fn end(&self) {
        for (id, _) in self.state().listens.drain(..) {
            let result = json!({"resultType": "complete", "_meta": {SUBSCRIPTION_KEY: id}});
            self.out.send(&answer(&id, Ok(result)));
        }
    }

    /// Tells every subscriber of an address that it has changed.
    pub(super) fn updated(&self, uri: &str) {
        const METHOD: &str = "notifications/resources/updated";
        let state = self.state();
        if state.uris.iter().any(|known| known == uri) {
            self.out.send(&notification(METHOD, &json!({"uri": uri})));
        }
        for (id, uris) in &state.listens {
            if uris.iter().any(|known| known == uri) {
                let params = json!({"uri": uri, "_meta": {SUBSCRIPTION_KEY: id}});
                self.out.send(&notification(METHOD, &params));
            }
        }
    }

    /// Starts the thread that hears of events, unless it runs.
    fn watch(&self, state: &mut State) {
        if std::mem::replace(&mut state.is_watching, true) {
            return;
        }
        let (watcher, first) = (self.clone(), watching());
        std::thread::spawn(move || {
            let mut client = first.ok();
            loop {
                if let Some(mut client) = client.take() {
                    watcher.hear(&mut client);
                }
                std::thread::sleep(RETRY);
                client = watching().ok();
                if client.is_some() {
                    // What happened meanwhile is not known.
                    [INBOX, RECEIVED].into_iter().for_each(|uri| watcher.updated(uri));
                }
            }
        });
    }

    /// Tells of events until the daemon has gone.
    fn hear(&self, client: &mut Client) {
        while let Ok(event) = client.next_event(None) {
            match event.as_ref().map(pilot_node::NodeEvent::read) {
                Some(Ok(Event::Message { .. } | Event::Question { .. })) => self.updated(INBOX),
                Some(Ok(Event::File { .. })) => self.updated(RECEIVED),
                Some(Ok(Event::Missed { .. })) => [INBOX, RECEIVED].into_iter().for_each(|uri| self.updated(uri)),
                _ => {}
            }
        }
    }
}

/// A connection to the daemon that gets its events.
fn watching() -> Result<Client, Failure> {
    let mut client = Client::connect(&socket_path())?;
    client.watch(None)?;
    Ok(client)
}

fn check(uri: &str) -> Result<(), RpcError> {
    let missing = || RpcError::invalid_params(format!("there is no resource {uri:?}"));
    parse(uri).map(drop).ok_or_else(missing)
}

fn no_list() -> RpcError {
    RpcError::invalid_params("resourceSubscriptions is no list of addresses")
}

fn full() -> RpcError {
    RpcError::new(INTERNAL_ERROR, format!("at most {SUBSCRIPTIONS_MAX} subscriptions"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream;

    /// Subscriptions with a thread that is taken to run already, and what they send.
    fn lab() -> (Subscriptions, impl FnMut() -> Value) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let subscriptions = Subscriptions::new(Outgoing::new(ours));
        subscriptions.state().is_watching = true;
        let mut lines = BufReader::new(theirs).lines();
        (subscriptions, move || serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON"))
    }

    #[test]
    fn subscribers_hear_of_what_they_asked_for_and_of_nothing_else() {
        let (subscriptions, mut next) = lab();
        subscriptions.subscribe(INBOX).expect("room");
        subscriptions.subscribe(INBOX).expect("twice is once");
        let wanted = json!({"resourceSubscriptions": [RECEIVED], "toolsListChanged": true});
        subscriptions.listen(&json!("l"), wanted.as_object().expect("an object")).expect("room");
        let acknowledged = next();
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"]["notifications"], json!({"resourceSubscriptions": [RECEIVED]}));
        subscriptions.updated(INBOX);
        assert_eq!(next()["params"], json!({"uri": INBOX}));
        subscriptions.updated(RECEIVED);
        assert_eq!(next()["params"], json!({"uri": RECEIVED, "_meta": {SUBSCRIPTION_KEY: "l"}}));
        subscriptions.unsubscribe(INBOX);
        subscriptions.updated(INBOX);
        assert!(subscriptions.has(&json!("l")) && !subscriptions.has(&json!(1)));
        subscriptions.end();
        assert_eq!(next()["result"]["_meta"][SUBSCRIPTION_KEY], "l");
        assert!(!subscriptions.has(&json!("l")));
    }

    #[test]
    fn subscriptions_have_a_maximum_and_name_resources() {
        let (subscriptions, _next) = lab();
        assert!(subscriptions.subscribe("file:///etc/passwd").is_err());
        for number in 0..SUBSCRIPTIONS_MAX {
            subscriptions.subscribe(&format!("{INBOX}/{number}")).expect("room");
            subscriptions.listen(&json!(number), &Map::new()).expect("room");
        }
        assert!(subscriptions.subscribe(INBOX).is_err() && subscriptions.listen(&json!("more"), &Map::new()).is_err());
        subscriptions.cancel(&json!(3));
        assert!(subscriptions.listen(&json!("more"), &Map::new()).is_ok());
        let bad = json!({"resourceSubscriptions": [7]});
        assert!(subscriptions.listen(&json!("bad"), bad.as_object().expect("an object")).is_err());
    }
}
