//! Criterion benches of the packet path: every step of a datagram by itself, and the whole way out and in.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pilot_bench::Pair;
use pilot_core::Instant as Moment;
use pilot_core::aead::{AeadProvider, PORTABLE, TAG_LEN};
use pilot_core::agreement::{self, KeyAgreement, KeyPair};
use pilot_core::link::cc::{AckSample, Controller as _, TolerantCubic};
use pilot_core::link::frame::{Frame, Frames, emit_ack, emit_packet};
use pilot_core::noise::{Initiation, Received, StaticShared};
use pilot_core::rng::Rng;
use pilot_core::tunnel::kem;
use pilot_core::tunnel::replay::ReplayWindow;
use pilot_core::wire::{Counter, Datagram, RemoteIndex, emit_data_header};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn codecs(c: &mut Criterion) {
    let mut datagram = [0u8; 1400];
    let mut emit = || emit_data_header(black_box(&mut datagram[..16]), RemoteIndex(7), Counter(99));
    emit();
    c.bench_function("datagram_emit_header", |b| b.iter(&mut emit));
    c.bench_function("datagram_parse", |b| b.iter(|| black_box(Datagram::parse(black_box(&datagram))).is_ok()));

    let (segment, mut frames) = ([7u8; 1360], Vec::new());
    let ranges: Vec<(u64, u64)> = (0..32).map(|i| (100_000 - 10 * i, 100_005 - 10 * i)).collect();
    c.bench_function("frame_emit_packet", |b| {
        b.iter(|| {
            frames.clear();
            emit_packet(&mut frames, true, true, black_box(&segment));
        });
    });
    let packet = frames.clone();
    c.bench_function("frame_emit_ack_32_ranges", |b| {
        b.iter(|| {
            frames.clear();
            emit_ack(&mut frames, None, 25, black_box(&ranges).iter().copied());
        });
    });
    c.bench_function("frame_parse_packet", |b| b.iter(|| Frames::new(black_box(&packet)).flatten().count()));
    c.bench_function("frame_parse_ack_32_ranges", |b| {
        b.iter(|| match Frames::new(black_box(&frames)).next() {
            Some(Ok(Frame::Ack(ack))) => ack.ranges().map(|range| range.end() - range.start()).sum::<u64>(),
            other => panic!("{other:?}"),
        });
    });
}

fn ciphers(c: &mut Criterion) {
    let portable: &dyn AeadProvider = &PORTABLE;
    for (which, provider) in [("portable", portable), ("node", pilot_node::fastest_aead())] {
        let key = provider.key(&[7; 32]);
        let mut group = c.benchmark_group(format!("cipher_{which}"));
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
}

/// Measures the work of each side of a key handshake that the other side waits for.
fn exchange(c: &mut Criterion) {
    let portable: &dyn KeyAgreement = &agreement::PORTABLE;
    for (which, agreement) in [("portable", portable), ("node", pilot_node::fastest_agreement())] {
        let pair = |byte: u8| KeyPair::new(agreement, [byte; 32]);
        let (ours, theirs) = (pair(1), pair(2));
        let shared = StaticShared::new(&ours, theirs.public()).expect("honest keys");
        let (psk, stamp) = ([3; 32], [0; 12]);
        let write = |ephemeral| {
            Initiation::write(b"bench", ours.public(), (theirs.public(), &shared), ephemeral, &stamp)
                .expect("honest keys")
        };
        let (initiation, first) = write(pair(4));
        let read = || Received::read(b"bench", &theirs, &first, |_| Some(shared.clone())).expect("valid");
        let (_, second) = read().respond(&pair(5), &psk, (&[], &[])).expect("valid");

        let mut group = c.benchmark_group(format!("exchange_{which}"));
        group.bench_function("x25519", |b| b.iter(|| ours.agree(black_box(theirs.public()))));
        group.bench_function("key_pair", |b| b.iter(|| pair(black_box(4))));
        group.bench_function("initiator_asks", |b| b.iter_batched(|| pair(4), write, BatchSize::SmallInput));
        group.bench_function("responder_reads", |b| b.iter(read));
        group.bench_function("responder_answers", |b| {
            let made = pair(5);
            b.iter_batched(read, |received| received.respond(&made, &psk, (&[], &[])).is_ok(), BatchSize::SmallInput)
        });
        group.bench_function("initiator_finishes", |b| {
            b.iter(|| initiation.finish(&ours, &psk, (&[], black_box(&second))).is_ok())
        });
        group.finish();
    }
}

/// Measures what ML-KEM adds to the first session of a pair; messages and their sizes stand in `docs/wire.md`, "KEM".
fn first_session(c: &mut Criterion) {
    let mut entropy = Rng::entropy([7; 32]);
    let offer = kem::Offer::draw(&mut *entropy);
    let key = offer.public();
    let (answer, _) = kem::answer(&key, &[1; 32]).expect("an honest key");
    let mut group = c.benchmark_group("kem");
    group.bench_function("offer", |b| b.iter(|| kem::Offer::draw(&mut *entropy).public()));
    group.bench_function("answer", |b| b.iter(|| kem::answer(black_box(&key), &[1; 32]).is_some()));
    group.bench_function("open", |b| b.iter(|| offer.open(black_box(&answer))));
    group.finish();
}

fn bookkeeping(c: &mut Criterion) {
    c.bench_function("replay_window_accept", |b| {
        let (mut window, mut counter) = (ReplayWindow::default(), 0);
        b.iter(|| {
            counter += 1;
            black_box(window.accept(Counter(counter)))
        });
    });
    c.bench_function("controller_on_ack", |b| {
        let (mut controller, mut number) = (TolerantCubic::new(1400), 0);
        b.iter(|| {
            number += 2;
            let rtt = Duration::from_micros(20_000 + number % 64 * 10);
            controller.on_ack(&AckSample {
                now: Moment::from_micros(number * 24),
                bytes: 2800,
                rtt: Some(rtt),
                srtt: rtt,
                largest: number,
                next: number + 800,
                app_limited: false,
                delivery_rate: 100_000_000,
            });
            black_box((controller.window(), controller.pacing_rate()))
        });
    });
}

/// Measures the time of the way out (write, TCP, link, seal) or in (open, link, TCP, read) while a stream is kept full. The
/// time of acknowledgements and other work is not counted.
fn stream(out: bool, bytes: u64) -> Duration {
    const CHUNK: usize = 64 * 1024;
    let (mut pair, chunk, mut buffer) = (Pair::new(pilot_node::fastest_aead()), vec![7u8; CHUNK], vec![0u8; CHUNK]);
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
        pair.exchange();
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

criterion_group!(benches, codecs, ciphers, exchange, first_session, bookkeeping, paths);
criterion_main!(benches);
