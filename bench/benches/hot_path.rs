//! Criterion benches of the packet path: the cipher, and the whole way out and in through the stack.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pilot_bench::Pair;
use pilot_core::aead::{AeadProvider, PORTABLE, TAG_LEN};
use pilot_core::tunnel::replay::ReplayWindow;
use std::hint::black_box;
use std::time::{Duration, Instant};

fn cipher(c: &mut Criterion) {
    let key = PORTABLE.key(&[7; 32]);
    let mut group = c.benchmark_group("cipher_portable");
    for len in [64usize, 512, 1200, 1400, 8192, 65_000] {
        group.throughput(Throughput::Bytes(len as u64));
        let mut buffer = vec![0u8; len + TAG_LEN];
        group.bench_function(BenchmarkId::new("seal", len), |b| {
            b.iter(|| key.seal(1, &[0; 16], black_box(&mut buffer)))
        });
        key.seal(1, &[0; 16], &mut buffer);
        let sealed = buffer.clone();
        group.bench_function(BenchmarkId::new("open", len), |b| {
            b.iter(|| {
                buffer.copy_from_slice(&sealed);
                assert!(key.open(1, &[0; 16], black_box(&mut buffer)));
            });
        });
    }
    group.finish();
}

fn replay(c: &mut Criterion) {
    c.bench_function("replay_window_accept", |b| {
        let (mut window, mut counter) = (ReplayWindow::default(), 0);
        b.iter(|| {
            counter += 1;
            black_box(window.accept(counter))
        });
    });
}

/// Time spent on the way out (write, TCP, link, seal) or in (open, link, TCP, read) while a stream is kept full.
fn stream(out: bool, bytes: u64) -> Duration {
    const CHUNK: usize = 64 * 1024;
    let (mut pair, chunk, mut buffer) = (Pair::new(&PORTABLE), vec![7u8; CHUNK], vec![0u8; CHUNK]);
    let (mut received, mut measured) = (0, Duration::ZERO);
    while received < bytes {
        let begin = Instant::now();
        pair.send(&chunk);
        let mut batches = Vec::new();
        while let Some(batch) = pair.poll_transmit(0) {
            batches.push(batch);
        }
        let middle = Instant::now();
        for (transmit, mut batch) in batches {
            pair.deliver(1, transmit, &mut batch);
        }
        received += pair.recv(&mut buffer) as u64;
        measured += if out { middle - begin } else { middle.elapsed() };
        pair.exchange(); // acknowledgements, unmeasured
    }
    measured
}

fn paths(c: &mut Criterion) {
    let mut group = c.benchmark_group("path_64k");
    group.throughput(Throughput::Bytes(64 * 1024)).sample_size(20);
    for (name, out) in [("out", true), ("in", false)] {
        group.bench_function(name, |b| b.iter_custom(|iterations| stream(out, iterations * 64 * 1024)));
    }
    group.finish();
}

criterion_group!(benches, cipher, replay, paths);
criterion_main!(benches);
