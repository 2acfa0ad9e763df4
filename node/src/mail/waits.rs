//! Owns the table of callers that wait for answers to questions, and the failures of questions.

use crate::disk::job::Unanswerable;
use crate::effect::Ticket;
use crate::failure::{Code, Failure};
use litemap::LiteMap;

/// Most callers that wait for the answer to one question. Source: own choice; the program that asked, and a few that look.
pub(crate) const WAITERS_MAX: usize = 8;

/// The tickets of callers that wait, by the question's id.
#[derive(Default)]
pub(crate) struct Waits(pub(crate) LiteMap<[u8; 16], Vec<Ticket>>);

/// The failure of a question to a node that knows none, which has said `answer`.
pub(crate) fn unknown(node: &str, answer: &str) -> Failure {
    let outcome = if answer.starts_with("ACK") { "took it as an ordinary message" } else { "refused it" };
    Failure::new(Code::ConnectionRefused, format!("{node} runs a version that knows no questions, and {outcome}"))
        .hint("update it, or: pilotctl send-message")
}

/// The failure of a name that no question has.
pub(crate) fn no_such_question(name: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no question {name:?}")).hint("pilotctl answers, pilotctl inbox")
}

/// The failure of an answer that a question does not get, or of a mark on it.
pub(crate) fn unanswerable(why: Unanswerable) -> Failure {
    match why {
        Unanswerable::Unknown => {
            Failure::new(Code::NotFound, "the inbox has no such question").hint("pilotctl inbox --questions")
        }
        Unanswerable::Gone => Failure::new(Code::NotFound, "the question was taken away, or its deadline is over")
            .hint("pilotctl send-message"),
        Unanswerable::Answered => {
            Failure::new(Code::Conflict, "the question has another answer already, and gets no second one")
        }
    }
}
