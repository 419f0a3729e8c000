//! The result of `check`: as JSON, as a plain table for files and programs, or as a coloured one for a terminal.

use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize;

use crate::base::ids::UnixSeconds;
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, WARN, columns, harmless};
use crate::gateway::outlook::in_words;

/// The state of an account that can be used.
pub(super) const USABLE: &str = "usable";
/// Advice about an account that is well.
pub(super) const NOTHING: &str = "nothing";
/// Text in place of a table without rows.
const NO_ACCOUNT: &str = "No account is configured: paste the cookie of one into cookie.txt (see cookie.txt.example), log \
                          an OAuth account in with `qwen-bridge auth add`, or name a key in QWEN_API_KEYS.";
/// The widest name of an account, in characters.
const NAME_CHARS_MAX: usize = 28;
/// The fewest columns for what there is to do.
const ADVICE_COLUMNS_MIN: usize = 24;

/// The result of all checks.
#[derive(Default, Serialize)]
pub(super) struct Report {
    /// Number of accounts that can be used.
    pub(super) usable: usize,
    /// Further remarks for the owner.
    pub(super) notes: Vec<String>,
    pub(super) accounts: Vec<Line>,
}

/// The result for one account.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) account: String,
    /// The name that the owner gave it on the page.
    pub(super) label: Option<String>,
    /// Kind of the account: `web`, `oauth` or `key`.
    pub(super) kind: &'static str,
    /// State: `usable`, `login needed`, `refused`, `unreachable`, …
    pub(super) state: &'static str,
    /// End of the token in RFC 3339, UTC; `null` for a token without a known end.
    pub(super) token_until: Option<String>,
    /// Advice for the owner.
    pub(super) advice: String,
}

impl Report {
    pub(super) fn add(&mut self, line: Line) {
        self.usable += usize::from(line.state == USABLE);
        self.accounts.push(line);
    }

    /// Prints it on standard output. A terminal that has gone away ends nothing.
    pub(super) fn print(&self, is_json: bool, now: UnixSeconds) {
        let _ = match columns() {
            // Plain texts always serialise.
            _ if is_json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(self).unwrap_or_default()),
            None => self.plain(&mut io::stdout()),
            Some(columns) => self.table(&mut anstream::stdout(), columns, now),
        };
    }

    fn plain(&self, out: &mut impl Write) -> io::Result<()> {
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        if self.accounts.is_empty() {
            writeln!(out, "{NO_ACCOUNT}")?;
        }
        writeln!(out, "{:<20} {:<7} {:<14} {:<22} what to do", "account", "kind", "state", "token until")?;
        for Line { account, label, kind, state, token_until, advice } in &self.accounts {
            let name = label.as_ref().map_or_else(|| account.clone(), |label| format!("{account} ({label})"));
            let until = token_until.as_deref().unwrap_or("-");
            writeln!(out, "{name:<20} {kind:<7} {state:<14} {until:<22} {advice}")?;
        }
        Ok(())
    }

    fn table(&self, out: &mut impl Write, columns: usize, now: UnixSeconds) -> io::Result<()> {
        for note in &self.notes {
            for (number, line) in wrapped(&harmless(note), columns.saturating_sub(7)).iter().enumerate() {
                let head = if number == 0 { "note:" } else { "     " };
                writeln!(out, "{WARN}{head}{WARN:#}  {line}")?;
            }
        }
        if !self.notes.is_empty() {
            writeln!(out)?;
        }
        if self.accounts.is_empty() {
            return writeln!(out, "{}", wrapped(NO_ACCOUNT, columns).join("\n"));
        }
        let names: Vec<String> = self.accounts.iter().map(Line::name).collect();
        let ends: Vec<String> = self.accounts.iter().map(|line| line.end_in_words(now)).collect();
        let widest = |texts: &[String], title: &str| {
            texts.iter().map(|text| text.chars().count()).chain([title.len()]).max().unwrap_or_default()
        };
        let (name_width, end_width) = (widest(&names, "account"), widest(&ends, "token"));
        let before = name_width + 2 + 5 + 2 + 12 + 2 + end_width + 2;
        let advice_width = columns.saturating_sub(before).max(ADVICE_COLUMNS_MIN);
        writeln!(
            out,
            "{BOLD}{:<name_width$}  {:<5}  {:<12}  {:<end_width$}  what to do{BOLD:#}",
            "account", "kind", "state", "token"
        )?;
        for ((line, name), end) in self.accounts.iter().zip(&names).zip(&ends) {
            let (style, advice) = (line.style(), wrapped(&harmless(&line.advice), advice_width));
            let first = advice.first().map_or("", String::as_str);
            writeln!(
                out,
                "{name:<name_width$}  {:<5}  {style}{:<12}{style:#}  {DIM}{end:<end_width$}{DIM:#}  {first}",
                line.kind, line.state
            )?;
            for more in advice.iter().skip(1) {
                writeln!(out, "{:before$}{more}", "")?;
            }
        }
        let style = if self.usable == 0 { BAD } else { GOOD };
        writeln!(out, "\n{style}{} of {} can be used.{style:#}", self.usable, self.accounts.len())
    }
}

impl Line {
    /// The owner's name of it, else its own.
    fn name(&self) -> String {
        let name = harmless(self.label.as_deref().unwrap_or(&self.account));
        if name.chars().count() <= NAME_CHARS_MAX {
            return name;
        }
        name.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect()
    }

    fn end_in_words(&self, now: UnixSeconds) -> String {
        let until = self.token_until.as_deref().and_then(|until| until.parse::<jiff::Timestamp>().ok());
        match until.map(|until| until.as_second() - now.0) {
            None => "-".to_owned(),
            Some(left) if left > 0 => format!("for {}", in_words(left)),
            Some(left) => format!("ended {} ago", in_words(-left)),
        }
    }

    fn style(&self) -> Style {
        match self.state {
            USABLE if self.advice.starts_with(NOTHING) => GOOD,
            "login needed" | "refused" => BAD,
            _ => WARN,
        }
    }
}

/// The words of a text in lines of at most so many characters. A longer word has a line of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let line = |account: &str, label: Option<&str>, state, until: Option<&str>, advice: &str| Line {
            account: account.to_owned(),
            label: label.map(str::to_owned),
            kind: "web",
            state,
            token_until: until.map(str::to_owned),
            advice: advice.to_owned(),
        };
        let mut report = Report { notes: vec!["the clock is wrong".to_owned()], ..Report::default() };
        report.add(line("identity-1", Some("work"), USABLE, Some("1970-01-03T00:00:00Z"), NOTHING));
        let advice = "log in at chat.qwen.ai and paste the new cookie";
        report.add(line("identity-2", None, "login needed", Some("1970-01-01T00:00:10Z"), advice));
        report
    }

    #[test]
    fn a_terminal_gets_a_table_that_fits() {
        let mut out = Vec::new();
        report().table(&mut out, 80, UnixSeconds(70)).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(shown.contains("\u{1b}[32musable") && shown.contains("\u{1b}[1m\u{1b}[31mlogin needed"), "{shown:?}");
        let plain = anstream::adapter::strip_str(&shown).to_string();
        insta::assert_snapshot!(plain, @r"
        note:  the clock is wrong

        account     kind   state         token               what to do
        work        web    usable        for 2 days          nothing
        identity-2  web    login needed  ended 1 minute ago  log in at chat.qwen.ai and
                                                             paste the new cookie

        1 of 2 can be used.
        ");
        let mut out = Vec::new();
        Report::default().table(&mut out, 40, UnixSeconds(0)).unwrap();
        assert!(String::from_utf8(out).unwrap().lines().all(|line| line.len() <= 40));
    }

    #[test]
    fn files_and_programs_get_what_they_always_got() {
        let mut out = Vec::new();
        report().plain(&mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(shown.starts_with("note: the clock is wrong\naccount "), "{shown}");
        assert!(
            shown.contains("identity-1 (work)    web     usable         1970-01-03T00:00:00Z   nothing\n"),
            "{shown}"
        );
        let json = serde_json::to_value(report()).unwrap();
        let fields: Vec<&String> = json["accounts"][0].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["account", "label", "kind", "state", "token_until", "advice"]);
    }
}
