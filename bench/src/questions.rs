//! `pilot-bench questions`: questions and their answers between two nodes of this machine, durable at both, beside messages.

use crate::contest::{DRIVER, Folder, Outcome, SERVER, until, until_registered};
use argh::FromArgs;
use pilot_node::answer::{Question, Taken};
use pilot_node::{AskOptions, Client, Config, Event, MessageKind, Node, RendezvousConfig, Request, SendOptions, Terms};
use pilot_rendezvous::server::{Server, ServerConfig};
use rustix::event::{PollFd, PollFlags, poll};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Longest wait for one answer. Unit: milliseconds.
const TIMEOUT_MS: u64 = 60_000;
/// Length of questions, answers and messages. Unit: bytes.
const BODY: [u8; 64] = [b'q'; 64];

/// Questions asked and answered, many at once and one by one, beside messages.
#[derive(FromArgs)]
#[argh(subcommand, name = "questions")]
pub(crate) struct Questions {
    /// JSON instead of text
    #[argh(switch)]
    json: bool,
    /// questions that are asked in all (default 20000)
    #[argh(option, default = "20_000")]
    count: usize,
    /// questions that wait at once (default 1000)
    #[argh(option, default = "1000")]
    waiting: usize,
    /// questions, and messages, that are sent one by one (default 200)
    #[argh(option, default = "200")]
    single: usize,
}

impl Questions {
    /// Measures, and prints the figures.
    ///
    /// # Errors
    /// When a node fails.
    pub(crate) fn run(&self) -> Outcome<()> {
        let folder = Folder::new("bench-questions");
        let bind = IpAddr::from(Ipv4Addr::LOCALHOST);
        let listen = SocketAddr::new(bind, 0);
        let server = Server::bind(&ServerConfig { home: folder.0.join("rendezvous"), listen, idle_exit: None })?;
        let (key, addr) = server.endpoint();
        let stopper = server.stopper();
        let serving = std::thread::spawn(move || server.run());
        let node = |name: &str| {
            let mut config = Config::new(folder.0.join(name));
            (config.hostname, config.listen, config.services) = (Some(name.into()), listen, true);
            config.rendezvous = RendezvousConfig::At(key, addr);
            Node::start(config)
        };
        let (asker, writer) = (node(DRIVER)?, node(SERVER)?);
        befriend(&asker, &writer)?;
        let measured = self.measure(&asker, &writer);
        drop((asker, writer));
        stopper.stop();
        serving.join().map_err(|_| "the rendezvous failed")??;
        measured
    }

    fn measure(&self, asker: &Node, writer: &Node) -> Outcome<()> {
        let message_us = median(self.single, || {
            asker.messages().send_with(SERVER, MessageKind::Text, &BODY, SendOptions::default())?;
            Ok(())
        })?;
        writer.messages().clear()?;
        let (mut requests, mut events) = (writer.client()?, writer.client()?);
        events.watch(None)?;
        let total = self.single + self.count;
        let answering =
            std::thread::spawn(move || answer(&mut requests, &mut events, total).map_err(|e| e.to_string()));
        let mut taken = Vec::new();
        let question_us = median(self.single, || {
            let (question, body) = asker.messages().ask(SERVER, MessageKind::Text, &BODY, AskOptions::default())?;
            assert_eq!(body, BODY);
            taken.extend(question.answer.map(|answer| answer.id));
            Ok(())
        })?;
        asker.messages().take(&taken)?;
        let begin = Instant::now();
        self.ask_many(&mut asker.client()?)?;
        let rate = self.count as f64 / begin.elapsed().as_secs_f64();
        answering.join().map_err(|_| "the answering thread failed")??;
        let left = asker.messages().asked(1)?.total;
        if left > 0 {
            return Err(format!("{left} questions have no answer that was taken").into());
        }
        self.print(rate, question_us, message_us);
        Ok(())
    }

    fn print(&self, rate: f64, question_us: f64, message_us: f64) {
        let (count, waiting, ratio) = (self.count, self.waiting, question_us / message_us);
        if self.json {
            let figures = serde_json::json!({
                "questions": count, "waiting": waiting, "questions_per_s": rate.round(),
                "question_us": question_us.round(), "message_us": message_us.round(), "question_to_message": ratio,
            });
            println!("{figures}");
        } else {
            println!("{rate:.0} questions asked, answered and taken a second, {waiting} of {count} at once");
            println!("one question {question_us:.0} µs, one message {message_us:.0} µs: {ratio:.1} times as long");
        }
    }

    /// Keeps so many questions waiting, and takes each answer.
    fn ask_many(&self, client: &mut Client) -> Outcome<()> {
        let (node, kind) = (SERVER.to_owned(), Some(MessageKind::Text));
        let ask = Request::Ask { node, kind, timeout_ms: Some(TIMEOUT_MS), deadline_s: None };
        let (mut asked, mut taken) = (0, 0);
        while taken < self.count {
            while asked < self.count && asked - taken < self.waiting {
                client.send(&ask, &BODY)?;
                asked += 1;
            }
            wait(&[client])?;
            while let Some((_, reply)) = client.try_answer()? {
                let reply = reply?;
                if reply.data.get("cleared").is_some() {
                    taken += reply.read::<Taken>()?.cleared as usize;
                    continue;
                }
                let answer = reply.read::<Question>()?.answer.ok_or("no answer came in time")?;
                assert_eq!(reply.blob, BODY);
                client.send(&Request::InboxTake { seqs: Some(vec![answer.id]) }, &[])?;
            }
        }
        Ok(())
    }
}

/// Answers questions with their own bytes, as their events come.
fn answer(requests: &mut Client, events: &mut Client, total: usize) -> Outcome<()> {
    let (mut reading, mut answered) = (Vec::new(), 0);
    while answered < total {
        wait(&[requests, events])?;
        while let Some(event) = events.next_event(Some(Duration::ZERO))? {
            match event.read()? {
                Event::Question { id, .. } => {
                    reading.push((requests.send(&Request::InboxRead { seq: id }, &[])?, id));
                }
                Event::Missed { .. } => return Err("events were missed".into()),
                _ => {}
            }
        }
        while let Some((number, reply)) = requests.try_answer()? {
            let reply = reply?;
            match reading.iter().position(|(of, _)| *of == number) {
                Some(i) => {
                    let question = reading.swap_remove(i).1.to_string();
                    requests.send(&Request::Reply { question, kind: Some(MessageKind::Text) }, &reply.blob)?;
                }
                None => answered += 1,
            }
        }
    }
    Ok(())
}

fn wait(clients: &[&mut Client]) -> Outcome<()> {
    let mut fds: Vec<PollFd<'_>> = clients.iter().map(|client| PollFd::new(&**client, PollFlags::IN)).collect();
    poll(&mut fds, None)?;
    Ok(())
}

/// The median time of a call. Unit: microseconds.
fn median(count: usize, mut call: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..count.max(1) {
        let begin = Instant::now();
        call()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn befriend(asker: &Node, writer: &Node) -> Outcome<()> {
    until_registered(asker)?;
    until_registered(writer)?;
    asker.trust().handshake(SERVER, Terms::default())?;
    until("a request", || Ok(!writer.trust().pending()?.pending.is_empty()))?;
    writer.trust().approve(DRIVER, Terms::default())?;
    until("trust", || Ok(asker.trust().pins()?.total == 1))
}
