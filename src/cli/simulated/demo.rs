//! `demo`: the simulated upstream and the server in one process.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use simulator::Simulator;
use simulator::script::{AccountScript, Endpoint, Era, ErrorScript, Scenario, ScriptedReply};
use uuid::Uuid;

use crate::app::{App, StartError};
use crate::cli::serve::until_signal;
use crate::cli::simulated::error::SimulatedError;
use crate::cli::simulated::samples;
use crate::config::{Config, Sources};

/// The port of the server when none is asked for, as with `serve`.
const PORT: u16 = 8000;

/// Serves in front of the simulator until SIGTERM or SIGINT. Nothing of it outlives the process.
///
/// # Errors
/// [`SimulatedError`]: a port is taken, or the temporary folder cannot be used.
pub(crate) async fn run(host: Option<IpAddr>, port: Option<u16>, mut sources: Sources) -> Result<(), SimulatedError> {
    let simulator = Simulator::start(scenario()).await.map_err(SimulatedError::Simulator)?;
    let folder = TemporaryFolder::new();
    let key = format!("sk-demo-{}", Uuid::new_v4().simple());
    let cookies: Vec<String> =
        simulator.accounts().names().iter().map(|account| simulator.accounts().cookie(account)).collect();
    let flags = [
        ("API_KEY", format!("demo={key}")),
        ("COOKIE", cookies.join("|||")),
        ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
        ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
        ("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string()),
        ("QWEN_OAUTH_BASE_URL", simulator.urls().web.to_string()),
        ("QWEN_DIR", folder.0.join("qwen").display().to_string()),
        ("SERVER_HOST", host.unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string()),
        ("SERVER_PORT", port.unwrap_or(PORT).to_string()),
        ("SERVER_MODE", "true".to_owned()),
        ("STATE_DIR", folder.0.display().to_string()),
    ];
    // The configuration here belongs to a real server: a demo takes only the look of its log lines and the key of its
    // page from it.
    let kept = ["LOG_LEVEL", "LOG_FORMAT", "DEBUG_MODE", "ADMIN_SECRET_KEY"];
    sources.env.retain(|name, _| kept.contains(&name.as_str()));
    sources.flags.retain(|name, _| kept.contains(&name.as_str()));
    (sources.dotenv, sources.file, sources.cookie_file) = (None, None, None);
    // The simulator is on this machine.
    sources.proxies = BTreeMap::from([("NO_PROXY".to_owned(), "*".to_owned())]);
    // There the official command line keeps an account of its own.
    sources.home = None;
    sources.faults.clear();
    sources.flags.extend(BTreeMap::from(flags.map(|(name, value)| (name.to_owned(), value))));
    let config = Config::load(&sources)?;
    samples::usage(&folder.0).await;
    let app = App::build(config).await.map_err(|error| match error {
        StartError::Listen(address, _, error) => SimulatedError::Listen(address, error),
        other => other.into(),
    })?;
    let base = format!("http://{}", app.address());
    let page = app.page_link();
    let _ = write!(
        io::stdout(),
        "A server with sample accounts, in front of a simulated chat.qwen.ai:\n\n\
         \x20   base URL   {base}/v1\n\
         \x20   key        {key}\n\
         \x20   page       {page}\n\n\
         Try it:\n\n\
         \x20   curl -N {base}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n\
         \x20     -H 'Content-Type: application/json' \\\n\
         \x20     -d '{{\"model\": \"qwen3-max-thinking\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'\n\n\
         Ctrl-C stops it.\n\n"
    );
    app.serve(until_signal()).await;
    simulator.stop().await;
    Ok(())
}

/// The upstream of the demo: two accounts that answer, one that has used up what it may ask, and one whose login has
/// ended. The model is one to talk to.
fn scenario() -> Scenario {
    let mut accounts = Scenario::default().accounts;
    let refusal = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    let defaults = BTreeMap::from([(Endpoint::Completions, ScriptedReply::error_with(refusal))]);
    accounts.push(AccountScript { defaults, ..AccountScript::new("mia", Era::A) });
    accounts.push(AccountScript { expired: true, revoked: true, ..AccountScript::new("noor", Era::B) });
    Scenario { small_talk: true, ..Scenario::with_accounts(accounts) }
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
