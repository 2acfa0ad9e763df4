//! `pilot-bench report`: runs `link`, `compare` and `programs` and writes `bench/RESULTS.md` with two pictures.

use crate::compare::Compare;
use crate::contest::Outcome;
use crate::figures::{Figures, machine};
use crate::link::{Cell, Link, markdown};
use crate::plot::Plot;
use argh::FromArgs;
use pilot_tests::lab::table::{ROWS, TROUBLES, Variant};
use std::path::Path;

/// Row of the table that the picture shows: 100 Mbit/s, 50 ms.
const DRAWN_ROW: usize = 2;

/// Run `link`, `compare` and `programs` and write bench/RESULTS.md.
#[derive(FromArgs)]
#[argh(subcommand, name = "report")]
pub(crate) struct Report {
    /// rounds of `compare` and `programs` (default 5)
    #[argh(option, default = "5")]
    rounds: usize,
    /// without quinn and iroh
    #[argh(switch)]
    no_rivals: bool,
}

impl Report {
    /// Measures and writes the files.
    ///
    /// # Errors
    /// When a contestant fails or a file cannot be written.
    pub(crate) fn run(&self) -> Outcome<()> {
        let mut arguments = vec!["--rounds".to_owned(), self.rounds.to_string()];
        arguments.extend(self.no_rivals.then(|| "--no-rivals".to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let compare = Compare::from_args(&["compare"], &arguments).map_err(|e| e.output)?;
        let figures = compare.measure()?;
        let programs = crate::programs::table(self.rounds)?;
        eprintln!("simulating the table …");
        let cells = Link::from_args(&["link"], &[]).map_err(|e| e.output)?.measure();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::write(folder.join("goodput.svg"), goodput(&cells).svg())?;
        std::fs::write(folder.join("latency.svg"), latency(&figures).svg())?;
        std::fs::write(folder.join("RESULTS.md"), page(&figures, &programs, &cells))?;
        Ok(())
    }
}

fn page(figures: &Figures, programs: &str, cells: &[Cell]) -> String {
    let machine = machine();
    let word = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
    format!(
        "# Results\n\nWritten by `cargo run --release -p pilot-bench -- report`; not by hand.\n\n\
         Machine: {}, {} cores, Linux {}. {}. Commit {}. The machine is shared: ratios of one run mean more than \
         figures.\n\n\
         ## Side by side\n\nEach contestant is two processes. `limit` is UDP in batches with the cipher and nothing else; \
         `-1400` are datagrams of at most 1400 bytes, `pilot` alone the size that the path proves. `veth-plain` is a pair \
         of virtual cards without offloads. Every cipher is ChaCha20-Poly1305 of ring.\n\n{}\n\
         ![Round trips](latency.svg)\n\n\
         ## Programs\n\nMedians, with minima in brackets, of programs straight (plain TCP), through two plain relays, and \
         through two daemons by `forward` and `expose`; every part is a process.\n\n{}\n\
         ## Simulated paths\n\nGoodput of one bulk stream, per cent of what the path can carry; queue of one \
         bandwidth-delay product, 20 s, median of five seeds. smoltcp is 0.13 with its CUBIC, QUIC is quinn-proto \
         0.11; where it has next to nothing, it has closed the connection after slow start («too many gaps in stream \
         buffer»).\n\n{}\n![Goodput](goodput.svg)\n",
        word("cpu"),
        machine["cores"],
        word("kernel"),
        word("rustc"),
        word("commit"),
        figures.markdown(),
        programs,
        markdown(cells),
    )
}

fn goodput(cells: &[Cell]) -> Plot {
    let columns: Vec<usize> = (0..TROUBLES.len()).filter(|c| TROUBLES[*c].reorder_percent == 0.0).collect();
    let value = |variant: Variant, column: usize| {
        let place = (variant, ROWS[DRAWN_ROW].0, TROUBLES[column]);
        cells.iter().find(|c| (c.variant, c.path, c.trouble) == place).map_or(0.0, |c| c.percent)
    };
    let lines = Variant::ALL.map(|v| (v.name().to_owned(), columns.iter().map(|c| value(v, *c)).collect()));
    Plot {
        title: format!("Goodput of one stream, {}, per cent", ROWS[DRAWN_ROW].0),
        x_label: "random loss",
        y_label: "%",
        places: columns.iter().map(|c| format!("{} %", TROUBLES[*c].loss_percent)).collect(),
        y_max: 105.0,
        lines: lines.into(),
    }
}

fn latency(figures: &Figures) -> Plot {
    let places = ["0", "10", "25", "50", "75", "90", "95", "99", "99.5", "99.9", "99.99"];
    let lines = figures.curves.iter().map(|(who, curve)| (who.clone(), curve.iter().map(|(_, us)| *us).collect()));
    Plot {
        title: "Round trips of 64 bytes on loopback, µs".into(),
        x_label: "per cent of round trips below",
        y_label: "µs",
        places: places.map(str::to_owned).into(),
        y_max: 300.0,
        lines: lines.collect(),
    }
}
