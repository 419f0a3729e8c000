//! Tools of a request: compiled sets of them, and the accounts that take them as declarations of their own.

pub(crate) mod native;
pub(crate) mod sets;
