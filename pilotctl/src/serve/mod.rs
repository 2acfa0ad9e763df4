//! Owns `serve`: each question of a peer is stdin of a program, and what the program says is the answer.
//!
//! 1. The next question is asked for while fewer programs run than may.
//! 2. The question is claimed, so that another `serve` runs no program for it meanwhile.
//! 3. A program that ends well gives the answer, which the daemon puts on its disk in the step that takes the question.
//! 4. One that fails is run again after a pause; after `--retry` pauses the question is marked as failed.
//!
//! A crash of this process at any time leaves the question where it was.

mod run;

use crate::args;
use crate::children;
use crate::client::{CALL_TIMEOUT, daemon, duration};
use crate::output::Output;
use crate::signals::Signals;
use pilot_node::answer::Message;
use pilot_node::{Client, Code, Event, Failure, InboxPart, MessageKind, Reply, Request};
use run::Run;
use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Largest `--parallel`. Own choice: each program takes three descriptors of the 1024 of a usual session.
const PROGRAMS_MAX: usize = 256;
/// Most questions that wait for another attempt; at the limit no further question is asked for. Own choice.
const RETRIES_MAX: usize = 1024;
/// Pause before another look at a question on which another program works.
const CLAIMED_PAUSE: Duration = Duration::from_secs(2);
/// Time of a claim beyond that of its program, for the pause before another attempt and for a daemon that is late.
const CLAIM_GRACE: Duration = Duration::from_secs(120);
/// Longest pause before another attempt; the first takes a second, and each doubles it.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the daemon was asked.
enum Asked {
    /// The next question, or one again on which the program has failed so often.
    Question(u32),
    /// That no other program works on this question, with its bytes, on which the program has failed so often.
    Claim(Box<(Message, Vec<u8>)>, u32),
    /// To take this answer.
    Answer(Box<Message>, u32),
    /// To mark a question as failed.
    Mark,
}

/// A question that is tried again.
struct Retry {
    at: Instant,
    id: u64,
    failures: u32,
}

/// The questions that wait for another run.
#[derive(Default)]
struct Retries(Vec<Retry>);

impl Retries {
    fn is_full(&self) -> bool {
        self.0.len() >= RETRIES_MAX
    }

    /// Enters a question that has failed so often, and gives the pause before its next run. Those that run already may come too when
    /// it is full.
    fn add(&mut self, now: Instant, id: u64, failures: u32) -> Duration {
        let pause = Duration::from_secs(1 << (failures - 1).min(6)).min(PAUSE_MAX);
        self.0.push(Retry { at: now + pause, id, failures });
        debug_assert!(self.0.len() <= RETRIES_MAX + PROGRAMS_MAX, "no further question is asked for when it is full");
        pause
    }

    /// Enters a question on which another program works; it is looked at again soon.
    fn look_again(&mut self, now: Instant, id: u64, failures: u32) {
        self.0.push(Retry { at: now + CLAIMED_PAUSE, id, failures });
    }

    /// Takes a question that has paused long enough.
    fn take_due(&mut self, now: Instant) -> Option<Retry> {
        let i = self.0.iter().position(|retry| retry.at <= now)?;
        Some(self.0.swap_remove(i))
    }
}

struct Server<'a> {
    args: &'a args::Serve,
    kind: Option<MessageKind>,
    /// Keys of the peers that get answers; empty: all.
    from: Vec<String>,
    limit: Duration,
    output: &'a Output,
    client: Client,
    events: Client,
    asked: Vec<(u32, Asked)>,
    running: Vec<Run>,
    retries: Retries,
    /// The newest question that was handed out, and whether there may be more.
    after: u64,
    has_more: bool,
    /// Questions that may still begin.
    left: u64,
}

/// Answers questions until a signal comes, or `--count` questions are done.
pub(crate) fn serve(args: &args::Serve, output: &Output) -> Result<(), Failure> {
    let invalid = |text: String| Failure::new(Code::InvalidArgument, text);
    if !(1..=PROGRAMS_MAX).contains(&args.parallel) {
        return Err(invalid(format!("--parallel is 1 to {PROGRAMS_MAX}")));
    }
    if args.exec {
        children::find(&args.command, "pilotctl serve --exec CMD ARG…")?;
    } else if let Some(word) = args.command.first() {
        return Err(invalid(format!("{word:?} is no argument of serve")).hint("pilotctl serve --exec CMD ARG…"));
    }
    let (kind, limit) = (args.kind.as_deref().map(str::parse).transpose()?, duration(&args.timeout)?);
    let mut signals = Signals::watch(&[SIGCHLD, SIGTERM, SIGINT, SIGHUP])?;
    let (mut client, mut events) = (daemon()?, daemon()?);
    events.watch(None)?;
    let mut from = Vec::new();
    for node in &args.from {
        let found = client.request(&Request::Find { node: node.clone() }, &[], Some(CALL_TIMEOUT))?;
        from.push(found.data["public_key"].as_str().unwrap_or_default().to_owned());
    }
    output.note(&match args.command.first() {
        Some(program) => format!("each question runs {program}"),
        None => "questions are shown; answer with: pilotctl reply ID".into(),
    });
    let mut server = Server {
        args,
        kind,
        from,
        limit,
        output,
        client,
        events,
        asked: Vec::new(),
        running: Vec::new(),
        retries: Retries::default(),
        after: 0,
        has_more: true,
        left: args.count.unwrap_or(u64::MAX),
    };
    let served = server.serve(&mut signals);
    children::end(server.running.into_iter().map(|run| run.child).collect(), &mut signals)?;
    served
}

impl Server<'_> {
    fn serve(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        loop {
            self.ask_for_more()?;
            debug_assert!(self.running.len() <= self.args.parallel, "a question is asked for only while there is room");
            let is_idle = self.asked.is_empty() && self.running.is_empty() && self.retries.0.is_empty();
            if self.left == 0 && is_idle {
                return Ok(());
            }
            let mut fds: Vec<PollFd<'_>> = self.running.iter().flat_map(Run::descriptors).collect();
            let clients = [self.client.as_fd(), self.events.as_fd()];
            fds.extend(clients.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let due = self.running.iter().filter_map(Run::deadline).chain(self.retries.0.iter().map(|retry| retry.at));
            let limit = due.min().map(|at| at.saturating_duration_since(Instant::now()));
            if signals.wait_for(fds, limit)?.iter().any(|signal| *signal != SIGCHLD) {
                return Ok(());
            }
            self.hear()?;
            self.go_on()?;
            if self.output.is_closed() && !self.args.exec {
                return Ok(()); // `| head` has its lines
            }
        }
    }

    /// Asks for a question that has paused long enough, or for the next one, if there is room.
    fn ask_for_more(&mut self) -> Result<(), Failure> {
        let is_asking = self.asked.iter().any(|(_, asked)| matches!(asked, Asked::Question(_) | Asked::Claim(..)));
        if is_asking || self.running.len() >= self.args.parallel {
            return Ok(());
        }
        if self.left == 0 {
            self.retries.0.retain(|retry| retry.failures > 0); // no further question begins
        }
        if let Some(Retry { id, failures, .. }) = self.retries.take_due(Instant::now()) {
            return self.send(&Request::InboxRead { seq: id }, &[], Asked::Question(failures));
        }
        if self.has_more && self.left > 0 && !self.retries.is_full() {
            let next = Request::InboxNext { after: Some(self.after), only: Some(InboxPart::Questions) };
            // An event that comes before the answer is about a later question.
            self.has_more = false;
            self.send(&next, &[], Asked::Question(0))?;
        }
        Ok(())
    }

    fn send(&mut self, request: &Request, bytes: &[u8], asked: Asked) -> Result<(), Failure> {
        let number = self.client.send(request, bytes)?;
        self.asked.push((number, asked));
        Ok(())
    }

    /// Takes what the daemon says.
    fn hear(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.events.next_event(Some(Duration::ZERO))? {
            self.has_more |= matches!(event.read()?, Event::Question { .. } | Event::Missed { .. });
        }
        while let Some((number, reply)) = self.client.try_answer()? {
            let Some(i) = self.asked.iter().position(|(of, _)| *of == number) else { continue };
            match self.asked.swap_remove(i).1 {
                Asked::Question(failures) => self.handed_out(failures, reply)?,
                Asked::Claim(question, failures) => self.claimed(*question, failures, reply)?,
                Asked::Answer(question, failures) => self.replied(&question, failures, reply)?,
                Asked::Mark => {} // a question that is gone needs no mark
            }
        }
        Ok(())
    }

    fn handed_out(&mut self, failures: u32, reply: Result<Reply, Failure>) -> Result<(), Failure> {
        let reply = match reply {
            // There is no next one; or one that was to be tried again was taken by another program, or its deadline is over.
            Err(failure) if failure.code == Code::NotFound => return Ok(()),
            reply => reply?,
        };
        let question: Message = reply.read()?;
        let is_new = failures == 0;
        if is_new {
            (self.after, self.has_more) = (self.after.max(question.id), true);
            let is_from = self.from.is_empty() || self.from.contains(&question.sender_key);
            if !is_from || self.kind.is_some_and(|kind| kind != question.kind) {
                return Ok(());
            }
        }
        if !self.args.exec {
            self.left -= 1;
            let mut shown = reply.data;
            shown["data"] = String::from_utf8_lossy(&reply.blob).into();
            // The end of its reader is seen by the loop.
            let _ = self.output.next_line(&shown.to_string());
            return Ok(());
        }
        let time = self.limit.saturating_add(CLAIM_GRACE).as_millis().try_into().unwrap_or(u64::MAX);
        let claim = Request::ClaimQuestion { seq: question.id, timeout_ms: time };
        self.send(&claim, &[], Asked::Claim(Box::new((question, reply.blob)), failures))
    }

    /// The daemon has given a question to this process, or another one works on it.
    fn claimed(
        &mut self,
        (question, bytes): (Message, Vec<u8>),
        failures: u32,
        reply: Result<Reply, Failure>,
    ) -> Result<(), Failure> {
        match reply {
            Ok(_) => {}
            Err(failure) if matches!(failure.code, Code::Conflict | Code::Full) => {
                self.retries.look_again(Instant::now(), question.id, failures);
                return Ok(());
            }
            Err(failure) if failure.code == Code::NotFound => return Ok(()), // it has its answer
            Err(failure) => return Err(failure),
        }
        self.left = self.left.saturating_sub(u64::from(failures == 0));
        match Run::start(&self.args.command, (question.clone(), bytes), failures, self.limit) {
            Ok(run) => self.running.push(run),
            Err(e) => self.failed(&question, failures, &e.to_string())?,
        }
        Ok(())
    }

    /// Moves the bytes of all programs, and sends the answers of those that have ended.
    fn go_on(&mut self) -> Result<(), Failure> {
        let (now, mut ended) = (Instant::now(), Vec::new());
        self.running.retain_mut(|run| match run.go_on(now) {
            None => true,
            Some(outcome) => {
                ended.push((run.question.clone(), run.failures, outcome));
                false
            }
        });
        for (question, failures, outcome) in ended {
            match outcome {
                Ok(answer) => {
                    let reply = Request::Reply { question: question.id.to_string(), kind: Some(question.kind) };
                    self.send(&reply, &answer, Asked::Answer(Box::new(question), failures))?;
                }
                Err(why) => self.failed(&question, failures, &why)?,
            }
        }
        Ok(())
    }

    fn replied(&mut self, question: &Message, failures: u32, reply: Result<Reply, Failure>) -> Result<(), Failure> {
        match reply {
            Ok(_) => {}
            Err(failure) if matches!(failure.code, Code::NotFound | Code::Conflict) => {
                self.output.note(&format!("question {}: {}", question.id, failure.message));
            }
            Err(failure) => self.failed(question, failures, &failure.message)?,
        }
        Ok(())
    }

    /// The program has failed on a question.
    fn failed(&mut self, question: &Message, failures: u32, why: &str) -> Result<(), Failure> {
        let failures = failures + 1;
        if failures > self.args.retry {
            self.output.note(&format!("question {}: {why}; pilotctl inbox --failed", question.id));
            let mark = Request::FailQuestion { seq: question.id, reason: Some(why.into()) };
            return self.send(&mark, &[], Asked::Mark);
        }
        let pause = self.retries.add(Instant::now(), question.id, failures);
        self.output.note(&format!("question {}: {why}; again in {} s", question.id, pause.as_secs()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_questions_that_wait_for_another_run_have_maxima() {
        let (mut retries, now) = (Retries::default(), Instant::now());
        (0..RETRIES_MAX as u64).for_each(|id| {
            assert!(!retries.is_full());
            retries.add(now, id, 1);
        });
        assert!(retries.is_full() && retries.take_due(now).is_none());
        while retries.take_due(now + Duration::from_secs(1)).is_some() {}
        assert!(retries.0.is_empty());
        let pauses = (1..=9).map(|failures| retries.add(now, 0, failures).as_secs());
        assert_eq!(pauses.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let args = args::Serve {
            exec: false,
            kind: None,
            from: Vec::new(),
            parallel: PROGRAMS_MAX + 1,
            retry: 0,
            timeout: "1".into(),
            count: None,
            command: Vec::new(),
        };
        let refused = serve(&args, &Output::default()).expect_err("too many programs");
        assert_eq!((refused.code, refused.message.as_str()), (Code::InvalidArgument, "--parallel is 1 to 256"));
    }
}
