//! Owns the figure of a bad path: new connections over 40 ms, 0.5 % loss and 80 Mbit/s.

use super::amounts::Sizes;
use super::place::{Place, part};
use super::rows::{Against, Row};
use super::ways::Daemons;
use crate::compare::Side;
use crate::contest::Outcome;
use std::net::SocketAddr;

/// Measures requests with a connection each across the link, by plain TCP and by Pilot.
pub(super) fn loss(sizes: Sizes) -> Outcome<Vec<Row>> {
    let path = "40 ms, 0.5 % loss, 80 Mbit/s";
    let figure = |which: &str| format!("{} new connections, {path}: {which}", sizes.lossy_requests);
    let mut median = Row::new(&figure("median"), "ms", Against::PlainTcp, "≤ 1.05");
    let mut slowest = Row::new(&figure("slowest"), "ms", Against::PlainTcp, "≤ 0.4");
    for round in 0..sizes.rounds {
        let place = Place::apart(round as u64)?;
        let (_server, bound) = part(&place, 1, &["http", "--bind", &SocketAddr::new(place.address(1), 0).to_string()])?;
        let (_local, local) = part(&place, 1, &["http"])?;
        let mut daemons = Daemons::start(&place)?;
        let forwarded = SocketAddr::from(([127, 0, 0, 1], daemons.open(local.parse::<SocketAddr>()?.port())?));
        let mut run = |to: &str, pilot: bool| -> Outcome<()> {
            let mut times = fetch(&place, to, sizes.lossy_requests)?;
            times.sort_by(f64::total_cmp);
            let middle = *times.get(times.len() / 2).ok_or("no request")?;
            let last = *times.last().ok_or("no request")?;
            for (row, value) in [(&mut median, middle), (&mut slowest, last)] {
                if pilot { row.pilot.add(value) } else { row.plain_tcp.add(value) }
            }
            Ok(())
        };
        run(&bound, false)?;
        run(&forwarded.to_string(), true)?;
    }
    Ok(vec![median, slowest])
}

fn fetch(place: &Place, to: &str, count: usize) -> Outcome<Vec<f64>> {
    let mut command = place.command(0, &std::env::current_exe()?);
    command.args(["part", "fetch", "--to", to, "--count", &count.to_string()]);
    Ok(serde_json::from_str(&Side::start(command)?.expect("end")?)?)
}
