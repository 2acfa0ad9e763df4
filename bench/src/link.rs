//! `pilot-bench link`: the table of the link's goals, simulated, beside other stacks on the same paths.

use crate::contest::Outcome;
use argh::FromArgs;
use pilot_tests::lab::table::{
    LATE_ROWS, LATE_TROUBLES, Path, ROWS, SECONDS, SEEDS, TROUBLES, Trouble, Variant, medians,
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Goodput on simulated paths: ours, plain smoltcp, and quinn's QUIC.
#[derive(FromArgs)]
#[argh(subcommand, name = "link")]
pub(crate) struct Link {
    /// rows as JSON instead of tables
    #[argh(switch)]
    json: bool,
    /// simulated seconds of each measurement (default 20)
    #[argh(option, default = "SECONDS")]
    seconds: u64,
    /// seeds of each cell, of which the median counts (default 5)
    #[argh(option, default = "SEEDS")]
    seeds: u64,
    /// fast: paths up to this rate only, in Mbit/s (default 1000)
    #[argh(option, default = "1000")]
    mbit_max: u64,
}

/// One cell of one variant's table.
pub(crate) struct Cell {
    pub(crate) variant: Variant,
    pub(crate) path: Path,
    pub(crate) trouble: Trouble,
    pub(crate) percent: f64,
}

impl Link {
    /// Simulates and prints the table.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn run(&self) -> Outcome<()> {
        let cells = self.measure();
        if self.json {
            println!("{}", Value::from(cells.iter().map(Cell::json).collect::<Vec<_>>()));
        } else {
            print!("{}", markdown(&cells));
        }
        Ok(())
    }

    pub(crate) fn measure(&self) -> Vec<Cell> {
        let usual = ROWS.iter().flat_map(|(path, _)| TROUBLES.map(|trouble| (*path, trouble)));
        let late = LATE_ROWS.iter().flat_map(|path| LATE_TROUBLES.map(|trouble| (*path, trouble)));
        let places: Vec<_> = usual.chain(late).filter(|(path, _)| path.mbit <= self.mbit_max).collect();
        let measure = |variant| {
            let percents = medians(variant, &places, self.seconds, self.seeds);
            let cell = move |(&(path, trouble), percent)| Cell { variant, path, trouble, percent };
            places.iter().zip(percents).map(cell)
        };
        Variant::ALL.into_iter().flat_map(measure).collect()
    }
}

impl Cell {
    fn json(&self) -> Value {
        let Self { path, trouble, .. } = self;
        json!({
            "path": path.to_string(), "loss_percent": trouble.loss_percent,
            "reorder_percent": trouble.reorder_percent, "late_rtts": trouble.late_rtts, "variant": self.variant.name(),
            "goodput_percent": (self.percent * 10.0).round() / 10.0,
        })
    }
}

/// Formats the cells as two tables: a block for each path, a line for each variant.
pub(crate) fn markdown(cells: &[Cell]) -> String {
    [table(cells, &ROWS.map(|row| row.0), &TROUBLES), table(cells, &LATE_ROWS, &LATE_TROUBLES)].join("\n")
}

fn table(cells: &[Cell], paths: &[Path], troubles: &[Trouble]) -> String {
    let mut out = String::from("| path | who |");
    troubles.iter().for_each(|trouble| out += &format!(" {trouble} |"));
    out += &format!("\n|---|---|{}\n", "---|".repeat(troubles.len()));
    for path in paths {
        for variant in Variant::ALL {
            let is_mine =
                |cell: &&Cell| (cell.path, cell.variant) == (*path, variant) && troubles.contains(&cell.trouble);
            let mine: Vec<&Cell> = cells.iter().filter(is_mine).collect();
            if mine.is_empty() {
                continue;
            }
            // Writing to a String cannot fail.
            let _ = write!(out, "| {path} | {} |", variant.name());
            mine.iter().for_each(|cell| out += &format!(" {:.1} |", cell.percent));
            out.push('\n');
        }
    }
    out
}
