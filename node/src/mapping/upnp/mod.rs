//! UPnP, for gateways that speak neither PCP nor NAT-PMP (docs/paths.md, "Port mapping").

mod job;
mod lease;
mod messages;

pub(super) use lease::Lease;
