//! The options that say where the server of this machine listens.

use clap::Args;

/// Where the server is.
#[derive(Args, Clone, Debug, Default)]
pub struct Listen {
    /// Address that the server listens at (SERVER_HOST) [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port that the server listens at (SERVER_PORT) [default: 8000]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
}
