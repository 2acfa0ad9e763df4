//! Owns the figures of a run: their samples, their medians, and the ratios that have goals.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::process::Command;

/// Samples of each figure with its unit, and latency curves.
#[derive(Default)]
pub(crate) struct Figures {
    samples: BTreeMap<String, (Vec<f64>, &'static str)>,
    /// Quantiles and microseconds of the newest loopback ping of each contestant.
    pub(crate) curves: BTreeMap<String, Vec<(f64, f64)>>,
    /// Measurements that were not possible, with the reason.
    pub(crate) skipped: Vec<String>,
}

impl Figures {
    pub(crate) fn add(&mut self, name: String, value: f64, unit: &'static str) {
        self.samples.entry(name).or_insert_with(|| (Vec::new(), unit)).0.push(value);
    }

    pub(crate) fn add_one(&mut self, name: &str, value: f64, unit: &'static str) {
        self.add(name.to_owned(), value, unit);
    }

    pub(crate) fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.samples.get(name)?.0.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Returns the ratios of medians that have goals, as far as both medians were measured.
    pub(crate) fn ratios(&self) -> Vec<(String, f64, &'static str)> {
        let mut ratios = Vec::new();
        let mut ratio = |name: String, over: String, under: String, goal: &'static str| {
            if let (Some(over), Some(under)) = (self.median(&over), self.median(&under)) {
                ratios.push((name, over / under, goal));
            }
        };
        for field in ["loopback", "veth", "veth-plain"] {
            let bulk = |who: &str| format!("{field}/bulk/{who}/throughput");
            let cpu = |who: &str| format!("{field}/bulk/{who}/cpu");
            for (who, than, goal) in [
                ("pilot-1400", "limit-1400", "≥ 0.85"),
                ("pilot-1400", "iroh", "≥ 2.5"),
                ("pilot-1400", "quinn", "≥ 2.2"),
                ("pilot-1400", "tls", "≥ 1.0"),
                ("pilot", "tls", "≥ 1.3 on loopback"),
            ] {
                ratio(format!("{field}: throughput, {who} ÷ {than}"), bulk(who), bulk(than), goal);
            }
            ratio(format!("{field}: CPU, pilot-1400 ÷ limit-1400"), cpu("pilot-1400"), cpu("limit-1400"), "≤ 1.1");
        }
        for field in ["loopback", "one-core"] {
            let ping = |who: &str| format!("{field}/ping/{who}/p50");
            let goal = if field == "loopback" { "≤ 1.5" } else { "≤ 2" };
            ratio(format!("{field}: ping, pilot ÷ udp"), ping("pilot"), ping("udp"), goal);
            ratio(format!("{field}: ping, pilot ÷ quinn"), ping("pilot"), ping("quinn"), "");
        }
        let loopback = |name: &str| format!("loopback/{name}");
        ratio("ping: p99 ÷ p50".into(), loopback("ping/pilot/p99"), loopback("ping/pilot/p50"), "≤ 3");
        ratio("open ÷ ping".into(), loopback("open/pilot/p50"), loopback("ping/pilot/p50"), "≤ 1.6");
        ratio(
            "exchange, pilot ÷ quinn".into(),
            loopback("exchange/pilot/p50"),
            loopback("exchange/quinn/p50"),
            "≤ 0.6",
        );
        ratio(
            "per packet, 10,000 ÷ 10 streams".into(),
            "stack/per-packet/10000-streams".into(),
            "stack/per-packet/10-streams".into(),
            "≤ 1.3",
        );
        ratios
    }

    pub(crate) fn json(&self) -> Value {
        let mut figures = Map::new();
        for (name, (values, unit)) in &self.samples {
            let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            figures.insert(name.clone(), json!({"median": self.median(name), "min": min, "max": max, "unit": unit}));
        }
        let ratios: Map<String, Value> = self
            .ratios()
            .into_iter()
            .map(|(name, value, goal)| (name, json!({"value": value, "goal": goal})))
            .collect();
        json!({"machine": machine(), "figures": figures, "ratios": ratios, "skipped": self.skipped})
    }

    /// Returns the figures as tables in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::from("| figure | median | min | max | unit |\n|---|---|---|---|---|\n");
        for (name, (values, unit)) in &self.samples {
            let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            let median = self.median(name).unwrap_or_default();
            out += &format!("| {name} | {median:.2} | {min:.2} | {max:.2} | {unit} |\n");
        }
        out += "\n| ratio of medians | value | goal |\n|---|---|---|\n";
        for (name, value, goal) in self.ratios() {
            out += &format!("| {name} | {value:.2} | {goal} |\n");
        }
        self.skipped.iter().for_each(|why| out += &format!("\nNot measured: {why}\n"));
        out
    }
}

/// Describes the machine and the build of the measurement.
pub(crate) fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, m)| m.trim()));
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    json!({
        "cpu": model, "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "rustc": run("rustc", &["--version"]), "commit": run("git", &["rev-parse", "--short", "HEAD"]),
    })
}
