//! The object storage and the records of uploaded files.

pub(crate) mod files;
pub(crate) mod oss;
pub(crate) mod oss_signature;
pub(crate) mod uploads;
