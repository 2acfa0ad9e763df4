//! Owns `pilotctl mcp`: an MCP server on stdin and stdout, with which an agent drives the daemon.
//!
//! The loop here reads lines and answers at once what it can; each call of a tool, and each reading of a resource, has a
//! thread and a connection to the daemon of its own.

mod actions;
mod arguments;
mod ask;
mod bytes;
mod calls;
mod clean;
mod files;
mod print_config;
mod questions;
mod resources;
mod revision;
mod rpc;
mod schema;
mod subscriptions;
mod tools;

use crate::args;
use crate::output::Output;
use calls::{Call, Calls};
use pilot_node::{Code, Failure};
use revision::{Era, Keep};
use rpc::{INVALID_REQUEST, Incoming, Line, Lines, METHOD_NOT_FOUND, Outgoing, PARSE_ERROR, RpcError};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Map, Value, json};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use subscriptions::Subscriptions;
use tools::Powers;

/// How long calls may go on when the client has closed its end.
const END_WAIT: Duration = Duration::from_secs(1);
const BUFFER_LEN: usize = 64 << 10;

pub(crate) fn run(args: &args::Mcp, output: &Output) -> Result<(), Failure> {
    if args.print_config {
        let (entry, place) = print_config::entry(args)?;
        if output.json {
            output.ok(&json!({"entry": entry, "place": place}));
        } else {
            output.line(&entry);
            output.note(&format!("this belongs in {place}"));
        }
        return Ok(());
    }
    if let Some(program) = &args.program {
        return Err(Failure::new(Code::InvalidArgument, format!("{program:?} is taken with --print-config only"))
            .hint("pilotctl mcp --help"));
    }
    let out = Outgoing::new(io::stdout());
    let subscriptions = Subscriptions::new(out.clone());
    let powers = Powers {
        may_approve: args.allow_approve,
        files: args.files.clone(),
        subscriptions,
        forwards: Mutex::default(),
    };
    Server { powers: Arc::new(powers), calls: Calls::default(), out, revision: None }.serve()
}

struct Server {
    powers: Arc<Powers>,
    calls: Calls,
    out: Outgoing,
    /// What `initialize` has settled.
    revision: Option<&'static str>,
}

impl Server {
    /// Serves until the client closes either end.
    fn serve(mut self) -> Result<(), Failure> {
        let local = |e: rustix::io::Errno| Failure::new(Code::Internal, format!("stdin: {e}"));
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let (mut lines, mut buffer) = (Lines::default(), vec![0; BUFFER_LEN]);
        loop {
            // A pipe that is not read any more is an error of its writing end, which is told without asking.
            let mut fds = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled.map_err(local)?,
            };
            if fds[1].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
                break;
            }
            if fds[0].revents().is_empty() {
                continue;
            }
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(0) => break,
                Ok(len) => lines.extend(&buffer[..len]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(e) => return Err(local(e)),
            }
            while let Some(line) = lines.next() {
                self.take_line(line);
            }
        }
        self.calls.end(END_WAIT);
        self.powers.subscriptions.end();
        Ok(())
    }

    fn take_line(&mut self, line: Line) {
        let message = match line {
            Line::Whole(line) => rpc::parse(&line),
            Line::TooLong => Err(RpcError::new(PARSE_ERROR, format!("a line has more than {} bytes", rpc::LINE_MAX))),
        };
        match message {
            Ok(Value::Array(batch)) if self.revision == Some(revision::WITH_BATCHES) && !batch.is_empty() => {
                batch.into_iter().for_each(|message| self.take(message));
            }
            Ok(message) => self.take(message),
            Err(error) => self.out.send(&rpc::answer(&Value::Null, Err(error))),
        }
    }

    fn take(&mut self, message: Value) {
        match rpc::read(message) {
            Incoming::Request { id, method, params } => {
                if let Some(result) = self.request(&id, &method, params).transpose() {
                    self.out.send(&rpc::answer(&id, result));
                }
            }
            Incoming::Notification { method, params } if method == "notifications/cancelled" => {
                if let Some(id) = params.get("requestId") {
                    self.calls.cancel(id);
                    self.powers.subscriptions.cancel(id);
                }
            }
            Incoming::Notification { .. } | Incoming::Answer => {}
            Incoming::Refused { id, error } => self.out.send(&rpc::answer(&id, Err(error))),
        }
    }

    /// Answers a request, or lets a thread answer it (`None`).
    fn request(&mut self, id: &Value, method: &str, params: Map<String, Value>) -> Result<Option<Value>, RpcError> {
        if method == "initialize" {
            let requested = params.get("protocolVersion").and_then(Value::as_str);
            let requested =
                requested.ok_or_else(|| RpcError::invalid_params("protocolVersion is missing or no string"))?;
            let settled = *self.revision.insert(revision::settle(requested));
            return Ok(Some(revision::initialize(settled)));
        }
        let era = revision::era(&params)?;
        let done = |result: Value, keep| Ok(Some(revision::finish(result, era, keep)));
        match (method, era) {
            ("ping", Era::Handshake) => return done(json!({}), Keep::No),
            ("server/discover", Era::Envelope) => return done(revision::discover(), Keep::ForAnHour),
            ("resources/subscribe" | "resources/unsubscribe", Era::Handshake)
            | ("subscriptions/listen", Era::Envelope)
            | ("tools/list" | "tools/call" | "resources/list" | "resources/templates/list" | "resources/read", _) => {}
            _ => return Err(RpcError::new(METHOD_NOT_FOUND, format!("there is no method {method:?}"))),
        }
        if era == Era::Handshake && self.revision.is_none() {
            return Err(RpcError::new(INVALID_REQUEST, "initialize comes first, or _meta with the protocol version"));
        }
        let text = |key: &str| {
            let value = params.get(key).and_then(Value::as_str).map(str::to_owned);
            value.ok_or_else(|| RpcError::invalid_params(format!("{key} is missing or no string")))
        };
        match method {
            "tools/list" | "resources/list" | "resources/templates/list" if params.contains_key("cursor") => {
                return Err(RpcError::invalid_params("no list here has a cursor"));
            }
            "tools/list" => return done(tools::list(&self.powers), Keep::ForAnHour),
            "resources/templates/list" => return done(resources::templates(), Keep::ForAnHour),
            "resources/list" => self.spawn(id, era, None, Keep::For0, resources::list)?,
            "resources/read" => {
                let uri = text("uri")?;
                let read = move |call: &Call| resources::read(call, &uri, era == Era::Envelope);
                self.spawn(id, era, None, Keep::For0, read)?;
            }
            "resources/subscribe" => {
                let (uri, subscriptions) = (text("uri")?, self.powers.subscriptions.clone());
                self.spawn(id, era, None, Keep::No, move |_| subscriptions.subscribe(&uri).map(|()| json!({})))?;
            }
            "resources/unsubscribe" => {
                self.powers.subscriptions.unsubscribe(&text("uri")?);
                return done(json!({}), Keep::No);
            }
            "subscriptions/listen" => {
                if self.powers.subscriptions.has(id) {
                    return Err(RpcError::new(INVALID_REQUEST, format!("a request with the id {id} is under way")));
                }
                let wanted = params.get("notifications").and_then(Value::as_object);
                let wanted = wanted.ok_or_else(|| RpcError::invalid_params("notifications is missing or no object"))?;
                self.powers.subscriptions.listen(id, wanted)?;
            }
            _ => return self.call(id, era, &text("name")?, &params),
        }
        Ok(None)
    }

    /// Begins the call of a tool.
    fn call(&self, id: &Value, era: Era, name: &str, params: &Map<String, Value>) -> Result<Option<Value>, RpcError> {
        tools::check(&self.powers, name)?;
        let (powers, name, arguments) = (self.powers.clone(), name.to_owned(), params.get("arguments").cloned());
        let token = params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned();
        let run = move |call: &Call| Ok(tools::call(&powers, call, &name, arguments));
        match self.spawn(id, era, token, Keep::No, run) {
            Ok(()) => Ok(None),
            Err(failure) => Ok(Some(revision::finish(tools::failed(&failure), era, Keep::No))),
        }
    }

    /// Does something on a thread of its own and answers then, unless it was cancelled.
    fn spawn(
        &self,
        id: &Value,
        era: Era,
        progress: Option<Value>,
        keep: Keep,
        work: impl FnOnce(&Call) -> Result<Value, RpcError> + Send + 'static,
    ) -> Result<(), Failure> {
        let call = self.calls.begin(id, progress, &self.out)?;
        let (id, out) = (id.clone(), self.out.clone());
        let thread = std::thread::Builder::new().name("call".into());
        let spawned = thread.spawn(move || {
            let result = work(&call);
            if !call.is_cancelled() {
                out.send(&rpc::answer(&id, result.map(|result| revision::finish(result, era, keep))));
            }
        });
        spawned.map(drop).map_err(|e| Failure::new(Code::Full, format!("no thread can be started: {e}")))
    }
}
