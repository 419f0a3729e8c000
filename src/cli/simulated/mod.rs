//! The commands that run the simulator: `demo` and `simulate`. Compiled with the feature `demo`.

pub(crate) mod alone;
pub(crate) mod demo;
pub(crate) mod error;
mod samples;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::simulated::error::SimulatedError;
use crate::config::Sources;

/// The commands that run the simulator.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SimulatedCommand {
    /// Run the server with a simulated upstream and sample accounts; needs no account and no network
    Demo {
        /// Address to listen at; beyond this machine the printed key is all that guards it [default: 127.0.0.1]
        #[arg(long, value_name = "ADDRESS")]
        host: Option<IpAddr>,
        /// Port to listen at [default: 8000]
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
    },
    /// Run the simulated upstream alone
    Simulate {
        /// Port to listen at; a free one when absent
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
        /// Scenario to play, as a JSON file
        #[arg(long, value_name = "FILE")]
        scenario: Option<PathBuf>,
    },
}

/// Runs one of the commands until SIGTERM or SIGINT. Of the sources, only the look of log lines is used.
///
/// # Errors
/// [`SimulatedError`].
pub async fn run(command: SimulatedCommand, sources: Sources) -> Result<(), SimulatedError> {
    match command {
        SimulatedCommand::Demo { host, port } => demo::run(host, port, sources).await,
        SimulatedCommand::Simulate { port, scenario } => alone::run(port, scenario).await,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> SimulatedCommand {
        let cli = Cli::read(line.split_whitespace().map(OsString::from)).unwrap();
        assert_eq!(cli.flags().len(), 0, "{line}");
        match cli.chosen() {
            Command::Simulated(command) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn both_commands_are_told_apart() {
        assert_eq!(parse("qwen-bridge demo"), SimulatedCommand::Demo { host: None, port: None });
        assert_eq!(parse("qwen-bridge demo --port 9"), SimulatedCommand::Demo { host: None, port: Some(9) });
        let host = Some("::1".parse().unwrap());
        // Before the command they mean the same.
        assert_eq!(parse("qwen-bridge --port 9 demo"), SimulatedCommand::Demo { host: None, port: Some(9) });
        assert_eq!(parse("qwen-bridge --port 7 demo --port 9"), SimulatedCommand::Demo { host: None, port: Some(9) });
        assert_eq!(
            parse("qwen-bridge --port 7 simulate"),
            SimulatedCommand::Simulate { port: Some(7), scenario: None }
        );
        assert!(Cli::read(["qwen-bridge", "--port", "x", "demo"].map(OsString::from)).is_err());
        assert_eq!(parse("qwen-bridge demo --host ::1"), SimulatedCommand::Demo { host, port: None });
        assert_eq!(
            parse("qwen-bridge simulate --port 7 --scenario x.json"),
            SimulatedCommand::Simulate { port: Some(7), scenario: Some("x.json".into()) }
        );
        for line in ["qwen-bridge demo --host here", "qwen-bridge demo --port 99999"] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
