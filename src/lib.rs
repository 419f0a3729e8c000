//! qwen-bridge: your own Qwen accounts as an API for OpenAI and Anthropic clients.
//!
//! Three kinds of values meet in the middle: a caller's dialect reads a [`ChatRequest`](chat::job::ChatRequest), the
//! catalogue makes it a [`ChatJob`](chat::job::ChatJob), and the upstream answers with
//! [`ReplyEvent`](chat::reply::ReplyEvent)s. Dialects and upstreams never import each other, so each new one is one
//! folder. A [`Lease`](pool::Lease) is the only way to use an identity; dropping it is the only report of how it went.
//!
//! # The floors
//!
//! Imports point down, never sideways between rooms of one floor, never up; `tests/it/tidy.rs` holds this.
//!
//! | floor | rooms | what lives there |
//! |---|---|---|
//! | 12 | `main` | the process: arguments, exit code |
//! | 11 | [`cli`] | one file or folder for each command |
//! | 10 | [`app`] | makes the parts and joins them |
//! | 9 | [`reload`] | takes up changed settings while the server runs |
//! | 8 | [`config`] | flags, environment, `.env`, `config.json`: typed and checked, all faults at once |
//! | 7 | [`http`] | our side of HTTP: [`serve`](http::serve) for what every request passes (its [`socket`](http::serve::socket), [`admission`](http::serve::admission), [`content`](http::serve::content), [`record`](http::serve::record)), [`openai`](http::openai), [`anthropic`](http::anthropic) and [`owner`](http::owner) for routes, [`stream`](http::stream) for the body that a connection pulls, [`metrics`](http::metrics) for Prometheus, [`traces`](http::traces) for OpenTelemetry, [`failure`](http::failure) for statuses, results (files of the upstream's storage, streamed on) |
//! | 6 | [`gateway`] | the flows: [`answer`](gateway::answer), [`accounts`](gateway::accounts), [`videos`](gateway::videos), catalogue, route, attachments, responses, [`chats`](gateway::chats) (continued, then deleted), gallery (what was made), requests (the last ones, for the owner), usage, caller keys, forgetting (accounts and keys that are gone), listing (what `/v1/models` names), outlook (warnings for the owner), random (secrets of this server), [`alerts`](gateway::alerts) |
//! | 5 | [`upstream`] | [`web`](upstream::web) (chat.qwen.ai), [`openai`](upstream::openai) (portal and keys), [`oauth`](upstream::oauth), [`media`](upstream::media), webhook (where alerts go) |
//! | 4 | [`dialect`], [`pool`], [`store`] | callers' dialects; identities and their state; what outlives the process |
//! | 3 | [`chat`] | the middle: conversation and its hashes ([`history`](chat::history)), job, reply events, [`stages`](chat::stages), tool calls in text ([`tools`](chat::tools)), models |
//! | 2 | [`files`], [`pasted`] | bytes of files and what they are; credentials in the forms that people paste |
//! | 1 | [`base`], [`sse`], [`shutdown`], [`telemetry`] | ids, secrets, sessions; event framing; ownership of tasks; logs |
//!
//! `chat`, `dialect`, `pasted`, `base`, `sse` and the encoders and decoders of `upstream` are pure: they do not wait, read a
//! clock, draw randomness, log or touch the network. The simulator of the upstream is a crate of its own,
//! `crates/simulator`; `demo`, `simulate`, the tests and the benches use it.
//!
//! # The walk of a streaming chat completion
//!
//! 1. [`http::serve`] takes the connection, with limits of time and size, gives the request its id and its one line in
//!    the log, and lets the caller in.
//! 2. [`http::openai::chat`] reads the JSON; large files are taken out of it on the way.
//! 3. [`gateway::route`] chooses the kind of upstream by the model's name.
//! 4. [`dialect::openai::request`] reads the body into a conversation, or leaves it as it is for an upstream of the same
//!    dialect.
//! 5. [`gateway::answer::run`] prepares it: [`chat::resolve`] takes the model's name apart by the catalogue, and
//!    [`upstream::web::request`] makes it fit into one message. Files that are named by an address are fetched. Up to
//!    here everything wrong is the caller's fault and nothing was sent.
//! 6. [`gateway::answer::failover`] takes a lease from [`pool`], of the account whose chat the request continues if there
//!    is one, and a fresh token from [`gateway::accounts`].
//! 7. One attempt ([`gateway::answer::web`]): files by [`gateway::attachments`], the message by
//!    [`upstream::web::client`]. It goes to the chat of the last answer with what is new
//!    ([`gateway::chats::continuations`]), else whole to a new chat by [`gateway::chats::janitor`].
//! 8. A failure before the first content goes to `gateway::answer::next_step`, a table; each attempt is noted in the
//!    request's [`Trace`](gateway::answer::trace::Trace).
//! 9. [`upstream::stream`] pulls bytes through [`sse`] and [`upstream::web::decode`], which gives reply events.
//! 10. [`gateway::answer::turn`] sends them through [`chat::stages`]. What the last stage hands on commits the turn.
//! 11. [`dialect::openai::reply`] writes the events into one buffer.
//! 12. [`http::stream`] is the body: the caller's connection polls it, and it polls the upstream's. No task and no
//!     channel lies between.
//! 13. At the end the lease tells the pool, and the chat is kept in [`gateway::chats::continuations`] until it was idle for a
//!     while, then goes to the janitor for deletion. When the caller leaves, everything is dropped: the upstream is
//!     stopped and no identity is charged.
//! 14. When the body has ended or was dropped, the request's record leaves one
//!     [`EndedRequest`](gateway::requests::EndedRequest). The log line, counters, usage, metrics, spans and the owner's
//!     list are made from it, so that a stream under way pays nothing for them.
//!
//! For an OAuth account or a static key, step 7 is [`gateway::answer::relay`] with [`upstream::openai`], and the frames
//! of the upstream are put together again by [`dialect::openai::frames`].
//!
//! # Adding things
//!
//! - A dialect: a folder in `dialect`, routes in `http`.
//! - An upstream: a folder in `upstream`, a variant in [`gateway::route`].
//! - A stage: one file in [`chat::stages`], one line in their order.
//! - A spelling of tool calls: one arm in [`chat::tools::shapes`] and a row in the tests of [`chat::tools::read`].
//! - A model suffix: one row in [`chat::suffix::SUFFIXES`].
//! - An endpoint: one file in `http` with `routes()`, one `merge` in `http/mod.rs`, one module in `tests/it`.
//! - A setting: a field in the struct of the room that obeys it, a row in `config/settings.rs`; a test writes the
//!   documents.
//! - An error of the upstream: one row in [`upstream::classify::classify`].
//! - A phase of the web chat's stream: one arm in [`upstream::web::decode`] and a fixture.
//! - A metric of requests: a family in [`http::serve::record::request_metrics`]; one that is read at each scrape: a gauge in
//!   [`http::metrics`]. A panel or an alert in `deploy`.
//! - A background job: `run(self, stop)` and one `supervisor.spawn` in `app`.

pub mod app;
pub mod base;
pub mod chat;
pub mod cli;
pub mod config;
pub mod dialect;
mod files;
mod gateway;
mod http;
mod pasted;
pub mod pool;
mod reload;
mod shutdown;
pub mod sse;
pub mod store;
pub mod telemetry;
pub mod upstream;

#[cfg(test)]
mod tests;
