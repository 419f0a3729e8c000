//! `check`: reads the settings and asks the upstream about each account, changing nothing in it.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::base::secret::AccessToken;
use crate::base::session::Session;
use crate::cli::CommandError;
use crate::config::Config;
use crate::gateway::accounts::web;
use crate::gateway::outlook::{ends_soon, in_words};
use crate::pool::Now;
use crate::store::Store;
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::web::client::QwenWeb;

/// Prints a row for each account; whether at least one is usable.
///
/// A newer session has to be refreshed before it can be asked anything; what that gives is written down, so that
/// nothing is lost when the upstream rotates it.
///
/// # Errors
/// [`CommandError`]: the state folder or the HTTP client cannot be used.
pub async fn run(config: Config) -> Result<bool, CommandError> {
    let mut out = io::stdout();
    for note in config.notes.iter().chain(&config.warnings) {
        let _ = writeln!(out, "note: {note}");
    }
    let shown = config.state_dir.display().to_string();
    let (store, loaded) = Store::open(Path::new(&config.state_dir))
        .map_err(|error| CommandError::Start(crate::app::StartError::Store(shown, error)))?;
    let upstream = QwenWeb::new(config.web.clone()).map_err(crate::app::StartError::Client)?;
    let sessions = web::sessions(config.identities.clone(), &loaded, Now::read());
    if sessions.is_empty() {
        let _ = writeln!(
            out,
            "No account is configured: paste the cookie of one into cookie.txt (see cookie.txt.example)."
        );
    }
    let _ = writeln!(out, "{:<14} {:<7} {:<14} {:<22} what to do", "account", "kind", "state", "token until");
    let mut usable = 0;
    for (session, _) in sessions {
        let result = ask(&upstream, &store, &session).await;
        usable += usize::from(result.is_ok());
        let (state, advice) = match &result {
            Ok(()) => ("usable", outlook(&session)),
            Err(error) => verdict(error),
        };
        let until = session.token().and_then(|token| token.expires_at());
        let until =
            until.and_then(|at| jiff::Timestamp::from_second(at.0).ok()).map_or("-".to_owned(), |at| at.to_string());
        let _ =
            writeln!(out, "{:<14} {:<7} {:<14} {:<22} {}", session.identity().as_str(), "web", state, until, advice);
    }
    store.close().await;
    Ok(usable > 0)
}

async fn ask(upstream: &QwenWeb, store: &Store, session: &Arc<Session>) -> Result<(), UpstreamError> {
    let now = Now::read().unix;
    let is_live = |token: Option<AccessToken>| token.is_some_and(|token| token.is_live(now));
    if !is_live(session.token()) {
        let token = match upstream.token_in_jar(session, now) {
            Some(token) => token,
            None => upstream.exchange(session, now).await?,
        };
        session.install_token(token);
        if let Err(error) = store.save_session(session.key().clone(), session.snapshot(), now).await {
            let _ = writeln!(io::stdout(), "note: the token could not be written down: {}", ErrorChain(&error));
        }
    }
    upstream.probe(session).await
}

/// What to do about an account that is usable.
fn outlook(session: &Session) -> String {
    let now = Now::read().unix;
    match ends_soon(session, now) {
        Some(ends_at) => format!(
            "log in again, it ends in {} and has no refresh_token cookie to be renewed with",
            in_words(ends_at.0 - now.0)
        ),
        None => "nothing".to_owned(),
    }
}

fn verdict(error: &UpstreamError) -> (&'static str, String) {
    match error.kind {
        UpstreamErrorKind::Unauthorized | UpstreamErrorKind::Forbidden => {
            ("login needed", "log in at chat.qwen.ai and paste the new cookie".to_owned())
        }
        UpstreamErrorKind::Challenged => {
            ("challenged", "open chat.qwen.ai in a browser, pass its check, wait some minutes".to_owned())
        }
        UpstreamErrorKind::RateLimited | UpstreamErrorKind::QuotaExhausted { .. } => ("resting", "wait".to_owned()),
        _ => ("unknown", format!("try again later: {}", ErrorChain(error))),
    }
}
