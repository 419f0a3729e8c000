//! `serve`: the server.

use std::io::{self, IsTerminal as _, Write as _};

use tracing::{error, info};

use crate::app::{App, StartError};
use crate::base::caller_key::NamedKey;
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, WARN};
use crate::config::{Config, KeyPolicy, Sources};
use crate::gateway::caller_keys::masked;
use crate::pool::PoolSummary;
use crate::shutdown::signal;
use crate::telemetry::LogControl;

/// Serves until SIGTERM or SIGINT. `reread` reads the sources of the configuration anew, for a reload; `log` changes what
/// is logged.
///
/// # Errors
/// [`StartError`].
pub async fn run(
    config: Config,
    reread: impl Fn() -> Sources + Send + 'static,
    log: Option<LogControl>,
) -> Result<(), StartError> {
    let key = key_in_words(&config.http.keys, config.key_policy);
    let app = App::build_reloading(config, reread, log).await?;
    if let Some(key) = app.generated_key() {
        // Shown this once; afterwards it is only in the state folder.
        let _ = writeln!(
            io::stdout(),
            "A key was made for this server, since none is set. {}:\n\n    {}\n",
            advice(&app, "API_KEY"),
            key.expose()
        );
    }
    if let Some(key) = app.generated_admin_key() {
        let _ = writeln!(
            io::stdout(),
            "A key was made for the owner's page, since ADMIN_SECRET_KEY is not set. {}:\n\n    {}\n",
            advice(&app, "ADMIN_SECRET_KEY"),
            key.expose()
        );
    }
    if app.has_page_link() {
        let _ = writeln!(
            io::stdout(),
            "The owner's page. This link opens it on this machine, once; ADMIN_SECRET_KEY sets a key that stays:\n\n    {}\n",
            app.page_link()
        );
    }
    if io::stdout().is_terminal() {
        let _ = write!(anstream::stdout(), "{}", banner(&app.base_url(), &key, &app.page_link(), app.summary()));
    }
    app.serve(until_signal()).await;
    Ok(())
}

/// The first lines for a person who starts the server: addresses, key, accounts and the next step.
fn banner(base_url: &str, key: &str, page: &str, accounts: PoolSummary) -> String {
    let page = page.split_once('#').map_or(page, |(page, _)| page);
    let ready = accounts.healthy + accounts.degraded;
    let next = match (ready, accounts.total) {
        (_, 0) => "No account yet: run `qwen-bridge setup`, or add one on the page.\n\n",
        (0, _) => "No account can answer: run `qwen-bridge check`, or look at the page.\n\n",
        _ => "Talk to it with `qwen-bridge chat` in another terminal.\n\n",
    };
    let style = match ready {
        0 => BAD,
        ready if ready < accounts.total => WARN,
        _ => GOOD,
    };
    let failing =
        if accounts.degraded > 0 { format!(", {} of them degraded", accounts.degraded) } else { String::new() };
    let row = |name: &str, value: &str| format!("    {DIM}{name:<8}{DIM:#}   {value}\n");
    let states = format!("{style}{ready} of {} ready{style:#}{failing}", accounts.total);
    format!(
        "{BOLD}qwen-bridge {}{BOLD:#}\n\n{}{}{}{}\n{next}",
        env!("CARGO_PKG_VERSION"),
        row("base URL", base_url),
        row("key", key),
        row("accounts", &states),
        row("page", page),
    )
}

/// The callers' keys, masked.
fn key_in_words(keys: &[NamedKey], policy: KeyPolicy) -> String {
    match (keys, policy) {
        ([], KeyPolicy::GenerateKey) => "made by this server, kept in STATE_DIR".to_owned(),
        ([], KeyPolicy::OpenKnowingly) => "none is asked for".to_owned(),
        ([], _) => "none is needed on this machine".to_owned(),
        ([only], _) => masked(only.key.expose()),
        ([first, rest @ ..], _) => format!("{} and {} more", masked(first.key.expose()), rest.len()),
    }
}

/// Advice about a key that was made.
fn advice(app: &App, setting: &str) -> String {
    if app.is_in_memory() {
        format!("It is for this run only, since the state folder cannot be used; {setting} sets one that stays")
    } else {
        "Keep it".to_owned()
    }
}

/// Ends with the first signal that asks the process to stop.
pub async fn until_signal() {
    match signal().await {
        Ok(name) => info!(signal = name, "asked to stop"),
        Err(error) => {
            error!(%error, "cannot wait for signals, so only a kill will stop this process");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_says_what_to_do_next_and_holds_no_secret() {
        let accounts = |healthy, degraded, down| PoolSummary {
            total: healthy + degraded + down,
            healthy,
            degraded,
            down,
            in_flight: 0,
            queued: 0,
            upstream_degraded: false,
            paused_until: None,
        };
        let styled = |accounts| {
            banner("http://127.0.0.1:8000/v1", "sk-…abcd", "http://127.0.0.1:8000/admin#link=secret", accounts)
        };
        let shown = |accounts| anstream::adapter::strip_str(&styled(accounts)).to_string();
        assert!(shown(accounts(0, 0, 0)).contains("qwen-bridge setup"));
        assert!(shown(accounts(0, 0, 2)).contains("0 of 2 ready") && shown(accounts(0, 0, 2)).contains("check"));
        assert!(shown(accounts(1, 1, 1)).contains("2 of 3 ready, 1 of them degraded\n"));
        assert!(shown(accounts(1, 0, 0)).contains("    page       http://127.0.0.1:8000/admin\n"));
        assert!(shown(accounts(1, 0, 0)).contains("    key        sk-…abcd\n"));
        assert!(!shown(accounts(1, 0, 0)).contains("secret"));
    }
}
