//! The simulator over real sockets: each endpoint, each check, each fault.

mod checks;
mod client;
mod documentation;
mod endpoints;
mod faults;
mod identities;
mod journal;
mod oauth;
mod pictures;
mod portal;
mod research;
mod streams;
mod tools;
mod uploads;
mod videos;
