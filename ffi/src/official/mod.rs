//! The official interface: the 48 symbols of the official library 1.18, with its behaviour (`docs/official-abi.md`), so that
//! programs and packages written for that library run on this library and this daemon.
//!
//! Strings in are NUL-terminated UTF-8, NULL is empty. Strings out come from malloc and are freed with [`FreeString`]. A
//! function that returns a string returns NULL for success without a value, a JSON object, or `{"error": TEXT}`. Handles come
//! from the same table as ours. Any thread may call any function.
//!
//! The behaviour differs from the official library where no caller depends on it: a slow stream holds back no other one, calls
//! of one Driver do not wait for each other, a closed listener frees its port, writing to a stream that broke is an error, and
//! `PilotTrustedPeers` answers under both names that its callers read.

mod conn;
mod driver;
mod embedded;
mod listener;
mod wire;

pub use conn::*;
pub use driver::*;
pub use embedded::*;
pub use listener::*;

use crate::table::{Kind, Stale, Used, find};
use serde_json::{Value, json};
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A handle or an error.
#[repr(C)]
pub struct HandleErr {
    /// 0: none.
    pub handle: u64,
    /// JSON, or NULL.
    pub err: *mut c_char,
}

/// A number of bytes or an error.
#[repr(C)]
pub struct WriteResult {
    /// Bytes taken.
    pub n: c_int,
    /// JSON, or NULL.
    pub err: *mut c_char,
}

/// Bytes or an error.
#[repr(C)]
pub struct ReadResult {
    /// Length of data.
    pub n: c_int,
    /// The bytes, which the caller frees with FreeString, or NULL.
    pub data: *mut c_char,
    /// JSON, or NULL.
    pub err: *mut c_char,
}

/// Text of a failure, in the official library's words.
pub(crate) type Text = String;

/// Copies bytes into memory of malloc, with a NUL behind them; NULL when there is no memory.
fn allocate(bytes: &[u8]) -> *mut c_char {
    // SAFETY: malloc gives NULL or memory of that length, which is written whole.
    unsafe {
        let memory = libc::malloc(bytes.len() + 1).cast::<u8>();
        if !memory.is_null() {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
            *memory.add(bytes.len()) = 0;
        }
        memory.cast()
    }
}

/// Emits JSON as the official library does: `<`, `>` and `&` are escaped.
fn emit(value: &Value) -> *mut c_char {
    let text = value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    allocate(text.as_bytes())
}

fn emit_error(text: &str) -> *mut c_char {
    emit(&json!({"error": text}))
}

/// Runs `f`; a panic and the use after a fork become failures like others.
fn guarded<T>(f: impl FnOnce() -> Result<T, Text>) -> Result<T, Text> {
    if crate::fork::forked() {
        return Err("a forked process cannot use libpilot".into());
    }
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err("libpilot panicked; please report this".into()))
}

/// Runs a function that returns a string: NULL, JSON, or an error.
fn string(f: impl FnOnce() -> Result<Option<Value>, Text>) -> *mut c_char {
    match guarded(f) {
        Ok(None) => std::ptr::null_mut(),
        Ok(Some(value)) => emit(&value),
        Err(text) => emit_error(&text),
    }
}

/// Runs a function that returns a handle.
fn handle(f: impl FnOnce() -> Result<i64, Text>) -> HandleErr {
    match guarded(f) {
        Ok(handle) => {
            debug_assert!(handle > 0, "0 stands for a failure");
            HandleErr { handle: handle as u64, err: std::ptr::null_mut() }
        }
        Err(text) => HandleErr { handle: 0, err: emit_error(&text) },
    }
}

/// Returns the object behind a handle. `what`: the official library's word in "invalid … handle".
fn get<T: Kind>(handle: u64, what: &str) -> Result<Used<T>, Text> {
    find(i64::try_from(handle).unwrap_or(0)).map_err(|stale| match stale {
        Stale::Unknown => format!("invalid {what}handle"),
        Stale::WrongKind(_) => format!("handle is not {}", T::NAME),
    })
}

/// # Safety
/// `text` is NULL or NUL-terminated and lives for the call.
unsafe fn input<'a>(text: *const c_char) -> Result<&'a str, Text> {
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: not NULL; the caller promises termination.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| "a string is not UTF-8".into())
}

/// # Safety
/// `data` is NULL or valid for `len` bytes during the call.
unsafe fn input_bytes<'a>(data: *const libc::c_void, len: c_int) -> Result<&'a [u8], Text> {
    let len = usize::try_from(len).map_err(|_| format!("invalid length: {len}"))?;
    // SAFETY: passed on.
    unsafe { crate::error::bytes(data.cast(), len) }.map_err(|fault| fault.message)
}

/// Frees a string or data that this library returned. NULL is allowed.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "official name")]
pub unsafe extern "C" fn FreeString(s: *mut c_char) {
    // SAFETY: NULL, or of this library's malloc and not freed before, as its user promises.
    unsafe { libc::free(s.cast()) };
}
