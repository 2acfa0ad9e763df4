//! Owns the calls under way: each on a thread of its own, until it is answered or cancelled.

use crate::mcp::rpc::{Outgoing, notification};
use pilot_node::{Client, Code, Failure, socket_path};
use rustix::net::{Shutdown, shutdown};
use serde_json::{Value, json};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Calls under way at once; one more is refused. Source: an agent asks for few things at a time, and each is a thread.
pub(super) const CALLS_MAX: usize = 32;
/// Shortest time between two reports of a call's progress.
const PROGRESS: Duration = Duration::from_millis(200);

/// The calls under way.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Table>);

#[derive(Default)]
struct Table {
    running: Mutex<Vec<(Value, Arc<Mutex<Cancel>>)>>,
    ended: Condvar,
}

/// One call under way; it has ended once this is dropped.
pub(super) struct Call {
    id: Value,
    table: Arc<Table>,
    cancel: Arc<Mutex<Cancel>>,
    out: Outgoing,
    progress: Option<Value>,
}

/// Whether a call was cancelled, and the sockets that end with it.
#[derive(Default)]
struct Cancel {
    is_cancelled: bool,
    sockets: Vec<OwnedFd>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// Begins a call; `progress` is the token under which the client wants to hear of its progress.
    pub(super) fn begin(&self, id: &Value, progress: Option<Value>, out: &Outgoing) -> Result<Call, Failure> {
        let mut running = locked(&self.0.running);
        if running.iter().any(|(known, _)| known == id) {
            return Err(Failure::new(Code::Conflict, format!("a request with the id {id} is under way")));
        }
        if running.len() >= CALLS_MAX {
            return Err(Failure::new(Code::Full, format!("{CALLS_MAX} calls are under way"))
                .hint("wait for one of them, or cancel it"));
        }
        let cancel = Arc::new(Mutex::new(Cancel::default()));
        running.push((id.clone(), cancel.clone()));
        Ok(Call { id: id.clone(), table: self.0.clone(), cancel, out: out.clone(), progress })
    }

    /// Cancels the call with this id, if it is under way.
    pub(super) fn cancel(&self, id: &Value) {
        locked(&self.0.running).iter().filter(|(known, _)| known == id).for_each(|(_, cancel)| locked(cancel).fire());
    }

    /// Waits until every call has been answered, at most `patience`, then cancels those that are left.
    pub(super) fn end(&self, patience: Duration) {
        let running = locked(&self.0.running);
        let waited = self.0.ended.wait_timeout_while(running, patience, |running| !running.is_empty());
        let (running, _) = waited.unwrap_or_else(PoisonError::into_inner);
        running.iter().for_each(|(_, cancel)| locked(cancel).fire());
    }
}

impl Cancel {
    fn fire(&mut self) {
        self.is_cancelled = true;
        for socket in self.sockets.drain(..) {
            // What waits for the socket sees its end.
            let _ = shutdown(&socket, Shutdown::Both);
        }
    }
}

impl Call {
    /// Connects to the daemon, for the time of the call.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let client = Client::connect(&socket_path())?;
        self.ends(&client)?;
        Ok(client)
    }

    /// Makes a socket end when the call is cancelled.
    pub(super) fn ends(&self, socket: &impl AsFd) -> Result<(), Failure> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        let mut cancel = locked(&self.cancel);
        if cancel.is_cancelled {
            return Err(Failure::new(Code::Timeout, "the call was cancelled"));
        }
        cancel.sockets.push(copy);
        Ok(())
    }

    /// Makes this socket end, and nothing else, when the call is cancelled: then the call itself sees to what it holds.
    pub(super) fn ends_only(&self, socket: &impl AsFd) -> Result<(), Failure> {
        locked(&self.cancel).sockets.clear();
        self.ends(socket)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        locked(&self.cancel).is_cancelled
    }

    /// Gives a function that tells the client how far the call is, as often as is useful.
    pub(super) fn progress(&self) -> impl FnMut(u64, u64) + '_ {
        let mut told: Option<(Instant, u64)> = None;
        move |done, total| {
            let Some(token) = &self.progress else { return };
            let is_due = told.is_none_or(|(at, last)| done > last && (at.elapsed() >= PROGRESS || done == total));
            if is_due {
                told = Some((Instant::now(), done));
                let params = json!({"progressToken": token, "progress": done, "total": total});
                self.out.send(&notification("notifications/progress", &params));
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        locked(&self.table.running).retain(|(id, _)| *id != self.id);
        self.table.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn calls_have_a_maximum_and_ids_are_taken_once() {
        let (calls, out) = (Calls::default(), Outgoing::new(std::io::sink()));
        let mut begun: Vec<Call> =
            (0..CALLS_MAX).map(|id| calls.begin(&json!(id), None, &out).expect("room")).collect();
        let begin = |id: Value| calls.begin(&id, None, &out).err().map(|f| f.code);
        assert_eq!(begin(json!("more")), Some(Code::Full));
        assert_eq!(begin(json!(7)), Some(Code::Conflict));
        begun.remove(7);
        assert_eq!(begin(json!(7)), None);
        calls.end(Duration::ZERO);
        assert!(begun.iter().all(Call::is_cancelled));
    }

    #[test]
    fn a_cancelled_call_has_no_socket_that_waits() {
        let (calls, out) = (Calls::default(), Outgoing::new(std::io::sink()));
        let call = calls.begin(&json!("a"), None, &out).expect("room");
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let (kept, mut other) = UnixStream::pair().expect("a pair");
        call.ends(&kept).expect("not cancelled");
        call.ends_only(&ours).expect("not cancelled");
        calls.cancel(&json!("b"));
        assert!(!call.is_cancelled());
        let reader = std::thread::spawn(move || ours.read(&mut [0]).expect("an end"));
        calls.cancel(&json!("a"));
        assert_eq!(reader.join().expect("a thread"), 0);
        assert!(call.is_cancelled() && call.ends(&theirs).is_err());
        other.write_all(b"x").expect("the other socket goes on");
    }
}
