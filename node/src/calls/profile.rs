//! The call that changes this node's record: answered when the rendezvous has agreed to it, or at once where there is none.

use crate::answer::{self, Answer};
use crate::call::{Call, ProfileChange};
use crate::calls::report::refusal_text;
use crate::context::Context;
use crate::disk::job::{Job, Meta};
use crate::effect::Caller;
use crate::failure::{Code, Failure};
use pilot_core::codec::{Put as _, Reader};
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::{NodeRecord, Profile, valid_hostname};

/// A hint about names.
pub(crate) const HOSTNAME_HINT: &str = "1–63 characters of a–z 0–9 -, not only digits";

/// The members of the record that a caller wants to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Empty: none.
    pub(crate) hostname: Option<String>,
    pub(crate) public: Option<bool>,
    pub(crate) tags: Option<Vec<String>>,
}

/// Changes the record.
pub(crate) fn set(cx: &mut Context, change: Change, caller: Caller) {
    if !cx.calls.tickets(|call| matches!(call, Call::Profile(_))).is_empty() {
        let failure = Failure::new(Code::Conflict, "another change of this node's record is under way");
        return cx.fail(caller, failure.hint("try again in a moment"));
    }
    let before = cx.stack.endpoint().profile().clone();
    let profile = match changed(before.clone(), change) {
        Ok(profile) => profile,
        Err(failure) => return cx.fail(caller, failure),
    };
    cx.stack.endpoint_mut().set_profile(cx.now, profile.clone());
    let answer = Answer::from(answer::Profile {
        hostname: profile.hostname.clone(),
        public: profile.public,
        tags: profile.tags.clone(),
        node_id: cx.stack.endpoint().addr().node,
        visibility: if profile.public { "public" } else { "private" }.into(),
    });
    if matches!(cx.stack.endpoint().directory_state(), DirectoryState::Registering) {
        cx.calls.open(Call::Profile(ProfileChange { caller, answer, before }));
    } else {
        // The record is registered as soon as a rendezvous is reached.
        cx.submit(Job::Put(Meta::Profile, emit(&profile)), Call::Saved { caller, answer });
    }
}

fn changed(mut profile: Profile, change: Change) -> Result<Profile, Failure> {
    if let Some(hostname) = change.hostname {
        if !hostname.is_empty() && !valid_hostname(&hostname) {
            let failure = Failure::new(Code::InvalidArgument, format!("{hostname:?} cannot be a hostname"));
            return Err(failure.hint(HOSTNAME_HINT));
        }
        profile.hostname = hostname;
    }
    profile.public = change.public.unwrap_or(profile.public);
    if let Some(tags) = change.tags {
        if tags.len() > NodeRecord::TAGS_MAX {
            return Err(Failure::new(Code::InvalidArgument, "set_tags: maximum 3 tags allowed"));
        }
        if !tags.iter().all(|t| valid_hostname(t)) {
            return Err(Failure::new(Code::InvalidArgument, "tags are shaped like hostnames"));
        }
        profile.tags = tags;
    }
    Ok(profile)
}

/// The state of the rendezvous has changed. After its refusal, the record is the one before.
pub(crate) fn settled(cx: &mut Context, state: DirectoryState) {
    if matches!(state, DirectoryState::Registering) {
        return;
    }
    for ticket in cx.calls.tickets(|call| matches!(call, Call::Profile(_))) {
        let Some(Call::Profile(ProfileChange { caller, answer, before })) = cx.calls.take(ticket) else { continue };
        match state {
            DirectoryState::Ready(_) if cx.stack.endpoint().name_is_taken() => {
                let name = cx.stack.endpoint().profile().hostname.clone();
                cx.stack.endpoint_mut().set_profile(cx.now, before);
                cx.fail(caller, Failure::new(Code::Conflict, format!("the hostname {name:?} belongs to another node")));
            }
            DirectoryState::Refused(why) => {
                cx.stack.endpoint_mut().set_profile(cx.now, before);
                cx.fail(caller, Failure::new(Code::Conflict, refusal_text(why)));
            }
            _ => {
                let profile = emit(cx.stack.endpoint().profile());
                cx.submit(Job::Put(Meta::Profile, profile), Call::Saved { caller, answer });
            }
        }
    }
}

/// A profile as the books keep it.
pub(crate) fn emit(profile: &Profile) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u8(profile.public.into());
    out.put_bytes(profile.hostname.as_bytes());
    profile.tags.iter().for_each(|tag| out.put_bytes(tag.as_bytes()));
    out
}

/// The inverse of [`emit`].
pub(crate) fn parse(bytes: &[u8]) -> Option<Profile> {
    let mut r = Reader::new(bytes);
    let mut profile = Profile { public: r.u8().ok()? != 0, hostname: r.str(63).ok()?.into(), tags: Vec::new() };
    while !r.is_empty() && profile.tags.len() < NodeRecord::TAGS_MAX {
        profile.tags.push(r.str(63).ok()?.into());
    }
    Some(profile)
}
