//! Owns where the two sides of a measurement are, on this machine or in two namespaces that a bad link joins, and the
//! processes there: a part prints `ready DETAILS` and ends with its standard input.

use crate::compare::{Side, sh};
use crate::contest::Outcome;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

/// Queue of the kernel's filter that a side's incoming packets wait in.
pub(super) const QUEUE: u16 = 7;

/// Says that a part serves, and ends the process with its standard input.
pub(super) fn say_ready_until_end(details: &str) {
    println!("ready {details}");
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // An input that fails has ended, too.
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        std::process::exit(0);
    });
}

/// Starts a part on one side of a place; returns it with what it said after `ready`.
pub(super) fn part(place: &Place, side: usize, arguments: &[&str]) -> Outcome<(Side, String)> {
    let mut command = place.command(side, &std::env::current_exe()?);
    command.arg("part").args(arguments).env("MALLOC_MMAP_THRESHOLD_", "131072"); // as `pilotctl daemon start` sets it
    let mut started = Side::start(command)?;
    let details = started.expect("ready")?;
    Ok((started, details))
}

/// Two sides, near and far.
pub(super) struct Place {
    /// Namespaces of the two sides; none on this machine itself.
    namespaces: Vec<String>,
    addresses: [IpAddr; 2],
    links: Vec<Side>,
}

impl Place {
    pub(super) fn here() -> Self {
        Self { namespaces: Vec::new(), addresses: [IpAddr::from(Ipv4Addr::LOCALHOST); 2], links: Vec::new() }
    }

    /// Makes two namespaces joined by virtual cards, and a link emulator in each for what arrives there, so that no sender
    /// sees the emulator's queue as its own.
    ///
    /// # Errors
    /// Where this is not allowed, or a tool is missing.
    pub(super) fn apart(seed: u64) -> Outcome<Self> {
        let addresses = [1, 2].map(|number| IpAddr::from([10, 78, 0, number]));
        let mut place = Self { namespaces: Vec::new(), addresses, links: Vec::new() };
        for side in ["near", "far"] {
            let namespace = format!("pilot-{}-{side}", std::process::id());
            sh(&format!("ip netns add {namespace}"))?;
            place.namespaces.push(namespace);
        }
        let [near, far] = &place.namespaces[..] else { return Err("two namespaces were made".into()) };
        sh(&format!("ip link add card netns {near} type veth peer name card netns {far}"))?;
        for (namespace, address) in place.namespaces.iter().zip(addresses) {
            sh(&format!("ip -n {namespace} addr add {address}/24 dev card"))?;
            sh(&format!("ip -n {namespace} link set card up && ip -n {namespace} link set lo up"))?;
            // A packet of the emulator is one of the link, and not a burst that the kernel holds together.
            let off = "tx off rx off tso off gso off gro off tx-udp-segmentation off";
            sh(&format!("ip netns exec {namespace} ethtool -K card {off}"))?;
            let hook = format!("iptables -t mangle -A INPUT -i card -j NFQUEUE --queue-num {QUEUE}");
            sh(&format!("ip netns exec {namespace} {hook}"))?;
        }
        for side in 0..2 {
            let seed = (2 * seed + side as u64 + 1).to_string();
            let link = part(&place, side, &["link", "--seed", &seed])?.0;
            place.links.push(link);
        }
        Ok(place)
    }

    /// Returns the address of a side.
    pub(super) fn address(&self, side: usize) -> IpAddr {
        self.addresses[side]
    }

    /// Returns a command that runs a program on a side.
    pub(super) fn command(&self, side: usize, program: &Path) -> Command {
        match self.namespaces.get(side) {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.links.clear();
        // The cards go with their namespaces.
        self.namespaces.iter().for_each(|namespace| drop(sh(&format!("ip netns del {namespace}"))));
    }
}
