//! What the owner of a server looks at and does: the front page, health, accounts and their tokens, logins.

pub mod accounts;
pub mod health;
pub mod login;
pub mod login_wire;
pub mod page;
pub(crate) mod present;
pub mod refresh;
