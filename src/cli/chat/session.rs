//! One question and its answer, and the conversation on a terminal around them.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config as EditorConfig, Editor};

use crate::chat::suffix::Product;
use crate::cli::chat::error::ChatError;
use crate::cli::chat::line::{HELP, Line, path_of};
use crate::cli::chat::made::{links, save};
use crate::cli::chat::screen::{Screen, complain, note};
use crate::cli::chat::server::{AnswerStream, Piece, Server};
use crate::cli::chat::talk::Talk;
use crate::cli::terminal::{BOLD, DIM, bytes_in_words, in_words};
use crate::telemetry::ErrorChain;

/// Bodies from this size on are told about while they are sent.
const LARGE_BODY_BYTES: u64 = 1024 * 1024;
/// The most sources that are listed below an answer.
const SOURCES_MAX: usize = 20;

/// A conversation with a server.
pub(crate) struct Session {
    server: Server,
    talk: Talk,
    screen: Screen,
    /// URLs of the pictures or the video of the last answer.
    made: Vec<String>,
}

/// The answer so far.
#[derive(Default)]
struct Answer {
    text: String,
    model: Option<String>,
    finish: Option<String>,
    tokens: Option<u64>,
    sources: Vec<(String, String)>,
}

impl Session {
    /// A session without any question yet.
    pub(crate) fn new(server: Server, talk: Talk, screen: Screen) -> Self {
        Self { server, talk, screen, made: Vec::new() }
    }

    /// Asks, and shows the answer as it comes.
    ///
    /// # Errors
    /// [`ChatError`].
    pub(crate) async fn ask(&mut self, question: &str) -> Result<(), ChatError> {
        self.ask_until(question, std::future::pending()).await
    }

    /// Asks, and shows the answer as it comes, until `stop`. What came of a stopped answer stays in the conversation.
    async fn ask_until(&mut self, question: &str, stop: impl Future<Output = ()>) -> Result<(), ChatError> {
        let began = Instant::now();
        let mut answer = Answer::default();
        self.screen.begin();
        let ended = tokio::select! {
            ended = self.receive(question, &mut answer) => Some(ended),
            () = stop => None,
        };
        self.screen.end()?;
        self.made = links(&answer.text);
        if !answer.text.is_empty() {
            self.talk.said(question, &answer.text);
        }
        match ended {
            Some(ended) => ended?,
            None => note("(stopped)"),
        }
        self.tell_about(&answer, began.elapsed());
        Ok(())
    }

    async fn receive(&mut self, question: &str, answer: &mut Answer) -> Result<(), ChatError> {
        let body = self.talk.body(question);
        let (size, sent) = (body.len() as u64, Arc::new(AtomicU64::new(0)));
        let product = self.talk.product();
        let label = |_: Duration| match sent.load(Ordering::Relaxed) {
            done if done < size && size >= LARGE_BODY_BYTES => {
                format!("sending {} of {}", bytes_in_words(done), bytes_in_words(size))
            }
            _ => waiting_for(product).to_owned(),
        };
        let mut stream: AnswerStream = self.screen.while_waiting(label, self.server.ask(body, &sent)).await?;
        let label = |_: Duration| waiting_for(product).to_owned();
        while let Some(piece) = self.screen.while_waiting(label, stream.next()).await? {
            match piece {
                Piece::Model(name) => answer.model = Some(name),
                Piece::Thought(text) => self.screen.thought(&text)?,
                Piece::Text(text) => {
                    answer.text.push_str(&text);
                    self.screen.text(&text)?;
                }
                Piece::Source(title, url) => answer.sources.push((title, url)),
                Piece::Finish(reason) => answer.finish = Some(reason),
                Piece::Tokens(count) => answer.tokens = Some(count),
            }
        }
        Ok(())
    }

    /// Shows the notes below an answer: why it was cut, its pages, its figures.
    fn tell_about(&self, answer: &Answer, took: Duration) {
        match answer.finish.as_deref() {
            Some("length") => note("The answer was cut: it reached its longest length."),
            Some("content_filter") => note("The answer was ended by the upstream's content policy."),
            _ => {}
        }
        for (number, (title, url)) in answer.sources.iter().take(SOURCES_MAX).enumerate() {
            self.screen.hint(format_args!("[{}] {title} {url}", number + 1));
        }
        let model = answer.model.as_deref().unwrap_or("?");
        let tokens = answer.tokens.map(|count| format!(", {count} tokens")).unwrap_or_default();
        self.screen.hint(format_args!("{model}{tokens}, {}", in_words(took)));
    }

    /// Saves what the last answer made.
    ///
    /// # Errors
    /// [`ChatError::Fetch`], [`ChatError::Save`].
    pub(crate) async fn save(&mut self, target: &Path) -> Result<(), ChatError> {
        if self.made.is_empty() {
            note("There is nothing to save: the answer made no picture and no video.");
        }
        for link in &self.made {
            let label = |_: Duration| "fetching what was made".to_owned();
            let bytes = self.screen.while_waiting(label, self.server.fetch(link)).await?;
            let path = save(target, link, &bytes)?;
            note(format_args!("Saved {} ({}).", path.display(), bytes_in_words(bytes.len() as u64)));
        }
        Ok(())
    }

    async fn choose_model(&mut self, name: Option<&str>) -> Result<(), ChatError> {
        let Some(name) = name else {
            for known in self.server.models().await? {
                let mark = if self.talk.model.as_ref() == Some(&known) { "*" } else { " " };
                self.screen.line(format_args!("{mark} {known}"))?;
            }
            return Ok(());
        };
        self.server.must_have(name).await?;
        self.talk.model = Some(name.to_owned());
        self.screen.hint(format_args!("The next question goes to {name}."));
        Ok(())
    }

    fn choose_file(&mut self, path: Option<&str>) -> Result<(), ChatError> {
        let Some(path) = path else {
            let count = self.talk.detach();
            let files = if count == 1 { "1 file" } else { &format!("{count} files") };
            self.screen.hint(format_args!("{files} taken off."));
            return Ok(());
        };
        let home = home();
        let what = self.talk.attach(&path_of(path, home.as_deref()))?;
        let attached = self.talk.attached().join(", ");
        self.screen.hint(format_args!("A {what}. With the next question: {attached}"));
        Ok(())
    }

    /// Does what a line says. Whether the conversation goes on.
    async fn take(&mut self, line: &str, save_to: Option<&str>) -> Result<bool, ChatError> {
        match Line::read(line) {
            Line::Empty => {}
            Line::Quit => return Ok(false),
            Line::Help => self.screen.line(HELP)?,
            Line::New => {
                self.talk.begin_anew();
                self.screen.hint("A new conversation.");
            }
            Line::Model(name) => self.choose_model(name).await?,
            Line::File(path) => self.choose_file(path)?,
            Line::Save(None) => note("Where to? /save PATH"),
            Line::Save(Some(path)) => {
                let home = home();
                self.save(Path::new(&path_of(path, home.as_deref()))).await?;
            }
            Line::Unknown(word) => {
                note(format_args!(
                    "There is no command /{word}; /help lists them. A space before it makes it a question."
                ));
            }
            Line::Question(question) => {
                self.ask_until(question, interrupted()).await?;
                if let (Some(target), false) = (save_to, self.made.is_empty()) {
                    tokio::select! {
                        saved = self.save(Path::new(target)) => saved?,
                        () = interrupted() => note("(stopped)"),
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Holds a conversation on a terminal until `/quit`, Ctrl-D, or a second Ctrl-C.
///
/// # Errors
/// [`ChatError`]: the server does not answer at the beginning, or the terminal cannot be read.
pub(crate) async fn converse(mut session: Session, save_to: Option<&str>) -> Result<(), ChatError> {
    // Reports a missing server or a wrong key before the first question is typed.
    session.server.models().await?;
    let model = session.talk.model.as_deref().unwrap_or("the server's default model");
    note(format_args!(
        "{BOLD}{}{BOLD:#}{DIM}, {model}. /help lists the commands, Ctrl-D leaves.",
        session.server.base_url()
    ));
    let config = EditorConfig::builder().auto_add_history(true).build();
    let editor = Editor::<(), MemHistory>::with_history(config, MemHistory::new());
    let mut editor = editor.map_err(|error| ChatError::Input(as_io(error)))?;
    let mut was_interrupted = false;
    loop {
        match tokio::task::block_in_place(|| editor.readline("> ")) {
            Ok(line) => {
                was_interrupted = false;
                let taken = tokio::select! {
                    taken = session.take(&line, save_to) => Some(taken),
                    () = interrupted(), if !matches!(Line::read(&line), Line::Question(_)) => None,
                };
                match taken {
                    Some(Ok(true)) => {}
                    Some(Ok(false)) => return Ok(()),
                    Some(Err(error @ ChatError::Output(_))) => return Err(error),
                    Some(Err(error)) => complain(ErrorChain(&error)),
                    None => note("(stopped)"),
                }
            }
            Err(ReadlineError::Interrupted) if was_interrupted => return Ok(()),
            Err(ReadlineError::Interrupted) => {
                was_interrupted = true;
                note("Ctrl-C once more, or Ctrl-D, leaves.");
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(ChatError::Input(as_io(error))),
        }
    }
}

/// Waits for Ctrl-C. Where that cannot be waited for, it never comes.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn waiting_for(product: Option<Product>) -> &'static str {
    match product {
        None => "waiting for the answer",
        Some(Product::Image | Product::ImageEdit) => "making a picture (usually under a minute)",
        Some(Product::Video) => "making a video (one to six minutes)",
    }
}

fn home() -> Option<String> {
    std::env::home_dir().and_then(|home| home.into_os_string().into_string().ok())
}

fn as_io(error: ReadlineError) -> std::io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => std::io::Error::other(other.to_string()),
    }
}
