//! The harness: how tests start the server, ask it, and judge what it answers. No tests live here.

pub(crate) mod app;
pub(crate) mod files;
pub(crate) mod leaks;
pub(crate) mod messages;
pub(crate) mod oracle;
pub(crate) mod owned;
pub(crate) mod program;
pub(crate) mod raw;
pub(crate) mod responses;
#[cfg(unix)]
pub(crate) mod terminal;
