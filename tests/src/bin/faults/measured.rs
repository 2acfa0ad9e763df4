//! Owns what a proof has shown.

/// The outcome of one proof, with the figures behind it.
pub(crate) struct Measured {
    pub(crate) text: String,
    pub(crate) is_ok: bool,
}

impl Measured {
    pub(crate) fn new(is_ok: bool, text: impl Into<String>) -> Self {
        Self { text: text.into(), is_ok }
    }
}
