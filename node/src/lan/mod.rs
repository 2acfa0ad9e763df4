//! Nodes of one network that find each other without a rendezvous (docs/paths.md, "Without a rendezvous on one network").

mod room;

pub(crate) use room::Lan;
