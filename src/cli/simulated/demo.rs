//! `demo`: the simulated upstream and the server in one process.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use simulator::script::{AccountScript, Approval, DeviceScript, Endpoint, Era, ErrorScript, Scenario, ScriptedReply};
use simulator::{Simulator, TokenLife};
use uuid::Uuid;

use crate::app::{App, StartError};
use crate::base::oauth::{AccountId, credential_of};
use crate::base::secret::{Cookie, UpstreamKey};
use crate::base::seed::StaticKey;
use crate::cli::serve::until_signal;
use crate::cli::simulated::error::SimulatedError;
use crate::cli::simulated::samples::{self, SampleAccount};
use crate::cli::terminal::{BOLD, DIM};
use crate::config::{Config, Sources};
use crate::telemetry::{self, ACCESS_LINE, ErrorChain};

/// The port of the server when none is asked for, as with `serve`.
const PORT: u16 = 8000;

/// Serves in front of the simulator until SIGTERM or SIGINT. Nothing of it outlives the process.
///
/// # Errors
/// [`SimulatedError`]: a port is taken, or the temporary folder cannot be used.
pub(crate) async fn run(host: Option<IpAddr>, port: Option<u16>, mut sources: Sources) -> Result<(), SimulatedError> {
    let simulator = Simulator::start(scenario()).await.map_err(SimulatedError::Simulator)?;
    let folder = TemporaryFolder::new();
    let new_key = |name: &str| format!("{name}=sk-{name}-{}", Uuid::new_v4().simple());
    let key = new_key("demo");
    let keys: Vec<String> =
        std::iter::once(key.clone()).chain(samples::KEYS.iter().map(|(name, _)| new_key(name))).collect();
    let key = key.trim_start_matches("demo=").to_owned();
    let accounts = accounts(&simulator);
    let cookies: Vec<String> =
        simulator.accounts().names().iter().map(|account| simulator.accounts().cookie(account)).collect();
    let qwen_dir = folder.0.join("qwen");
    write_login(&qwen_dir, &simulator.oauth().credentials(OAUTH, TokenLife::Fresh)).map_err(SimulatedError::Folder)?;
    let flags = [
        ("API_KEY", keys.join(",")),
        ("KEY_LIMITS", "phone:requests=200/day,tokens=400000/day".to_owned()),
        ("QWEN_API_KEYS", format!("{}@{}", simulator.keys().secret(STATIC_KEY), simulator.urls().keys)),
        ("COOKIE", cookies.join("|||")),
        ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
        ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
        ("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string()),
        ("QWEN_OAUTH_BASE_URL", simulator.urls().web.to_string()),
        ("QWEN_DIR", qwen_dir.display().to_string()),
        ("SERVER_HOST", host.unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string()),
        ("SERVER_PORT", port.unwrap_or(PORT).to_string()),
        ("SERVER_MODE", "true".to_owned()),
        ("STATE_DIR", folder.0.display().to_string()),
    ];
    // The configuration here belongs to a real server: a demo takes only the look of its log lines and the key of its
    // page from it.
    let kept = ["LOG_LEVEL", "LOG_FORMAT", "COLOR", "DEBUG_MODE", "ADMIN_SECRET_KEY"];
    sources.env.retain(|name, _| kept.contains(&name.as_str()));
    sources.flags.retain(|name, _| kept.contains(&name.as_str()));
    (sources.dotenv, sources.file, sources.cookie_file) = (None, None, None);
    // The simulator is on this machine.
    sources.proxies = BTreeMap::from([("NO_PROXY".to_owned(), "*".to_owned())]);
    // There the official command line keeps an account of its own.
    sources.home = None;
    sources.faults.clear();
    let has_wish = |name: &str| sources.flags.contains_key(name) || sources.env.contains_key(name);
    if !["LOG_LEVEL", "DEBUG_MODE"].into_iter().any(has_wish) {
        // Sample accounts fail on purpose, which is no news: there is only the line of each request, on a terminal.
        sources.flags.insert("LOG_LEVEL".to_owned(), format!("error,{ACCESS_LINE}=info"));
    }
    sources.flags.extend(BTreeMap::from(flags.map(|(name, value)| (name.to_owned(), value))));
    let config = Config::load(&sources)?;
    config.color.write_global();
    if let Err(error) = telemetry::install(&config.log) {
        let _ = writeln!(io::stderr(), "qwen-bridge: {}, so nothing is logged", ErrorChain(&error));
    }
    samples::write(&folder.0, &accounts).await;
    let app = App::build(config).await.map_err(|error| match error {
        StartError::Listen(address, _, error) => SimulatedError::Listen(address, error),
        other => other.into(),
    })?;
    let (base, page) = (app.base_url(), app.page_link());
    // Beyond this machine the page has no link that opens it, but a key.
    let page_key = app
        .generated_admin_key()
        .map_or_else(String::new, |key| format!("    {DIM}page key{DIM:#}   {}\n", key.expose()));
    let _ = write!(
        anstream::stdout(),
        "{BOLD}A server with sample accounts, in front of a simulated chat.qwen.ai:{BOLD:#}\n\n\
         \x20   {DIM}base URL{DIM:#}   {base}\n\
         \x20   {DIM}key{DIM:#}        {key}\n\
         \x20   {DIM}page{DIM:#}       {page}\n{page_key}\n\
         Try it:\n\n\
         \x20   curl -N {base}/chat/completions -H 'Authorization: Bearer {key}' \\\n\
         \x20     -H 'Content-Type: application/json' \\\n\
         \x20     -d '{{\"model\": \"qwen3-max-thinking\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'\n\n\
         Ctrl-C stops it.\n\n"
    );
    app.serve(until_signal()).await;
    simulator.stop().await;
    Ok(())
}

/// The OAuth account that the demo is logged in to.
const OAUTH: &str = "cleo";
/// The static key of the demo.
const STATIC_KEY: &str = "kay";
/// The web account whose login has ended.
const DEAD: &str = "noor";
/// The web account whose quota is used up.
const USED_UP: &str = "mia";

/// The upstream of the demo: two web accounts that answer, one that has used up its quota, one whose login has ended; an
/// OAuth account and a key. The model is one to talk to, and device logins wait for their owner's word.
fn scenario() -> Scenario {
    let mut accounts = Scenario::default().accounts;
    let refusal = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    let defaults = BTreeMap::from([(Endpoint::Completions, ScriptedReply::error_with(refusal))]);
    accounts.push(AccountScript { defaults, ..AccountScript::new(USED_UP, Era::A) });
    accounts.push(AccountScript { expired: true, revoked: true, ..AccountScript::new(DEAD, Era::B) });
    let login = DeviceScript { approval: Approval::Awaited, ..DeviceScript::default() };
    let defaults =
        BTreeMap::from([(Endpoint::DeviceCode, ScriptedReply { device: login, ..ScriptedReply::default() })]);
    Scenario { small_talk: true, defaults, ..Scenario::with_accounts(accounts) }
}

/// The sample accounts, as the state file knows them.
fn accounts(simulator: &Simulator) -> Vec<SampleAccount> {
    let labels = [("ada", "Personal", 40), ("bob", "Family", 30), (USED_UP, "Work", 10), (DEAD, "Old account", 0)];
    let web = simulator.accounts().names().into_iter().enumerate().filter_map(|(place, name)| {
        let (_, label, share) = labels.into_iter().find(|(known, ..)| *known == name)?;
        let credential = Cookie::parse(&simulator.accounts().cookie(&name)).ok()?.key();
        let (is_used_up, is_dead) = (name == USED_UP, name == DEAD);
        Some(SampleAccount {
            id: format!("identity-{}", place + 1),
            kind: "web",
            credential,
            label,
            share,
            is_used_up,
            is_dead,
        })
    });
    let of = |id: String, kind, credential, label, share| SampleAccount {
        id,
        kind,
        credential,
        label,
        share,
        is_used_up: false,
        is_dead: false,
    };
    let login = AccountId::parse(OAUTH).ok().map(|account| {
        let identity = account.identity();
        of(identity.to_string(), "oauth", credential_of(&identity), "Coding", 15)
    });
    let key = UpstreamKey::parse(&simulator.keys().secret(STATIC_KEY)).ok();
    let key = key.map(|key| StaticKey { key, base: simulator.urls().keys }.credential());
    let key = key.map(|credential| of("key-1".to_owned(), "key", credential, "Paid key", 5));
    web.chain(login).chain(key).collect()
}

/// Writes the file of the OAuth account, as `auth add` would.
fn write_login(folder: &Path, credentials: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("oauth_creds_{OAUTH}.json"));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(credentials.as_bytes())
}

/// A folder that is removed when the demo ends.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("qwen-bridge-demo-{}", Uuid::new_v4().simple())))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Left behind at worst, in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
