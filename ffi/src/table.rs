//! Owns the handles: one table for every kind of object, so that a stale or wrong handle is found out, and the knowledge of
//! which process it belongs to.

use crate::error::{Fault, PILOT_E_CLOSED, PILOT_E_FULL, PILOT_E_WRONG_KIND, guarded, pilot_error};
use crate::event::Events;
use crate::listener::{Dial, Listener};
use crate::node::NodeObject;
use crate::official::{Conn, Driver, OfficialListener};
use crate::stream::StreamObject;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

/// A node, stream, listener or connect under way. Handles are numbers, never reused; 0 is never one. Close each once with
/// pilot_close.
pub type pilot_handle = i64;

/// Objects that may be open at once.
const HANDLES_MAX: usize = 1 << 20;

pub(crate) enum Object {
    Node(NodeObject),
    Stream(StreamObject),
    Listener(Listener),
    Dial(Dial),
    Events(Events),
    Driver(Driver),
    OfficialListener(OfficialListener),
    Conn(Conn),
}

impl Object {
    const fn name(&self) -> &'static str {
        match self {
            Self::Node(_) => "a node",
            Self::Stream(_) => "a stream",
            Self::Listener(_) => "a listener",
            Self::Dial(_) => "a connect",
            Self::Events(_) => "a source of events",
            Self::Driver(_) => "a Driver",
            Self::OfficialListener(_) => "a Listener",
            Self::Conn(_) => "a Conn",
        }
    }

    /// Ends it for whoever is inside a call with it.
    fn close(&self) {
        match self {
            Self::Node(node) => node.close(),
            Self::Stream(stream) => stream.close(),
            Self::Listener(listener) => listener.close(),
            Self::Dial(dial) => dial.close(),
            Self::Events(events) => events.close(),
            Self::Driver(driver) => driver.close(),
            Self::OfficialListener(listener) => listener.close(),
            Self::Conn(conn) => conn.close(),
        }
    }
}

/// One kind of object.
pub(crate) trait Kind: Sized {
    const NAME: &'static str;
    fn of(object: &Object) -> Option<&Self>;
    fn wrap(self) -> Object;
}

macro_rules! kinds {
    ($($variant:ident($type:ty) = $name:literal),* $(,)?) => {
        $(impl Kind for $type {
            const NAME: &'static str = $name;
            fn of(object: &Object) -> Option<&Self> {
                match object {
                    Object::$variant(value) => Some(value),
                    _ => None,
                }
            }
            fn wrap(self) -> Object {
                Object::$variant(self)
            }
        })*
    };
}

kinds! {
    Node(NodeObject) = "a node",
    Stream(StreamObject) = "a stream",
    Listener(Listener) = "a listener",
    Dial(Dial) = "a connect",
    Events(Events) = "a source of events",
    Driver(Driver) = "a Driver",
    OfficialListener(OfficialListener) = "a Listener",
    Conn(Conn) = "a Conn",
}

/// An object in use; it lives until the last user is done, also when it is closed meanwhile.
pub(crate) struct Used<T> {
    object: Arc<Object>,
    kind: std::marker::PhantomData<T>,
}

impl<T> Clone for Used<T> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), kind: self.kind }
    }
}

impl<T: Kind> Deref for Used<T> {
    type Target = T;
    fn deref(&self) -> &T {
        T::of(&self.object).expect("checked when it was taken from the table")
    }
}

/// Why a handle means nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    Unknown,
    WrongKind(&'static str),
}

struct Table {
    objects: BTreeMap<i64, Arc<Object>>,
    next: i64,
    max: usize,
}

static TABLE: Mutex<Table> = Mutex::new(Table { objects: BTreeMap::new(), next: 1, max: HANDLES_MAX });
/// This process was forked from the one that uses the library: its loop's thread is not here.
static FORKED: AtomicBool = AtomicBool::new(false);
static WATCH_FORKS: Once = Once::new();

/// True in a process that was forked from the one that uses the library.
pub(crate) fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

fn table() -> MutexGuard<'static, Table> {
    // Nothing panics while holding it.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn insert(&mut self, object: Object) -> Result<i64, Fault> {
        if self.objects.len() >= self.max {
            return Err(Fault::new(PILOT_E_FULL, "too many handles are open"));
        }
        let handle = self.next;
        self.next += 1;
        self.objects.insert(handle, Arc::new(object));
        Ok(handle)
    }
}

/// The library belongs to this process from now on, not to its children. (Asking for the process's number in every call
/// would cost an echo a third of its time where system calls are slow.)
pub(crate) fn own() {
    WATCH_FORKS.call_once(|| {
        // SAFETY: the handler only stores into an atomic, which is allowed in a child.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Whether a handle is open.
pub(crate) fn is_open(handle: i64) -> bool {
    table().objects.contains_key(&handle)
}

/// Gives an object a handle.
pub(crate) fn insert<T: Kind>(value: T) -> Result<i64, Fault> {
    own();
    table().insert(value.wrap())
}

/// The object behind a handle.
pub(crate) fn find<T: Kind>(handle: i64) -> Result<Used<T>, Stale> {
    let object = table().objects.get(&handle).cloned().ok_or(Stale::Unknown)?;
    match T::of(&object) {
        Some(_) => Ok(Used { object, kind: std::marker::PhantomData }),
        None => Err(Stale::WrongKind(object.name())),
    }
}

/// The same, with the failure as C gets it.
pub(crate) fn get<T: Kind>(handle: i64) -> Result<Used<T>, Fault> {
    find(handle).map_err(|stale| match stale {
        Stale::Unknown => Fault::new(PILOT_E_CLOSED, format!("handle {handle} was closed, or never was one")),
        Stale::WrongKind(is) => Fault::new(PILOT_E_WRONG_KIND, format!("handle {handle} is {is}, not {}", T::NAME)),
    })
}

/// Takes an object out of the table and ends it.
pub(crate) fn remove(handle: i64) -> bool {
    let object = table().objects.remove(&handle);
    // Closed without the table's lock: it may take a while.
    object.inspect(|object| object.close()).is_some()
}

/// Closes a handle of any kind. Threads inside a call with it come back with PILOT_E_CLOSED, PILOT_E_RESET or
/// PILOT_E_NOT_RUNNING; a stream delivers what was written; a node of this process ends in order, and its streams with it,
/// once the last call with it is over; a connect is given up. Descriptors that were handed out stay the caller's.
/// Any thread; does not wait for the network. Gives 0.
/// PILOT_E_CLOSED: the handle was closed before, or never was one.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_close(handle: pilot_handle) -> c_int {
    guarded(std::ptr::null_mut::<pilot_error>(), || match remove(handle) {
        true => Ok(0),
        false => Err(Fault::new(PILOT_E_CLOSED, "no such handle")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_maximum_and_never_uses_a_handle_again() {
        let mut table = Table { objects: BTreeMap::new(), next: 1, max: 2 };
        let object = || Object::Node(NodeObject::attached("/nowhere".into()));
        assert_eq!(table.insert(object()).ok(), Some(1));
        assert_eq!(table.insert(object()).ok(), Some(2));
        assert_eq!(table.insert(object()).map_err(|f| f.code), Err(PILOT_E_FULL));
        table.objects.remove(&1);
        assert_eq!(table.insert(object()).ok(), Some(3));
    }

    #[test]
    fn stale_and_wrong_handles_are_told_apart() {
        let handle = insert(NodeObject::attached("/nowhere".into())).expect("room");
        assert!(find::<NodeObject>(handle).is_ok());
        assert_eq!(find::<Listener>(handle).err(), Some(Stale::WrongKind("a node")));
        assert!(remove(handle));
        assert!(!remove(handle));
        assert_eq!(find::<NodeObject>(handle).err(), Some(Stale::Unknown));
        assert_eq!(find::<NodeObject>(0).err(), Some(Stale::Unknown));
    }
}
