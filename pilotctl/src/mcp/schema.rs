//! Owns the JSON schemas of tools: the members of a request, and what a tool takes besides.

use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The members of every request, as a test of pilot-node derives them from [`pilot_node::Request`].
static REQUESTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let read = serde_json::from_str(include_str!("schemas.json"));
    debug_assert!(read.is_ok(), "a test has written the file");
    read.unwrap_or_default()
});

/// What a tool takes.
pub(super) struct Input {
    /// The request that gives the members.
    pub(super) verb: Option<&'static str>,
    /// Members of the request that the tool does not take.
    pub(super) without: &'static [&'static str],
    /// What the tool takes besides: a JSON object, each member with its schema.
    pub(super) more: &'static str,
    /// Members that must be there, besides those of the request.
    pub(super) needed: &'static [&'static str],
}

impl Input {
    /// Takes nothing.
    pub(super) const NOTHING: Self = Self { verb: None, without: &[], more: "{}", needed: &[] };

    /// Takes the members of one request.
    pub(super) const fn of(verb: &'static str) -> Self {
        Self { verb: Some(verb), ..Self::NOTHING }
    }

    /// Whether the node knows the request.
    pub(super) fn is_known(&self) -> bool {
        self.verb.is_none_or(|verb| REQUESTS.contains_key(verb))
    }

    /// The description of the request.
    pub(super) fn description(&self) -> &'static str {
        let request = self.verb.and_then(|verb| REQUESTS.get(verb));
        request.and_then(|request| request["description"].as_str()).unwrap_or_default()
    }

    /// Each member with its schema.
    pub(super) fn members(&self) -> Map<String, Value> {
        let request = self.verb.and_then(|verb| REQUESTS.get(verb));
        let mut members = request.and_then(|r| r["properties"].as_object()).cloned().unwrap_or_default();
        members.retain(|key, _| !self.without.contains(&key.as_str()));
        let more = serde_json::from_str::<Map<String, Value>>(self.more);
        debug_assert!(more.is_ok(), "{}: a JSON object", self.more);
        members.extend(more.unwrap_or_default());
        members
    }

    /// The whole schema.
    pub(super) fn schema(&self) -> Value {
        let request = self.verb.and_then(|verb| REQUESTS.get(verb));
        let of_request = request.and_then(|r| r["required"].as_array()).cloned().unwrap_or_default();
        let is_taken = |key: &Value| key.as_str().is_some_and(|key| !self.without.contains(&key));
        let needed = self.needed.iter().map(|key| Value::from(*key));
        let required: Vec<Value> = of_request.into_iter().filter(is_taken).chain(needed).collect();
        json!({"type": "object", "properties": self.members(), "required": required, "additionalProperties": false})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_the_members_of_the_request_and_what_the_tool_adds() {
        let input = Input {
            verb: Some("handshake"),
            without: &["ports"],
            more: r#"{"wait_s":{"type":"integer"}}"#,
            needed: &["wait_s"],
        };
        let schema = input.schema();
        assert_eq!(schema["properties"]["node"]["type"], "string");
        assert_eq!(schema["properties"]["wait_s"]["type"], "integer");
        assert!(schema["properties"].get("ports").is_none());
        assert_eq!(schema["required"], json!(["node", "wait_s"]));
        assert!(input.description().contains("trust") && input.is_known());
        assert!(!Input::of("fly").is_known() && Input::NOTHING.is_known());
    }
}
