//! `check`: reads the settings and asks the upstreams about each account and key, changing nothing in them.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::base::facts::AccountKind;
use crate::base::secret::AccessToken;
use crate::base::session::Session;
use crate::cli::CommandError;
use crate::cli::auth::{self, Row, rows};
use crate::config::Config;
use crate::gateway::accounts::targets;
use crate::gateway::accounts::web;
use crate::gateway::accounts::web::skew_in_words;
use crate::gateway::outlook::{ends_soon, in_words};
use crate::pool::Now;
use crate::store::{Kept, Store};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::oauth::client::QwenOAuth;
use crate::upstream::openai::client::OpenAiApi;
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::token::token_in_jar;

/// Prints a row for each account of the web chat, each OAuth account and each static key; whether at least one is
/// usable. An OAuth token that is over is not renewed here: a running server may be about to.
///
/// A newer session has to be refreshed before it can be asked anything; what that gives is written down, so that
/// nothing is lost when the upstream rotates it.
///
/// # Errors
/// [`CommandError`]: the state folder, a folder of credentials or the HTTP client cannot be used.
pub async fn run(config: Config) -> Result<bool, CommandError> {
    let mut out = io::stdout();
    for note in config.notes.iter().chain(&config.warnings) {
        let _ = writeln!(out, "note: {note}");
    }
    let shown = config.state_dir.display().to_string();
    let (store, loaded) = Store::open_or_in_memory(Path::new(&config.state_dir))
        .map_err(|error| CommandError::Start(crate::app::StartError::Store(shown, error)))?;
    if let Some(unusable) = store.unusable() {
        let _ = writeln!(out, "note: {unusable}");
    }
    let upstream = QwenWeb::new(config.web.clone()).map_err(crate::app::StartError::Client)?;
    let sessions = web::sessions(config.identities.clone(), &loaded, Now::read());
    let oauth_rows = rows(&config.accounts, Now::read().unix).await.map_err(CommandError::Auth)?;
    if sessions.is_empty() && oauth_rows.is_empty() && config.static_keys.is_empty() {
        let _ = writeln!(
            out,
            "No account is configured: paste the cookie of one into cookie.txt (see cookie.txt.example), log an OAuth \
             account in with `qwen-bridge auth add`, or name a key in QWEN_API_KEYS."
        );
    }
    let _ = writeln!(out, "{:<20} {:<7} {:<14} {:<22} what to do", "account", "kind", "state", "token until");
    let mut usable = 0;
    for (session, _) in sessions {
        let result = ask(&upstream, &store, &session).await;
        usable += usize::from(matches!(result, Ok(Asked::Usable)));
        let (state, advice) = match &result {
            Ok(Asked::Usable) => ("usable", outlook(&session)),
            Ok(Asked::NotRenewed) => {
                ("not asked", "mend the state folder: its token has to be renewed, and that would be lost".to_owned())
            }
            Err(error) => verdict(error),
        };
        let until = session.token().and_then(|token| token.expires_at());
        let until =
            until.and_then(|at| jiff::Timestamp::from_second(at.0).ok()).map_or("-".to_owned(), |at| at.to_string());
        let _ =
            writeln!(out, "{:<20} {:<7} {:<14} {:<22} {}", session.identity().as_str(), "web", state, until, advice);
    }
    match upstream.clock_skew() {
        0 => {}
        ahead => {
            let _ = writeln!(out, "note: {}", skew_in_words(ahead));
        }
    }
    usable += check_oauth(&mut out, &config, &oauth_rows).await?;
    usable += check_keys(&mut out, &config).await?;
    store.close().await;
    Ok(usable > 0)
}

/// A row for each OAuth account; how many are usable.
async fn check_oauth(out: &mut io::Stdout, config: &Config, rows: &[Row]) -> Result<usize, CommandError> {
    let upstream = QwenOAuth::new(config.oauth.clone()).map_err(crate::app::StartError::Client)?;
    let mut usable = 0;
    for row in rows {
        let now = Now::read().unix;
        let (state, advice) = match auth::ask(&upstream, &config.accounts, row, now).await {
            Some(Ok(())) => ("usable", "nothing".to_owned()),
            Some(Err(error)) => ("refused", auth::advice(&error)),
            None if row.is_usable(now) => ("usable", "nothing, its token is renewed when it is needed".to_owned()),
            None => ("login needed", row.problem().unwrap_or_else(|| AccountKind::OAuth.remedy().to_owned())),
        };
        usable += usize::from(state == "usable");
        let name = format!("oauth:{}", row.name());
        let _ = writeln!(out, "{name:<20} {:<7} {state:<14} {:<22} {advice}", "oauth", row.until());
    }
    Ok(usable)
}

/// A row for each static key; how many are usable.
async fn check_keys(out: &mut io::Stdout, config: &Config) -> Result<usize, CommandError> {
    let client = OpenAiApi::new(config.web.connect_timeout, config.web.idle_timeout, config.web.is_direct);
    let api = client.map_err(crate::app::StartError::Client)?;
    let (sessions, targets) = targets::keys(&config.static_keys);
    let mut usable = 0;
    for session in sessions {
        let Some(target) = targets.get(session.key()) else { continue };
        let (state, advice) = match api.models(&session, target).await {
            // An endpoint without a list says so only after it accepted the key.
            Err(error) if error.kind != UpstreamErrorKind::ModelNotFound => match error.kind {
                UpstreamErrorKind::Unauthorized | UpstreamErrorKind::Forbidden => {
                    ("refused", AccountKind::Key.remedy().to_owned())
                }
                _ => verdict(&error),
            },
            Ok(_) | Err(_) => ("usable", "nothing".to_owned()),
        };
        usable += usize::from(state == "usable");
        let _ = writeln!(out, "{:<20} {:<7} {state:<14} {:<22} {advice}", session.identity().as_str(), "key", "-");
    }
    Ok(usable)
}

/// How asking about an account went.
enum Asked {
    /// The upstream takes it.
    Usable,
    /// It would have to be renewed, and the upstream may end the configured session by that while the renewed one
    /// cannot be kept.
    NotRenewed,
}

async fn ask(upstream: &QwenWeb, store: &Store, session: &Arc<Session>) -> Result<Asked, UpstreamError> {
    let now = Now::read().unix;
    let is_live = |token: Option<AccessToken>| token.is_some_and(|token| token.is_live(now));
    if !is_live(session.token()) {
        let token = match token_in_jar(session, now) {
            Some(token) => token,
            None if store.unusable().is_some() => return Ok(Asked::NotRenewed),
            None => {
                let before = web::account_of(session, Now::read());
                let token = upstream.exchange(session, now).await?;
                if token.account().is_some_and(|account| before.is_some_and(|before| before != account)) {
                    let note = "the upstream answered for another account";
                    return Err(UpstreamError::noted("refreshing a token", UpstreamErrorKind::Unauthorized, note));
                }
                token
            }
        };
        session.install_token(token);
        match store.save_session(session.key().clone(), session.snapshot(), now).await {
            Ok(Kept::OnDisk) => {}
            Ok(Kept::InMemory) if store.unusable().is_some() => {}
            Ok(Kept::InMemory) => {
                let _ = writeln!(io::stdout(), "note: the token could not be written down, the disk refuses");
            }
            Err(error) => {
                let _ = writeln!(io::stdout(), "note: the token could not be written down: {}", ErrorChain(&error));
            }
        }
    }
    upstream.probe(session).await?;
    Ok(Asked::Usable)
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
