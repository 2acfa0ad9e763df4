//! Owns the name of a program's connection.

/// Names one connection of a program; no other has the same name before four thousand million others have come and gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JointId {
    /// The place in the table.
    pub(super) slot: u32,
    /// The number of connections that had the place before.
    pub(super) generation: u32,
}
