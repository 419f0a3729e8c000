//! `check`: reads the settings and asks the upstreams about each account and key, changing nothing in them.

mod report;
mod surroundings;

use std::path::Path;
use std::sync::Arc;

use crate::base::facts::AccountKind;
use crate::base::ids::{CredentialKey, IdentityId};
use crate::base::live::Live;
use crate::base::secret::AccessToken;
use crate::base::seed::IdentitySeed;
use crate::base::session::Session;
use crate::cli::CommandError;
use crate::cli::auth::{self, rows};
use crate::cli::check::report::{Line, NOTHING, Report, USABLE};
use crate::cli::check::surroundings::{base_hint, notes};
use crate::cli::progress::Progress;
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

/// Prints a row for each account of the web chat, each OAuth account and each static key, or all of it as one JSON
/// object; returns whether at least one is usable. An expired OAuth token is not renewed here: a running server may be
/// about to.
///
/// A newer session has to be refreshed before it can be asked; the refreshed one is stored, so that no login is lost
/// when the upstream rotates it. While a server listens at the configured address this is left to it: the server would go
/// on with the former session, which the upstream may have ended.
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
    let may_be_served = surroundings::is_taken(config.http.listen);
    report.notes.extend(notes(&config));
    let progress = Progress::new();
    let upstream = QwenWeb::new(config.web.clone()).map_err(crate::app::StartError::Client)?;
    let now = Now::read();
    let mut sessions = web::sessions(config.identities.clone(), &loaded, now);
    sessions.extend(loaded.accounts.iter().map(|stored| {
        let seed = IdentitySeed { cookie: Some(stored.cookie.clone()), token: None, spares: Vec::new() };
        (web::session_of(IdentityId::named(&stored.id), &seed, &loaded, now), seed)
    }));
    for (session, _) in sessions {
        let label = |_| format!("asking the web chat about {}", session.identity());
        let asking = ask(&upstream, &store, &session, may_be_served, &mut report.notes);
        let result = progress.during(true, label, asking).await;
        let (state, advice) = match &result {
            Ok(Asked::Usable) => (USABLE, outlook(&session)),
            Ok(Asked::NotRenewed(advice)) => ("not asked", (*advice).to_owned()),
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
    let oauth = check_oauth(&mut report, &config, &loaded);
    progress.during(true, |_| "asking about OAuth accounts".to_owned(), oauth).await?;
    let keys = check_keys(&mut report, &config, &loaded);
    progress.during(true, |_| "asking about static keys".to_owned(), keys).await?;
    store.close().await;
    report.print(is_json, Now::read().unix);
    Ok(report.usable > 0)
}

/// A row for each OAuth account.
async fn check_oauth(report: &mut Report, config: &Config, loaded: &Loaded) -> Result<(), CommandError> {
    let upstream = QwenOAuth::new(config.oauth.clone()).map_err(crate::app::StartError::Client)?;
    for row in rows(&config.accounts, Now::read().unix).await.map_err(CommandError::Auth)? {
        let now = Now::read().unix;
        let (state, advice) = match auth::ask(&upstream, &config.accounts, &row, now).await {
            Some(Ok(())) => (USABLE, NOTHING.to_owned()),
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
            Err(_) if let Some(right) = base_hint(&target.base) => (USABLE, format!("correct its address: {right}")),
            Err(_) if !target.base.path().trim_end_matches('/').ends_with("/v1") => (
                USABLE,
                format!("it has no list of models; if requests fail, its address may lack /v1: {}/v1", target.base),
            ),
            Ok(_) | Err(_) => (USABLE, NOTHING.to_owned()),
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

/// The outcome of asking about an account.
enum Asked {
    /// The upstream accepts it.
    Usable,
    /// It needs a renewal, by which the upstream may end the session that is known so far; the advice says why that was
    /// left.
    NotRenewed(&'static str),
}

async fn ask(
    upstream: &QwenWeb,
    store: &Store,
    session: &Arc<Session>,
    may_be_served: bool,
    notes: &mut Vec<String>,
) -> Result<Asked, UpstreamError> {
    let now = Now::read().unix;
    let is_live = |token: Option<AccessToken>| token.is_some_and(|token| token.is_live(now));
    if !is_live(session.token()) {
        let token = match token_in_jar(session, now) {
            Some(token) => token,
            None if store.unusable().is_some() => {
                let advice =
                    "mend the state folder first: its token has to be renewed, and the renewed one would be lost";
                return Ok(Asked::NotRenewed(advice));
            }
            None if may_be_served => {
                let advice =
                    "nothing if your server is running: it renews the token itself; else check again with a free port";
                return Ok(Asked::NotRenewed(advice));
            }
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
                notes.push("the renewed token could not be saved in the state file, since the disk refuses".to_owned());
            }
            Err(error) => {
                notes.push(format!("the renewed token could not be saved in the state file: {}", ErrorChain(&error)));
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
        None => NOTHING.to_owned(),
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
        _ => match error.way {
            Some(way) => ("unreachable", format!("{}: {}", way.problem(), way.mend())),
            None => ("unknown", format!("try again later: {}", ErrorChain(error))),
        },
    }
}
