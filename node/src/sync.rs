//! Owns the names of the primitives that the hand-over of the loop is made of, so that a model checker can put its own in their
//! place (`node/tests/handover_model.rs`).

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) mod thread {
    pub(crate) use std::thread::{Thread, current, park, park_timeout};
}
