//! `completions`: completion scripts for shells, and the manual page. Both are made from the definitions of the
//! options, so they cannot differ from them.

use std::io::{self, Write as _};

use clap::{Command, ValueEnum};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

/// The kinds of output of `completions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Printed {
    /// Completions for Bash.
    Bash,
    /// Completions for Elvish.
    Elvish,
    /// Completions for fish.
    Fish,
    /// The manual page, in roff.
    Man,
    /// Completions for PowerShell.
    #[value(name = "powershell")]
    PowerShell,
    /// Completions for Zsh.
    Zsh,
}

/// Prints the script or page for this command line to standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(command: Command, what: Printed) -> io::Result<()> {
    io::stdout().write_all(&text(command, what)?)
}

fn text(mut command: Command, what: Printed) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let shell = match what {
        Printed::Man => {
            page(&command, &mut text)?;
            return Ok(text);
        }
        Printed::Bash => Shell::Bash,
        Printed::Elvish => Shell::Elvish,
        Printed::Fish => Shell::Fish,
        Printed::PowerShell => Shell::PowerShell,
        Printed::Zsh => Shell::Zsh,
    };
    generate(shell, &mut command, NAME, &mut text);
    Ok(text)
}

/// One page for all commands: the description and the options of the program, then each command with its own.
fn page(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    commands(command, "", out)?;
    writeln!(out, "{AFTER}")?;
    man.render_version_section(out)
}

fn commands(command: &Command, before: &str, out: &mut Vec<u8>) -> io::Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{before}{}", command.get_name());
        writeln!(out, ".TP\n\\fB{}\\fR\n{}", roff(&name), roff(&about(command)))?;
        for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
            let option = argument.get_long().map(|long| format!("--{long} ")).unwrap_or_default();
            let values = match argument.get_value_names() {
                Some(values) if argument.get_action().takes_values() => values.join(" "),
                _ => String::new(),
            };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if argument.get_id() != "help" {
                let name = format!("{option}{values}");
                writeln!(out, ".br\n\\fI{}\\fR: {}", roff(name.trim_end()), roff(&help))?;
            }
        }
        commands(command, &format!("{name} "), out)?;
    }
    Ok(())
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// The text with roff's special characters escaped.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace("\n.", "\n\\&.")
}

const NAME: &str = env!("CARGO_PKG_NAME");
/// Parts of the manual page that the definitions of the options lack.
const AFTER: &str = r".SH FILES
.TP
\fBcookie.txt\fR
Cookie headers of accounts, one a line.
.TP
\fBconfig.json\fR, \fB.env\fR
Settings. The environment wins over \fB.env\fR, which wins over \fBconfig.json\fR; the names are the same everywhere.
.TP
\fBdata/\fR
What outlives the process.
.SH EXIT STATUS
.TP
0
Success. For \fBcheck\fR, \fBauth health\fR and \fBhealthcheck\fR: at least one account is usable, the server is healthy.
.TP
1
Failure.
.TP
64
The settings are wrong; every fault is listed on standard error.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn command() -> Command {
        <Cli as clap::CommandFactory>::command()
    }

    fn printed(what: Printed) -> String {
        String::from_utf8(text(command(), what).unwrap()).unwrap()
    }

    #[test]
    fn every_command_is_completed_in_every_shell() {
        for what in Printed::value_variants() {
            let text = printed(*what);
            for command in command().get_subcommands() {
                let name = command.get_name();
                let name = if *what == Printed::Man { roff(name) } else { name.to_owned() };
                assert!(text.contains(&name), "{what:?} lacks {name}");
            }
        }
    }

    #[test]
    fn the_manual_page_has_the_options_of_commands_within_commands() {
        let text = printed(Printed::Man);
        assert!(text.contains("\\fBauth health\\fR\n") && text.contains("\\fI\\-\\-probe\\fR: "), "{text}");
        assert!(text.contains("\\fI\\-\\-scenario FILE\\fR: ") && text.contains("\n.SH EXIT STATUS\n"), "{text}");
        // Options of every command are listed once.
        assert_eq!(text.matches("cookie\\-file").count(), 2, "{text}");
    }
}
