//! Owns the result of one check, and its forms for people and programs.

use crate::clean;
use serde_json::{Value, json};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    Ok,
    Warn,
    Fail,
}

impl Grade {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What was found, and what to do about it.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) grade: Grade,
    pub(super) evidence: String,
    /// A command or other remedy; empty when there is nothing to do.
    pub(super) todo: String,
}

impl Check {
    pub(super) fn ok(id: &'static str, evidence: impl Into<String>) -> Self {
        Self { id, grade: Grade::Ok, evidence: evidence.into(), todo: String::new() }
    }

    pub(super) fn warn(id: &'static str, evidence: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { id, grade: Grade::Warn, evidence: evidence.into(), todo: todo.into() }
    }

    pub(super) fn fail(id: &'static str, evidence: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, ..Self::warn(id, evidence, todo) }
    }

    pub(super) fn json(&self) -> Value {
        json!({"id": self.id, "status": self.grade.name(), "evidence": self.evidence, "todo": self.todo})
    }

    /// The check for people; the remedy has a line of its own.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:<4}  {:<14}  {}", self.grade.name(), self.id, clean::cell(&self.evidence));
        if !self.todo.is_empty() {
            text.extend(["\n      ", "              ", "  do: ", &clean::cell(&self.todo)]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_a_line_and_its_remedy_another_whatever_the_evidence_says() {
        let check = Check::fail("udp", "no answer\nfrom 192.0.2.1", "let UDP out");
        let text = check.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.starts_with("fail  udp             no answer"), "{text}");
        assert!(text.ends_with("\n                      do: let UDP out"), "{text}");
        assert_eq!(check.json()["status"], "fail");
        assert_eq!(Check::ok("udp", "x").text().lines().count(), 1);
    }
}
