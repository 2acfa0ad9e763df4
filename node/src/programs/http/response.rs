//! Owns the answers on one connection: where each ends, and what an agent's card says. All other bytes go on unchanged.

use super::body::{Body, Keep};
use super::card::{self, CARD_LEN_MAX};
use super::head::{self, Lines};
use super::reject::Reject;
use super::request::Kind;
use std::collections::VecDeque;

/// The answers of one server, in their order.
#[derive(Debug, Default)]
pub(super) struct Responses {
    lines: Lines,
    state: State,
}

/// The place in the answers.
#[derive(Debug, Default)]
enum State {
    /// In a head, or before it.
    #[default]
    Head,
    Body(Body),
    /// In an agent's card, which goes on when it is whole.
    Card(Box<Card>),
    /// Behind the answer after which the connection is no HTTP any more.
    Raw,
}

#[derive(Debug)]
struct Card {
    head: Vec<u8>,
    body: Body,
    content: Vec<u8>,
    base: String,
}

impl Responses {
    /// True when no byte of the next answer has come.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.state, State::Head) && self.lines.is_empty()
    }

    /// True when the connection is no HTTP any more.
    pub(super) const fn is_raw(&self) -> bool {
        matches!(self.state, State::Raw)
    }

    /// The connection is no HTTP any more.
    pub(super) fn switch(&mut self) {
        self.state = State::Raw;
    }

    /// Takes all of `input`. `waiting`: the requests without a whole answer, the oldest first.
    pub(super) fn push(&mut self, input: &[u8], waiting: &mut VecDeque<Kind>, out: &mut Vec<u8>) -> Result<(), Reject> {
        let mut rest = input;
        while !rest.is_empty() {
            let used = match &mut self.state {
                State::Raw => {
                    out.extend_from_slice(rest);
                    rest.len()
                }
                State::Head => {
                    let (used, is_whole) =
                        self.lines.take(rest, false).map_err(|reject| Reject { status: 502, ..reject })?;
                    if is_whole {
                        self.head(waiting, out)?;
                    }
                    used
                }
                State::Body(body) => body.push(rest, Keep::All, out)?,
                State::Card(card) => {
                    let used = card.body.push(rest, Keep::Content, &mut card.content)?;
                    if card.content.len() > CARD_LEN_MAX {
                        return Err(Reject::new(502, "the agent's card is longer than 128 KiB"));
                    }
                    used
                }
            };
            rest = &rest[used..];
            self.end_of_card(out);
            self.end_of_answer(waiting);
        }
        Ok(())
    }

    /// The server sends nothing more.
    pub(super) fn end(&mut self, waiting: &VecDeque<Kind>, out: &mut Vec<u8>) -> Result<(), Reject> {
        if let State::Card(card) = &mut self.state
            && matches!(card.body, Body::Close)
        {
            card.body = Body::Over;
            self.end_of_card(out);
        }
        if self.is_between() && !waiting.is_empty() {
            return Err(Reject::new(502, "the server closed the connection without an answer"));
        }
        Ok(())
    }

    fn head(&mut self, waiting: &VecDeque<Kind>, out: &mut Vec<u8>) -> Result<(), Reject> {
        let bytes = std::mem::take(&mut self.lines).bytes;
        let mut room = head::room();
        let response = head::response(&bytes, &mut room)?;
        let kind = waiting.front().unwrap_or(&Kind::Plain);
        let body = match (response.code.unwrap_or(0), kind) {
            (101, Kind::Upgrade) | (200..=299, Kind::Connect) => {
                self.state = State::Raw;
                out.extend_from_slice(&bytes);
                return Ok(());
            }
            (101, _) => return Err(Reject::new(502, "the server changed the protocol without being asked")),
            // The answer itself follows, with a head of its own.
            (100..=199, _) => {
                out.extend_from_slice(&bytes);
                return Ok(());
            }
            (204 | 304, _) | (_, Kind::Head) => Body::Over,
            _ => Body::after_response(&response)?,
        };
        let is_plain = head::tokens(response.headers, "content-encoding").all(|c| c.eq_ignore_ascii_case(b"identity"));
        self.state = match kind {
            Kind::Card(base) if response.code == Some(200) && is_plain => {
                let (base, content) = (base.clone(), Vec::new());
                State::Card(Box::new(Card { head: bytes, body, content, base }))
            }
            _ => {
                out.extend_from_slice(&bytes);
                State::Body(body)
            }
        };
        Ok(())
    }

    /// Lets a card go on that is whole.
    fn end_of_card(&mut self, out: &mut Vec<u8>) {
        let State::Card(card) = &mut self.state else { return };
        if !matches!(card.body, Body::Over) {
            return;
        }
        let content = card::rewrite(&card.content, &card.base).unwrap_or_else(|| std::mem::take(&mut card.content));
        let dropped = ["content-length", "transfer-encoding", "trailer"];
        let head = card.head.strip_suffix(b"\r\n").or(card.head.strip_suffix(b"\n")).unwrap_or(&card.head);
        for line in head.split_inclusive(|byte| *byte == b'\n').filter(|line| !head::is_named(line, &dropped)) {
            out.extend_from_slice(line);
        }
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
        out.extend_from_slice(&content);
        self.state = State::Body(Body::Over);
    }

    fn end_of_answer(&mut self, waiting: &mut VecDeque<Kind>) {
        if matches!(self.state, State::Body(Body::Over)) {
            self.state = State::Head;
            waiting.pop_front();
        }
    }
}
