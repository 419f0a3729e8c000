//! Routes about accounts: the list, adding and testing, logins, renewal of tokens.

pub(crate) mod login;
pub(crate) mod login_wire;
pub(crate) mod logins;
pub(crate) mod refresh;
pub(crate) mod routes;
pub(crate) mod view;
pub(crate) mod words;
