//! Owns the output of a stack: batches of datagrams, events, and the next deadline.

use super::{Event, Reason, Stack};
use crate::peer_stack::Egress;
use alloc::vec::Vec;
use pilot_core::endpoint::Transmit;
use pilot_core::time::earliest;
use pilot_core::{Instant, PeerId};

impl Stack {
    /// Fills `out` with the next batch of datagrams for one destination; `None` when there is nothing to send. Work is
    /// bounded by the room in the links of peers with something to send; idle peers are not looked at.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        // A verb of the endpoint may have ended tunnels, or withdrawn ports.
        self.settle_input(now);
        while let Some(peer) = self.shared.agenda.next_sending() {
            self.poll_egress(now, peer);
        }
        let transmit = self.endpoint.poll_transmit(now, out)?;
        // The batch made room in its peer's link.
        self.shared.agenda.unblock();
        Some(transmit)
    }

    /// The next event; `None` when there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            if matches!(event, Event::Datagram { .. }) {
                debug_assert!(self.datagrams_waiting > 0, "every datagram was counted");
                self.datagrams_waiting = self.datagrams_waiting.saturating_sub(1);
            }
            return Some(event);
        }
        self.shared.agenda.next_stream().map(Event::Stream)
    }

    /// When [`Stack::handle_timeout`] has something to do, and why. Drain the other outputs first.
    pub fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        let tcp = self.shared.agenda.first_deadline().map(|(at, peer)| (at, Reason::Tcp(peer)));
        earliest(tcp, self.endpoint.poll_timeout().map(|(at, why)| (at, Reason::Endpoint(why))))
    }

    /// Lets a peer's flows hand segments to its link.
    fn poll_egress(&mut self, now: Instant, peer: PeerId) {
        let (config, endpoint, shared) = (&self.config, &mut self.endpoint, &mut self.shared);
        let egress = self.slots.with_stack(peer, |stack| {
            if stack.has_waiting() {
                match endpoint.srtt(peer) {
                    Some(rtt) => stack.connect_waiting(config, rtt, shared),
                    None => endpoint.reach(now, peer),
                }
            }
            let len_max = endpoint.segment_len_max(peer);
            let egress = endpoint.with_link(peer, |link| stack.poll_egress(now, len_max, link, shared));
            let egress = egress.unwrap_or_else(|| stack.poll_without_peer(now, shared));
            if egress == Egress::Done {
                stack.note_unlisted();
            }
            egress
        });
        match egress {
            Some(Egress::Blocked) => self.shared.agenda.add_blocked(peer),
            Some(Egress::Idle) => {
                self.slots.remove(peer);
                self.endpoint.set_in_use(now, peer, false);
            }
            Some(Egress::Done) | None => {}
        }
        self.hand_out_arrivals(now);
    }
}
