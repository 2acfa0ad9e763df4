//! Owns the part of the command line about questions and their answers.

use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;

/// ask a peer a question and show the answer; when the time is over, the exit status is 6 and the answer can still come: answers ID
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "ask")]
pub(crate) struct Ask {
    /// hostname, address or node number
    #[argh(positional)]
    pub(crate) node: String,
    /// the question; - reads stdin
    #[argh(option)]
    pub(crate) data: Option<String>,
    /// read the question from a file
    #[argh(option)]
    pub(crate) data_file: Option<PathBuf>,
    /// text, json or binary (default text)
    #[argh(option, long = "type", default = "String::from(\"text\")")]
    pub(crate) kind: String,
    /// how long to wait for the answer. Unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"10m\")")]
    pub(crate) timeout: String,
    /// when the question is not handed out any more, at most 168h from now (the default). Unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"168h\")")]
    pub(crate) deadline: String,
}

/// answer a question of the inbox, once
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "reply")]
pub(crate) struct Reply {
    /// the question: its number in the inbox, or its message_id
    #[argh(positional)]
    pub(crate) id: String,
    /// the answer; - reads stdin
    #[argh(option)]
    pub(crate) data: Option<String>,
    /// read the answer from a file
    #[argh(option)]
    pub(crate) data_file: Option<PathBuf>,
    /// text, json or binary (default text)
    #[argh(option, long = "type", default = "String::from(\"text\")")]
    pub(crate) kind: String,
}

/// questions of this node and their answers: list, or show one answer and take it away
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "answers")]
pub(crate) struct Answers {
    /// message_id of a question; none: list
    #[argh(positional)]
    pub(crate) id: Option<String>,
    /// wait: with an id for that answer, else show all answers as they come, one JSON object a line, and take them away
    #[argh(switch)]
    pub(crate) follow: bool,
    /// leave what is shown where it is
    #[argh(switch)]
    pub(crate) keep: bool,
    /// how many to list, newest last (default 50)
    #[argh(option, default = "50")]
    pub(crate) limit: u64,
    /// with --follow: end after this time. Unit: seconds (or 5s, 2m); default: never
    #[argh(option)]
    pub(crate) timeout: Option<String>,
}

/// answer questions by a program: --exec CMD ARG…, last on the line; or show them, one JSON object a line
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "serve")]
pub(crate) struct Serve {
    /// run a program for each question, which is its stdin; its stdout is the answer if its exit status is 0
    #[argh(switch)]
    pub(crate) exec: bool,
    /// only questions of this type: text, json or binary
    #[argh(option, long = "type")]
    pub(crate) kind: Option<String>,
    /// only questions of this peer; may be given more than once
    #[argh(option)]
    pub(crate) from: Vec<String>,
    /// how many programs may run at once (default 4)
    #[argh(option, default = "4")]
    pub(crate) parallel: usize,
    /// how often a program that failed is run again, after pauses of 1 to 60 s; then: inbox --failed (default 5)
    #[argh(option, default = "5")]
    pub(crate) retry: u32,
    /// how long a program may take; then it is killed, which is a failure. Unit: seconds (or 5s, 2m)
    #[argh(option, default = "String::from(\"10m\")")]
    pub(crate) timeout: String,
    /// end after so many questions
    #[argh(option)]
    pub(crate) count: Option<u64>,
    /// the program of --exec, with its arguments
    #[argh(positional)]
    pub(crate) command: Vec<String>,
}
