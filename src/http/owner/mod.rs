//! The routes of the server's owner: accounts, usage, logins, health.

pub mod admin;
pub mod counters;
pub mod detailed;
pub mod login;
pub mod status;
pub mod wire;
