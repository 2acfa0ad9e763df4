//! Owns the claims on questions of the inbox: which client runs a program for which question, so that another one does not.
//!
//! A claim lives in memory only. It ends with its time, with its client's connection, or with the answer; an answered question
//! stays claimed for a while, since another client may just have read it.

use crate::failure::{Code, Failure};
use crate::ipc::client_id::ClientId;
use crate::mail::message::DEADLINE_MAX_S;
use pilot_core::Instant;
use pilot_core::time::Duration;
use std::collections::VecDeque;

/// Most claims. Source: own choice; the programs of several `serve`, and the questions that wait for another run of each.
pub(crate) const CLAIMS_MAX: usize = 4096;
/// Longest claim, as long as a question lives at most.
const CLAIM_MAX: Duration = Duration::from_secs(DEADLINE_MAX_S);

struct Claim {
    /// The question's number in the inbox.
    question: u64,
    /// `None`: the question has its answer.
    holder: Option<ClientId>,
    until: Instant,
}

/// The claims, oldest first.
#[derive(Default)]
pub(crate) struct Claims(VecDeque<Claim>);

impl Claims {
    /// Gives a question to a client for so long, or renews what it has.
    ///
    /// # Errors
    /// `Conflict` when another client has it; `NotFound` when it was answered; `Full` when there are too many claims.
    pub(crate) fn claim(
        &mut self,
        now: Instant,
        question: u64,
        client: ClientId,
        time: Duration,
    ) -> Result<(), Failure> {
        let until = now + time.min(CLAIM_MAX);
        self.0.retain(|claim| claim.until > now);
        if let Some(known) = self.0.iter_mut().find(|claim| claim.question == question) {
            return match known.holder {
                Some(holder) if holder == client => {
                    known.until = until;
                    Ok(())
                }
                Some(_) => Err(Failure::new(Code::Conflict, "another program works on this question")),
                None => Err(Failure::new(Code::NotFound, "the question has its answer")),
            };
        }
        if self.0.len() >= CLAIMS_MAX {
            let answered = self.0.iter().position(|claim| claim.holder.is_none());
            let Some(oldest) = answered else {
                return Err(Failure::new(Code::Full, "too many questions are worked on"));
            };
            self.0.remove(oldest);
        }
        self.0.push_back(Claim { question, holder: Some(client), until });
        debug_assert!(self.0.len() <= CLAIMS_MAX);
        Ok(())
    }

    /// A question has its answer.
    pub(crate) fn answered(&mut self, question: u64) {
        self.0.iter_mut().filter(|claim| claim.question == question).for_each(|claim| claim.holder = None);
    }

    /// A question is not worked on any more, without an answer.
    pub(crate) fn give_back(&mut self, question: u64) {
        self.0.retain(|claim| claim.question != question);
    }

    /// A client has gone: its questions are free again.
    pub(crate) fn client_gone(&mut self, client: ClientId) {
        self.0.retain(|claim| claim.holder != Some(client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);
    const MINUTE: Duration = Duration::from_secs(60);

    fn claim(claims: &mut Claims, now: Instant, question: u64, client: ClientId) -> Option<Code> {
        claims.claim(now, question, client, MINUTE).err().map(|failure| failure.code)
    }

    #[test]
    fn a_claim_ends_with_its_time_its_client_or_the_answer() {
        let (mut claims, now) = (Claims::default(), Instant::ZERO);
        assert_eq!((claim(&mut claims, now, 7, A), claim(&mut claims, now, 8, B)), (None, None));
        assert_eq!(claim(&mut claims, now, 7, B), Some(Code::Conflict));
        assert_eq!(claim(&mut claims, now + MINUTE / 2, 7, A), None, "it is renewed");
        assert_eq!(claim(&mut claims, now + MINUTE, 7, B), Some(Code::Conflict));
        assert_eq!(claim(&mut claims, now + MINUTE * 2, 7, B), None, "its time is over");
        claims.client_gone(B);
        assert_eq!(claim(&mut claims, now + MINUTE * 2, 7, A), None, "its client has gone");
        claims.give_back(7);
        assert_eq!(claim(&mut claims, now + MINUTE * 2, 7, B), None, "it was given back");
        claims.answered(7);
        claims.client_gone(B);
        for client in [A, B] {
            assert_eq!(claim(&mut claims, now + MINUTE * 2, 7, client), Some(Code::NotFound), "it has its answer");
        }
        claims.answered(99);
    }

    #[test]
    fn claims_have_a_maximum_and_those_of_answered_questions_give_way() {
        let (mut claims, now) = (Claims::default(), Instant::ZERO);
        (0..CLAIMS_MAX as u64).for_each(|question| assert_eq!(claim(&mut claims, now, question, A), None));
        assert_eq!(claim(&mut claims, now, CLAIMS_MAX as u64, A), Some(Code::Full));
        claims.answered(3);
        assert_eq!(claim(&mut claims, now, CLAIMS_MAX as u64, A), None);
        claims.client_gone(A);
        assert!(claims.0.is_empty());
    }
}
