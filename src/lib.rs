//! qwen-bridge: your own Qwen accounts as an API for OpenAI clients.
//!
//! Two neutral values stand in the middle: a [`ChatJob`](chat::job::ChatJob) goes up, [`ReplyEvent`]s come
//! down. Everything above them speaks the caller's dialect, everything below the upstream's, and what lies between
//! is pure. A [`Lease`](pool::Lease) is the only way to use an identity, and giving it back is the only way to
//! report how it went.
//!
//! # The floors
//!
//! Imports point down, never sideways between rooms of one floor, never up; `tests/it/tidy.rs` holds this.
//!
//! | floor | rooms | |
//! |---|---|---|
//! | 11 | `main`, [`cli`] | one file for each command |
//! | 10 | [`app`] | makes and joins the parts |
//! | 9 | [`config`] | flags, environment, `.env`, `config.json`: typed and checked, all faults at once |
//! | 8 | [`http`] | our side of HTTP: routes, key check, errors, event streams, the accept loop |
//! | 7 | [`gateway`] | the flows: answering, accounts, videos, catalogue |
//! | 6 | [`upstream`] | the web chat, endpoints in OpenAI's shape, OAuth, fetched media |
//! | 5 | [`pool`], [`store`], [`dialect`] | identities and their state; what outlives the process; callers' dialects |
//! | 4 | [`chat`] | the neutral middle |
//! | 3 | [`files`] | bytes of files and what they are |
//! | 2 | [`base`], [`sse`], [`shutdown`], [`telemetry`] | ids, secrets, sessions; framing; who owns tasks; logs |
//!
//! The simulator of the upstream is a crate of its own, `crates/simulator`; only `demo`, `simulate`, the tests and the
//! benches use it.
//!
//! `pool`, `upstream` and `store` never meet: `gateway` introduces them.
//!
//! # The walk of one streaming request
//!
//! 1. [`http::serve::server`] takes the connection, with limits of time and size; [`http::serve::access`] gives the request its id
//!    and its one line in the log; [`http::serve::auth`] lets the caller in.
//! 2. [`http::openai::chat`] reads the body within limits; [`chat::job`] checks every field and, with the catalogue of
//!    [`gateway::catalogue`], makes the job. What is wrong so far reached nobody.
//! 3. [`gateway::answer::chat`] says what an attempt is and [`gateway::answer::failover`] makes them: a lease from [`pool`], a fresh
//!    token from [`gateway::accounts::web`], the files by [`gateway::attachments`], a new chat and the question by
//!    [`upstream::web::client`]. A failure goes to the pool with its blame, and the next identity tries.
//! 4. [`upstream::web::stream`] pulls bytes through [`sse`] and [`upstream::web::decode`]; the first content ends
//!    failover. Until then the status waits too, for at most `HEADERS_HOLD`.
//! 5. [`http::stream`] is the body: the caller's connection polls it, it polls the upstream's, and
//!    [`dialect::openai::reply`] writes what came into one frame. No task and no channel lies between.
//! 6. At the end the lease tells the pool, and the chat goes to [`gateway::janitor`] for deletion. When the caller
//!    leaves, everything is dropped, and dropping does the rest: the upstream is stopped, nobody is charged.
//!
//! [`gateway::route`] looks at the model first: one of an OAuth account or a static key goes to [`gateway::answer::relay`] in
//! place of steps 2 and 3. There the caller's body passes through [`upstream::openai::translate`] to
//! [`upstream::openai::client`], with the same failover over a pool of its own.
//!
//! # Adding things
//!
//! - A model suffix: one row in [`chat::suffix::SUFFIXES`].
//! - An endpoint: one file in `http` with `routes()`, one `merge` in `http/mod.rs`, one module in `tests/it`.
//! - A setting: a field in the struct of the room that obeys it, a row in `config/settings.rs`; a test writes the
//!   documents.
//! - An error of the upstream: one row in [`upstream::error::classify`].
//! - A phase of the stream: one arm in [`upstream::web::decode`] and a fixture.
//!
//! [`ReplyEvent`]: chat::reply::ReplyEvent

pub mod app;
pub mod base;
pub mod chat;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod files;
pub mod gateway;
pub mod http;
pub mod pool;
pub mod shutdown;
pub mod sse;
pub mod store;
pub mod telemetry;
pub mod upstream;

#[cfg(test)]
mod tests;
