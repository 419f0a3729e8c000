//! `setup`: a guided first run in the terminal. Takes one pasted account, keeps it in the cookie file, asks the upstream
//! about it, and says how to go on.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write};
use std::path::Path;

use crate::app::listen::callable;
use crate::base::text::decoded;
use crate::cli::setup_error::SetupError;
use crate::cli::terminal::{BOLD, DIM, GOOD, WARN};
use crate::cli::{CommandError, check};
use crate::config::{Config, ConfigError, KeyPolicy};
use crate::gateway::random::secret_text;
use crate::pasted::has_content;
use crate::pasted::report::{Credential, Report, report};
use crate::pool::Now;

/// The most that is read of one paste.
const PASTE_BYTES_MAX: usize = 1024 * 1024;
/// The most that is read of a pipe or a file: network recordings have many megabytes.
const PIPED_BYTES_MAX: u64 = 100_000_000;
/// Bytes that are read from the terminal at once: as many as the standard library's own buffer, which is passed by then.
const INPUT_BYTES: usize = 64 * 1024;
/// How long a terminal is silent when a paste is over, in nanoseconds.
#[cfg(unix)]
const SILENCE_NANOSECONDS: i64 = 200_000_000;
/// Bytes of the keys Ctrl-C and Ctrl-D.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
/// The file that a key made here is written into, in the working folder.
const DOTENV: &str = ".env";

/// Guides through the first run. `load` reads the configuration anew. Gives whether an account is usable at the end.
///
/// # Errors
/// [`CommandError`]: nothing usable was pasted, a file cannot be written, or the configuration is wrong.
pub async fn run(load: impl Fn() -> Result<Config, ConfigError>) -> Result<bool, CommandError> {
    let config = load()?;
    let file = config.cookie_file.clone();
    let is_terminal = io::stdin().is_terminal();
    let mut out = anstream::stdout();
    let _ = writeln!(
        out,
        "Log in at https://chat.qwen.ai in a browser, open the developer tools (F12), tab Network, reload, click a\n\
         request to chat.qwen.ai and copy the value of Cookie under Request Headers, or use Copy as cURL.\n"
    );
    let pasted = tokio::task::block_in_place(|| ask_for_account(&mut out, is_terminal))?;
    let cookie = match pasted {
        Credential::Web(cookie) => cookie,
        Credential::OAuth(_) => return Err(SetupError::OfOAuth.into()),
    };
    append_private(&file, cookie.expose())?;
    let _ = writeln!(out, "\nKept in {}. Asking chat.qwen.ai about it:\n", file.display());
    let mut config = load()?;
    let is_usable = check::run(config, false).await?;
    config = load()?;
    let key = match config.key_policy {
        KeyPolicy::OpenOnLoopback if is_terminal && asks_for_key(&mut out)? => Some(make_key()?),
        _ => None,
    };
    let key_line = match (&key, config.key_policy) {
        (Some(key), _) => format!("{key}  (kept in {DOTENV})"),
        (None, KeyPolicy::Keys) => "one of those that are set (API_KEY)".to_owned(),
        (None, KeyPolicy::GenerateKey) => "made and shown at the first start".to_owned(),
        (None, KeyPolicy::OpenOnLoopback | KeyPolicy::OpenKnowingly) => "none is needed; send any word".to_owned(),
    };
    let address = format!("{}{}", callable(config.http.listen), config.http.base_path);
    let _ = writeln!(
        out,
        "\nStart the server with {BOLD}qwen-bridge{BOLD:#}, and talk to it with {BOLD}qwen-bridge chat{BOLD:#}. Then connect a \
         client:\n\n    {DIM}base URL{DIM:#}   http://{address}/v1\n    {DIM}key{DIM:#}        {key_line}\n\
         \nOpen http://{address}/ in a browser for the steps of each client."
    );
    Ok(is_usable)
}

/// Reads pastes until one is a whole credential.
fn ask_for_account(out: &mut impl Write, is_terminal: bool) -> Result<Credential, SetupError> {
    if !is_terminal {
        let text = piped()?;
        return told(report(&text, Now::read().unix), !text.trim().is_empty(), out).ok_or(SetupError::NothingPasted);
    }
    let _ = writeln!(out, "Paste it here and press Enter. It is not shown. Ctrl-D ends.");
    let _raw = LongLines::begin();
    let mut input = BufReader::with_capacity(INPUT_BYTES, io::stdin().lock());
    loop {
        let mut text = String::new();
        let (found, is_over) = loop {
            let before = text.len();
            let mut is_over = read_line(&mut input, &mut text).map_err(SetupError::Input)?;
            let is_end = text.get(before..).is_some_and(|line| line.trim().is_empty()) && has_content(&text);
            // A terminal hands a paste on line by line. What comes without a pause belongs together: the token may stand
            // below other cookies, and the rest of a command must not answer the next question.
            while !is_over && text.len() <= PASTE_BYTES_MAX && more_comes(&input) {
                is_over = read_line(&mut input, &mut text).map_err(SetupError::Input)?;
            }
            is_over |= text.len() > PASTE_BYTES_MAX;
            let found = report(&text, Now::read().unix);
            if is_over || is_end || found.credential.is_some() {
                break (found, is_over);
            }
        };
        if let Some(credential) = told(found, !text.trim().is_empty(), out) {
            return Ok(credential);
        }
        if is_over {
            return Err(SetupError::NothingPasted);
        }
        let _ = writeln!(out, "Once more, or Ctrl-D to leave:");
    }
}

/// Tells what was recognised, or what is missing, and gives the credential.
fn told(found: Report, has_text: bool, out: &mut impl Write) -> Option<Credential> {
    let Report { recognised, missing, credential, .. } = found;
    if credential.is_some() {
        let _ = writeln!(out, "{GOOD}Recognised:{GOOD:#} {}.", recognised.en);
    } else if has_text {
        let _ = writeln!(out, "{WARN}{}{WARN:#}", recognised.en);
        let _ = writeln!(out, "{}\n", missing.map(|missing| missing.en).unwrap_or_default());
    }
    credential
}

/// All of standard input, in whichever encoding a file has that stands there.
fn piped() -> Result<String, SetupError> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(PIPED_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(SetupError::Input)?;
    if bytes.len() as u64 > PIPED_BYTES_MAX {
        return Err(SetupError::TooLarge(PIPED_BYTES_MAX / 1_000_000));
    }
    decoded(bytes).ok_or(SetupError::NoText)
}

/// Whether more of a paste is there, or comes before the terminal is silent.
fn more_comes(input: &BufReader<impl Read>) -> bool {
    if !input.buffer().is_empty() {
        return true;
    }
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let silence = Timespec { tv_sec: 0, tv_nsec: SILENCE_NANOSECONDS };
        poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN)], Some(&silence)).is_ok_and(|ready| ready > 0)
    }
    #[cfg(not(unix))]
    false
}

/// Adds a line to `text`. Whether nothing more is to come: the input ended, or one of the keys for that was pressed.
fn read_line(input: &mut impl BufRead, text: &mut String) -> io::Result<bool> {
    let mut bytes = Vec::new();
    let is_left = loop {
        let available = input.fill_buf()?;
        let end = available.iter().position(|byte| matches!(*byte, b'\n' | CTRL_C | CTRL_D));
        let (count, last) = match end {
            Some(place) => (place + 1, available.get(place).copied()),
            None => (available.len(), None),
        };
        bytes.extend(available.iter().take(count).filter(|byte| !matches!(**byte, CTRL_C | CTRL_D)));
        input.consume(count);
        match last {
            Some(b'\n') => break false,
            None if count > 0 => {}
            _ => break true,
        }
    };
    text.push_str(&String::from_utf8_lossy(&bytes));
    Ok(is_left)
}

/// Whether the owner wants a key although only this machine can use the server.
fn asks_for_key(out: &mut impl Write) -> Result<bool, SetupError> {
    let _ = write!(out, "\nOnly this machine can use the server, without a key. Make a key all the same? [y/N] ");
    let _ = out.flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(SetupError::Input)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Makes a key for callers and keeps it for the next start.
fn make_key() -> Result<String, SetupError> {
    let key = format!("sk-{}", secret_text());
    append_private(Path::new(DOTENV), &format!("API_KEY={key}"))?;
    Ok(key)
}

/// Adds a line to a file that only its owner can read.
fn append_private(file: &Path, line: &str) -> Result<(), SetupError> {
    let failed = |error| SetupError::Write(file.display().to_string(), error);
    let is_torn = fs::read(file).is_ok_and(|bytes| bytes.last().is_some_and(|last| *last != b'\n'));
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        options.mode(0o600);
        if file.exists() {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
    }
    let mut opened = options.open(file).map_err(failed)?;
    let separator = if is_torn { "\n" } else { "" };
    opened.write_all(format!("{separator}{line}\n").as_bytes()).and_then(|()| opened.sync_all()).map_err(failed)
}

/// A terminal that hands lines on as they come and does not show them. As terminals are, they cut a line off after
/// 4,095 bytes, and a Cookie header is often longer. Dropping it sets the terminal back.
struct LongLines {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl LongLines {
    fn begin() -> Self {
        #[cfg(unix)]
        {
            use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
            let before = tcgetattr(io::stdin()).ok();
            if let Some(mut modes) = before.clone() {
                // Signals would end the process before the terminal is set back, so their key is read instead.
                modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
                // A terminal that cannot be set reads short lines only, which is no reason to end.
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
            }
            Self { before }
        }
        #[cfg(not(unix))]
        Self {}
    }
}

impl Drop for LongLines {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_its_end_or_with_the_keys_for_leaving() {
        for (input, expected, is_left) in [
            ("a=b; c=d\nmore", "a=b; c=d\n", false),
            ("a=b", "a=b", true),
            ("a=b\u{4}", "a=b", true),
            ("\u{3}", "", true),
            ("", "", true),
        ] {
            let mut text = String::new();
            let left = read_line(&mut input.as_bytes(), &mut text).unwrap();
            assert_eq!((text.as_str(), left), (expected, is_left), "{input:?}");
        }
    }

    #[test]
    fn lines_are_added_to_a_file_that_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cookie.txt");
        append_private(&file, "one").unwrap();
        fs::write(&file, "one\ntorn").unwrap();
        append_private(&file, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntorn\ntwo\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
