//! The `pilotctl` program as a library, so that `pilot-daemon` and `pilot-rendezvous` are thin names for two of its
//! subcommands.
//!
//! stdout carries data only; progress and hints go to stderr. With `--json`, anywhere on the line, stdout has one object
//! `{"status":"ok","data":…}` and errors are one object on stderr.
#![forbid(unsafe_code)]

mod args;
mod capture;
mod children;
mod clean;
mod client;
mod commands;
mod daemon;
mod deliver;
mod demo;
mod doctor;
mod exec;
mod forward;
mod grants;
mod group;
mod info;
mod input;
mod isolate;
mod log;
mod mcp;
mod output;
mod pairing;
mod path;
mod ping;
mod pipe;
mod proxy;
mod questions;
mod rendezvous;
mod run;
mod serve;
mod set_webhook;
mod settings;
mod signals;
mod start_code;
mod stop;
mod temporary;
mod tls;
#[cfg(feature = "webhook")]
mod webhook;

use argh::FromArgs as _;
use args::{Arguments, DaemonRun, Verb};
use output::Output;
use pilot_node::{Code, Failure};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program; `words` are its arguments without its name. Blocks until the command is done.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (words, output) = match read(words) {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let verb = match Arguments::from_args(&["pilotctl"], &words) {
        Ok(arguments) => arguments.verb,
        Err(exit) if exit.status.is_ok() => return help(&exit.output, &output),
        Err(exit) => return output.fail(&usage(&words, &exit.output)),
    };
    let done = match verb {
        Verb::Run(args) => run::run(&args, &output),
        verb => dispatch(verb, &output).map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(status) => output.end(status),
        Err(failure) => output.fail(&failure),
    }
}

/// Runs the daemon alone, as `pilotctl daemon run` does, without the rest of the program; `words` are its options. Blocks
/// until the daemon ends.
pub fn run_daemon(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (words, output) = match read(words) {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match DaemonRun::from_args(&["pilot-daemon"], &words) {
        Ok(args) => match daemon::run_alone(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => output.fail(&failure),
        },
        Err(exit) if exit.status.is_ok() => help(&exit.output, &output),
        Err(exit) => {
            let line = exit.output.lines().find(|l| !l.trim().is_empty()).unwrap_or("nothing to do").trim();
            output.fail(&Failure::new(Code::InvalidArgument, line).hint("pilot-daemon --help"))
        }
    }
}

fn help(text: &str, output: &Output) -> ExitCode {
    output.line(text.trim_end());
    output.end(ExitCode::SUCCESS)
}

/// Prepares the words of the command line, which are texts here. A word that is none is refused (`Err`).
fn read(words: impl IntoIterator<Item = OsString>) -> Result<(Vec<String>, Output), ExitCode> {
    let words: Vec<OsString> = words.into_iter().collect();
    let wrong = words.iter().find(|word| word.to_str().is_none()).map(|word| {
        Failure::new(Code::InvalidArgument, format!("{word:?} is not UTF-8"))
            .hint("a file is also reached through a link with a name in UTF-8")
    });
    let (words, json) = prepare(words.iter().map(|word| word.to_string_lossy().into_owned()).collect());
    let output = Output::new(json);
    match wrong {
        Some(failure) => Err(output.fail(&failure)),
        None => Ok((words, output)),
    }
}

fn dispatch(verb: Verb, output: &Output) -> Result<(), Failure> {
    match verb {
        Verb::Daemon(daemon) => daemon::run(daemon, output),
        Verb::Rendezvous(rendezvous) => rendezvous::run(rendezvous, output),
        Verb::Demo(_) => demo::run(output),
        Verb::Doctor(args) => doctor::run(&args, output),
        Verb::Log(args) => log::run(&args, output),
        Verb::Mcp(args) => mcp::run(&args, output),
        verb => commands::run(verb, output),
    }
}

/// Splits `--key=value`, which argh does not know, and takes `--json` out from any place; tells whether it was there. The words
/// of another program stay as they are.
fn prepare(words: Vec<String>) -> (Vec<String>, bool) {
    let (mut out, mut json, mut literal) = (Vec::new(), false, false);
    let program = program_begin(&words);
    for (i, word) in words.into_iter().enumerate() {
        if !literal && program == Some(i) && word != "--" {
            out.push("--".into());
            literal = true;
        }
        literal |= word == "--";
        if !literal && word == "--json" {
            json = true;
        } else if let Some((key, value)) = word.split_once('=').filter(|(key, _)| !literal && key.starts_with("--")) {
            out.extend([key.to_owned(), value.to_owned()]);
        } else {
            out.push(word);
        }
    }
    (out, json)
}

/// Where the words of another program begin, for a command that runs one.
fn program_begin(words: &[String]) -> Option<usize> {
    let verb = words.iter().position(|word| word != "--json")?;
    let rest = &words[verb + 1..];
    let begin = match &*words[verb] {
        "listen" | "serve" => rest.iter().position(|word| word == "--exec")? + 1,
        "run" => {
            let mut at = 0;
            while rest.get(at).is_some_and(|word| word.starts_with("--") && word != "--") {
                // The only option with a value.
                at += if rest[at] == "--forward" { 2 } else { 1 };
            }
            at
        }
        _ => return None,
    };
    Some(verb + 1 + begin)
}

/// Makes a failure of one line and a suggestion from argh's page of help.
fn usage(words: &[&str], text: &str) -> Failure {
    let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("nothing to do").trim().to_owned();
    let failure = Failure::new(Code::InvalidArgument, line);
    let known = args::verbs();
    match words.first() {
        None => failure.hint("pilotctl --help"),
        Some(word) if known.iter().any(|k| k == word) => failure.hint(format!("pilotctl {word} --help")),
        Some(word) => match known.iter().min_by_key(|k| distance(k, word)).filter(|k| distance(k, word) <= 3) {
            Some(near) => Failure::new(Code::InvalidArgument, format!("there is no command {word:?}"))
                .hint(format!("did you mean {near}?")),
            None => {
                Failure::new(Code::InvalidArgument, format!("there is no command {word:?}")).hint("pilotctl --help")
            }
        },
    }
}

/// Returns Levenshtein's distance of two words, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_anywhere_and_values_may_be_glued_on() {
        let words = ["send-message", "--json", "x", "--type=json", "--", "--json", "a=b"].map(String::from).to_vec();
        let (words, json) = prepare(words);
        assert!(json);
        assert_eq!(words, ["send-message", "x", "--type", "json", "--", "--json", "a=b"]);
    }

    #[test]
    fn the_words_of_another_program_stay_as_they_are() {
        for (line, wanted, is_json) in [
            ("listen 22 --exec sh -c --json --a=b", "listen 22 --exec -- sh -c --json --a=b", false),
            ("--json listen 22 --max=3 --exec sh", "listen 22 --max 3 --exec -- sh", true),
            ("listen 22 --exec -- sh --json", "listen 22 --exec -- sh --json", false),
            ("listen 22 --exec", "listen 22 --exec", false),
            ("serve --type=json --exec cat --json", "serve --type json --exec -- cat --json", false),
            ("run curl --json --a=b", "run -- curl --json --a=b", false),
            ("run --json --only --forward 1=a:2 -- sh -c --json", "run --only --forward 1=a:2 -- sh -c --json", true),
            ("run --forward=1=a:2 sh --only", "run --forward 1=a:2 -- sh --only", false),
            ("run --only", "run --only", false),
            ("connect 22 --exec --json", "connect 22 --exec", true),
        ] {
            let (words, json) = prepare(line.split(' ').map(String::from).collect());
            assert_eq!((words.join(" "), json), (wanted.to_owned(), is_json), "{line}");
        }
    }

    #[test]
    fn unknown_commands_get_a_suggestion() {
        assert_eq!(usage(&["handshke"], "…").hint, "did you mean handshake?");
        assert_eq!(usage(&["xyzzyxyzzy"], "…").hint, "pilotctl --help");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
