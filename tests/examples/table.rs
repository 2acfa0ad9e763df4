//! Scratch: the table.
use pilot_tests::lab::table::{ROWS, TROUBLES, median, pilot_cell};
use std::sync::Mutex;
fn main() {
    let n: u64 = std::env::args().nth(1).map_or(1, |s| s.parse().unwrap());
    let jobs: Vec<(usize, usize)> = (0..6).flat_map(|r| (0..5).map(move |c| (r, c))).rev().collect();
    let jobs = Mutex::new(jobs);
    let out = Mutex::new([[0.0f64; 5]; 6]);
    std::thread::scope(|s| for _ in 0..2 { s.spawn(|| loop {
        let Some((r, c)) = jobs.lock().unwrap().pop() else { return };
        let v = median((1..=n).map(|seed| pilot_cell(&ROWS[r].0, TROUBLES[c], seed)).collect());
        out.lock().unwrap()[r][c] = v;
    }); });
    let out = out.into_inner().unwrap();
    for (r, row) in out.iter().enumerate() {
        print!("{:20}", ROWS[r].0.to_string());
        for (c, v) in row.iter().enumerate() { print!(" {:6.1}{}({})", v, if *v < ROWS[r].1[c] { "!!" } else { "  " }, ROWS[r].1[c]); }
        println!();
    }
}
