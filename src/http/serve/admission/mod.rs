//! Admission of requests: keys of callers and of the owner, sessions of the page, wrong keys, limits.

pub(crate) mod admin_key;
pub(crate) mod auth;
pub(crate) mod buckets;
pub(crate) mod caller;
pub(crate) mod gate;
pub(crate) mod guard;
pub(crate) mod key_limits;
pub(crate) mod own_machine;
pub(crate) mod page_check;
pub(crate) mod rate_limit;
pub(crate) mod sessions;
pub(crate) mod wrong_keys;
