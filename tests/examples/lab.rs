//! Scratch: one cell of the table. `lab MBIT RTT LOSS REORDER SEED`
use pilot_tests::lab::table::{Path, Trouble, bulk, SECONDS};
use pilot_tests::lab::{Work, pilot_pair};
use pilot_stack::StackConfig;
fn main() {
    let a: Vec<f64> = std::env::args().skip(1).map(|s| s.parse().unwrap()).collect();
    let g = |i: usize, d: f64| a.get(i).copied().unwrap_or(d);
    let path = Path { mbit: g(0, 100.0) as u64, rtt_ms: g(1, 50.0) as u64, queue: g(6, 1.0) };
    let t = Trouble { loss_percent: g(2, 0.0), reorder_percent: g(3, 0.0) };
    let n = g(4, 1.0) as u64;
    let secs = g(5, SECONDS as f64) as u64;
    for seed in 1..=n {
        let begin = std::time::Instant::now();
        let [mut x, mut y] = pilot_pair(Work::BULK, StackConfig { ring_len_max: std::env::var("BUF").map_or(32, |s| s.parse::<usize>().unwrap()) << 20, ..StackConfig::default() }, seed);
        let r = bulk([&mut x, &mut y], &path, t, secs, seed);
        let now = pilot_core::Instant::from_micros(1);
        let peer = x.stack.endpoint().peers().next().unwrap();
        let i = x.stack.endpoint().peer_info(now, peer).unwrap();
        println!("{path} {t:?}: {:.1} % wait {:?} cpu {:?} win {} srtt {:?} min {:?} link {:?} dlen {}", r.percent, r.median_wait, begin.elapsed(), i.window, i.srtt, i.min_rtt, i.link, i.datagram_len);
    }
}
