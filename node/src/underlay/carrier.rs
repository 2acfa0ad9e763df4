//! Owns which way datagrams take to the rendezvous, and since when and why.

use crate::answer::TlsRoute;
use pilot_core::Instant;

/// The way that datagrams to the rendezvous take.
#[derive(Default)]
pub(crate) struct Carrier {
    /// Where the TLS connection leads that carries them; `None`: they go by UDP.
    over_tls: Option<String>,
    /// When this way was taken; `None`: it is the one of the start.
    since: Option<Instant>,
    /// Why the newest attempt over TLS failed; empty when it did not.
    pub(crate) tls_failure: String,
    /// The way over TLS that is taken where no UDP passes.
    pub(crate) tls: Option<TlsRoute>,
}

impl Carrier {
    /// Where the TLS connection leads that carries the datagrams; `None`: they go by UDP.
    pub(crate) fn over_tls(&self) -> Option<&str> {
        self.over_tls.as_deref()
    }

    /// When this way was taken.
    pub(crate) fn since(&self) -> Instant {
        self.since.unwrap_or(Instant::ZERO)
    }

    /// Why this way is taken: a stable word.
    pub(crate) fn reason(&self) -> &'static str {
        match (&self.over_tls, self.since) {
            (Some(_), _) => "udp_silent",
            (None, Some(_)) => "udp_answers",
            (None, None) => "usual",
        }
    }
}

#[cfg(feature = "tls")]
impl Carrier {
    /// UDP carries the datagrams from now on.
    pub(crate) fn move_to_udp(&mut self, now: Instant) {
        if self.over_tls.take().is_some() {
            self.since = Some(now);
        }
    }

    /// A TLS connection that leads to `at` carries them from now on.
    pub(crate) fn move_to_tls(&mut self, now: Instant, at: &str) {
        (self.over_tls, self.since) = (Some(at.into()), Some(now));
        self.tls_failure.clear();
    }
}
