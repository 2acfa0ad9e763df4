//! Owns the connection of a command to the daemon, and the time limits of commands.

use pilot_node::{Client, Code, Failure, socket_path};
use std::time::Duration;

/// Longest time of a call to the daemon that has no limit of its own.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to the daemon that `PILOT_SOCKET` or the usual place names.
pub(crate) fn daemon() -> Result<Client, Failure> {
    Client::connect(&socket_path())
}

/// Connects for streams: those of a command that dies are reset, so that its peer never takes a part for the whole.
pub(crate) fn daemon_for_streams() -> Result<Client, Failure> {
    let mut client = daemon()?;
    client.end_explicitly()?;
    Ok(client)
}

/// Parses a time limit: `30`, `30s`, `2m`, `500ms`, `1h`, `7d`. A bare number is in seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, Failure> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 24.0 * 3600.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().unwrap_or(f64::NAN) * scale;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Failure::new(Code::InvalidArgument, format!("{text:?} is not a time; 30, 30s, 2m, 500ms, 24h, 7d"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_their_forms() {
        assert_eq!(duration("30").ok(), Some(Duration::from_secs(30)));
        assert_eq!(duration("2m").ok(), Some(Duration::from_secs(120)));
        assert_eq!(duration("500ms").ok(), Some(Duration::from_millis(500)));
        assert_eq!(duration("7d").ok(), Some(Duration::from_secs(7 * 24 * 3600)));
        for bad in ["", "x", "-1", "5x", "1e400"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
