//! Owns the answers about invites.

use pilot_core::invite::{EnrolmentCode, InviteCode, InviteId, Rendezvous};
use pilot_core::trust::{Invite as CoreInvite, InviteState};
use serde::{Deserialize, Serialize};

/// A new invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Its number: eight hexadecimal digits.
    pub invite: String,
    /// The code, which is a secret of this node's owner and of those that get it.
    pub code: String,
    /// When it ends.
    pub expires_at: u64,
    /// How many nodes may join.
    pub uses: u64,
    /// Ports of this node that they may reach: services by name, others by number.
    pub granted: Vec<String>,
    /// How the code leads here: `rendezvous`, `same_rendezvous` (of nodes that use it already), `addresses`.
    pub over: Vec<String>,
    /// Whether any member of the group answers, not this node alone.
    pub offline: bool,
}

impl Invited {
    /// When an invite ends by the wall clock, if that is right. Unit: seconds since 1970.
    pub(crate) const fn expires_at(invite: &CoreInvite) -> u64 {
        invite.made_at.saturating_add(invite.terms.lifetime_s)
    }

    pub(crate) fn new(invite: &CoreInvite, code: &InviteCode, text: String) -> Self {
        Self {
            invite: invite.id.to_string(),
            code: text,
            expires_at: Self::expires_at(invite),
            uses: invite.terms.uses.into(),
            granted: invite.terms.ports.names(),
            over: over(code.rendezvous.as_ref(), !code.candidates.is_empty()),
            offline: false,
        }
    }

    pub(crate) fn of_enrolment(code: &EnrolmentCode, text: String) -> Self {
        Self {
            invite: InviteId(code.enrolment.number()).to_string(),
            code: text,
            expires_at: code.enrolment.not_after.into(),
            uses: code.enrolment.uses.into(),
            granted: Vec::new(),
            over: over(code.rendezvous.as_ref(), !code.candidates.is_empty()),
            offline: true,
        }
    }
}

/// The words for the ways of a code.
fn over(rendezvous: Option<&Rendezvous>, has_addresses: bool) -> Vec<String> {
    let rendezvous = rendezvous.map(|rendezvous| match rendezvous {
        Rendezvous::At(..) => "rendezvous",
        Rendezvous::Same(_) => "same_rendezvous",
    });
    let addresses = Some("addresses").filter(|_| has_addresses);
    rendezvous.into_iter().chain(addresses).map(str::to_owned).collect()
}

/// The invites of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invites {
    /// Each of them, oldest first. Those that are over are kept for thirty days, as long as there is room.
    pub invites: Vec<Invite>,
}

/// An invite of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Its number: eight hexadecimal digits.
    pub invite: String,
    /// `open`, `used_up`, `expired`, `dead` (too many wrong codes) or `withdrawn`.
    pub state: String,
    /// How many nodes may join.
    pub uses: u64,
    /// How many have.
    pub used: u64,
    /// How many wrong codes came.
    pub wrong_codes: u64,
    /// When it was made.
    pub made_at: u64,
    /// When it ends, or would have.
    pub expires_at: u64,
    /// Ports of this node that those who join may reach: services by name, others by number.
    pub granted: Vec<String>,
}

impl From<(&CoreInvite, InviteState)> for Invite {
    fn from((invite, state): (&CoreInvite, InviteState)) -> Self {
        Self {
            invite: invite.id.to_string(),
            state: name(state).into(),
            uses: invite.terms.uses.into(),
            used: invite.used.into(),
            wrong_codes: invite.wrong.into(),
            made_at: invite.made_at,
            expires_at: Invited::expires_at(invite),
            granted: invite.terms.ports.names(),
        }
    }
}

/// The word for a state.
const fn name(state: InviteState) -> &'static str {
    match state {
        InviteState::Open => "open",
        InviteState::UsedUp => "used_up",
        InviteState::Expired => "expired",
        InviteState::Dead => "dead",
        InviteState::Withdrawn => "withdrawn",
    }
}
