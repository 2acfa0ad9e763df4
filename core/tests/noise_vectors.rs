//! The key handshake agrees with the published cacophony vectors and, message by message, with `snow`.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::agreement::{KeyPair, PORTABLE};
use pilot_core::noise::{Initiation, Received, StaticShared};
use serde_json::Value;

const NAME: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

/// The prologue of an INIT with sender index 7: the protocol's name and the datagram's header.
const PROLOGUE: [u8; 20] = *b"pilot PN1 v2\x01\x02\0\0\x07\0\0\0";

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn key(value: &Value) -> [u8; 32] {
    hex(value).try_into().unwrap()
}

#[test]
fn published_vectors_agree() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("noise_ikpsk2_vectors.json")).unwrap();
    assert!(!vectors.is_empty());
    for v in &vectors {
        let prologue = hex(&v["init_prologue"]);
        let psk = key(&v["init_psks"][0]);
        let (init_pair, resp_pair) = (pair(key(&v["init_static"])), pair(key(&v["resp_static"])));
        let (messages, remote) = (v["messages"].as_array().unwrap(), key(&v["init_remote_static"]));

        let (waiting, first) = Initiation::write(
            &prologue,
            init_pair.public(),
            (&remote, &StaticShared::new(&init_pair, &remote).unwrap()),
            pair(key(&v["init_ephemeral"])),
            &hex(&messages[0]["payload"]),
        )
        .unwrap();
        assert_eq!(first, hex(&messages[0]["ciphertext"]));

        let received = Received::read(&prologue, &resp_pair, &first, |_| None).unwrap();
        assert_eq!(received.payload, hex(&messages[0]["payload"]));
        let (resp_keys, second) =
            received.respond(&pair(key(&v["resp_ephemeral"])), &psk, (&[], &hex(&messages[1]["payload"]))).unwrap();
        assert_eq!(second, hex(&messages[1]["ciphertext"]));

        let (init_keys, payload) = waiting.finish(&init_pair, &psk, (&[], &second)).unwrap();
        assert_eq!(payload, hex(&messages[1]["payload"]));
        assert_eq!((init_keys.send, init_keys.receive), (resp_keys.receive, resp_keys.send));
        assert!(waiting.finish(&init_pair, &[0; 32], (&[], &second)).is_err(), "another pair secret is refused");
    }
}

/// The payloads have the sizes of an INIT's and a RESP's (`docs/wire.md`, "Datagrams"). What a RESP mixes in of its header
/// is left out: the published handshake has nothing there.
#[test]
fn snow_understands_both_messages() {
    let (ours, theirs, psk) = ([1u8; 32], [2u8; 32], [3u8; 32]);
    let (init_payload, resp_payload): ([u8; 21], [u8; 9]) =
        (std::array::from_fn(|i| i as u8), *b"\x06\x05\x04\x03\x02\x01\x02\x01\x81");
    for we_initiate in [true, false] {
        let builder = snow::Builder::new(NAME.parse().unwrap());
        let builder = builder.local_private_key(&theirs).unwrap().psk(2, &psk).unwrap().prologue(&PROLOGUE).unwrap();
        let mut buf = [0u8; 256];
        if we_initiate {
            let mut snow = builder.build_responder().unwrap();
            let to = (pair(theirs), shared(ours, theirs));
            let to = (to.0.public(), &to.1);
            let (waiting, first) =
                Initiation::write(&PROLOGUE, pair(ours).public(), to, pair([9; 32]), &init_payload).unwrap();
            assert_eq!(8 + first.len() + 32, 157, "an INIT with its header and macs");
            let n = snow.read_message(&first, &mut buf).unwrap();
            assert_eq!(buf[..n], init_payload);
            let n = snow.write_message(&resp_payload, &mut buf).unwrap();
            assert_eq!(12 + n + 32, 101, "a RESP with its header and macs");
            let (keys, payload) = waiting.finish(&pair(ours), &psk, (&[], &buf[..n])).unwrap();
            assert_eq!(payload, resp_payload);
            assert_eq!(snow.dangerously_get_raw_split(), (keys.send, keys.receive));
        } else {
            let mut snow = builder.remote_public_key(pair(ours).public()).unwrap().build_initiator().unwrap();
            let n = snow.write_message(&init_payload, &mut buf).unwrap();
            let known = |key: &[u8; 32]| (*key == *pair(theirs).public()).then(|| shared(ours, theirs));
            let received = Received::read(&PROLOGUE, &pair(ours), &buf[..n], known).unwrap();
            assert_eq!((received.initiator, &received.payload[..]), (*pair(theirs).public(), &init_payload[..]));
            let (keys, second) = received.respond(&pair([8; 32]), &psk, (&[], &resp_payload)).unwrap();
            let n = snow.read_message(&second, &mut buf).unwrap();
            assert_eq!(buf[..n], resp_payload);
            assert_eq!(snow.dangerously_get_raw_split(), (keys.receive, keys.send));
        }
    }
}

fn pair(secret: [u8; 32]) -> KeyPair {
    KeyPair::new(&PORTABLE, secret)
}

fn shared(ours: [u8; 32], theirs: [u8; 32]) -> StaticShared {
    StaticShared::new(&pair(ours), pair(theirs).public()).expect("honest keys")
}

#[test]
fn changed_messages_and_low_order_points_are_refused() {
    let (a, b): ([u8; 32], [u8; 32]) = ([1; 32], [2; 32]);
    let (from, own) = (pair(a), pair(b));
    let (_, first) =
        Initiation::write(&PROLOGUE, from.public(), (own.public(), &shared(a, b)), pair([9; 32]), b"stamp").unwrap();
    for i in 0..first.len() {
        let mut bad = first.clone();
        bad[i] ^= 0x10;
        assert!(Received::read(&PROLOGUE, &own, &bad, |_| None).is_err(), "byte {i}");
    }
    assert!(Received::read(&PROLOGUE, &own, &first, |_| Some(shared(b, [3; 32]))).is_err(), "another pair's");
    for i in 0..PROLOGUE.len() {
        let mut other = PROLOGUE;
        other[i] ^= 1;
        assert!(Received::read(&other, &own, &first, |_| None).is_err(), "byte {i} of the prologue");
    }
    let low_order = [0; 32];
    assert!(StaticShared::new(&from, &low_order).is_none());
    assert!(Initiation::write(&PROLOGUE, from.public(), (&low_order, &shared(a, b)), pair([9; 32]), b"").is_err());
}

#[test]
fn what_precedes_the_answer_cannot_be_changed() {
    let (a, b, psk) = ([1; 32], [2; 32], [3; 32]);
    let (from, own) = (pair(a), pair(b));
    let (waiting, first) =
        Initiation::write(&PROLOGUE, from.public(), (own.public(), &shared(a, b)), pair([9; 32]), b"stamp").unwrap();
    let received = Received::read(&PROLOGUE, &own, &first, |_| None).unwrap();
    let header = *b"\x02\x02\0\0\x08\0\0\0\x07\0\0\0";
    let (keys, second) = received.respond(&pair([8; 32]), &psk, (&header, b"")).unwrap();
    for bit in 0..8 * header.len() {
        let mut bad = header;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(waiting.finish(&from, &psk, (&bad, &second)).is_err(), "bit {bit}");
    }
    let (ours, _) = waiting.finish(&from, &psk, (&header, &second)).unwrap();
    assert_eq!(ours.send, keys.receive);
}
