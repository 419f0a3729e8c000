//! `simulate`: the simulated upstream alone.

use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::cli::CommandError;
use crate::cli::serve::until_signal;
use simulator::Simulator;
use simulator::script::scenario::Scenario;

/// Runs the simulator until SIGTERM or SIGINT.
///
/// # Errors
/// [`CommandError`]: the scenario cannot be read, or a port is taken.
pub async fn run(port: Option<u16>, scenario: Option<PathBuf>) -> Result<(), CommandError> {
    let mut chosen = match scenario {
        None => Scenario::default(),
        Some(path) => {
            let shown = path.display().to_string();
            let text =
                std::fs::read_to_string(&path).map_err(|error| CommandError::ScenarioFile(shown.clone(), error))?;
            Scenario::from_json(&text).map_err(|error| CommandError::Scenario(shown, error))?
        }
    };
    if let Some(port) = port {
        chosen = chosen.on_ports(port, 0);
    }
    let simulator = Simulator::start(chosen).await.map_err(CommandError::Simulator)?;
    let mut out = io::stdout();
    let _ = writeln!(
        out,
        "A simulated chat.qwen.ai. Start the server in front of it with\n\n\
         \x20   QWEN_WEB_BASE_URL={}\n\x20   QWEN_AUTH_BASE_URL={}\n\x20   QWEN_OSS_BASE_URL={}\n\
         \x20   QWEN_OAUTH_BASE_URL={}\n\nand the cookie of one or more of its accounts:\n",
        simulator.web_base_url(),
        simulator.auth_base_url(),
        simulator.oss_base_url(),
        simulator.web_base_url()
    );
    for account in simulator.accounts() {
        let _ = writeln!(out, "    {account}: {}", simulator.cookie(&account));
    }
    let (portal, keys) = (simulator.portal_base_url(), simulator.key_base_url());
    let _ = writeln!(out, "\nDevice logins grant themselves and lead to {portal}; these keys are good at {keys}:\n");
    for key in simulator.keys() {
        let _ = writeln!(out, "    {key}: {}", simulator.key(&key));
    }
    let _ = writeln!(out, "\nCtrl-C stops it.");
    until_signal().await;
    simulator.stop().await;
    Ok(())
}
