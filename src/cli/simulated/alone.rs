//! `simulate`: the simulated upstream alone.

use std::io::{self, Write as _};
use std::path::PathBuf;

use simulator::Simulator;
use simulator::script::Scenario;

use crate::cli::serve::until_signal;
use crate::cli::simulated::error::SimulatedError;

/// Runs the simulator until SIGTERM or SIGINT.
///
/// # Errors
/// [`SimulatedError`]: the scenario cannot be read, or a port is taken.
pub(crate) async fn run(port: Option<u16>, scenario: Option<PathBuf>) -> Result<(), SimulatedError> {
    let mut chosen = match scenario {
        None => Scenario::default(),
        Some(path) => {
            let shown = path.display().to_string();
            let text =
                std::fs::read_to_string(&path).map_err(|error| SimulatedError::ScenarioFile(shown.clone(), error))?;
            Scenario::from_json(&text).map_err(|error| SimulatedError::Scenario(shown, error))?
        }
    };
    if let Some(port) = port {
        chosen = chosen.on_ports(port, 0);
    }
    let simulator = Simulator::start(chosen).await.map_err(SimulatedError::Simulator)?;
    let mut out = io::stdout();
    let _ = writeln!(
        out,
        "A simulated chat.qwen.ai. Start the server in front of it with\n\n\
         \x20   QWEN_WEB_BASE_URL={}\n\x20   QWEN_AUTH_BASE_URL={}\n\x20   QWEN_OSS_BASE_URL={}\n\
         \x20   QWEN_OAUTH_BASE_URL={}\n\nand the cookie of one or more of its accounts:\n",
        simulator.urls().web,
        simulator.urls().auth,
        simulator.urls().storage,
        simulator.urls().web
    );
    for account in simulator.accounts().names() {
        let _ = writeln!(out, "    {account}: {}", simulator.accounts().cookie(&account));
    }
    let (portal, keys) = (simulator.urls().portal, simulator.urls().keys);
    let _ = writeln!(out, "\nDevice logins grant themselves and lead to {portal}; these keys are good at {keys}:\n");
    for key in simulator.keys().names() {
        let _ = writeln!(out, "    {key}: {}", simulator.keys().secret(&key));
    }
    let _ = writeln!(out, "\nCtrl-C stops it.");
    until_signal().await;
    simulator.stop().await;
    Ok(())
}
