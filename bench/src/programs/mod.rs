//! `pilot-bench programs`: programs that speak TCP, through `forward` and `expose`, beside plain TCP and beside two plain
//! relays, which are processes laid out as the two daemons are.
//!
//! Each round runs every way once, so that other load of the machine meets all of them; figures are medians of the rounds.

mod amounts;
mod http;
mod link;
mod place;
mod queue;
mod relay;
mod rows;
mod tools;
mod ways;

use crate::contest::Outcome;
use amounts::Sizes;
use argh::FromArgs;
use rows::Row;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Real programs through forward and expose, beside plain TCP and beside two plain TCP relays.
#[derive(FromArgs)]
#[argh(subcommand, name = "programs")]
pub(crate) struct Programs {
    /// figures to measure (default: all): download, request, connections, grpc, iperf3, loss, memory
    #[argh(positional)]
    names: Vec<String>,
    /// JSON instead of a table
    #[argh(switch)]
    json: bool,
    /// rounds, of which the median counts (default 5)
    #[argh(option, default = "5")]
    rounds: usize,
    /// small sizes, to see that everything works; the figures mean nothing
    #[argh(switch)]
    quick: bool,
}

type Measure = fn(Sizes) -> Outcome<Vec<Row>>;

const FIGURES: [(&str, Measure); 7] = [
    ("download", http::download),
    ("request", http::request),
    ("connections", http::connections),
    ("grpc", tools::grpc),
    ("iperf3", tools::iperf3),
    ("loss", link::loss),
    ("memory", tools::memory),
];

impl Programs {
    /// Measures and prints the rows.
    ///
    /// # Errors
    /// When a name is none, or a program fails.
    pub(crate) fn run(&self) -> Outcome<()> {
        let rows = self.measure()?;
        if self.json {
            println!("{}", rows::json(&rows));
        } else {
            println!("{}", rows::markdown(&rows));
        }
        Ok(())
    }

    fn measure(&self) -> Outcome<Vec<Row>> {
        if let Some(name) = self.names.iter().find(|name| FIGURES.iter().all(|(known, _)| known != name)) {
            return Err(format!("no figure is called {name:?}").into());
        }
        let sizes = if self.quick { Sizes::quick() } else { Sizes::full(self.rounds) };
        let mut rows = Vec::new();
        for (name, measure) in FIGURES {
            if self.names.is_empty() || self.names.iter().any(|wanted| wanted == name) {
                eprintln!("measuring {name} …");
                // A figure that cannot be measured here is a row that says so.
                rows.extend(measure(sizes).unwrap_or_else(|e| vec![Row::skipped(name, &e.to_string())]));
            }
        }
        Ok(rows)
    }
}

/// Measures all figures; returns their table in Markdown, for `report`.
pub(crate) fn table(rounds: usize) -> Outcome<String> {
    let all = Programs { names: Vec::new(), json: false, rounds, quick: false };
    Ok(rows::markdown(&all.measure()?))
}

/// One process of a measurement (started by `programs`).
#[derive(FromArgs)]
#[argh(subcommand, name = "part")]
pub(crate) struct Part {
    /// http, relay, node, rendezvous, link or fetch
    #[argh(positional)]
    kind: String,
    /// address to serve on
    #[argh(option, default = "SocketAddr::from(([127, 0, 0, 1], 0))")]
    bind: SocketAddr,
    /// address to reach, or the rendezvous of a node
    #[argh(option, default = "String::new()")]
    to: String,
    /// folder of a node or rendezvous
    #[argh(option, default = "PathBuf::new()")]
    home: PathBuf,
    /// hostname of a node
    #[argh(option, default = "String::new()")]
    name: String,
    /// requests of `fetch`
    #[argh(option, default = "0")]
    count: usize,
    /// first state of the random numbers of `link`
    #[argh(option, default = "1")]
    seed: u64,
}

impl Part {
    /// Serves until standard input ends, or does its work.
    ///
    /// # Errors
    /// Every error; the parent shows it.
    pub(crate) fn run(&self) -> Outcome<()> {
        match self.kind.as_str() {
            "http" => http::serve(self.bind),
            "relay" => relay::serve(self.bind, self.to.parse()?),
            "node" => ways::serve_node(&self.home, &self.name, &self.to, self.bind),
            "rendezvous" => ways::serve_rendezvous(&self.home, self.bind),
            "link" => queue::serve(self.seed),
            "fetch" => http::fetch(self.to.parse()?, self.count),
            kind => Err(format!("no part is called {kind:?}").into()),
        }
    }
}
