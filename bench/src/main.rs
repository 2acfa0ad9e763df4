//! `pilot-bench`: two nodes on loopback, through the public API. Bulk throughput and the distribution of round trips.
#![forbid(unsafe_code)]

use argh::FromArgs;
use hdrhistogram::Histogram;
use pilot_node::{Config, Node, RendezvousConfig, Stream};
use pilot_rendezvous::server::{Server, ServerConfig};
use serde_json::json;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

/// Measure two nodes of this process on loopback.
#[derive(FromArgs)]
struct Arguments {
    /// megabytes of the bulk transfer (default 512)
    #[argh(option, default = "512")]
    mb: usize,
    /// round trips (default 20000)
    #[argh(option, default = "20000")]
    pings: u64,
    /// one JSON object instead of a table
    #[argh(switch)]
    json: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Arguments = argh::from_env();
    let folder = std::env::temp_dir().join(format!("pilot-bench-{}", std::process::id()));
    let result = measure(&arguments, &folder);
    // Whatever was measured, the folder is of no more use.
    let _ = std::fs::remove_dir_all(&folder);
    let data = result?;
    if arguments.json {
        println!("{data}");
    } else {
        for (name, value) in data.as_object().into_iter().flatten() {
            println!("{name:22} {value}");
        }
    }
    Ok(())
}

fn measure(arguments: &Arguments, folder: &Path) -> Result<serde_json::Value, Box<dyn Error>> {
    let loopback = "127.0.0.1:0".parse()?;
    let server = Server::bind(&ServerConfig { home: folder.join("rendezvous"), listen: loopback, idle_exit: None })?;
    let (key, addr) = server.endpoint();
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || server.run());
    let start = |name: &str| {
        let mut config = Config::new(folder.join(name));
        (config.hostname, config.listen) = (Some(name.into()), loopback);
        config.rendezvous = RendezvousConfig::At(key, addr);
        Node::start(config)
    };
    let (a, b) = (start("bench-a")?, start("bench-b")?);
    befriend(&a, &b)?;
    let listener = b.listen(1000)?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = listener.accept()?;
        let mut ball = [0; 64];
        while stream.read_exact(&mut ball).is_ok() {
            stream.write_all(&ball)?;
        }
        let mut bulk = listener.accept()?;
        std::io::copy(&mut bulk, &mut std::io::sink())?;
        bulk.write_all(b"done")
    });
    let latency = ping(&mut a.connect("bench-b", 1000)?, arguments.pings)?;
    let (seconds, cpu) = bulk(&mut a.connect("bench-b", 1000)?, arguments.mb)?;
    echo.join().map_err(|_| "the echo thread failed")??;
    drop((a, b));
    stopper.stop();
    serving.join().map_err(|_| "the rendezvous failed")??;
    let bytes = (arguments.mb << 20) as f64;
    Ok(json!({
        "bulk_mb_per_s": bytes / 1e6 / seconds,
        "bulk_cpu_ns_per_byte": cpu.as_nanos() as f64 / bytes,
        "ping_p50_us": latency.value_at_quantile(0.5),
        "ping_p99_us": latency.value_at_quantile(0.99),
        "ping_p999_us": latency.value_at_quantile(0.999),
        "pings": latency.len(),
    }))
}

fn befriend(a: &Node, b: &Node) -> Result<(), Box<dyn Error>> {
    let until = |node: &Node, op: &str, done: &dyn Fn(&serde_json::Value) -> bool| -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + Duration::from_secs(10);
        while !done(&node.call(json!({"op": op}), Vec::new())?.0) {
            if Instant::now() > end {
                return Err(format!("{op}: no progress").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    };
    for node in [a, b] {
        until(node, "info", &|i| i["rendezvous"] == "ready")?;
    }
    a.call(json!({"op": "handshake", "node": "bench-b"}), Vec::new())?;
    until(b, "pending", &|p| p["pending"].as_array().is_some_and(|l| !l.is_empty()))?;
    b.call(json!({"op": "approve", "node": "bench-a"}), Vec::new())?;
    until(a, "trust", &|t| t["total"] == 1)
}

fn ping(stream: &mut Stream, count: u64) -> Result<Histogram<u64>, Box<dyn Error>> {
    let mut histogram = Histogram::new(3)?;
    let mut ball = [7; 64];
    for _ in 0..count {
        let begin = Instant::now();
        stream.write_all(&ball)?;
        stream.read_exact(&mut ball)?;
        histogram.record(begin.elapsed().as_micros() as u64)?;
    }
    Ok(histogram)
}

/// Seconds and CPU time (both nodes, user and system) of one transfer.
fn bulk(stream: &mut Stream, mb: usize) -> Result<(f64, Duration), Box<dyn Error>> {
    let chunk = vec![7; 256 * 1024];
    let (begin, cpu) = (Instant::now(), cpu_time()?);
    for _ in 0..mb * 4 {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut done = Vec::new();
    stream.read_to_end(&mut done)?;
    Ok((begin.elapsed().as_secs_f64(), cpu_time()? - cpu))
}

/// CPU time of this process so far, from /proc (clock ticks of 10 ms).
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("a strange /proc/self/stat")?.1;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
