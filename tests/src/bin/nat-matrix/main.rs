//! The NAT matrix: real daemons behind every pair of routers, and whether they find a direct path, and how fast.
//!
//! ```text
//! cargo build --release -p pilotctl
//! cargo run --release -p pilot-tests --bin nat-matrix                            # all 81 ordered pairs; needs root
//! cargo run --release -p pilot-tests --bin nat-matrix -- --pairs masq:sym,port:port --json
//! ```
#![forbid(unsafe_code)]

mod report;

use argh::FromArgs;
use pilot_tests::netlab::daemons::Daemons;
use pilot_tests::netlab::router::Kind;
use pilot_tests::netlab::{Lab, Outcome, Side, become_what_is_asked};
use report::Row;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Time after the first byte in which a direct path is to be found.
const PATIENCE: Duration = Duration::from_secs(8);

/// run real daemons behind pairs of routers
#[derive(FromArgs)]
struct Arguments {
    /// ordered pairs of kinds, as masq:sym,port:port; all pairs of the matrix when absent. Kinds: none fw full addr port masq
    /// masqopen symseq symblk sym noudp
    #[argh(option)]
    pairs: Option<String>,
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
    let pairs = match pairs(arguments.pairs.as_deref()) {
        Ok(pairs) => pairs,
        Err(why) => {
            eprintln!("error: {why}\nhint: the kinds are {}", Kind::names().join(" "));
            return ExitCode::FAILURE;
        }
    };
    let delay = Duration::from_millis(arguments.delay);
    let mut rows = Vec::new();
    for (number, kinds) in pairs.into_iter().enumerate() {
        let measured = || measure(number, kinds, delay).unwrap_or_else(|why| Row::failed(kinds, why));
        let mut row = measured();
        if !row.is_ok() && row.is_by_chance() {
            // Of those that chance decides a few are not met; two in a row are no chance any more.
            eprintln!("{}, once more", report::line(&row));
            row = measured();
        }
        eprintln!("{}", report::line(&row));
        rows.push(row);
    }
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        print!("{}", report::table(&rows));
    }
    if rows.iter().all(|row| row.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn pairs(wanted: Option<&str>) -> Result<Vec<[Kind; 2]>, String> {
    let Some(wanted) = wanted else {
        return Ok(Kind::MATRIX.into_iter().flat_map(|a| Kind::MATRIX.map(|b| [a, b])).collect());
    };
    let kind = |name: &str| Kind::parse(name).ok_or(format!("there is no kind {name:?}"));
    let pair = |text: &str| {
        let (a, b) = text.split_once(':').ok_or(format!("{text:?} is no pair KIND:KIND"))?;
        Ok([kind(a)?, kind(b)?])
    };
    wanted.split(',').map(|text| pair(text.trim())).collect()
}

/// Lets two nodes that have just become friends open their first stream, and waits for a direct path.
fn measure(number: usize, kinds: [Kind; 2], delay: Duration) -> Outcome<Row> {
    let lab = Lab::new(number, kinds, delay)?;
    let daemons = Daemons::start(&lab)?;
    daemons.befriend()?;
    let before = lab.packets()?;
    let begin = Instant::now();
    let mut echo = daemons.echo()?;
    echo.exchange("first")?;
    let first_byte = begin.elapsed();
    let mut row = Row { kinds, first_byte: Some(first_byte), direct: None, packets: 0, reason: String::new() };
    while begin.elapsed() < first_byte + PATIENCE {
        let looked = begin.elapsed();
        let paths = [daemons.peer(Side::A)?, daemons.peer(Side::B)?].map(Option::unwrap_or_default);
        if paths.iter().all(|peer| peer["relay"] == false && peer["encrypted"] == true) {
            (row.direct, row.reason) = (Some(looked), String::new());
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    row.packets = lab.packets()? - before;
    if row.direct.is_none() {
        row.reason = daemons.why_not_direct(Side::A)?;
    }
    echo.exchange("last")?;
    Ok(row)
}
