//! Process entry: reads the command line, dispatches, sets the exit code.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory;
use qwen_bridge::cli::{self, Cli, Command, CommandError};
use qwen_bridge::config::{Config, ConfigError, EX_USAGE, Sources};
use qwen_bridge::telemetry::{self, ErrorChain, LogControl};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::of_process();
    // Each open stream takes two descriptors, and the usual soft limit is 1,024. The hard limit is the owner's word.
    // If it cannot be raised, the server works up to the present limit.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match run(&cli).await {
        Ok(code) => code,
        Err(error) => {
            let code = if matches!(error, CommandError::Config(_)) { EX_USAGE } else { 1 };
            complain(&error);
            ExitCode::from(code)
        }
    }
}

async fn run(cli: &Cli) -> Result<ExitCode, CommandError> {
    let flags = cli.flags();
    // Faults of the configuration are coloured as its flag says; the setting counts once it is read.
    if flags.get("COLOR").is_some_and(|color| color.eq_ignore_ascii_case("never")) {
        anstream::ColorChoice::Never.write_global();
    }
    match cli.chosen() {
        Command::Serve(_) => {
            let (config, log) = configured(flags.clone())?;
            cli::serve::run(config, move || Sources::from_process(flags.clone()), log).await?;
        }
        #[cfg(feature = "demo")]
        Command::Simulated(command) => {
            // Only the look of log lines is taken from the configuration, so nothing else of it can be wrong here.
            cli::simulated::run(command, Sources::from_process(flags)).await?;
        }
        Command::Setup(_) => {
            // The output of commands is enough; log lines would interrupt it.
            let load = move || loaded(flags.clone());
            return Ok(exit(cli::setup::run(load).await?));
        }
        Command::Chat(args) => {
            let config = loaded(flags)?;
            cli::chat::run(&config, *args).await.map_err(CommandError::Chat)?;
        }
        Command::Check { json, .. } => {
            let (config, _) = configured(flags)?;
            return Ok(exit(cli::check::run(config, json).await?));
        }
        Command::Auth(command) => {
            // Warnings about cookies and keys are not what was asked for.
            let config = loaded(flags)?;
            return Ok(exit(cli::auth::run(command, &config.accounts, &config.oauth).await?));
        }
        Command::Completions { shell } => {
            let command = <Cli as CommandFactory>::command();
            return Ok(exit(cli::completions::print(command, shell).is_ok()));
        }
        Command::Healthcheck(_) => {
            let config = loaded(flags)?;
            return Ok(exit(cli::healthcheck::is_alive(config.http.listen).await));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration of this process. Colours are as it says from here on.
fn loaded(flags: BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let config = Config::load(&Sources::from_process(flags))?;
    config.color.write_global();
    Ok(config)
}

/// The configuration, and what changes the log that was installed by it.
fn configured(flags: BTreeMap<String, String>) -> Result<(Config, Option<LogControl>), CommandError> {
    let config = loaded(flags)?;
    let log = telemetry::install(&config.log).inspect_err(|error| complain(error)).ok();
    Ok((config, log))
}

fn exit(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what went wrong on standard error, where there is no log yet or the log is not looked at.
fn complain(error: &(dyn Error + 'static)) {
    let _ = writeln!(anstream::stderr(), "{BAD}qwen-bridge:{BAD:#} {}", ErrorChain(error));
}

/// The style of the word in front of a failure.
const BAD: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
