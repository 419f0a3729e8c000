//! Files that requests name by an address: fetched from public hosts only.

pub mod fetch;
pub mod guard;
