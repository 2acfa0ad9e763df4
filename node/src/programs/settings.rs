//! Owns the entries' form in the books: the requests that make them, one on each line.

use crate::answer::Answer;
use crate::call::Call;
use crate::context::Context;
use crate::disk::job::{Job, Meta};
use crate::effect::Caller;
use crate::programs::entry::{Entry, Kind, Life};
use crate::programs::room::Programs;
use crate::request::Request;

impl Entry {
    /// The request that makes the same entry again.
    fn as_request(&self) -> Request {
        match &self.kind {
            Kind::Forward { listener, node, port } => Request::Forward {
                node: node.clone(),
                port: *port,
                listen: listener.listen.to_string(),
                temporary: None,
            },
            Kind::Expose(expose) => {
                let [http, a2a, proxy_protocol] =
                    [expose.http, expose.a2a, expose.proxy_protocol].map(|flag| flag.then_some(true));
                // Names may come to mean other nodes.
                let nodes: Vec<String> = expose.nodes.iter().map(ToString::to_string).collect();
                let nodes = (!nodes.is_empty()).then_some(nodes);
                let (port, target) = (expose.port, expose.target.to_string());
                Request::Expose { port, target, http, a2a, proxy_protocol, nodes, temporary: None }
            }
            Kind::Proxy(proxy) => Request::Proxy {
                listen: proxy.listener.listen.to_string(),
                direct: proxy.direct.then_some(true),
                auth_file: proxy.auth_file.clone(),
                temporary: None,
            },
        }
    }
}

impl Programs {
    /// The entries that are kept, as the books have them.
    pub(super) fn saved(&self) -> Vec<u8> {
        let kept = self.entries.iter().filter(|entry| entry.life == Life::Kept);
        let lines = kept.map(|entry| entry.as_request().to_json()).chain(self.unread.iter().cloned());
        lines.collect::<Vec<_>>().join("\n").into_bytes()
    }

    /// Gives an answer, once the entries are on disk if they have changed there.
    pub(crate) fn answer(&self, cx: &mut Context, caller: Caller, is_kept: bool, answer: impl Into<Answer>) {
        match caller {
            // The books have it already.
            Caller::Node => {}
            caller if !is_kept => cx.reply(caller, answer),
            caller => {
                let answer = answer.into();
                cx.submit(Job::Put(Meta::Programs, self.saved()), Call::Saved { caller, answer });
            }
        }
    }

    /// Keeps a line of the books that could not be carried out, so that the next change does not lose it.
    pub(crate) fn keep_unread(&mut self, line: &str) {
        self.unread.push(line.into());
    }
}
