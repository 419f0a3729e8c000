//! The simulator over real sockets: each endpoint, each check, each fault.

mod checks;
mod endpoints;
mod faults;
mod identities;
mod journal;
mod pictures;
mod streams;
mod uploads;
mod videos;
