//! The routes of the server's owner: accounts, usage, logins, health.

pub mod accounts;
pub mod health;
pub mod login;
pub mod login_wire;
pub mod page;
