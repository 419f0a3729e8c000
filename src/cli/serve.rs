//! `serve`: the server.

use std::io::{self, Write as _};

use tracing::{error, info};

use crate::app::{App, StartError};
use crate::config::Config;
use crate::shutdown::signal;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`].
pub async fn run(config: Config) -> Result<(), StartError> {
    let app = App::build(config).await?;
    if let Some(key) = app.generated_key() {
        // Shown this once; afterwards it is only in the state folder.
        let advice = if app.is_in_memory() {
            "It is for this run only, since the state folder cannot be used; API_KEY sets one that stays"
        } else {
            "Keep it"
        };
        let _ = writeln!(
            io::stdout(),
            "A key was made for this server, since none is set. {advice}:\n\n    {}\n",
            key.expose()
        );
    }
    app.serve(until_signal()).await;
    Ok(())
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
