//! A scripted stand-in for chat.qwen.ai and auth.qwen.ai on two loopback ports.
//!
//! `demo` and `simulate` run it, and the integration tests and benches speak to it. It behaves as the web chat was
//! recorded to behave in 2026 – envelopes, cookies, tokens of both eras, chats, streams byte for byte – and it makes
//! every mistake a script asks for. It records each request, and each violation: what no correct client sends.
//! The server under test is never imported here: the two meet on sockets only.
//!
//! The object storage and the CDN stand on the port of the chat host as well: uploads go to the object's key as a
//! path, signed for the real bucket, and links of generated pictures and videos begin with this host.
//!
//! `qwen-bridge simulate --scenario FILE` plays a scenario from a JSON file; `docs/simulator.md` documents its format.
//! In Rust it is a [`Scenario`].

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
pub use crate::web::works::tasks::TaskView;
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

    /// The static keys of the DashScope-shaped endpoint.
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
