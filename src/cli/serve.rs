//! `serve`: the server.

use std::io::{self, Write as _};

use tracing::{error, info};

use crate::app::{App, StartError};
use crate::config::{Config, Sources};
use crate::shutdown::signal;

/// Serves until SIGTERM or SIGINT. `reread` reads the sources of the configuration anew, for a reload.
///
/// # Errors
/// [`StartError`].
pub async fn run(config: Config, reread: impl Fn() -> Sources + Send + 'static) -> Result<(), StartError> {
    let app = App::build(config).await?.reloading(reread);
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
    app.serve(until_signal()).await;
    Ok(())
}

/// What to do with a key that was made.
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
