use pilot_tests::lab::*;
use pilot_core::Instant;
use std::time::Instant as I;
fn main() {
    for _ in 0..3 {
    let mut s = befriended(&pilot_core::aead::PORTABLE, Default::default(), 1);
    s[1].listen(1000).unwrap();
    let t = Instant::from_micros(1000);
    let peer = s[0].endpoint().peers().next().unwrap();
    let b = I::now();
    let _ = s[0].connect(t, peer, 1000).unwrap();
    println!("connect {:?}", b.elapsed());
    let mut batch = Vec::new();
    for round in 0..6 {
        for side in 0..2 {
            loop {
                let b = I::now();
                let Some(tr) = s[side].poll_transmit(t, &mut batch) else { println!("r{round} s{side} poll none {:?}", b.elapsed()); break };
                println!("r{round} s{side} transmit {:?} {} bytes type {}", b.elapsed(), batch.len(), batch[0]);
                let b = I::now();
                s[1-side].handle_batch(t, underlay(side), &mut batch, tr.segment_len);
                println!("r{round} s{} handle {:?}", 1-side, b.elapsed());
                while let Some(e) = s[1-side].poll_event() { println!("   event {:.60}", format!("{e:?}")); }
            }
        }
    }
    println!("-----");
    }
}
