//! Owns the state that the stacks of all peers share.

use crate::agenda::Agenda;
use crate::config::StackConfig;
use crate::early::Spent;
use crate::socket_pool::SocketPool;

/// State of one stack that is lent to a peer's stack for each call.
pub(crate) struct Shared {
    pub(crate) agenda: Agenda,
    pub(crate) pool: SocketPool,
    pub(crate) spent: Spent,
}

impl Shared {
    pub(crate) fn new(config: &StackConfig) -> Self {
        Self { agenda: Agenda::new(), pool: SocketPool::new(config), spent: Spent::new() }
    }
}
