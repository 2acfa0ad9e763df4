//! Owns the arguments of a tool's call: what the agent gave, taken out member by member.

use pilot_node::{Code, Failure, Request};
use serde_json::{Map, Value};
use std::time::Duration;

/// Longest time that a call may wait for a peer. Unit: seconds.
pub(super) const WAIT_MAX_S: u64 = 600;

/// What is left of the arguments; those of a request go into it last.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments(Map<String, Value>);

impl Arguments {
    /// Takes the arguments of a call. `known` are the members of the tool's schema.
    pub(super) fn new(given: Option<Value>, known: &Map<String, Value>) -> Result<Self, Failure> {
        let mut members = match given {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(invalid("arguments is no JSON object")),
        };
        members.retain(|_, value| !value.is_null());
        match members.keys().find(|key| !known.contains_key(*key)) {
            Some(key) => {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                Err(invalid(format!("unknown argument {key:?}")).hint(format!("known are: {}", names.join(", "))))
            }
            None => Ok(Self(members)),
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Failure> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(format!("{key}: a string is wanted"))),
        }
    }

    pub(super) fn needed_text(&mut self, key: &str) -> Result<String, Failure> {
        self.text(key)?.ok_or_else(|| invalid(format!("missing argument {key:?}")))
    }

    /// A number up to `max`.
    pub(super) fn number(&mut self, key: &str, max: u64) -> Result<Option<u64>, Failure> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|number| *number <= max) {
                Some(number) => Ok(Some(number)),
                None => Err(invalid(format!("{key}: an integer from 0 to {max} is wanted"))),
            },
        }
    }

    /// A time limit in seconds.
    pub(super) fn seconds(&mut self, key: &str, default: u64) -> Result<Duration, Failure> {
        Ok(Duration::from_secs(self.number(key, WAIT_MAX_S)?.unwrap_or(default)))
    }

    /// Looks at a text that stays among the arguments.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.into(), value.into());
    }

    /// The request of this verb with all arguments that are left.
    pub(super) fn request(self, verb: &str) -> Result<Request, Failure> {
        Request::from_members(verb, self.0)
    }
}

pub(super) fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taken(given: Value) -> Result<Arguments, Failure> {
        let known = json!({"node": {}, "port": {}, "text": {}});
        Arguments::new(Some(given), known.as_object().expect("an object"))
    }

    #[test]
    fn arguments_are_checked_before_anything_is_done() {
        for (bad, text) in [(json!([]), "no JSON object"), (json!({"nodes": 1}), "unknown argument \"nodes\"")] {
            assert!(taken(bad).expect_err("bad").message.contains(text));
        }
        let mut arguments = taken(json!({"node": "a", "port": 70_000, "text": null})).expect("known members");
        assert!(!arguments.has("text"), "null is absent");
        assert!(arguments.clone().number("port", 65_535).is_err());
        assert!(arguments.clone().text("port").is_err());
        assert_eq!(arguments.number("port", 70_000), Ok(Some(70_000)));
        assert_eq!(arguments.seconds("timeout_s", 30), Ok(Duration::from_secs(30)));
        assert!(arguments.needed_text("text").is_err());
        assert_eq!(arguments.request("find"), Ok(Request::Find { node: "a".into() }));
    }
}
