//! The command line: commands and options of the program, without their work.
//!
//! The commands live in the files beside this one; `main` parses and dispatches.

#![expect(clippy::doc_markdown, reason = "these comments are the help text on terminals, where backticks are noise")]

pub mod auth;
pub mod chat;
pub mod check;
pub mod completions;
pub mod healthcheck;
mod listen;
mod progress;
pub mod serve;
pub mod setup;
pub mod setup_error;
#[cfg(feature = "demo")]
pub mod simulated;
mod terminal;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::app::StartError;
use crate::cli::auth::{AuthCommand, AuthError};
use crate::cli::chat::ChatArgs;
use crate::cli::chat::error::ChatError;
use crate::cli::completions::Printed;
use crate::cli::setup_error::SetupError;
#[cfg(feature = "demo")]
use crate::cli::simulated::SimulatedCommand;
#[cfg(feature = "demo")]
use crate::cli::simulated::error::SimulatedError;
use crate::config::ConfigError;

pub use crate::cli::listen::Listen;

/// Reasons why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An account could not be added, listed or removed.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// `chat` has no answer.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The guided first run ends without an account.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// `demo` or `simulate` failed.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    Simulated(SimulatedError),
}

#[cfg(feature = "demo")]
impl From<SimulatedError> for CommandError {
    fn from(error: SimulatedError) -> Self {
        match error {
            SimulatedError::Config(error) => Self::Config(error),
            SimulatedError::Start(error) => Self::Start(error),
            other => Self::Simulated(other),
        }
    }
}

/// Turns your own Qwen accounts into an API for OpenAI and Anthropic clients.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// Options of `serve`, when no command is named.
    #[command(flatten)]
    pub listen: Listen,
    /// What to do; `serve` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The heading of the options of every command in help texts, below those of the command itself.
const COMMON: &str = "Options of every command";

/// Options of every command. Each stands for a setting and wins over every other place.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// File with settings (CONFIG_FILE) [default: config.json]
    #[arg(long, value_name = "FILE", global = true, help_heading = COMMON)]
    pub config: Option<String>,
    /// File with one Cookie header a line (COOKIE_FILE) [default: cookie.txt]
    #[arg(long, value_name = "FILE", global = true, help_heading = COMMON)]
    pub cookie_file: Option<String>,
    /// Folder for what outlives the process (STATE_DIR) [default: ./data]
    #[arg(long, value_name = "DIR", global = true, help_heading = COMMON)]
    pub state_dir: Option<String>,
    /// error, warn, info, debug, trace, off, or a filter (LOG_LEVEL) [default: info]
    #[arg(long, value_name = "LEVEL", global = true, help_heading = COMMON)]
    pub log_level: Option<String>,
    /// Colours: auto, always or never (COLOR) [default: auto]
    #[arg(long, value_name = "WHEN", global = true, help_heading = COMMON)]
    pub color: Option<String>,
}

/// A command of the program.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Listen),
    /// The commands that run the simulator.
    #[cfg(feature = "demo")]
    #[command(flatten)]
    Simulated(SimulatedCommand),
    /// Add a first account: paste it, see what it is, and how to connect a client
    Setup(Listen),
    /// Talk to the running server; with a question, print the answer and end
    Chat(Box<ChatArgs>),
    /// Check the settings, and ask the upstream about each account once; only a session that has ended is renewed
    Check {
        /// Print JSON, and nothing else, on standard output
        #[arg(long)]
        json: bool,
        /// Where the server of this machine would listen.
        #[command(flatten)]
        listen: Listen,
    },
    /// OAuth accounts: log in, list, remove, import, show their state
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Ask the running server whether it lives; exit 0 or 1
    Healthcheck(Listen),
    /// Print completions for a shell, or the manual page
    Completions {
        /// For which shell; `man` prints the manual page
        #[arg(value_name = "SHELL")]
        shell: Printed,
    },
}

impl Command {
    /// Whether the command knows `--host`, and whether it knows `--port`.
    fn takes(&self) -> (bool, bool) {
        match self {
            Self::Serve(_) | Self::Setup(_) | Self::Chat(_) | Self::Check { .. } | Self::Healthcheck(_) => (true, true),
            #[cfg(feature = "demo")]
            Self::Simulated(SimulatedCommand::Demo { .. }) => (true, true),
            #[cfg(feature = "demo")]
            Self::Simulated(SimulatedCommand::Simulate { .. }) => (false, true),
            Self::Auth(_) | Self::Completions { .. } => (false, false),
        }
    }
}

impl Cli {
    /// The command line of this process. Options mean the same before and after the command.
    #[must_use]
    pub fn of_process() -> Self {
        Self::read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// Reads a command line. An option that stands before a command goes to the command, whose own wins, and is refused
    /// when the command does not know it.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(words)?;
        let Listen { host, port } = cli.listen.clone();
        let (takes_host, takes_port) = cli.command.as_ref().map_or((true, true), Command::takes);
        for (option, is_unknown) in
            [("--host", host.is_some() && !takes_host), ("--port", port.is_some() && !takes_port)]
        {
            if is_unknown {
                let message = format!("the option '{option}' has no meaning for this command");
                return Err(Self::command().error(ErrorKind::UnknownArgument, message));
            }
        }
        let wrong = |error: &dyn Display, option: &str| {
            let message = format!("invalid value for '{option}': {error}");
            Self::command().error(ErrorKind::ValueValidation, message)
        };
        #[cfg(feature = "demo")]
        if let Some(Command::Simulated(command)) = &mut cli.command {
            let (of_host, of_port) = match command {
                SimulatedCommand::Demo { host, port } => (Some(host), port),
                SimulatedCommand::Simulate { port, .. } => (None, port),
            };
            if let Some(port) = port.filter(|_| of_port.is_none()) {
                *of_port = Some(port.parse().map_err(|error| wrong(&error, "--port"))?);
            }
            if let (Some(of_host), Some(host)) = (of_host, host)
                && of_host.is_none()
            {
                *of_host = Some(host.parse().map_err(|error| wrong(&error, "--host"))?);
            }
            cli.listen = Listen::default();
        }
        Ok(cli)
    }

    /// The command, `serve` when none was named.
    #[must_use]
    pub fn chosen(&self) -> Command {
        self.command.clone().unwrap_or_else(|| Command::Serve(Listen::default()))
    }

    /// The settings that were given as flags, by the names of the settings.
    #[must_use]
    pub fn flags(&self) -> BTreeMap<String, String> {
        let listen = match &self.command {
            Some(
                Command::Serve(listen)
                | Command::Setup(listen)
                | Command::Check { listen, .. }
                | Command::Healthcheck(listen),
            ) => Some(listen),
            Some(Command::Chat(args)) => Some(&args.listen),
            _ => None,
        };
        let common = &self.common;
        let mut flags = BTreeMap::new();
        // A later row wins: what stands behind the command over what stands in front of it.
        for (name, value) in [
            ("CONFIG_FILE", common.config.as_ref()),
            ("COOKIE_FILE", common.cookie_file.as_ref()),
            ("STATE_DIR", common.state_dir.as_ref()),
            ("LOG_LEVEL", common.log_level.as_ref()),
            ("COLOR", common.color.as_ref()),
            ("SERVER_HOST", self.listen.host.as_ref()),
            ("SERVER_PORT", self.listen.port.as_ref()),
            ("SERVER_HOST", listen.and_then(|listen| listen.host.as_ref())),
            ("SERVER_PORT", listen.and_then(|listen| listen.port.as_ref())),
        ] {
            if let Some(value) = value {
                flags.insert(name.to_owned(), value.clone());
            }
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    fn parse(line: &str) -> Cli {
        Cli::read(line.split_whitespace().map(OsString::from)).unwrap()
    }

    fn check(line: &str, expected: &[(&str, &str)]) {
        let flags = parse(line).flags();
        let flags: Vec<_> = flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(flags, expected, "{line}");
        for (name, _) in flags {
            assert!(SETTINGS.iter().any(|setting| setting.name == name), "{name}");
        }
    }

    #[test]
    fn the_definitions_are_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        check("qwen-bridge", &[]);
        check("qwen-bridge check --color never", &[("COLOR", "never")]);
        check("qwen-bridge --port 9000", &[("SERVER_PORT", "9000")]);
        check("qwen-bridge serve --port :9000 --host ::1", &[("SERVER_HOST", "::1"), ("SERVER_PORT", ":9000")]);
        check("qwen-bridge --port 1 serve --port 2", &[("SERVER_PORT", "2")]);
        for command in ["serve", "setup", "check", "healthcheck", "chat"] {
            let expected = &[("SERVER_HOST", "::1"), ("SERVER_PORT", "9")];
            check(&format!("qwen-bridge {command} --port 9 --host ::1"), expected);
            check(&format!("qwen-bridge --port 9 --host ::1 {command}"), expected);
        }
        check("qwen-bridge --port 1 chat --port 9 a question", &[("SERVER_PORT", "9")]);
        check(
            "qwen-bridge --config a.json check --cookie-file b --state-dir c --log-level debug",
            &[("CONFIG_FILE", "a.json"), ("COOKIE_FILE", "b"), ("LOG_LEVEL", "debug"), ("STATE_DIR", "c")],
        );
    }

    /// An option before the command is one of the command, so it is refused as it would be behind it.
    #[test]
    fn options_that_a_command_does_not_know_are_refused_on_either_side() {
        for (option, command) in [
            ("--port 9", "auth list"),
            ("--host ::1", "auth list"),
            ("--port 9", "completions fish"),
            ("--host ::1", "simulate"),
        ] {
            for line in [format!("qwen-bridge {option} {command}"), format!("qwen-bridge {command} {option}")] {
                let error = Cli::read(line.split_whitespace().map(OsString::from)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{line}: {error}");
                let name = option.split(' ').next().unwrap();
                assert!(error.to_string().contains(name), "{line}: {error}");
            }
        }
    }

    #[test]
    fn commands_are_told_apart() {
        assert!(matches!(parse("qwen-bridge").chosen(), Command::Serve(_)));
        assert!(matches!(
            parse("qwen-bridge completions fish").chosen(),
            Command::Completions { shell: Printed::Fish }
        ));
        let help = Cli::read(["qwen-bridge", "help", "serve"].map(OsString::from)).unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp, "clap shows it and ends with 0");
        assert!(matches!(parse("qwen-bridge auth add work").chosen(), Command::Auth(AuthCommand::Add { .. })));
        assert!(matches!(
            parse("qwen-bridge auth list --json").chosen(),
            Command::Auth(AuthCommand::List { json: true })
        ));
        for line in
            ["qwen-bridge nothing", "qwen-bridge auth add", "qwen-bridge completions", "qwen-bridge completions sh"]
        {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
