//! Owns the border to C: codes, texts of failures, panics, and checked views of pointers.

use pilot_node::{Code, Failure};
use rustix::event::PollFlags;
use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The library or the node failed inside.
pub const PILOT_E_INTERNAL: c_int = -1;
/// An argument makes no sense: NULL, not UTF-8, too long, malformed.
pub const PILOT_E_INVALID: c_int = -2;
/// No daemon answers, or the node has ended.
pub const PILOT_E_NOT_RUNNING: c_int = -3;
/// No such node, message or file.
pub const PILOT_E_NOT_FOUND: c_int = -4;
/// The owners of this node and of the peer have not approved each other.
pub const PILOT_E_NOT_TRUSTED: c_int = -5;
/// The time limit has passed.
pub const PILOT_E_TIMEOUT: c_int = -6;
/// The peer cannot be reached.
pub const PILOT_E_UNREACHABLE: c_int = -7;
/// A name or port is taken, or a folder is in use.
pub const PILOT_E_CONFLICT: c_int = -8;
/// No program listens on the peer's port, or the port is not granted.
pub const PILOT_E_REFUSED: c_int = -9;
/// The stream broke.
pub const PILOT_E_RESET: c_int = -10;
/// A table, queue, buffer or disk is full, or no descriptors are left.
pub const PILOT_E_FULL: c_int = -11;
/// The call would have to wait, and its time limit is 0.
pub const PILOT_E_WOULD_BLOCK: c_int = -12;
/// The handle is closed or unknown.
pub const PILOT_E_CLOSED: c_int = -13;
/// The handle is of another kind.
pub const PILOT_E_WRONG_KIND: c_int = -14;
/// This process was forked from the one that uses the library.
pub const PILOT_E_FORKED: c_int = -15;

/// The reason of a failure; owned by the caller. Set struct_size to sizeof(pilot_error) before the call. A call that fails
/// writes the other fields; a call that succeeds leaves them as they are.
#[repr(C)]
pub struct pilot_error {
    /// sizeof(pilot_error).
    pub struct_size: usize,
    /// A PILOT_E_ code.
    pub code: c_int,
    /// The reason; UTF-8, always NUL-terminated.
    pub message: [c_char; 256],
    /// Advice for the next step, or empty; UTF-8, always NUL-terminated.
    pub hint: [c_char; 128],
}

/// A failure before it becomes a code and a text of C.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: c_int,
    pub(crate) message: String,
    hint: String,
}

impl Fault {
    pub(crate) fn new(code: c_int, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(PILOT_E_INVALID, message)
    }

    pub(crate) fn would_block() -> Self {
        Self::new(PILOT_E_WOULD_BLOCK, "it would have to wait")
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let code = match failure.code {
            Code::InvalidArgument | Code::Ambiguous => PILOT_E_INVALID,
            Code::NotRunning => PILOT_E_NOT_RUNNING,
            Code::NotFound => PILOT_E_NOT_FOUND,
            Code::TrustRequired => PILOT_E_NOT_TRUSTED,
            Code::Timeout => PILOT_E_TIMEOUT,
            Code::Unreachable => PILOT_E_UNREACHABLE,
            Code::Conflict => PILOT_E_CONFLICT,
            Code::ConnectionRefused => PILOT_E_REFUSED,
            Code::ConnectionReset => PILOT_E_RESET,
            Code::Full => PILOT_E_FULL,
            _ => PILOT_E_INTERNAL,
        };
        Self { code, message: failure.message, hint: failure.hint }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::WouldBlock => PILOT_E_WOULD_BLOCK,
            io::ErrorKind::TimedOut => PILOT_E_TIMEOUT,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => PILOT_E_RESET,
            io::ErrorKind::InvalidInput => PILOT_E_INVALID,
            _ => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => PILOT_E_FULL,
                Some(libc::EBADF | libc::ENOTSOCK) => PILOT_E_CLOSED,
                Some(libc::EMSGSIZE | libc::EFAULT) => PILOT_E_INVALID,
                _ => PILOT_E_INTERNAL,
            },
        };
        match error.downcast::<Failure>() {
            Ok(failure) => failure.into(),
            Err(error) => Self::new(code, error.to_string()),
        }
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Copies `text` into a field of C, NUL-terminated, and cuts it between characters when it is too long.
pub(crate) fn copy_text(text: &str, out: &mut [c_char]) {
    debug_assert!(!out.is_empty(), "a field has room for its NUL");
    let mut len = text.len().min(out.len() - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    for (slot, byte) in out.iter_mut().zip(text.as_bytes()[..len].iter().chain([&0])) {
        *slot = *byte as c_char;
    }
}

/// Runs `f`; a failure or panic becomes a code, and its text goes to `error`.
pub(crate) fn guarded<T: From<c_int>>(error: *mut pilot_error, f: impl FnOnce() -> Result<T, Fault>) -> T {
    let result = match crate::fork::forked() {
        true => {
            Err(Fault::new(PILOT_E_FORKED, "a forked process cannot use libpilot; only its descriptors go on working"))
        }
        // The table and every object survive a panic: no call leaves them half-changed.
        false => catch_unwind(AssertUnwindSafe(f))
            .unwrap_or_else(|_| Err(Fault::new(PILOT_E_INTERNAL, "libpilot panicked; please report this"))),
    };
    let fault = match result {
        Ok(value) => return value,
        Err(fault) => fault,
    };
    // SAFETY: the header requires NULL or a valid pilot_error that no other thread uses during the call; its size is checked
    // before any other field is touched.
    unsafe {
        if !error.is_null() && (*error).struct_size >= size_of::<pilot_error>() {
            (*error).code = fault.code;
            copy_text(&fault.message, &mut (*error).message);
            copy_text(&fault.hint, &mut (*error).hint);
        }
    }
    debug_assert!(fault.code < 0, "a failure has a negative code");
    T::from(fault.code)
}

/// Views a string of C; `None` for NULL.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that lives for the call.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Result<Option<&'a str>, Fault> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL; the caller promises termination.
    let text = unsafe { CStr::from_ptr(text) }.to_str();
    text.map(Some).map_err(|_| Fault::invalid("a string is not UTF-8"))
}

/// Views a string of C that must not be NULL; `what` names it in the failure.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn needed<'a>(string: *const c_char, what: &str) -> Result<&'a str, Fault> {
    // SAFETY: passed on.
    unsafe { text(string)? }.ok_or_else(|| Fault::invalid(format!("{what} is NULL")))
}

/// Views bytes of C.
///
/// # Safety
/// `data` is NULL or valid for `len` bytes during the call.
pub(crate) unsafe fn bytes<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Fault> {
    check(data, len)?;
    // SAFETY: not NULL unless empty, of a possible length, and valid by the caller's promise.
    Ok(if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, len) } })
}

/// Views a buffer of C that is to be written.
///
/// # Safety
/// `data` is NULL or valid for `len` bytes during the call, and no other thread uses it meanwhile.
pub(crate) unsafe fn room<'a>(data: *mut u8, len: usize) -> Result<&'a mut [u8], Fault> {
    check(data, len)?;
    // SAFETY: not NULL unless empty, of a possible length, and valid by the caller's promise.
    Ok(if len == 0 { &mut [] } else { unsafe { std::slice::from_raw_parts_mut(data, len) } })
}

fn check(data: *const u8, len: usize) -> Result<(), Fault> {
    if data.is_null() && len > 0 {
        return Err(Fault::invalid("a buffer is NULL"));
    }
    if len > isize::MAX as usize {
        return Err(Fault::invalid("a length is impossible"));
    }
    Ok(())
}

/// Converts a time limit of C: negative: none; 0: do not wait.
pub(crate) fn timeout(ms: c_int) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// Returns the end of a time limit that begins now; `None`: never.
pub(crate) fn deadline(ms: c_int) -> Option<Instant> {
    timeout(ms).and_then(|t| Instant::now().checked_add(t))
}

/// Waits until a descriptor is ready for `what`; fails with [`PILOT_E_TIMEOUT`] at `until`.
pub(crate) fn wait_ready(fd: impl std::os::fd::AsFd, what: PollFlags, until: Option<Instant>) -> Result<(), Fault> {
    use rustix::event::{PollFd, Timespec, poll};
    loop {
        let left = match until.map(|at| at.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(Fault::new(PILOT_E_TIMEOUT, "nothing happened in time")),
            Some(left) => Timespec::try_from(left).ok(),
            None => None,
        };
        match poll(&mut [PollFd::new(&fd, what)], left.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Returns the version of the library; static, never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Returns the name of a code, for logs: "PILOT_E_TIMEOUT"; "PILOT_E_UNKNOWN" for an unknown code. Static, never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_code_name(code: c_int) -> *const c_char {
    let name = match code {
        PILOT_E_INTERNAL => c"PILOT_E_INTERNAL",
        PILOT_E_INVALID => c"PILOT_E_INVALID",
        PILOT_E_NOT_RUNNING => c"PILOT_E_NOT_RUNNING",
        PILOT_E_NOT_FOUND => c"PILOT_E_NOT_FOUND",
        PILOT_E_NOT_TRUSTED => c"PILOT_E_NOT_TRUSTED",
        PILOT_E_TIMEOUT => c"PILOT_E_TIMEOUT",
        PILOT_E_UNREACHABLE => c"PILOT_E_UNREACHABLE",
        PILOT_E_CONFLICT => c"PILOT_E_CONFLICT",
        PILOT_E_REFUSED => c"PILOT_E_REFUSED",
        PILOT_E_RESET => c"PILOT_E_RESET",
        PILOT_E_FULL => c"PILOT_E_FULL",
        PILOT_E_WOULD_BLOCK => c"PILOT_E_WOULD_BLOCK",
        PILOT_E_CLOSED => c"PILOT_E_CLOSED",
        PILOT_E_WRONG_KIND => c"PILOT_E_WRONG_KIND",
        PILOT_E_FORKED => c"PILOT_E_FORKED",
        0.. => c"PILOT_OK",
        _ => c"PILOT_E_UNKNOWN",
    };
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code_and_its_text_reaches_the_caller() {
        let mut error =
            pilot_error { struct_size: size_of::<pilot_error>(), code: 0, message: [1; 256], hint: [1; 128] };
        let code: c_int = guarded(&mut error, || panic!("expected"));
        assert_eq!((code, error.code), (PILOT_E_INTERNAL, PILOT_E_INTERNAL));
        // SAFETY: written by `copy_text`, which terminates.
        let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
        assert!(message.to_str().expect("UTF-8").contains("panicked"));
        let mut small = pilot_error { struct_size: 4, code: 0, message: [1; 256], hint: [1; 128] };
        let code: i64 = guarded(&mut small, || Err(Fault::would_block()));
        assert_eq!((code, small.code), (i64::from(PILOT_E_WOULD_BLOCK), 0), "an older, smaller struct is left alone");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let mut field = [1; 4];
        copy_text("aää", &mut field);
        assert_eq!(field, [b'a' as c_char, 0xc3_u8 as c_char, 0xa4_u8 as c_char, 0]);
        copy_text("aaä", &mut field);
        assert_eq!(field[..3], [b'a' as c_char, b'a' as c_char, 0]);
    }

    #[test]
    fn every_code_has_its_name() {
        for code in PILOT_E_FORKED..=PILOT_E_INTERNAL {
            // SAFETY: static strings.
            let name = unsafe { CStr::from_ptr(pilot_code_name(code)) };
            assert!(name.to_str().expect("ASCII").starts_with("PILOT_E_") && name != c"PILOT_E_UNKNOWN");
        }
    }
}
