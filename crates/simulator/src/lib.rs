//! A scripted stand-in for chat.qwen.ai and auth.qwen.ai on two loopback ports.
//!
//! `demo` and `simulate` run it, and the integration tests and benches speak to it. It behaves as the web chat was
//! recorded to behave in 2026 – envelopes, cookies, tokens of both eras, chats, streams byte for byte – and it makes
//! every mistake a script asks for. It writes down each request, and each thing that no honest client would send.
//! The server under test is never imported here: the two meet on sockets only.
//!
//! The object storage and the CDN stand on the port of the chat host as well: uploads go to the object's key as a
//! path, signed for the real bucket, and links of generated pictures and videos begin with this host.
//!
//! # Scenario files
//!
//! `qwen-bridge simulate --scenario FILE` plays a JSON file. Every key may be left out; a key that does not exist is
//! refused. The same thing in Rust is a [`Scenario`]. JSON has no comments, so here they stand beside it:
//!
//! ```json
//! {
//!   "port": 8101, "auth_port": 8102,
//!   "pace_ms": 15,
//!   "accounts": [
//!     {
//!       "name": "ada", "era": "A", "old_chats": 3,
//!       "replies": {
//!         "completions": [
//!           { "stream": { "answer": "Hello from a script.",
//!                         "reasoning": [[["Thinking it over", "A short greeting will do."]]] } },
//!           { "fail": { "error": { "code": "RateLimited", "num": 2 } } },
//!           { "stream": { "pieces": ["half ", "an answer"], "cut": { "after": 2, "how": "reset" } } }
//!         ]
//!       }
//!     },
//!     {
//!       "name": "bob", "era": "B", "access_token_seconds": 60, "refresh_rotation": "new",
//!       "replies": { "refresh": [ { "delay_ms": 500, "fail": { "status": { "code": 503 } } } ] }
//!     }
//!   ],
//!   "replies": {
//!     "models": [ { "fail": { "challenge": { "form": "html", "status": 405 } } } ]
//!   },
//!   "defaults": {
//!     "completions": { "stream": { "packets": { "size": 7 }, "line_ending": "crlf",
//!                                  "inserts": [ { "after": 1, "what": "keep_alive" } ] } }
//!   }
//! }
//! ```
//!
//! - `ada`'s first completion thinks and says hello, the second is refused for two hours, the third is torn after two
//!   frames; later ones are answered as `defaults` says.
//! - `bob`'s first refresh takes half a second and fails; then each one gives a token for a minute, and a new refresh
//!   token in the place of the old one.
//! - Whoever first asks for the models meets a slider.
//! - All other streams come in packets of seven bytes, which cut characters, with CRLF and a keep-alive frame.
//!
//! Which reply a call gets: the account's queue, then the queue of all, the account's default, the default of all,
//! and at last the built-in one. Replies of the edge (`status`, `challenge`, `redirect`, `reset`, `raw`) come before
//! anything of the request is looked at; all others are used up only by a call that would have been served.
//! Frames are counted as they are sent: `"after": 1` is right after `response.created`.
//!
//! # Files, pictures, videos
//!
//! ```json
//! {
//!   "accounts": [ { "name": "ada", "era": "A", "videos_per_day": 3 } ],
//!   "replies": {
//!     "sts": [ { "fail": { "error": { "code": "RateLimited" } } }, { "grant": { "grant_seconds": 0 } } ],
//!     "oss_put": [ { "fail": { "status": { "code": 503 } } }, { "put": { "after_bytes": 1000, "how": "close" } } ],
//!     "file_parse": [ { "parse": { "polls": 0, "end": { "failed": "unreadable" } } } ],
//!     "completions": [
//!       { "picture": { "count": 2, "keep_alives": 5 }, "stream": { "cut": { "after": 6 } } },
//!       { "picture": { "lost": true, "late_reads": 2 } },
//!       { "video": { "polls": 10, "end": { "failed": "no boats today" } } }
//!     ]
//!   },
//!   "defaults": { "task_status": { "fail": { "status": { "code": 404 } } } }
//! }
//! ```
//!
//! - The first call for the right to upload is refused, and what the second one gives is over at once. The first
//!   upload is turned away, the second is closed after about a kilobyte. The first document cannot be parsed.
//! - The first prompt gets keep-alives and no picture before its stream is torn; the second stream finishes without
//!   a picture, which is in the chat from the third reading on; the third prompt, for a video, fails after ten
//!   questions, which have to take the older route.
//!
//! Which part of a reply counts is up to the prompt's chat type: `stream.answer` says nothing about pictures, and
//! `picture` nothing about text. A prompt for `two pictures` gets two.
//! Files that came with a message are counted and named, with their hash, at the start of the built-in answer.
//!
//! # OAuth and keys
//!
//! The chat host has the OAuth door as well, and beside the site two endpoints in the shape of OpenAI's: the portal,
//! for access tokens, and one for static keys. A device login is granted by the first OAuth account after one poll,
//! unless its reply says otherwise; the reply at `device_code` counts for the whole login.
//!
//! ```json
//! {
//!   "oauth_accounts": [
//!     { "name": "cleo", "access_token_seconds": 60, "refresh_rotation": "new", "resource_url": { "other": "x.example" },
//!       "replies": {
//!         "refresh_token": [ { "delay_ms": 500, "token": { "body": "lost" } } ],
//!         "portal_chat": [
//!           { "fail": { "api": { "throttled": "7" } } },
//!           { "stream": { "pieces": ["half ", "an answer"], "cut": { "after": 2 } } },
//!           { "chat": { "chunks": "bare", "lacks_done": true } }
//!         ]
//!       } }
//!   ],
//!   "keys": [ { "name": "kay", "chats_per_window": 1200 } ],
//!   "portal": { "needs_system_parts": true },
//!   "replies": {
//!     "device_code": [ { "device": { "polls": ["slow_down", "slow_down_429"], "approval": "denied" } } ],
//!     "device_token": [ { "fail": { "oauth": { "rate_limited": "30" } } } ]
//!   }
//! }
//! ```
//!
//! - `cleo`'s first refresh takes half a second, and the connection breaks when the old refresh token is dead already.
//!   Its first chat is throttled, the second torn, the chunks of the third have no ids, and no `[DONE]` comes.
//! - The first login polls too fast twice, is told to wait once, and is denied; somewhere in between, a poll meets a
//!   rate limit.
//! - With `tools`, a line `call: NAME {"some": "arguments"}` of the prompt makes a call.
//!
//! The built-in answer says that it is simulated. A prompt with `echo:` gets back whatever comes after it.

mod answers;
mod api;
mod clock;
mod errors;
mod face;
mod manners;
mod record;
mod routes;
pub mod script;
mod server;
mod storage;
mod web;
mod world;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use crate::api::oauth::TokenLife;
pub use crate::face::{OAuthAccounts, Record, Script, StaticKeys, Stored, Urls, WebAccounts};
pub use crate::record::{CallCounts, Ended, EndedHow, RecordedRequest, SiteHost};
use crate::script::Scenario;
use crate::server::{bind, listen};
pub use crate::storage::uploads::UploadView;
pub use crate::web::chats::ChatView;
pub use crate::web::tasks::TaskView;
use crate::world::World;

/// A running simulator. Dropped, it closes its listeners and all connections.
///
/// ```
/// use std::time::Duration;
///
/// use simulator::Simulator;
/// use simulator::script::{Endpoint, Scenario, ScriptedReply};
///
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # runtime.block_on(async {
/// let simulator = Simulator::start(Scenario::default()).await?;
/// let cookie = simulator.accounts().cookie("ada");
/// assert!(cookie.contains("; token=eyJ"));
/// simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error("RateLimited"));
/// // … let a client with this cookie ask something at simulator.urls().web …
/// let record = simulator.record();
/// let asked = record.wait_until(|request| request.is("ada", Endpoint::Completions), Duration::ZERO);
/// assert!(asked.await.is_none());
/// assert!(record.violations().is_empty());
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Simulator {
    world: Arc<World>,
    chat: SocketAddr,
    auth: SocketAddr,
    tracker: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Simulator {
    /// Starts on the scenario's ports.
    ///
    /// # Errors
    /// A port that cannot be bound; [`io::ErrorKind::InvalidInput`]: a scenario that contradicts itself.
    pub async fn start(scenario: Scenario) -> io::Result<Self> {
        scenario.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let (chat_listener, chat) = bind(scenario.port).await?;
        let (auth_listener, auth) = bind(scenario.auth_port).await?;
        let world = Arc::new(World::new(&scenario, chat, stop.clone()));
        for (listener, host) in [(chat_listener, SiteHost::Chat), (auth_listener, SiteHost::Auth)] {
            let world = Arc::clone(&world);
            let inner = tracker.clone();
            tracker.spawn(listen(listener, host, world, inner, stop.clone()));
        }
        Ok(Self { world, chat, auth, tracker, _stop_on_drop: stop.clone().drop_guard(), stop })
    }

    /// The base URL of each simulated host.
    #[must_use]
    pub fn urls(&self) -> Urls {
        Urls::new(self.chat, self.auth)
    }

    /// The accounts of the web chat.
    #[must_use]
    pub fn accounts(&self) -> WebAccounts<'_> {
        WebAccounts::new(&self.world)
    }

    /// The OAuth accounts, their device logins, and the portal.
    #[must_use]
    pub fn oauth(&self) -> OAuthAccounts<'_> {
        OAuthAccounts::new(&self.world)
    }

    /// The static keys.
    #[must_use]
    pub fn keys(&self) -> StaticKeys<'_> {
        StaticKeys::new(&self.world)
    }

    /// The replies that are still to come.
    #[must_use]
    pub fn script(&self) -> Script<'_> {
        Script::new(&self.world)
    }

    /// The requests so far, and what was wrong with them.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        Record::new(&self.world)
    }

    /// The chats, files and videos that the simulated site keeps.
    #[must_use]
    pub fn stored(&self) -> Stored<'_> {
        Stored::new(&self.world)
    }

    /// Stops, and waits until the last connection is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
