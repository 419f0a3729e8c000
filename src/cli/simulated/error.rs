//! Reasons why `demo` or `simulate` failed.

use std::io;
use std::net::SocketAddr;

use simulator::script::ScenarioError;

use crate::app::StartError;
use crate::config::ConfigError;

/// Reasons why `demo` or `simulate` failed.
#[derive(Debug, thiserror::Error)]
pub enum SimulatedError {
    /// The settings of the demo are refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The demo's port cannot be bound.
    #[error("cannot listen at {0} (--port chooses another port)")]
    Listen(SocketAddr, #[source] io::Error),
    /// The demo's temporary folder cannot be written.
    #[error("cannot write the demo's temporary folder")]
    Folder(#[source] io::Error),
    /// The simulator cannot start.
    #[error("cannot start the simulator")]
    Simulator(#[source] io::Error),
    /// The scenario file cannot be read.
    #[error("cannot read the scenario {0}")]
    ScenarioFile(String, #[source] io::Error),
    /// The scenario file is wrong.
    #[error("the scenario {0} is wrong")]
    Scenario(String, #[source] ScenarioError),
}
