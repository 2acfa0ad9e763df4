//! Owns one run of a program: a question goes to its stdin, and its stdout is the answer. Nothing here waits.

use crate::children::{self, Peer};
use pilot_core::identity::IdentityKey;
use pilot_node::answer::Message;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest answer. Unit: bytes. Source: the longest message.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// A program that works on a question.
pub(super) struct Run {
    pub(super) question: Message,
    /// How often the program has failed on the question before.
    pub(super) failures: u32,
    pub(super) child: Child,
    stdin: Option<ChildStdin>,
    body: Vec<u8>,
    sent: usize,
    stdout: Option<ChildStdout>,
    answer: Vec<u8>,
    deadline: Instant,
    /// Why the program was killed.
    killed: Option<String>,
}

impl Run {
    /// Starts the program, which may take `limit`.
    pub(super) fn start(
        words: &[String],
        (question, body): (Message, Vec<u8>),
        failures: u32,
        limit: Duration,
    ) -> io::Result<Self> {
        let fingerprint = question.sender_key.parse::<IdentityKey>().map(|key| key.fingerprint()).unwrap_or_default();
        let peer = Peer { hostname: &question.hostname, address: &question.from, fingerprint: &fingerprint };
        let mut command = children::command(words, &peer)?;
        command.env("PILOT_MESSAGE_ID", &question.message_id).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        for pipe in stdin.iter().map(AsFd::as_fd).chain(stdout.iter().map(AsFd::as_fd)) {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let deadline = Instant::now() + limit;
        let (answer, killed) = (Vec::new(), None);
        Ok(Self { question, failures, child, stdin, body, sent: 0, stdout, answer, deadline, killed })
    }

    /// The descriptors that may have something to do.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let stdin = self.stdin.as_ref().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT));
        let stdout = self.stdout.as_ref().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
        stdin.into_iter().chain(stdout)
    }

    /// When [`Run::go_on`] has something to do, whatever the program does.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.killed.is_none().then_some(self.deadline)
    }

    /// Moves bytes in both directions. Once the program has ended and said everything: its answer, or why there is none.
    pub(super) fn go_on(&mut self, now: Instant) -> Option<Result<Vec<u8>, String>> {
        self.write();
        self.read();
        if self.killed.is_none() && self.answer.len() > ANSWER_LEN_MAX {
            self.kill(format!("its answer has more than {ANSWER_LEN_MAX} bytes"));
        }
        if self.killed.is_none() && now >= self.deadline {
            self.kill("it took too long".into());
        }
        if self.stdout.is_some() {
            return None;
        }
        let status = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => Ok(status),
            Err(e) => Err(e),
        };
        Some(match (self.killed.take(), status) {
            (Some(why), _) => Err(why),
            (None, Err(e)) => Err(e.to_string()),
            (None, Ok(status)) if status.success() => Ok(std::mem::take(&mut self.answer)),
            (None, Ok(status)) => Err(ended(status)),
        })
    }

    fn kill(&mut self, why: String) {
        children::signal(&self.child, Signal::KILL);
        // A process that has left the group may hold the pipes, and is not waited for.
        (self.killed, self.stdin, self.stdout) = (Some(why), None, None);
    }

    fn write(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        let is_over = loop {
            match stdin.write(&self.body[self.sent..]) {
                Ok(0) => break true,
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The program does not read everything, which is its own affair.
                Err(_) => break true,
            }
        };
        if is_over || self.sent == self.body.len() {
            self.stdin = None;
        }
    }

    fn read(&mut self) {
        let Some(stdout) = &mut self.stdout else { return };
        let mut buffer = [0; 64 * 1024];
        while self.answer.len() <= ANSWER_LEN_MAX {
            match stdout.read(&mut buffer) {
                Ok(n) if n > 0 => self.answer.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.stdout = None;
                    return;
                }
            }
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("its exit status was {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it failed".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use pilot_node::MessageKind;

    fn question() -> Message {
        Message {
            id: 7,
            message_id: "07".repeat(16),
            kind: MessageKind::Text,
            from: "0:0000.0000.0001".into(),
            hostname: "worker-node".into(),
            sender_key: "ab".repeat(32),
            bytes: 2,
            received_at: 1,
            deadline_at: Some(2),
            reply_to: None,
            failed: None,
            preview: "hi".into(),
        }
    }

    fn run(script: &str, body: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
        let words: Vec<String> = ["sh", "-c", script].map(String::from).into();
        let mut run = Run::start(&words, (question(), body.to_vec()), 0, limit).unwrap();
        loop {
            if let Some(outcome) = run.go_on(Instant::now()) {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_gets_the_question_and_its_stdout_is_the_answer() {
        let script = r#"echo "$PILOT_PEER $PILOT_PEER_ADDRESS $PILOT_MESSAGE_ID"; cat"#;
        let said = String::from_utf8(run(script, b"how many?", LONG).unwrap()).unwrap();
        assert_eq!(said, format!("worker-node 0:0000.0000.0001 {}\nhow many?", "07".repeat(16)));
        let long = vec![b'x'; 3_000_000];
        assert_eq!(run("cat", &long, LONG).as_deref(), Ok(&long[..]), "longer than both pipes");
        assert_eq!(run("echo enough", &long, LONG).as_deref(), Ok(&b"enough\n"[..]), "without reading the question");
    }

    #[test]
    fn a_program_that_fails_hangs_floods_or_is_killed_says_why() {
        assert_eq!(run("exit 3", b"", LONG), Err("its exit status was 3".into()));
        assert_eq!(run("kill -9 $$", b"", LONG), Err("it was ended by signal 9".into()));
        assert_eq!(run("sleep 600 & sleep 600", b"", Duration::from_millis(50)), Err("it took too long".into()));
        let flood = run("exec cat /dev/zero", b"", LONG);
        assert!(flood.unwrap_err().contains("16777216"), "a bound on what is held");
        let words = ["/no/such/program".to_owned()];
        assert!(Run::start(&words, (question(), Vec::new()), 0, LONG).is_err());
    }
}
