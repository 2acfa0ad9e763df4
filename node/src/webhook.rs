//! Owns the place where a node's webhook stands: the node keeps the setting on disk and writes it here; a worker that posts
//! the node's events, which only the daemon has, reads it and tells how it fares.

use crate::answer::WebhookState;
use crate::platform::Signal;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a node's events are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSetting {
    /// The URL, of which the node has checked the form: `https://…`, or `http://…` as far as that is allowed.
    pub url: String,
    /// Whether plain HTTP may leave this machine.
    pub insecure: bool,
    /// The key of the signatures; 16 to 256 bytes.
    pub secret: String,
}

impl fmt::Debug for WebhookSetting {
    /// Shows all but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSetting")
            .field("url", &self.url)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

/// The webhook of a node, shared by the node ([`Config::webhook`](crate::Config::webhook)) and the worker that posts. Clones
/// share it. Any thread.
#[derive(Clone)]
pub struct Webhook(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Signal,
}

#[derive(Default)]
struct State {
    setting: Option<WebhookSetting>,
    report: WebhookState,
}

impl Webhook {
    /// A webhook without a URL, until a node that has one on disk starts.
    ///
    /// # Errors
    /// When no descriptors are left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared { state: Mutex::default(), changed: Signal::new()? })))
    }

    /// Raised when the setting has changed; for one worker, which drains it.
    pub fn changed(&self) -> &Signal {
        &self.0.changed
    }

    /// The setting; `None`: nothing is posted.
    pub fn setting(&self) -> Option<WebhookSetting> {
        self.lock().setting.clone()
    }

    /// Changes what `info` tells of the webhook. The URL is the node's.
    pub fn report(&self, change: impl FnOnce(&mut WebhookState)) {
        change(&mut self.lock().report);
    }

    pub(crate) fn set(&self, setting: Option<WebhookSetting>) {
        let mut state = self.lock();
        state.report = WebhookState::default();
        state.setting = setting;
        drop(state);
        self.0.changed.notify();
    }

    /// What `info` tells; `None` without a URL.
    pub(crate) fn state(&self) -> Option<WebhookState> {
        let state = self.lock();
        let url = state.setting.as_ref()?.url.clone();
        Some(WebhookState { url, ..state.report.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").field(&self.setting()).finish()
    }
}
