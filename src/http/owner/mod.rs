//! The routes of the server's owner: the front page, health, accounts and their tokens, logins.

pub(crate) mod accounts;
pub(crate) mod admin_health;
pub(crate) mod advice;
pub(crate) mod audit;
pub(crate) mod gallery;
pub(crate) mod health;
pub(crate) mod keys;
pub(crate) mod models;
pub(crate) mod page;
pub(crate) mod present;
pub(crate) mod reload;
pub(crate) mod requests;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod usage;
