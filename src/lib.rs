//! qwen-bridge: your own Qwen accounts as an API for OpenAI clients.
//!
//! Two neutral values stand in the middle: a [`ChatJob`](transform::job::ChatJob) goes up, [`ReplyEvent`]s come
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
//! | 8 | `main`, [`cli`] | one file for each command |
//! | 7 | [`app`], [`simulator`] | makes and joins the parts; a scripted upstream, which nothing else of the product imports |
//! | 6 | [`config`] | flags, environment, `.env`, `config.json`: typed and checked, all faults at once |
//! | 5 | [`http`] | our side of HTTP: routes, key check, errors, event streams, the accept loop |
//! | 4 | [`gateway`] | the flows: answering a chat, logging in, refreshing tokens, listing models, cleaning up |
//! | 3 | [`pool`], [`upstream`], [`store`] | who we are; the world out there; what outlives the process |
//! | 2 | [`transform`] | pure translation |
//! | 1 | [`sse`], [`wire`] | pure framing; mirrors of what travels |
//! | 0 | [`base`], [`blob`], [`shutdown`], [`telemetry`] | ids, secrets, sessions; bytes of files; who owns tasks; logs |
//!
//! `pool`, `upstream` and `store` never meet: `gateway` introduces them.
//!
//! # The walk of one streaming request
//!
//! 1. [`http::server`] takes the connection, with limits of time and size; [`http::access`] gives the request its id
//!    and its one line in the log; [`http::auth`] lets the caller in.
//! 2. [`http::chat`] reads the body within limits; [`transform::job`] checks every field and, with the catalogue of
//!    [`gateway::models`], makes the job. What is wrong so far reached nobody.
//! 3. [`gateway::chat`] says what an attempt is and [`gateway::failover`] makes them: a lease from [`pool`], a fresh
//!    token from [`gateway::refresher`], the files by [`gateway::attachments`], a new chat and the question by
//!    [`upstream::qwen_web`]. A failure goes to the pool with its blame, and the next identity tries.
//! 4. [`upstream::stream`] pulls bytes through [`sse`] and [`transform::qwen_reply`]; the first content ends
//!    failover. Until then the status waits too, for at most `HEADERS_HOLD`.
//! 5. [`http::sse`] is the body: the caller's connection polls it, it polls the upstream's, and
//!    [`transform::openai_reply`] writes what came into one frame. No task and no channel lies between.
//! 6. At the end the lease tells the pool, and the chat goes to [`gateway::janitor`] for deletion. When the caller
//!    leaves, everything is dropped, and dropping does the rest: the upstream is stopped, nobody is charged.
//!
//! [`gateway::kinds`] looks at the model first: one of an OAuth account or a static key goes to [`gateway::relay`] in
//! place of steps 2 and 3. There the caller's body passes through [`transform::openai_dialect`] to
//! [`upstream::openai_api`], with the same failover over a pool of its own.
//!
//! # Adding things
//!
//! - A model suffix: one row in [`base::model::SUFFIXES`].
//! - An endpoint: one file in `http` with `routes()`, one `merge` in `http/mod.rs`, one module in `tests/it`.
//! - A setting: a field in the struct of the room that obeys it, a row in `config/settings.rs`; a test writes the
//!   documents.
//! - An error of the upstream: one row in [`upstream::error::classify`].
//! - A phase of the stream: one arm in [`transform::qwen_reply`] and a fixture.
//!
//! [`ReplyEvent`]: transform::reply::ReplyEvent

pub mod app;
pub mod base;
pub mod blob;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod http;
pub mod pool;
pub mod shutdown;
pub mod simulator;
pub mod sse;
pub mod store;
pub mod telemetry;
pub mod transform;
pub mod upstream;
pub mod wire;
