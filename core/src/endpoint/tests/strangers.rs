//! What strangers can do to a rendezvous with a session of their own.

use super::super::hoard;
use super::*;
use crate::aead::{PORTABLE, TAG_LEN};
use crate::agreement::{self, KeyPair};
use crate::codec::Put as _;
use crate::link::frame;
use crate::tunnel::handshake::{Age, Incarnation, Introduction, NO_PSK};
use crate::tunnel::session::{Ends, Indexes, Session, Side};
use crate::tunnel::stance::Stance;
use crate::wire::DATA_HEADER_LEN;

/// A rendezvous with one stranger that speaks whatever frames the test wants.
struct Stranger {
    rendezvous: Endpoint,
    session: Session,
    addr: SocketAddr,
    now: Instant,
}

impl Stranger {
    /// `number` names the stranger; the rendezvous is made when there is none yet.
    fn new(rendezvous: Option<Endpoint>, number: u16) -> Self {
        let mut rendezvous = rendezvous.unwrap_or_else(|| {
            let mut config = Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32]));
            config.strangers = Strangers::Serve { max: 1000 };
            Endpoint::new(config)
        });
        let own = Identity::from_seed([number.to_le_bytes(); 16].concat().try_into().expect("32 bytes"));
        let responder = rendezvous.identity().static_key();
        let opening = Opening {
            responder: &responder,
            shared: &StaticShared::new(own.static_pair(), &responder.0).expect("an honest key"),
            local_index: LocalIndex(7),
            stamp: &tai64n(WALL_US),
            own: Introduction { incarnation: Incarnation([number as u8; 6]), age: Age(0), stance: Stance::new(false) },
            cookie: None,
        };
        let ephemeral = KeyPair::new(&agreement::PORTABLE, [number as u8; 32]);
        let pending = Pending::start(&own, &opening, ephemeral).expect("an honest key");
        let addr = SocketAddr::from(([198, 51, (number >> 8) as u8, number as u8], 4000));
        let now = Instant::ZERO + Duration::from_millis(10 * u64::from(number));
        rendezvous.handle_timeout(now);
        rendezvous.handle_datagram(now, addr, &mut pending.datagram.clone(), &mut NoSink).expect("a valid INIT");
        let mut out = Vec::new();
        while out.len() != RESP_LEN {
            rendezvous.poll_transmit(now, &mut out).expect("a RESP");
        }
        let resp: [u8; RESP_LEN] = out.try_into().expect("its length");
        let (remote, introduction, keys) = pending.finish(&own, (&NO_PSK, None), &resp).expect("valid");
        let indexes = Indexes { local: LocalIndex(7), remote };
        let session = Session::new(&PORTABLE, &keys, indexes, Side::Initiator, now).of(introduction, Ends::Rendezvous);
        let mut stranger = Self { rendezvous, session, addr, now };
        let record = NodeRecord::sign(&own, Addr::default(), &Profile::default(), 1).emit();
        let mut hello = Vec::new();
        hello.put_bytes(&record);
        let mut frames = Vec::new();
        frame::emit_hello(&mut frames, &hello);
        stranger.say(&frames).expect("introduced");
        stranger
    }

    fn say(&mut self, frames: &[u8]) -> Result<(), Discard> {
        let mut datagram = vec![0; DATA_HEADER_LEN];
        datagram.extend(frames);
        datagram.resize(datagram.len() + TAG_LEN, 0);
        self.session.seal(&mut datagram);
        self.rendezvous.handle_datagram(self.now, self.addr, &mut datagram, &mut NoSink)
    }

    fn control(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Discard> {
        let mut frames = Vec::new();
        frame::emit_control(&mut frames, offset, bytes);
        self.say(&frames)
    }
}

/// Found by an attack that filled a rendezvous with 1.5 GB in 18 s: after an impossible length every byte was kept.
#[test]
fn a_broken_control_stream_ends_the_tunnel() {
    for (offset, bytes) in [(0, &[0xff; 8][..]), (0, &[0; 4]), (1 << 40, b"x"), (u64::MAX - 3, b"xxx")] {
        let mut stranger = Stranger::new(None, 1);
        assert_eq!(stranger.rendezvous.peers().count(), 1);
        assert_eq!(stranger.control(offset, bytes), Err(Discard::Malformed), "{offset} {bytes:?}");
        assert_eq!(stranger.rendezvous.peers().count(), 0, "a stranger is forgotten");
        assert_eq!(stranger.control(8, &[1; 1000]), Err(Discard::UnknownIndex));
    }
}

#[test]
fn strangers_hold_no_more_than_their_pool_however_many_they_are() {
    let mut rendezvous = None;
    for number in 0..600 {
        let mut stranger = Stranger::new(rendezvous.take(), 300 + number);
        stranger.control(130_000, &[9; 1000]).expect("a piece within the window");
        let (held, max) = (stranger.rendezvous.held_len(), stranger.rendezvous.held_len_max());
        assert!(held <= max, "{held} bytes of {max}");
        rendezvous = Some(stranger.rendezvous);
    }
    let mut rendezvous = rendezvous.expect("one");
    let left = rendezvous.peers().count();
    assert!((480..600).contains(&left) && rendezvous.held_len() > hoard::POOL * 9 / 10, "{left} strangers are left");
    let resets = core::iter::from_fn(|| rendezvous.poll_event()).filter(|e| matches!(e, Event::Reset(..))).count();
    assert_eq!(left + resets, 600, "the others have lost their tunnels");
}
