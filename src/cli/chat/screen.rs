//! Shows answers. On a terminal: thoughts dimmed, progress while nothing arrives, and a line of figures at the end.
//! Elsewhere only the text of the answer.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anstream::AutoStream;

use crate::cli::chat::error::ChatError;
use crate::cli::progress::Progress;
use crate::cli::terminal::{BAD, DIM, harmless};

/// Standard output and standard error of the process.
pub(crate) struct Screen {
    out: AutoStream<io::Stdout>,
    /// Whether answers are read on a terminal, and not by a program.
    is_terminal: bool,
    progress: Progress,
    part: Part,
    /// Whether the last thing that was written ended a line.
    at_line_start: bool,
}

/// The kind of output that was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nothing,
    Thoughts,
    Text,
}

impl Screen {
    /// The screen of this process.
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            out: anstream::stdout(),
            progress: Progress::new(),
            part: Part::Nothing,
            at_line_start: true,
        }
    }

    /// Whether answers are read on a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Waits for something that a line of progress tells about, on a terminal.
    pub(crate) async fn while_waiting<F: Future>(&mut self, label: impl Fn(Duration) -> String, wait: F) -> F::Output {
        self.progress.during(self.at_line_start, label, wait).await
    }

    /// Starts the output of an answer.
    pub(crate) fn begin(&mut self) {
        self.part = Part::Nothing;
        self.at_line_start = true;
    }

    /// Shows thoughts. Programs are not shown them.
    ///
    /// # Errors
    /// [`ChatError::Output`].
    pub(crate) fn thought(&mut self, text: &str) -> Result<(), ChatError> {
        if !self.is_terminal {
            return Ok(());
        }
        if self.part == Part::Nothing {
            self.write(format_args!("{DIM}(thinking){DIM:#}\n"))?;
        }
        self.part = Part::Thoughts;
        let text = harmless(text);
        self.at_line_start = text.ends_with('\n');
        self.write(format_args!("{DIM}{text}{DIM:#}"))
    }

    /// Shows text of the answer.
    ///
    /// # Errors
    /// [`ChatError::Output`].
    pub(crate) fn text(&mut self, text: &str) -> Result<(), ChatError> {
        if self.part == Part::Thoughts {
            self.write(if self.at_line_start { "\n" } else { "\n\n" })?;
        }
        self.part = Part::Text;
        self.at_line_start = text.ends_with('\n');
        if self.is_terminal { self.write(harmless(text)) } else { self.write(text) }
    }

    /// Ends the line of an answer.
    ///
    /// # Errors
    /// [`ChatError::Output`].
    pub(crate) fn end(&mut self) -> Result<(), ChatError> {
        if self.part != Part::Nothing && !std::mem::replace(&mut self.at_line_start, true) {
            self.write("\n")?;
        }
        Ok(())
    }

    /// Says something beside the answer, on a terminal only: on standard error, so that it never gets into a file.
    pub(crate) fn hint(&self, text: impl Display) {
        if self.is_terminal {
            note(text);
        }
    }

    /// Writes a line that was asked for by a command.
    ///
    /// # Errors
    /// [`ChatError::Output`].
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), ChatError> {
        self.write(format_args!("{text}\n"))
    }

    fn write(&mut self, text: impl Display) -> Result<(), ChatError> {
        write!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(ChatError::Output)
    }
}

/// Says something beside the answer, on standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{DIM}{text}{DIM:#}");
}

/// Says what went wrong, on standard error.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{BAD}error:{BAD:#} {text}");
}
