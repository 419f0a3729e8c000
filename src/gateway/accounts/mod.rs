//! Accounts: sessions of the web chat, files of OAuth accounts, logins, and the renewal of their tokens.

pub(crate) mod book;
pub(crate) mod device_login;
pub(crate) mod error;
pub(crate) mod oauth;
pub(crate) mod oauth_account;
mod oauth_refresh;
mod oauth_scan;
mod own_sessions;
pub(crate) mod replaced;
pub(crate) mod single_flight;
pub(crate) mod targets;
pub(crate) mod tokens;
pub(crate) mod web;
mod web_refresh;
