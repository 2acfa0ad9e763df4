//! `pilot-bench link`: the table of the link's goals, simulated, beside other stacks on the same paths.

use crate::contest::Outcome;
use argh::FromArgs;
use pilot_tests::lab::table::{ROWS, SECONDS, SEEDS, TROUBLES, Trouble, Variant, medians};
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
    pub(crate) row: usize,
    pub(crate) column: usize,
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
        let rows = (0..ROWS.len()).filter(|row| ROWS[*row].0.mbit <= self.mbit_max);
        let places: Vec<_> = rows.flat_map(|row| (0..TROUBLES.len()).map(move |column| (row, column))).collect();
        let measure = |variant| {
            let percents = medians(variant, &places, self.seconds, self.seeds);
            places.iter().zip(percents).map(move |(&(row, column), percent)| Cell { variant, row, column, percent })
        };
        Variant::ALL.into_iter().flat_map(measure).collect()
    }
}

impl Cell {
    fn json(&self) -> Value {
        let (path, trouble) = (&ROWS[self.row].0, TROUBLES[self.column]);
        json!({
            "path": path.to_string(), "loss_percent": trouble.loss_percent,
            "reorder_percent": trouble.reorder_percent, "variant": self.variant.name(),
            "goodput_percent": (self.percent * 10.0).round() / 10.0,
        })
    }
}

fn heading(trouble: Trouble) -> String {
    if trouble.reorder_percent > 0.0 {
        format!("{} % reordered", trouble.reorder_percent)
    } else {
        format!("{} % lost", trouble.loss_percent)
    }
}

/// Formats the cells as a table: a block for each path, a line for each variant.
pub(crate) fn markdown(cells: &[Cell]) -> String {
    let mut out = String::from("| path | who |");
    TROUBLES.iter().for_each(|trouble| out += &format!(" {} |", heading(*trouble)));
    out += "\n|---|---|---|---|---|---|---|\n";
    let rows: std::collections::BTreeSet<_> = cells.iter().map(|cell| cell.row).collect();
    for row in rows {
        for variant in Variant::ALL {
            // Writing to a String cannot fail.
            let _ = write!(out, "| {} | {} |", ROWS[row].0, variant.name());
            for cell in cells.iter().filter(|cell| cell.row == row && cell.variant == variant) {
                let _ = write!(out, " {:.1} |", cell.percent);
            }
            out.push('\n');
        }
    }
    out
}
