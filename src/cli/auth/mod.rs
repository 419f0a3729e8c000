//! `auth`: OAuth accounts by hand. Works on the files alone; a running server notices within seconds.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Subcommand;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Value, json};

use crate::base::ids::UnixSeconds;
use crate::base::oauth::{AccountId, AccountIdError, CredentialsError, OAuthCredentials};
use crate::base::text::decoded;
use crate::gateway::AccountSettings;
use crate::gateway::accounts::device_login::{LoginFailure, PendingLogin};
use crate::pool::Now;
use crate::shutdown::signal;
use crate::store::oauth_files::{OAuthFileError, OAuthFiles};
use crate::telemetry::ErrorChain;
use crate::upstream::OAuthSettings;
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::oauth::client::QwenOAuth;
use crate::upstream::oauth::pkce::api_base;
use crate::upstream::web::client::WebClientError;

/// The subcommands of `auth`.
#[derive(Clone, Debug, Subcommand)]
pub enum AuthCommand {
    /// Log an account in with a browser, here or on a telephone; its file goes into QWEN_DIR
    Add {
        /// Name of the account: letters, digits and . _ @ -
        id: String,
        /// Do not open a browser
        #[arg(long)]
        no_browser: bool,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// List the accounts
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an account's file from QWEN_DIR
    Remove {
        /// Name of the account
        id: String,
    },
    /// Take over credentials that another program wrote
    Import {
        /// File with the credentials: oauth_creds.json, or one that a similar program wrote
        file: PathBuf,
        /// Name of the account [default: taken from the file's name]
        id: Option<String>,
        /// Replace an account of that name
        #[arg(long)]
        force: bool,
    },
    /// Show how each account is; exit 0 when one is usable
    Health {
        /// Ask the upstream once for each token that is not over
        #[arg(long)]
        probe: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Reasons why a command failed. Every message is for the terminal, and none holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The name is not a valid account name.
    #[error(transparent)]
    Name(#[from] AccountIdError),
    /// A credential file cannot be read or written.
    #[error(transparent)]
    File(#[from] OAuthFileError),
    /// No account has this name.
    #[error("there is no account {0} in {1}")]
    Unknown(AccountId, String),
    /// An account of this name exists already.
    #[error("{0} is there already, --force replaces it")]
    Exists(String),
    /// The file to import cannot be read.
    #[error("{0} cannot be read")]
    Import(String, #[source] io::Error),
    /// The file to import is not a credentials file.
    #[error("{0} holds no credentials")]
    Content(String, #[source] CredentialsError),
    /// The HTTP client could not be made.
    #[error("cannot set up the HTTP client that calls the upstream")]
    Client(#[from] WebClientError),
    /// The upstream refused or did not answer.
    #[error("the login cannot be started")]
    Upstream(#[from] UpstreamError),
    /// The owner did not confirm the login, or not in time.
    #[error(transparent)]
    Login(#[from] LoginFailure),
    /// Ctrl-C was pressed while the login was under way.
    #[error("stopped, nothing was changed")]
    Stopped,
}

/// Runs a command; returns whether all is well.
///
/// # Errors
/// [`AuthError`].
pub async fn run(command: AuthCommand, accounts: &AccountSettings, oauth: &OAuthSettings) -> Result<bool, AuthError> {
    let mut out = io::stdout();
    let is_terminal = out.is_terminal();
    match command {
        AuthCommand::Add { id, no_browser, json } => {
            let account = AccountId::parse(&id)?;
            let look = match (json, is_terminal) {
                (true, _) => Look::Json,
                (false, true) => Look::Terminal { opens_browser: !no_browser },
                (false, false) => Look::Plain,
            };
            let upstream = QwenOAuth::new(oauth.clone())?;
            tokio::select! {
                added = add(&mut out, &upstream, accounts, &account, look) => added,
                Ok(_) = signal() => Err(AuthError::Stopped),
            }
        }
        AuthCommand::List { json } => list(&mut out, accounts, json).await,
        AuthCommand::Remove { id } => remove(&mut out, accounts, &AccountId::parse(&id)?).await,
        AuthCommand::Import { file, id, force } => import(&mut out, accounts, &file, id.as_deref(), force).await,
        AuthCommand::Health { probe, json } => {
            let upstream = if probe { Some(QwenOAuth::new(oauth.clone())?) } else { None };
            health(&mut out, accounts, upstream.as_ref(), json).await
        }
    }
}

/// The way in which a login is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Json,
    Plain,
    Terminal { opens_browser: bool },
}

async fn add(
    out: &mut (impl Write + Send),
    upstream: &QwenOAuth,
    accounts: &AccountSettings,
    account: &AccountId,
    look: Look,
) -> Result<bool, AuthError> {
    let login = PendingLogin::begin(upstream).await?;
    let (code, link) = (&login.code, &login.code.verification_uri_complete);
    if look == Look::Json {
        let shown = json!({
            "user_code": code.user_code, "verification_uri": code.verification_uri,
            "verification_uri_complete": link, "expires_in": code.expires_in.as_secs(),
        });
        say(out, &shown.to_string());
    } else {
        say(
            out,
            &format!("Open this address and agree, on any device:\n\n    {link}\n\nThe code is {}.", code.user_code),
        );
        if let Look::Terminal { opens_browser } = look {
            say(out, &qr(link).unwrap_or_default());
            let is_opened = opens_browser && open_browser(link);
            say(out, if is_opened { "A browser was opened." } else { "No browser was opened, so copy the address." });
        }
        say(out, "Waiting; Ctrl-C gives up.");
    }
    let credentials = login.finish(upstream).await?;
    let files = OAuthFiles::all_in(&accounts.dir);
    let expires_at = credentials.expires_at().map(|at| at.seconds());
    files.write(account, credentials).await?;
    let path = files.path_of(account);
    if look == Look::Json {
        let expires_at = expires_at.map(|at| at.0);
        say(out, &json!({"account": account.as_str(), "file": path, "expires_at": expires_at}).to_string());
    } else {
        say(out, &format!("Logged in. The credentials of {account} are in {}.", path.display()));
    }
    Ok(true)
}

async fn list(out: &mut (impl Write + Send), accounts: &AccountSettings, as_json: bool) -> Result<bool, AuthError> {
    let now = Now::read().unix;
    let rows = rows(accounts, now).await?;
    if as_json {
        let rows: Vec<Value> = rows.iter().map(|row| row.json(now)).collect();
        say(out, &json!({ "accounts": rows }).to_string());
        return Ok(true);
    }
    say(out, &format!("{} OAuth {}.", rows.len(), if rows.len() == 1 { "account" } else { "accounts" }));
    if rows.is_empty() {
        say(out, "Add one with: qwen-bridge auth add ID");
    }
    for row in &rows {
        say(out, &format!("{:<20} {:<12} {:<34} {}", row.name, row.state(now), row.expiry(now), row.place));
    }
    Ok(true)
}

async fn remove(
    out: &mut (impl Write + Send),
    accounts: &AccountSettings,
    account: &AccountId,
) -> Result<bool, AuthError> {
    let files = OAuthFiles::all_in(&accounts.dir);
    if !files.remove(account).await? {
        return Err(AuthError::Unknown(account.clone(), accounts.dir.display().to_string()));
    }
    say(out, &format!("Removed {}.", files.path_of(account).display()));
    Ok(true)
}

async fn import(
    out: &mut (impl Write + Send),
    accounts: &AccountSettings,
    file: &Path,
    id: Option<&str>,
    is_forced: bool,
) -> Result<bool, AuthError> {
    let shown = file.display().to_string();
    let account = match id {
        Some(id) => AccountId::parse(id)?,
        None => named_by(file),
    };
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(IMPORT_BYTES_MAX).read_to_end(&mut bytes));
    // Shells of Windows write UTF-16.
    let text = read.and_then(|_| decoded(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into()));
    let text = text.map_err(|error| AuthError::Import(shown.clone(), error))?;
    let parsed = OAuthCredentials::parse(&text, Now::read().unix);
    let credentials = parsed.map_err(|error| AuthError::Content(shown.clone(), error))?;
    let has_refresh_token = credentials.refresh_token().is_some();
    let files = OAuthFiles::all_in(&accounts.dir);
    let path = files.path_of(&account);
    if path.exists() && !is_forced {
        return Err(AuthError::Exists(path.display().to_string()));
    }
    files.write(&account, credentials).await?;
    say(out, &format!("Imported {shown} as {account} into {}.", path.display()));
    if has_refresh_token {
        say(out, "Let only one program go on with this login: each refresh ends the token that the other one has.");
    } else {
        say(out, "There is no refresh token in it, so it ends with its access token.");
    }
    Ok(true)
}

async fn health(
    out: &mut (impl Write + Send),
    accounts: &AccountSettings,
    probe: Option<&QwenOAuth>,
    as_json: bool,
) -> Result<bool, AuthError> {
    let now = Now::read().unix;
    let rows = rows(accounts, now).await?;
    let (mut usable, mut working, mut failed) = (0, 0, 0);
    let mut shown = Vec::new();
    for row in &rows {
        usable += usize::from(row.is_usable(now));
        let told = match probe {
            Some(upstream) => ask(upstream, accounts, row, now).await,
            None => None,
        };
        let (word, error) = match &told {
            None => (None, row.problem()),
            Some(Ok(())) => (Some("working"), None),
            Some(Err(error)) => (Some("failed"), Some(advice(error))),
        };
        working += usize::from(matches!(told, Some(Ok(()))));
        failed += usize::from(matches!(told, Some(Err(_))));
        if as_json {
            let mut value = row.json(now);
            if let Value::Object(fields) = &mut value {
                fields.insert("probe".to_owned(), word.into());
                fields.insert("error".to_owned(), error.into());
            }
            shown.push(value);
        } else {
            let word = word.map(|word| format!(", {word}")).unwrap_or_default();
            let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
            say(out, &format!("{:<20} {}{word}, {}{error}", row.name, row.state(now), row.expiry(now)));
        }
    }
    let total = rows.len();
    if as_json {
        let summary = json!({"total": total, "usable": usable, "working": working, "failed": failed});
        say(out, &json!({"accounts": shown, "summary": summary}).to_string());
    } else {
        let probed = if probe.is_some() { format!(", {working} working, {failed} failed") } else { String::new() };
        say(out, &format!("{total} in all, {usable} usable{probed}."));
    }
    Ok(if probe.is_some() { working > 0 } else { usable > 0 })
}

/// The upstream's answer about one account, if it has a token that may be valid.
pub(crate) async fn ask(
    upstream: &QwenOAuth,
    accounts: &AccountSettings,
    row: &Row,
    now: UnixSeconds,
) -> Option<Result<(), UpstreamError>> {
    let credentials = row.credentials.as_ref().ok()?;
    let token = credentials.bearer(now).filter(|token| token.is_live(now))?;
    let base = match &accounts.api_base {
        Some(base) => base.clone(),
        None => api_base(credentials.resource_url(), &[]).ok()?,
    };
    Some(upstream.probe(&base, &token).await)
}

/// Advice for a token that the portal does not accept.
pub(crate) fn advice(error: &UpstreamError) -> String {
    match error.kind {
        UpstreamErrorKind::Unauthorized => {
            "portal rejects this token; OAuth's free tier closed on 2026-04-15, a static key works".to_owned()
        }
        _ => match error.way {
            Some(way) => format!("{}: {}", way.problem(), way.mend()),
            None => ErrorChain(error).to_string(),
        },
    }
}

/// One account as it was found.
pub(crate) struct Row {
    name: String,
    place: String,
    credentials: Result<OAuthCredentials, String>,
}

impl Row {
    /// Its name, as commands take it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// End of its token in RFC 3339; `-` if it is unknown.
    pub(crate) fn until(&self) -> String {
        let at = self.expires_at().and_then(|at| jiff::Timestamp::from_second(at.0).ok());
        at.map_or_else(|| "-".to_owned(), |at| at.to_string())
    }

    /// Whether a server could use it.
    pub(crate) fn is_usable(&self, now: UnixSeconds) -> bool {
        self.credentials.as_ref().is_ok_and(|credentials| {
            credentials.refresh_token().is_some() || credentials.bearer(now).is_some_and(|token| token.is_live(now))
        })
    }

    fn state(&self, now: UnixSeconds) -> &'static str {
        match &self.credentials {
            Err(_) => "unusable",
            Ok(credentials) if credentials.bearer(now).is_some_and(|token| token.is_live(now)) => "valid",
            Ok(credentials) if credentials.refresh_token().is_some() => "expired",
            Ok(_) => "needs login",
        }
    }

    /// The reason why its credentials cannot be read.
    pub(crate) fn problem(&self) -> Option<String> {
        self.credentials.as_ref().err().cloned()
    }

    fn expires_at(&self) -> Option<UnixSeconds> {
        Some(self.credentials.as_ref().ok()?.expires_at()?.seconds())
    }

    fn expiry(&self, now: UnixSeconds) -> String {
        let Some(at) = self.expires_at() else { return "end unknown".to_owned() };
        let moment = jiff::Timestamp::from_second(at.0).map_or_else(|_| "-".to_owned(), |at| at.to_string());
        if now < at {
            format!("until {moment} ({} min)", at.seconds_since(now) / 60)
        } else {
            format!("since {moment}")
        }
    }

    fn json(&self, now: UnixSeconds) -> Value {
        json!({
            "account": self.name, "place": self.place, "state": self.state(now).replace(' ', "_"),
            "expires_at": self.expires_at().map(|at| at.0), "error": self.problem(),
        })
    }
}

/// Every account that a server would find, in the server's order.
pub(crate) async fn rows(accounts: &AccountSettings, now: UnixSeconds) -> Result<Vec<Row>, AuthError> {
    let own = OAuthFiles::all_in(&accounts.dir);
    let real = |dir: &Path| dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let shared = accounts.shared_dir.as_deref().filter(|shared| real(shared) != real(&accounts.dir));
    let mut rows = Vec::new();
    let folders = std::iter::once((own, None))
        .chain(shared.map(|shared| (OAuthFiles::unnamed_in(shared), Some("qwen-cli".to_owned()))));
    for (files, name) in folders {
        for account in files.scan().await?.into_keys() {
            let read = files.read(&account, now).await;
            rows.push(Row {
                name: name.clone().unwrap_or_else(|| account.to_string()),
                place: files.path_of(&account).display().to_string(),
                credentials: read.map(|file| file.credentials).map_err(|error| ErrorChain(&error).to_string()),
            });
        }
    }
    rows.extend((1..).zip(&accounts.given).map(|(number, credentials): (usize, _)| Row {
        name: format!("env-{number}"),
        place: "QWEN_OAUTH_CREDS".to_owned(),
        credentials: Ok(credentials.clone()),
    }));
    Ok(rows)
}

/// The account named by a file: `oauth_creds_<id>.json` and files of proxies name it, any other file is the unnamed
/// account.
fn named_by(file: &Path) -> AccountId {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = ["oauth_creds_", "qwen-"].iter().find_map(|prefix| stem.strip_prefix(prefix));
    name.and_then(|name| AccountId::parse(name).ok()).unwrap_or_else(AccountId::unnamed)
}

/// The address as a QR code of half blocks, black on white whatever the terminal's colours are: not every camera reads
/// inverted codes.
fn qr(link: &str) -> Option<String> {
    let code = QrCode::new(link).ok()?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build();
    let lines = picture.lines().map(|line| format!("\u{1b}[30;107m{line}\u{1b}[0m"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// Asks the desktop to open an address, which is known to be http or https. Its success is not checked.
fn open_browser(link: &str) -> bool {
    let (program, first): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("rundll32", &["url.dll,FileProtocolHandler"])
    } else {
        ("xdg-open", &[])
    };
    let mut command = Command::new(program);
    // A browser of the terminal must not take it over.
    command.args(first).arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}

fn say(out: &mut impl Write, line: &str) {
    // The reader closed the pipe.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

const IMPORT_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
