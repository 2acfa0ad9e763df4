//! Scratch
use pilot_tests::lab::table::*;
use pilot_tests::lab::*;
use pilot_core::Instant;
fn main() {
    for path in [] as [Path; 0] { for t in TROUBLES {
        let [mut a, mut b] = quic_pair(QuicController::Cubic);
        let c = bulk([&mut a, &mut b], &path, t, 20, 1).percent;
        let [mut a, mut b] = quic_pair(QuicController::Bbr);
        let d = bulk([&mut a, &mut b], &path, t, 20, 1).percent;
        let [mut a, mut b] = stock_pair(4 << 20, 1);
        let e = bulk([&mut a, &mut b], &path, t, 20, 1).percent;
        println!("{path} {t:?} quic cubic {c:.1} bbr {d:.1} stock {e:.1}");
    } }
    for seed in 1..2 { for (first, second) in [(0u64, 3000), (3000, 0), (0,0)] {
        let path = Path::new(100, 50);
        let shape = path.shape(TROUBLES[0]);
        let mut lab = Lab::new(shape, shape, seed);
        let [mut a, mut b] = pilot_pair(Work::BULK, Default::default(), seed);
        let [mut c, mut d] = quic_pair(QuicController::Cubic);
        let mut pairs = [Pair { ends: [&mut a, &mut b], start: Instant::from_micros(first*1000) }, Pair { ends: [&mut c, &mut d], start: Instant::from_micros(second*1000) }];
        let mut prev = [0u64; 2];
        for s in 1..=40 { lab.run(&mut pairs, Instant::from_micros(s * 5_000_000), |_| false);
            let now = [0,1].map(|i| pairs[i].ends[1].received().iter().sum::<u64>());
            let x = now[0] - prev[0]; let y = now[1] - prev[1]; prev = now;
            print!(" {:.0}", 100.0 * x as f64 / (x + y) as f64);
        }
        println!("   pilot share seed {seed} starts {first} {second}; whole {:.1}", 100.0 * prev[0] as f64 / (prev[0]+prev[1]) as f64);
    } }
}
