//! The room of programs.

mod authority;
mod filter;
mod http;
pub(crate) mod probe;
mod proxy_protocol;
mod socks;
