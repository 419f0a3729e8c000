//! Files that requests name by an address: fetched from public hosts only.

pub(crate) mod fetch;
pub(crate) mod guard;
