//! Owns the kinds of routers: how each maps and filters, in the terms of RFC 4787, as rules of `nft`.

use std::fmt;

/// Behaviour of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A public address, and nothing is filtered.
    None,
    /// A public address behind a firewall that lets in what was asked for.
    Firewall,
    /// Endpoint-independent mapping and filtering ("full cone").
    Full,
    /// Endpoint-independent mapping, address-dependent filtering.
    Address,
    /// Endpoint-independent mapping to another port, address-and-port-dependent filtering.
    Port,
    /// Linux' masquerading, as home routers have it: ports are kept where they are free.
    Masquerade,
    /// The same on a machine that takes packets itself (containers, hosts of virtual machines): one that nothing asked for makes a
    /// flow, and our own then gets another port.
    MasqueradeOpen,
    /// Address-and-port-dependent mapping, to ports one after the other.
    Sequential,
    /// The same, to random ports of a block of 512 (RFC 7422).
    Block,
    /// The same, to random ports.
    Random,
    /// Masquerading that lets no UDP pass, as in networks of companies and sandboxes.
    NoUdp,
}

/// Ports of the list from which [`Kind::Sequential`] takes them in turn.
const SEQUENCE: u32 = 2000;
/// Ports of a block.
const BLOCK: u32 = 512;
/// Time after which what is learned of a mapping is forgotten. Source: as a router that keeps RFC 4787 REQ-5.
const LEARNED: &str = "300s";

impl Kind {
    /// The kinds of the matrix. Those that are not among them behave like one that is.
    pub const MATRIX: [Self; 9] = [
        Self::None,
        Self::Full,
        Self::Address,
        Self::Port,
        Self::Masquerade,
        Self::MasqueradeOpen,
        Self::Sequential,
        Self::Block,
        Self::Random,
    ];
    const ALL: [(Self, &'static str); 11] = [
        (Self::None, "none"),
        (Self::Firewall, "fw"),
        (Self::Full, "full"),
        (Self::Address, "addr"),
        (Self::Port, "port"),
        (Self::Masquerade, "masq"),
        (Self::MasqueradeOpen, "masqopen"),
        (Self::Sequential, "symseq"),
        (Self::Block, "symblk"),
        (Self::Random, "sym"),
        (Self::NoUdp, "noudp"),
    ];

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// The names of all kinds.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|(_, name)| *name).collect()
    }

    /// True when the host has a public address itself.
    pub const fn is_public(self) -> bool {
        matches!(self, Self::None | Self::Firewall)
    }

    /// True when each destination sees another port, which the host cannot know in advance.
    const fn is_symmetric(self) -> bool {
        matches!(self, Self::Sequential | Self::Block | Self::Random)
    }

    /// True when the port that a destination sees is a matter of chance, so that many are tried at once.
    pub const fn is_random(self) -> bool {
        matches!(self, Self::Block | Self::Random)
    }

    /// True when a direct path is to be found between two such routers (`docs/paths.md`).
    pub fn meets(self, other: Self) -> bool {
        let pair = [self.min(other), self.max(other)];
        if pair.contains(&Self::NoUdp) {
            return false;
        }
        // Of two symmetric ones, both must be predictable.
        !(pair[0].is_symmetric() && pair[1].is_symmetric()) || pair == [Self::Sequential; 2]
    }

    /// The rules that map a flow of the net `lan` to the public address.
    fn mapping(self, public: &str, lan: &str, seed: u32) -> String {
        let own = seed % 20_000 + 20_000;
        let out = format!("oifname wan0 ip saddr {lan}");
        match self {
            Self::None | Self::Firewall => String::new(),
            Self::Full | Self::Address | Self::Masquerade | Self::MasqueradeOpen | Self::NoUdp => format!("{out} masquerade"),
            Self::Port => format!(
                "{out} meta l4proto udp snat ip to {public}:jhash ip saddr . udp sport mod 20000 seed {seed:#x} offset 20000
                 {out} masquerade"
            ),
            Self::Sequential => {
                let ports: Vec<String> = (0..SEQUENCE).map(|n| format!("{n}:{}", own + n)).collect();
                let ports = ports.join(", ");
                format!(
                    "{out} meta l4proto udp snat ip to {public}:numgen inc mod {SEQUENCE} map {{ {ports} }}
                     {out} masquerade"
                )
            }
            Self::Block => format!(
                "{out} meta l4proto udp snat ip to {public}:{own}-{} fully-random
                 {out} masquerade",
                own + BLOCK - 1
            ),
            Self::Random => format!("{out} masquerade fully-random"),
        }
    }

    /// The rules of such a router with this public address, for hosts of the net `lan`. `seed` decides ports.
    pub(super) fn rules(self, public: &str, lan: &str, seed: u32) -> String {
        let map = self.mapping(public, lan, seed);
        let learn = "meta l4proto udp update @mapped { udp sport timeout LEARNED : ct original ip saddr . ct original proto-src }";
        let (learn, undo) = match self {
            Self::Full => (format!("oifname wan0 {learn}"), "iifname wan0"),
            Self::Address => (
                format!(
                    "oifname wan0 {learn}
                     oifname wan0 meta l4proto udp update @asked {{ udp sport . ip daddr timeout LEARNED }}"
                ),
                "iifname wan0 udp dport . ip saddr @asked",
            ),
            _ => (String::new(), ""),
        };
        let learn = learn.replace("LEARNED", LEARNED);
        let undo = if undo.is_empty() {
            String::new()
        } else {
            format!("{undo} meta l4proto udp dnat to udp dport map @mapped")
        };
        let input = if self == Self::MasqueradeOpen { "accept" } else { "drop" };
        let block = if self == Self::NoUdp { "meta l4proto udp drop" } else { "" };
        let forward = if self == Self::None { "accept" } else { "drop" };
        format!(
            "flush ruleset
            table ip nat {{
                map mapped {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; size 65535; }}
                set asked {{ type inet_service . ipv4_addr; flags dynamic,timeout; size 65535; }}
                chain before {{ type nat hook prerouting priority dstnat; {undo}; }}
                chain behind {{ type nat hook postrouting priority srcnat; {map}; }}
                chain learn {{ type filter hook postrouting priority srcnat + 10; {learn}; }}
            }}
            table inet filter {{
                chain input {{
                    type filter hook input priority 0; policy {input};
                    iifname {{ lan0, lo }} accept
                    ct state established,related accept
                    icmp type echo-request accept
                }}
                chain block {{ type filter hook forward priority -10; {block}; }}
                chain forward {{
                    type filter hook forward priority 0; policy {forward};
                    iifname lan0 accept
                    ct state established,related accept
                    ct status dnat accept
                }}
            }}"
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_the_pairs_of_the_table() {
        let pairs = || Kind::MATRIX.into_iter().flat_map(|a| Kind::MATRIX.map(|b| (a, b)));
        assert_eq!(pairs().filter(|(a, b)| a.meets(*b)).count(), 81 - 8);
        assert!(pairs().all(|(a, b)| a.meets(b) == b.meets(a)));
        assert!(Kind::ALL.iter().all(|(kind, name)| Kind::parse(name) == Some(*kind)));
    }
}
