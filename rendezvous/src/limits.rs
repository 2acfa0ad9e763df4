//! Owns the sizes of all tables of a rendezvous.

use pilot_core::trust::PINS_MAX;

/// Most of everything that a rendezvous keeps. Tests choose small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registered nodes. Source: `docs/trust.md, "Registry"`.
    pub nodes: usize,
    /// Connected clients, registered or not.
    pub clients: usize,
    /// Identities that one client may let open relay channels. Source: the most pins of a node.
    pub grants_per_node: usize,
    /// The same of all nodes together.
    pub grants: usize,
    /// Letters that wait for one node. Those of senders without a grant of the recipient fill at most half.
    pub letters_per_node: usize,
    /// Letters from one sender that wait for one node: requests, answers and revocations together.
    pub letters_per_sender: usize,
    /// Letters of strangers from one network that wait for one node. Source: the requests of one that the node itself keeps.
    pub letters_per_source: usize,
    /// All letters. Unit: bytes.
    pub letters_len: usize,
    /// Time after which a letter that was not taken is dropped. Unit: seconds.
    pub letter_age_s: u64,
    /// Relay channels: two for each pair.
    pub channels: usize,
    /// Datagrams that wait to be relayed. Unit: bytes.
    pub forward_len: usize,
    /// Sources of first registrations that are remembered.
    pub sources: usize,
    /// First registrations that one source may make at once.
    pub registrations_per_source: u64,
}

/// How full the tables of a rendezvous are, for those that watch them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Registered nodes.
    pub nodes: usize,
    /// Connected clients, registered or not.
    pub clients: usize,
    /// Grants of all nodes together.
    pub grants: usize,
    /// Letters of the fullest mailbox.
    pub letters_per_node: usize,
    /// All letters. Unit: bytes.
    pub letters_len: usize,
    /// Relay channels.
    pub channels: usize,
    /// Datagrams that wait to be relayed. Unit: bytes.
    pub forward_len: usize,
    /// Sources of first registrations that are remembered.
    pub sources: usize,
}

impl Limits {
    /// Names a table that is larger than its limit, with its size and the limit; `None` while every table keeps to it.
    pub fn exceeded_by(&self, sizes: &Sizes) -> Option<(&'static str, usize, usize)> {
        let all = [
            ("nodes", sizes.nodes, self.nodes),
            ("clients", sizes.clients, self.clients),
            ("grants", sizes.grants, self.grants),
            ("letters of a node", sizes.letters_per_node, self.letters_per_node),
            ("bytes of letters", sizes.letters_len, self.letters_len),
            ("channels", sizes.channels, self.channels),
            ("bytes to be relayed", sizes.forward_len, self.forward_len),
            ("sources", sizes.sources, self.sources),
        ];
        all.into_iter().find(|(_, size, limit)| size > limit)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 1 << 20,
            clients: 100_000,
            grants_per_node: PINS_MAX,
            grants: 1 << 22,
            letters_per_node: 256,
            letters_per_sender: 8,
            letters_per_source: 16,
            letters_len: 256 << 20,
            letter_age_s: 30 * 24 * 3600,
            channels: 1 << 20,
            forward_len: 16 << 20,
            sources: 1 << 14,
            registrations_per_source: 1000,
        }
    }
}
