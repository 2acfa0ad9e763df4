//! Owns the events of a node, as C gets them.

use crate::error::{Fault, PILOT_E_FULL, copy_text, guarded, pilot_error, room, text};
use crate::listener::Answers;
use crate::node::NodeObject;
use crate::peer::pilot_peer;
use crate::table::{Kind, Used, get, insert, pilot_handle};
use pilot_node::{AddrPort, Event, NodeEvent};
use std::collections::VecDeque;
use std::ffi::{c_char, c_int};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A node asks for trust: pilot_approve, pilot_reject.
pub const PILOT_EVENT_TRUST_REQUEST: c_int = 1;
/// A node is trusted from now on.
pub const PILOT_EVENT_TRUSTED: c_int = 2;
/// A node has declined our request.
pub const PILOT_EVENT_TRUST_REJECTED: c_int = 3;
/// Trust with a node has ended.
pub const PILOT_EVENT_UNTRUSTED: c_int = 4;
/// A tunnel with a peer stands.
pub const PILOT_EVENT_PEER_UP: c_int = 5;
/// A tunnel has ended; its "reason" is in detail.
pub const PILOT_EVENT_PEER_DOWN: c_int = 6;
/// A peer is reached on another "path" than "from", for the "reason" (one word); or, without these two, with datagrams of another
/// size.
pub const PILOT_EVENT_PATH: c_int = 7;
/// A message is in the inbox; its "id" is in detail.
pub const PILOT_EVENT_MESSAGE: c_int = 8;
/// A file has arrived; its "path" is in detail.
pub const PILOT_EVENT_FILE: c_int = 9;
/// An event was published on this node's event stream; its "topic" is in detail.
pub const PILOT_EVENT_PUBLISHED: c_int = 10;
/// Events were lost because the program took them too slowly; their "count" is in detail.
pub const PILOT_EVENT_MISSED: c_int = 11;
/// What a trusted peer and this node may reach at each other has changed, or the peer's name; the "reason" is in detail.
pub const PILOT_EVENT_TRUST_CHANGED: c_int = 12;
/// A message has left the outbox without being delivered; its "message_id" and the "reason" are in detail.
pub const PILOT_EVENT_GIVEN_UP: c_int = 13;
/// A question is in the inbox; its "id" there is in detail: pilot_next_question, pilot_reply.
pub const PILOT_EVENT_QUESTION: c_int = 14;
/// An answer has come; the id of its question is "reply_to" in detail: pilot_wait_answer.
pub const PILOT_EVENT_ANSWER: c_int = 15;
/// The members of a group of this node have changed: the "group", its "id", and how many "members" it has.
pub const PILOT_EVENT_GROUP: c_int = 16;
/// Something that the owner should know; the "reason" (such as "invite_dead", "over_used", "clock_skew") and a "text" are in detail.
pub const PILOT_EVENT_WARNING: c_int = 17;
/// A capture of this node's inner packets has begun or ended; the "state" is in detail.
pub const PILOT_EVENT_CAPTURE: c_int = 18;

/// An event of a node. Set struct_size to sizeof(pilot_event), and payload and payload_size to a buffer or to zero.
#[repr(C)]
pub struct pilot_event {
    /// sizeof(pilot_event).
    pub struct_size: usize,
    /// Buffer for the bytes of a published event, or NULL.
    pub payload: *mut u8,
    /// Length of the buffer. Unit: bytes.
    pub payload_size: usize,
    /// Length of the published bytes. Unit: bytes, at most 1048576.
    pub payload_len: usize,
    /// A PILOT_EVENT_ constant; 0: an event of a later version.
    pub kind: c_int,
    /// The node that the event is about.
    pub peer: pilot_peer,
    /// The whole event as a JSON object; NUL-terminated; cut when it is longer.
    pub detail: [c_char; 1024],
}

pub(crate) struct Events {
    answers: Answers,
    waiting: Mutex<VecDeque<NodeEvent>>,
}

impl Kind for Events {
    const NAME: &'static str = "a source of events";

    fn close(&self) {
        self.answers.close();
    }
}

/// Watches a node's events from now on and returns a handle for pilot_next_event. topics: events published on this node's
/// event stream are included when their topic is equal to topics, or begins with the part before a final *; NULL: none of
/// them.
/// Any thread. PILOT_E_NOT_RUNNING.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_watch(
    node: pilot_handle,
    topics: *const c_char,
    error: *mut pilot_error,
) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let topics = unsafe { text(topics)? };
        let node: Used<NodeObject> = get(node)?;
        let mut client = node.client()?;
        client.watch(topics)?;
        insert(Events { answers: Answers::new(client)?, waiting: Mutex::new(VecDeque::new()) })
    })
}

/// Returns a descriptor that is readable when pilot_next_event may have an event: call that until PILOT_E_WOULD_BLOCK. The
/// descriptor belongs to the handle.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_event_fd(watch: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || Ok(get::<Events>(watch)?.answers.fd()))
}

/// Takes the next event. Waits at most timeout_ms (0: not at all; negative: for ever). Any thread. Returns 0.
/// PILOT_E_WOULD_BLOCK, PILOT_E_TIMEOUT, PILOT_E_FULL (payload_size is below payload_len, which is set; the event stays),
/// PILOT_E_CLOSED, PILOT_E_NOT_RUNNING.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_next_event(
    watch: pilot_handle,
    event: *mut pilot_event,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header; its size, which comes first, is looked at before anything else.
        let out = unsafe { event.as_mut() }.ok_or_else(|| Fault::invalid("event is NULL"))?;
        if out.struct_size < size_of::<pilot_event>() {
            return Err(Fault::invalid("struct_size is not sizeof(pilot_event)"));
        }
        // SAFETY: NULL or valid, by the header.
        let payload = unsafe { room(out.payload, out.payload_size)? };
        let events: Used<Events> = get(watch)?;
        let next = || events.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let event = match next() {
            Some(event) => event,
            None => events.answers.wait(timeout_ms, |client| client.next_event(Some(Duration::ZERO)))?,
        };
        out.payload_len = event.payload.len();
        let Some(place) = payload.get_mut(..event.payload.len()) else {
            let text = format!("the event has {} bytes", event.payload.len());
            events.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_front(event);
            return Err(Fault::new(PILOT_E_FULL, text));
        };
        place.copy_from_slice(&event.payload);
        describe(&event, out);
        Ok(0)
    })
}

fn describe(event: &NodeEvent, out: &mut pilot_event) {
    let read = event.read().unwrap_or(Event::Unknown);
    out.kind = match &read {
        Event::TrustRequest(_) => PILOT_EVENT_TRUST_REQUEST,
        Event::Trusted(_) => PILOT_EVENT_TRUSTED,
        Event::TrustRejected(_) => PILOT_EVENT_TRUST_REJECTED,
        Event::Untrusted(_) => PILOT_EVENT_UNTRUSTED,
        Event::PeerUp(_) => PILOT_EVENT_PEER_UP,
        Event::PeerDown(_) => PILOT_EVENT_PEER_DOWN,
        Event::Path(_) => PILOT_EVENT_PATH,
        Event::Message { .. } => PILOT_EVENT_MESSAGE,
        Event::Question { .. } => PILOT_EVENT_QUESTION,
        Event::Answer { .. } => PILOT_EVENT_ANSWER,
        Event::File { .. } => PILOT_EVENT_FILE,
        Event::Published { .. } => PILOT_EVENT_PUBLISHED,
        Event::Missed { .. } => PILOT_EVENT_MISSED,
        Event::TrustChanged(_) => PILOT_EVENT_TRUST_CHANGED,
        Event::GivenUp { .. } => PILOT_EVENT_GIVEN_UP,
        Event::Group { .. } => PILOT_EVENT_GROUP,
        Event::Warning { .. } => PILOT_EVENT_WARNING,
        Event::Capture(_) => PILOT_EVENT_CAPTURE,
        _ => 0,
    };
    let (address, hostname) = read.about();
    let addr = address.and_then(|text| text.parse().ok()).unwrap_or_default();
    out.peer.set(AddrPort { addr, port: 0 }, hostname.unwrap_or_default());
    copy_text(&event.data.to_string(), &mut out.detail);
}
