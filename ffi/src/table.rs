//! Owns the table of handles: it maps each number handed to C to its object, and tells a stale handle and one of another
//! kind apart. The table knows no kind of object: each one implements [`Kind`] in its own file.

use crate::error::{Fault, PILOT_E_CLOSED, PILOT_E_FULL, PILOT_E_WRONG_KIND, guarded, pilot_error};
use std::any::Any;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handle of a node, stream, listener, watch or connect under way. Handles are positive numbers and never used again. Close
/// each one once with pilot_close.
pub type pilot_handle = i64;

/// Bits of a handle that say where its object is; those above are a number that is never used again.
const SLOT_BITS: u32 = 20;
/// Objects that may be open at once.
const HANDLES_MAX: usize = 1 << SLOT_BITS;

/// A kind of object that has handles.
pub(crate) trait Kind: Any + Send + Sync {
    /// Name in the text of [`PILOT_E_WRONG_KIND`], with its article.
    const NAME: &'static str;
    /// Ends the object: threads inside a call with it return.
    fn close(&self);
}

/// [`Kind`] for the table, which holds objects of every kind.
trait Object: Any + Send + Sync {
    fn name(&self) -> &'static str;
    fn close(&self);
}

impl<T: Kind> Object for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn close(&self) {
        Kind::close(self);
    }
}

/// An object in use; it lives until the last user is done, also when its handle is closed meanwhile.
pub(crate) type Used<T> = Arc<T>;

/// Reason why a handle has no object of the wanted kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    Unknown,
    WrongKind(&'static str),
}

struct Table {
    /// Each open object with its whole handle.
    slots: Vec<Option<(i64, Arc<dyn Object>)>>,
    /// Slots without an object.
    free: Vec<usize>,
    /// The upper bits of the next handle.
    next: i64,
    max: usize,
}

static TABLE: Mutex<Table> = Mutex::new(Table::new(HANDLES_MAX));

fn table() -> MutexGuard<'static, Table> {
    // No code that holds the lock panics, so a poisoned table is whole.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Returns an empty table for `max` objects, at most [`HANDLES_MAX`].
    const fn new(max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), next: 1, max }
    }

    fn insert(&mut self, object: Arc<dyn Object>) -> Result<i64, Fault> {
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.slots.len() < self.max => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(Fault::new(PILOT_E_FULL, "too many handles are open")),
        };
        let handle = self.next << SLOT_BITS | at as i64;
        self.next += 1;
        debug_assert!(handle > 0 && self.slots[at].is_none(), "a handle is positive, and its slot was free");
        self.slots[at] = Some((handle, object));
        Ok(handle)
    }

    fn get(&self, handle: i64) -> Option<&Arc<dyn Object>> {
        let (open, object) = self.slots.get(slot(handle))?.as_ref()?;
        (*open == handle).then_some(object)
    }

    fn remove(&mut self, handle: i64) -> Option<Arc<dyn Object>> {
        self.get(handle)?;
        self.free.push(slot(handle));
        let (_, object) = self.slots[slot(handle)].take()?;
        Some(object)
    }
}

/// Returns the slot that a handle names.
const fn slot(handle: i64) -> usize {
    handle as usize & (HANDLES_MAX - 1)
}

/// Tells whether a handle is open.
pub(crate) fn is_open(handle: i64) -> bool {
    table().get(handle).is_some()
}

/// Gives an object a handle.
pub(crate) fn insert<T: Kind>(value: T) -> Result<i64, Fault> {
    crate::fork::own();
    table().insert(Arc::new(value))
}

/// Returns the object behind a handle.
pub(crate) fn find<T: Kind>(handle: i64) -> Result<Used<T>, Stale> {
    let object = table().get(handle).cloned().ok_or(Stale::Unknown)?;
    let name = object.name();
    let object: Arc<dyn Any + Send + Sync> = object;
    object.downcast().map_err(|_| Stale::WrongKind(name))
}

/// Returns the object behind a handle, or the failure as C gets it.
pub(crate) fn get<T: Kind>(handle: i64) -> Result<Used<T>, Fault> {
    find(handle).map_err(|stale| match stale {
        Stale::Unknown => Fault::new(PILOT_E_CLOSED, format!("handle {handle} was closed, or never was one")),
        Stale::WrongKind(is) => Fault::new(PILOT_E_WRONG_KIND, format!("handle {handle} is {is}, not {}", T::NAME)),
    })
}

/// Takes an object out of the table and ends it; tells whether the handle was open.
pub(crate) fn remove(handle: i64) -> bool {
    let object = table().remove(handle);
    // The object is closed without the table's lock, because closing a node waits for its loop.
    object.inspect(|object| object.close()).is_some()
}

/// Closes a handle of any kind. Threads inside a call with the handle return PILOT_E_CLOSED, PILOT_E_RESET or
/// PILOT_E_NOT_RUNNING; a stream delivers the written bytes; a node of this process ends in order, and its streams with it,
/// once the last call with it is over; a connect is given up. Descriptors that were handed out stay the caller's.
/// Any thread; does not wait for the network. Returns 0.
/// PILOT_E_CLOSED: the handle was closed before, or is unknown.
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

    struct Apple;

    impl Kind for Apple {
        const NAME: &'static str = "an apple";
        fn close(&self) {}
    }

    #[derive(Debug)]
    struct Pear;

    impl Kind for Pear {
        const NAME: &'static str = "a pear";
        fn close(&self) {}
    }

    #[test]
    fn the_table_has_a_maximum_and_never_uses_a_handle_again() {
        let mut table = Table::new(2);
        let first = table.insert(Arc::new(Apple)).expect("room");
        let second = table.insert(Arc::new(Pear)).expect("room");
        assert_eq!(table.insert(Arc::new(Apple)).map_err(|f| f.code), Err(PILOT_E_FULL));
        assert!(table.remove(first).is_some() && table.remove(first).is_none());
        let third = table.insert(Arc::new(Apple)).expect("room again");
        assert_eq!(slot(third), slot(first));
        assert!(table.get(first).is_none() && table.remove(first).is_none(), "the slot has another object now");
        assert!(0 < first && first < second && second < third);
        assert!(table.get(second).is_some() && table.get(third).is_some());
        for handle in [second, third] {
            table.remove(handle);
        }
        assert!(table.slots.iter().all(Option::is_none) && table.free.len() == 2);
    }

    #[test]
    fn stale_and_wrong_handles_are_told_apart() {
        let handle = insert(Apple).expect("room");
        assert!(find::<Apple>(handle).is_ok());
        assert_eq!(find::<Pear>(handle).err(), Some(Stale::WrongKind("an apple")));
        assert!(remove(handle));
        assert!(!remove(handle));
        assert_eq!(find::<Apple>(handle).err(), Some(Stale::Unknown));
        for never in [0, -1, i64::MAX, i64::MIN] {
            assert_eq!(find::<Apple>(never).err(), Some(Stale::Unknown));
        }
    }
}
