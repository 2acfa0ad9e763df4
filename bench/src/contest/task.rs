//! Owns the tasks of a contest over any byte stream, the words between a contestant and its parent, and the clock.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::error::Error;
use std::io::{self, BufRead as _, Read, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Errors are only printed, so one type of error is enough.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Length of one write. Unit: bytes.
const CHUNK: usize = 256 * 1024;
/// Chunks sent before a bulk transfer is timed.
const CHUNK_WARMUP: usize = 256;
/// Length of a ping. Unit: bytes.
pub(crate) const BALL: usize = 64;

/// Length of a request of `pilot-bench clients`, to which the answer has [`ANSWER_LEN`]. Unit: bytes.
pub(crate) const REQUEST_LEN: usize = 200;
/// Unit: bytes.
const ANSWER_LEN: usize = 1024;

/// A task that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Sends bytes one way, and one byte back at the end.
    Bulk,
    /// Sends 64 bytes there and back.
    Ping,
    /// Opens a stream on a connection that stands, and gets one byte back.
    Open,
    /// Opens a connection between two processes that have none, and a stream, and gets one byte back.
    Exchange,
}

impl FromStr for Task {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "bulk" => Self::Bulk,
            "ping" => Self::Ping,
            "open" => Self::Open,
            "exchange" => Self::Exchange,
            other => return Err(format!("no task is called {other:?}")),
        })
    }
}

/// A byte stream of any contestant.
pub(crate) trait Connection: Read + Write {
    /// Ends writing.
    fn end_writing(&mut self) -> io::Result<()>;
}

/// Serves each connection to its end; connections of long tasks get a thread of their own.
pub(crate) fn serve_connections<C: Connection + Send + 'static>(connections: impl Iterator<Item = C>) {
    for mut connection in connections {
        let mut task = [0];
        if connection.read_exact(&mut task).is_err() {
            continue; // the connection has ended before its first byte
        }
        if task == *b"O" {
            // A driver that ends early is no failure of the server.
            let _ = connection.write_all(b".").and_then(|()| connection.end_writing());
        } else {
            std::thread::spawn(move || serve_connection(&mut connection, task[0]));
        }
    }
}

fn serve_connection(connection: &mut impl Connection, task: u8) -> io::Result<()> {
    if task == b'B' {
        let mut buffer = vec![0; CHUNK];
        while connection.read(&mut buffer)? > 0 {}
        connection.write_all(b".")?;
    } else if task == b'H' {
        connection.read_exact(&mut [0; REQUEST_LEN - 1])?;
        connection.write_all(&[7; ANSWER_LEN])?;
    } else {
        let mut ball = [0; BALL];
        while connection.read_exact(&mut ball).is_ok() {
            connection.write_all(&ball)?;
            connection.flush()?;
        }
    }
    connection.end_writing()
}

/// Drives one task over connections that `connect` makes, with their first bytes written; returns the object of `end`.
pub(crate) fn drive_connections<C: Connection>(
    task: Task,
    count: u64,
    mut connect: impl FnMut(&[u8]) -> Outcome<C>,
) -> Outcome<Value> {
    match task {
        Task::Bulk => {
            let (mut connection, chunk) = (connect(b"B")?, vec![7; CHUNK]);
            // The link explores the path and grows its buffers before the clock starts.
            (0..CHUNK_WARMUP).try_for_each(|_| connection.write_all(&chunk))?;
            let bytes = await_begin(|| {
                let mut left = count as usize;
                while left > 0 {
                    let len = left.min(CHUNK);
                    connection.write_all(&chunk[..len])?;
                    left -= len;
                }
                connection.end_writing()?;
                connection.read_exact(&mut [0])?;
                Ok(count)
            })?;
            Ok(json!({"seconds": bytes.1.as_secs_f64(), "bytes": bytes.0}))
        }
        Task::Ping => {
            let mut connection = connect(b"P")?;
            let mut ball = [7; BALL];
            let mut bounce = |connection: &mut C| -> Outcome<()> {
                connection.write_all(&ball)?;
                connection.flush()?;
                Ok(connection.read_exact(&mut ball)?)
            };
            (0..200).try_for_each(|_| bounce(&mut connection))?;
            sample(count, || bounce(&mut connection))
        }
        Task::Open | Task::Exchange => sample(count, || {
            let mut connection = connect(b"O")?;
            connection.flush()?;
            Ok(connection.read_exact(&mut [0])?)
        }),
    }
}

/// Prints `begin`, waits for the parent's word, and times `work`.
pub(crate) fn await_begin<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration)> {
    println!("begin");
    io::stdin().lock().read_line(&mut String::new())?;
    let begin = Instant::now();
    let result = work()?;
    Ok((result, begin.elapsed()))
}

/// Times `once` `count` times; returns quantiles. Unit: microseconds.
pub(crate) fn sample(count: u64, mut once: impl FnMut() -> Outcome<()>) -> Outcome<Value> {
    time_each(count, |clock| clock.time(&mut once))
}

/// Times the closures that `prepare` makes, but not their preparation.
pub(crate) fn exchange<F: FnOnce() -> Outcome<()>>(
    count: u64,
    mut prepare: impl FnMut() -> Outcome<F>,
) -> Outcome<Value> {
    time_each(count, |clock| {
        let once = prepare()?;
        clock.time(once)
    })
}

struct Clock(Histogram<u64>);

impl Clock {
    fn time(&mut self, work: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
        let begin = Instant::now();
        work()?;
        Ok(self.0.record(begin.elapsed().as_nanos() as u64)?)
    }
}

fn time_each(count: u64, mut once: impl FnMut(&mut Clock) -> Outcome<()>) -> Outcome<Value> {
    let mut clock = Clock(Histogram::new(3)?);
    await_begin(|| (0..count).try_for_each(|_| once(&mut clock)))?;
    Ok(quantiles(&clock.0))
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let us = |q: f64| histogram.value_at_quantile(q) as f64 / 1000.0;
    let curve: Vec<_> =
        [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999].iter().map(|q| json!([q, us(*q)])).collect();
    json!({"p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "count": histogram.len(), "curve": curve})
}

pub(crate) fn say_ready(details: &str) {
    println!("ready {details}");
}

/// Blocks until the parent closes our standard input.
pub(crate) fn await_end() -> Outcome<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

pub(crate) fn say_end(result: &Value) {
    println!("end {result}");
}
