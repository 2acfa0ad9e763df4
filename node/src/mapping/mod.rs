//! Port mapping: a gateway that maps the node's UDP port makes it reachable from outside (docs/paths.md, "Port mapping").

mod codec;
mod mapper;
pub(crate) mod probe;
mod room;
mod upnp;

pub(crate) use room::Mapping;
