//! Owns the links between hosts: delay, loss, reordering, duplication and damage of datagrams.

use pilot_core::Instant;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Conditions of every link, in each direction.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// One-way delay.
    pub delay: Duration,
    /// Random loss. Unit: per mille.
    pub loss: u64,
    /// Datagrams that are late by up to `reorder_by`. Unit: per mille.
    pub reorder: u64,
    /// Longest extra delay of a late datagram.
    pub reorder_by: Duration,
    /// Datagrams that arrive twice. Unit: per mille.
    pub duplicate: u64,
    /// Datagrams with a flipped bit. Unit: per mille.
    pub corrupt: u64,
    /// Rate of each host's uplink. Unit: bits per second; `None`: unlimited.
    pub rate: Option<u64>,
    /// Queue in front of the uplink. Unit: bytes.
    pub queue: usize,
    /// Longest datagram that arrives. Unit: bytes of UDP payload.
    pub mtu: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            loss: 0,
            reorder: 0,
            reorder_by: Duration::from_millis(5),
            duplicate: 0,
            corrupt: 0,
            rate: None,
            queue: 1 << 20,
            mtu: 1472,
        }
    }
}

/// Bytes that IP and UDP add on the wire.
const HEADERS_LEN: usize = 28;

/// Decides when, how often and how damaged a datagram arrives.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) conditions: Conditions,
    /// How much farther away hosts are than others, in the direction from them.
    pub(crate) farther: BTreeMap<IpAddr, Duration>,
    /// Time at which each host's uplink is free again.
    free_at: BTreeMap<IpAddr, Instant>,
}

impl Network {
    /// Returns the arrivals of one datagram: none, one or two.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        from: IpAddr,
        datagram: &[u8],
        rng: &mut Rng,
    ) -> Vec<(Instant, Vec<u8>)> {
        let c = &self.conditions;
        if datagram.len() > c.mtu {
            return Vec::new();
        }
        let mut leaves = now;
        if let Some(rate) = c.rate {
            let free = self.free_at.entry(from).or_insert(now);
            let start = (*free).max(now);
            let waiting = start.since(now).as_micros() as u64 * rate / 8_000_000;
            if waiting as usize > c.queue {
                return Vec::new(); // drop-tail
            }
            let bits = (datagram.len() + HEADERS_LEN) as u64 * 8;
            leaves = start + Duration::from_micros((bits * 1_000_000).div_ceil(rate));
            *free = leaves;
        }
        let mut arrivals = Vec::new();
        for copy in 0..2 {
            if (copy == 1 && rng.below(1000) >= c.duplicate) || rng.below(1000) < c.loss {
                continue;
            }
            let mut bytes = datagram.to_vec();
            if rng.below(1000) < c.corrupt {
                let bit = rng.below(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let late = if rng.below(1000) < c.reorder {
                Duration::from_micros(rng.below(c.reorder_by.as_micros() as u64))
            } else {
                Duration::ZERO
            };
            let farther = self.farther.get(&from).copied().unwrap_or_default();
            arrivals.push((leaves + c.delay + farther + late, bytes));
        }
        arrivals
    }
}
