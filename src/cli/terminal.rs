//! Styles and safe text for terminals, shared by the commands. `anstream` removes styles where the output is not a
//! terminal, or where `--color`, `COLOR`, `NO_COLOR` or `CLICOLOR_FORCE` say so.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

/// Of less weight than the text around it: thoughts, hints, progress.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Titles and what is to be copied.
pub(crate) const BOLD: Style = Style::new().bold();
/// Style of what is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Style of what works and needs something soon.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// Style of faults, such as an account that does not work.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// The columns of the terminal at standard output; `None` where there is none.
pub(crate) fn columns() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    #[cfg(unix)]
    let told = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    #[cfg(not(unix))]
    let told = None;
    // A terminal that does not tell has as many columns as ever.
    Some(told.filter(|columns| *columns > 0).unwrap_or(80))
}

/// The text without control characters other than tabs and line ends: a model's answer must not steer a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A duration for people: `0.4 s`, `12 s`, `3 min 5 s`.
pub(crate) fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A number of bytes for people, in units of a thousand.
pub(crate) fn bytes_in_words(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_steer_a_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\r\n\u{9b}31md\u{7}"), "a[2Jb\tc\n31md");
    }

    #[test]
    fn numbers_are_read_by_people() {
        for (millis, words) in [(400, "0.4 s"), (9_940, "9.9 s"), (12_700, "12 s"), (185_000, "3 min 5 s")] {
            assert_eq!(in_words(Duration::from_millis(millis)), words);
        }
        for (bytes, words) in [(999, "999 bytes"), (1_500, "1 kB"), (12_345_678, "12.3 MB")] {
            assert_eq!(bytes_in_words(bytes), words);
        }
    }
}
