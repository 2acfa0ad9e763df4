//! Owns the rows of the table: the samples of each way, their medians, and the ratio that has a goal.

use crate::figures::machine;
use serde_json::{Value, json};

/// Samples of one figure by one way.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(super) fn median(&self) -> Option<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn min(&self) -> Option<f64> {
        self.0.iter().copied().min_by(f64::total_cmp)
    }
}

/// What Pilot's figure is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// [`Row::base`], which has a name.
    Base(&'static str),
    /// A goal that is no ratio.
    Nothing,
    PlainTcp,
    Relays,
}

/// One figure.
#[derive(Debug)]
pub(super) struct Row {
    figure: String,
    unit: &'static str,
    against: Against,
    goal: &'static str,
    pub(super) plain_tcp: Samples,
    pub(super) relays: Samples,
    pub(super) pilot: Samples,
    /// What no column has: the Rust `Stream`, the ping.
    pub(super) base: Samples,
    skipped: Option<String>,
}

impl Row {
    pub(super) fn new(figure: &str, unit: &'static str, against: Against, goal: &'static str) -> Self {
        let (plain_tcp, relays, pilot, base) = Default::default();
        Self { figure: figure.into(), unit, against, goal, plain_tcp, relays, pilot, base, skipped: None }
    }

    /// A row that cannot be measured here.
    pub(super) fn skipped(figure: &str, why: &str) -> Self {
        Self { skipped: Some(why.into()), ..Self::new(figure, "", Against::PlainTcp, "") }
    }

    /// Returns Pilot's median divided by the other's; `None` where one of them was not measured.
    fn ratio(&self) -> Option<f64> {
        let other = match self.against {
            Against::Base(_) => &self.base,
            Against::Nothing => return None,
            Against::PlainTcp => &self.plain_tcp,
            Against::Relays => &self.relays,
        };
        Some(self.pilot.median()? / other.median()?)
    }

    fn against(&self) -> &'static str {
        match self.against {
            Against::Base(name) => name,
            Against::Nothing => "",
            Against::PlainTcp => "plain_tcp",
            Against::Relays => "relays",
        }
    }

    fn json(&self) -> Value {
        if let Some(why) = &self.skipped {
            return json!({"figure": self.figure, "skipped": why});
        }
        let mut row = json!({
            "figure": self.figure, "unit": self.unit,
            "plain_tcp": self.plain_tcp.median(), "relays": self.relays.median(), "pilot": self.pilot.median(),
            "min": {"plain_tcp": self.plain_tcp.min(), "relays": self.relays.min(), "pilot": self.pilot.min()},
            "ratio": self.ratio(), "against": self.against(), "goal": self.goal,
        });
        if let Against::Base(name) = self.against {
            row[name] = json!(self.base.median());
        }
        row
    }

    fn markdown(&self) -> String {
        if let Some(why) = &self.skipped {
            return format!("| {} | | | | | not measured: {why} | |\n", self.figure);
        }
        let cell = |samples: &Samples| match (samples.median(), samples.min()) {
            (Some(median), Some(min)) => format!("{median:.2} ({min:.2})"),
            _ => String::new(),
        };
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let against = match (self.against, self.base.median()) {
            (Against::Base(name), Some(base)) => format!("{name} {base:.2}"),
            _ => self.against().into(),
        };
        let (plain, relays, pilot) = (cell(&self.plain_tcp), cell(&self.relays), cell(&self.pilot));
        format!(
            "| {}, {} | {plain} | {relays} | {pilot} | {ratio} | {against} | {} |\n",
            self.figure, self.unit, self.goal
        )
    }
}

pub(super) fn json(rows: &[Row]) -> Value {
    json!({"machine": machine(), "rows": rows.iter().map(Row::json).collect::<Vec<_>>()})
}

/// Returns the rows as a table in Markdown; medians, with minima in brackets.
pub(super) fn markdown(rows: &[Row]) -> String {
    let head = "| figure | plain TCP | two relays | pilot | ratio | against | goal |\n|---|---|---|---|---|---|---|\n";
    rows.iter().fold(head.to_owned(), |table, row| table + &row.markdown())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(against: Against) -> Row {
        let mut row = Row::new("speed", "MB/s", against, "≥ 0.5");
        [30.0, 10.0, 20.0].into_iter().for_each(|value| row.pilot.add(value));
        row.relays.add(40.0);
        row.base.add(80.0);
        row
    }

    #[test]
    fn the_ratio_is_of_medians_and_missing_without_one_of_them() {
        assert_eq!(row(Against::Relays).ratio(), Some(0.5));
        assert_eq!(row(Against::Base("stream")).ratio(), Some(0.25));
        assert_eq!(row(Against::PlainTcp).ratio(), None);
    }

    #[test]
    fn rows_are_printed_with_medians_minima_and_what_they_are_measured_against() {
        let (base, skipped) = (row(Against::Base("stream")), Row::skipped("grpc", "go is missing"));
        assert_eq!(base.json()["stream"], 80.0);
        assert_eq!((base.json()["pilot"].as_f64(), base.json()["min"]["pilot"].as_f64()), (Some(20.0), Some(10.0)));
        let table = markdown(&[base, skipped]);
        assert!(
            table.contains("| speed, MB/s |  | 40.00 (40.00) | 20.00 (10.00) | 0.25 | stream 80.00 | ≥ 0.5 |"),
            "{table}"
        );
        assert!(table.contains("not measured: go is missing"), "{table}");
    }
}
