//! Faults of networks on real daemons: how long a stream stalls, and whether a byte is lost.
//!
//! ```text
//! cargo build --release -p pilotctl
//! cargo run --release -p pilot-tests --bin live-faults                           # every row; needs root; about 14 minutes
//! cargo run --release -p pilot-tests --bin live-faults -- --only roam,cut-a-to-b --json
//! ```
#![forbid(unsafe_code)]

mod report;
mod rows;
mod traffic;

use argh::FromArgs;
use pilot_tests::netlab::become_what_is_asked;
use report::Row;
use rows::Fault;
use std::process::ExitCode;
use std::time::Duration;

/// let faults happen to the networks of real daemons
#[derive(FromArgs)]
struct Arguments {
    /// rows to run, separated by commas; all rows when absent
    #[argh(option)]
    only: Option<String>,
    /// rows as JSON instead of a table
    #[argh(switch)]
    json: bool,
    /// what each access link delays packets (default: 20). Unit: milliseconds
    #[argh(option, default = "20")]
    delay: u64,
}

fn main() -> ExitCode {
    become_what_is_asked();
    let arguments: Arguments = argh::from_env();
    let chosen = match chosen(arguments.only.as_deref()) {
        Ok(chosen) => chosen,
        Err(why) => {
            let names: Vec<&str> = rows::ALL.iter().map(|fault| fault.name).collect();
            eprintln!("error: {why}\nhint: the rows are {}", names.join(", "));
            return ExitCode::FAILURE;
        }
    };
    let delay = Duration::from_millis(arguments.delay);
    let mut rows = Vec::new();
    for (number, fault) in chosen.into_iter().enumerate() {
        let row = Row::new(fault, rows::run(number, fault, delay));
        eprintln!("{}", report::line(&row));
        rows.push(row);
    }
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        print!("{}", report::table(&rows));
    }
    if rows.iter().all(Row::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn chosen(wanted: Option<&str>) -> Result<Vec<&'static Fault>, String> {
    let Some(wanted) = wanted else { return Ok(rows::ALL.iter().collect()) };
    let find =
        |name: &str| rows::ALL.iter().find(|fault| fault.name == name).ok_or(format!("there is no row {name:?}"));
    wanted.split(',').map(|name| find(name.trim())).collect()
}
