//! Accounts: sessions of the web chat, files of OAuth accounts, logins, and the renewal of their tokens.

pub mod device_login;
pub mod error;
pub mod oauth;
pub mod oauth_account;
mod oauth_refresh;
mod oauth_scan;
mod own_sessions;
pub(crate) mod single_flight;
pub mod targets;
pub(crate) mod tokens;
pub mod web;
mod web_refresh;
