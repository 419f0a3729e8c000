//! The commands that run the simulator: `demo` and `simulate`. Compiled with the feature `demo`.

pub(crate) mod alone;
pub(crate) mod demo;
pub(crate) mod error;
mod samples;

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::simulated::error::SimulatedError;
use crate::config::Sources;

/// The commands that run the simulator.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SimulatedCommand {
    /// Run the server with a simulated upstream and sample accounts; needs no account and no network
    Demo {
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
        SimulatedCommand::Demo { port } => demo::run(port, sources).await,
        SimulatedCommand::Simulate { port, scenario } => alone::run(port, scenario).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> SimulatedCommand {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(cli.flags().len(), 0, "{line}");
        match cli.command() {
            Command::Simulated(command) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn both_commands_are_told_apart() {
        assert_eq!(parse("qwen-bridge demo"), SimulatedCommand::Demo { port: None });
        assert_eq!(parse("qwen-bridge demo --port 9"), SimulatedCommand::Demo { port: Some(9) });
        assert_eq!(
            parse("qwen-bridge simulate --port 7 --scenario x.json"),
            SimulatedCommand::Simulate { port: Some(7), scenario: Some("x.json".into()) }
        );
        for line in ["qwen-bridge demo --host ::1", "qwen-bridge demo --port 99999"] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
