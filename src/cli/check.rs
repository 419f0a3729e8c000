//! `check`: reads the settings and asks the upstreams about each account and key, changing nothing in them.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::base::facts::AccountKind;
use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::live::Live;
use crate::base::secret::AccessToken;
use crate::base::seed::IdentitySeed;
use crate::base::session::Session;
use crate::cli::CommandError;
use crate::cli::auth::{self, rows};
use crate::config::Config;
use crate::gateway::accounts::targets;
use crate::gateway::accounts::web;
use crate::gateway::accounts::web::skew_in_words;
use crate::gateway::outlook::{ends_soon, in_words};
use crate::pool::Now;
use crate::store::{Kept, Loaded, Store};
use crate::telemetry::ErrorChain;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::oauth::client::QwenOAuth;
use crate::upstream::openai::client::OpenAiApi;
use crate::upstream::web::client::QwenWeb;
use crate::upstream::web::token::token_in_jar;

/// The result of all checks, for people or as JSON.
#[derive(Default, Serialize)]
struct Report {
    /// Number of accounts that can be used.
    usable: usize,
    /// Further remarks for the owner.
    notes: Vec<String>,
    accounts: Vec<Line>,
}

/// The result for one account.
#[derive(Serialize)]
struct Line {
    account: String,
    /// The name that the owner gave it on the page.
    label: Option<String>,
    /// Kind of the account: `web`, `oauth` or `key`.
    kind: &'static str,
    /// State: `usable`, `login needed`, `refused`, …
    state: &'static str,
    /// End of the token in RFC 3339, UTC; `null` for a token without a known end.
    token_until: Option<String>,
    /// Advice for the owner.
    advice: String,
}

impl Report {
    fn add(&mut self, line: Line) {
        self.usable += usize::from(line.state == USABLE);
        self.accounts.push(line);
    }

    fn print(&self, is_json: bool) {
        let mut out = io::stdout();
        if is_json {
            // Plain texts always serialise.
            let _ = writeln!(out, "{}", serde_json::to_string_pretty(self).unwrap_or_default());
            return;
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        if self.accounts.is_empty() {
            let _ = writeln!(
                out,
                "No account is configured: paste the cookie of one into cookie.txt (see cookie.txt.example), log an OAuth \
                 account in with `qwen-bridge auth add`, or name a key in QWEN_API_KEYS."
            );
        }
        let _ = writeln!(out, "{:<20} {:<7} {:<14} {:<22} what to do", "account", "kind", "state", "token until");
        for Line { account, label, kind, state, token_until, advice } in &self.accounts {
            let name = label.as_ref().map_or_else(|| account.clone(), |label| format!("{account} ({label})"));
            let until = token_until.as_deref().unwrap_or("-");
            let _ = writeln!(out, "{name:<20} {kind:<7} {state:<14} {until:<22} {advice}");
        }
    }
}

/// Prints a row for each account of the web chat, each OAuth account and each static key, or all of it as one JSON
/// object; returns whether at least one is usable. An expired OAuth token is not renewed here: a running server may be
/// about to.
///
/// A newer session has to be refreshed before it can be asked; the refreshed one is stored, so that no login is lost
/// when the upstream rotates it.
///
/// # Errors
/// [`CommandError`]: the state folder, a folder of credentials or the HTTP client cannot be used.
pub async fn run(config: Config, is_json: bool) -> Result<bool, CommandError> {
    let mut report = Report::default();
    report.notes.extend(config.notes.iter().chain(&config.warnings).cloned());
    let shown = config.state_dir.display().to_string();
    let (store, loaded) = Store::open_or_in_memory(Path::new(&config.state_dir))
        .map_err(|error| CommandError::Start(crate::app::StartError::Store(shown, error)))?;
    report.notes.extend(store.unusable().map(ToString::to_string));
    report.notes.extend(port_note(config.http.listen));
    let upstream = QwenWeb::new(config.web.clone()).map_err(crate::app::StartError::Client)?;
    let now = Now::read();
    let mut sessions = web::sessions(config.identities.clone(), &loaded, now);
    sessions.extend(loaded.accounts.iter().map(|stored| {
        let seed = IdentitySeed { cookie: Some(stored.cookie.clone()), token: None, spares: Vec::new() };
        (web::session_of(IdentityId::named(&stored.id), &seed, &loaded, now), seed)
    }));
    for (session, _) in sessions {
        let result = ask(&upstream, &store, &session, &mut report.notes).await;
        let (state, advice) = match &result {
            Ok(Asked::Usable) => (USABLE, outlook(&session)),
            Ok(Asked::NotRenewed) => {
                ("not asked", "mend the state folder: its token has to be renewed, and that would be lost".to_owned())
            }
            Err(error) => verdict(error),
        };
        let until = session.token().and_then(|token| token.expires_at());
        let until = until.and_then(|at| jiff::Timestamp::from_second(at.0).ok());
        report.add(Line {
            account: session.identity().to_string(),
            label: loaded.labels.get(session.key()).cloned(),
            kind: "web",
            state,
            token_until: until.map(|at| at.to_string()),
            advice,
        });
    }
    match upstream.clock_skew() {
        0 => {}
        ahead => report.notes.push(skew_in_words(ahead)),
    }
    check_oauth(&mut report, &config, &loaded).await?;
    check_keys(&mut report, &config, &loaded).await?;
    store.close().await;
    report.print(is_json);
    Ok(report.usable > 0)
}

/// The fault that keeps a server from listening at an address; usually another one runs already.
fn port_note(listen: SocketAddr) -> Option<String> {
    let error = std::net::TcpListener::bind(listen).err()?;
    Some(format!("cannot listen at {listen} ({}); a server may be running there already", error.kind()))
}

/// A row for each OAuth account.
async fn check_oauth(report: &mut Report, config: &Config, loaded: &Loaded) -> Result<(), CommandError> {
    let upstream = QwenOAuth::new(config.oauth.clone()).map_err(crate::app::StartError::Client)?;
    for row in rows(&config.accounts, Now::read().unix).await.map_err(CommandError::Auth)? {
        let now = Now::read().unix;
        let (state, advice) = match auth::ask(&upstream, &config.accounts, &row, now).await {
            Some(Ok(())) => (USABLE, "nothing".to_owned()),
            Some(Err(error)) => ("refused", auth::advice(&error)),
            None if row.is_usable(now) => (USABLE, "nothing, its token is renewed when it is needed".to_owned()),
            None => ("login needed", row.problem().unwrap_or_else(|| AccountKind::OAuth.remedy().to_owned())),
        };
        let account = format!("oauth:{}", row.name());
        let label = loaded.labels.get(&CredentialKey::of(&format!("oauth account {account}"))).cloned();
        let token_until = Some(row.until()).filter(|until| until != "-");
        report.add(Line { account, label, kind: "oauth", state, token_until, advice });
    }
    Ok(())
}

/// A row for each static key.
async fn check_keys(report: &mut Report, config: &Config, loaded: &Loaded) -> Result<(), CommandError> {
    let client = OpenAiApi::new(config.web.connect_timeout, Live::new(config.web.timeouts()), config.web.is_direct);
    let api = client.map_err(crate::app::StartError::Client)?;
    let (sessions, targets) = targets::keys(&config.static_keys);
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
            Err(_) if !target.base.path().trim_end_matches('/').ends_with("/v1") => (
                USABLE,
                format!("it has no list of models; if requests fail, its address may lack /v1: {}/v1", target.base),
            ),
            Ok(_) | Err(_) => (USABLE, "nothing".to_owned()),
        };
        report.add(Line {
            account: session.identity().to_string(),
            label: loaded.labels.get(session.key()).cloned(),
            kind: "key",
            state,
            token_until: None,
            advice,
        });
    }
    Ok(())
}

/// The state of an account that can be used.
const USABLE: &str = "usable";

/// The outcome of asking about an account.
enum Asked {
    /// The upstream accepts it.
    Usable,
    /// It needs a renewal, by which the upstream may end the configured session, and the renewed one cannot be kept.
    NotRenewed,
}

async fn ask(
    upstream: &QwenWeb,
    store: &Store,
    session: &Arc<Session>,
    notes: &mut Vec<String>,
) -> Result<Asked, UpstreamError> {
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
                notes.push("the token could not be written down, the disk refuses".to_owned());
            }
            Err(error) => {
                notes.push(format!("the token could not be written down: {}", ErrorChain(&error)));
            }
        }
    }
    upstream.probe(session).await?;
    Ok(Asked::Usable)
}

/// Advice for an account that is usable.
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
