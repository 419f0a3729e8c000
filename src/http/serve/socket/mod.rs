//! The sockets that callers come through: accepting, limits on connections, and what is left unread.

pub(crate) mod connections;
pub(crate) mod drain;
pub(crate) mod server;
