//! Owns the codes that machines of a world are given, as they are copied from one to another.

use crate::world::{NodeIndex, World};
use pilot_core::group::GroupId;
use pilot_core::invite::{EnrolmentCode, JoinCode, Rendezvous};

/// A code of a group of which any member answers, made by the node that has the group key.
///
/// # Panics
/// When the node may not make it.
pub fn enrolment_code(world: &mut World, node: NodeIndex, id: &GroupId, terms: (u16, u64)) -> EnrolmentCode {
    let now = world.now;
    let endpoint = world.nodes[node].stack.endpoint_mut();
    let (enrolment, seed) = endpoint.make_enrolment(now, id, terms).expect("the group key is here");
    let contacts = endpoint.contacts(now, id);
    let group = endpoint.trust().groups().find(|group| group.roster.id() == *id).expect("its group");
    let code = EnrolmentCode {
        group: group.roster.group().clone(),
        key_row: group.roster.key_row().cloned(),
        seed,
        enrolment,
        contacts,
        candidates: Vec::new(),
        rendezvous: endpoint.rendezvous_address().map(|(key, _)| Rendezvous::same(&key)),
    };
    match code.emit().expect("a whole code").parse() {
        Ok(JoinCode::Enrolment(code)) => *code,
        other => panic!("another code: {other:?}"),
    }
}
