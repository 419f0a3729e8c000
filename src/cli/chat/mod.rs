//! `chat`: talks to the running server, over the same routes as every client. On a terminal it is a conversation; with a
//! question behind it, or with one on standard input, it prints the answer and ends.

pub mod error;
mod line;
mod made;
mod screen;
mod server;
mod session;
mod talk;

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use clap::Args;

use crate::app::listen::callable;
use crate::base::secret::ApiKey;
use crate::cli::chat::error::ChatError;
use crate::cli::chat::screen::Screen;
use crate::cli::chat::server::Server;
use crate::cli::chat::session::{Session, converse};
use crate::cli::chat::talk::Talk;
use crate::cli::listen::Listen;
use crate::config::{Config, KeyPolicy};
use crate::store::Store;

/// The longest question that is read from standard input, in bytes.
const QUESTION_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What is asked, of whom.
#[derive(Args, Clone, Debug, Default)]
pub struct ChatArgs {
    /// The question; without one a conversation begins. Text on standard input is added to it
    #[arg(value_name = "QUESTION")]
    pub question: Vec<String>,
    /// Model to ask, with suffixes as -thinking, -search, -image or -video [default: the server's]
    #[arg(short, long, value_name = "NAME")]
    pub model: Option<String>,
    /// File or picture to send along; can be given several times
    #[arg(short, long, value_name = "PATH")]
    pub file: Vec<String>,
    /// File or folder in which pictures and videos that are made are saved
    #[arg(long, value_name = "PATH")]
    pub save: Option<String>,
    /// Address of a server elsewhere; without it the one of this machine's settings. The key is that of API_KEY
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Where the server of this machine listens.
    #[command(flatten)]
    pub listen: Listen,
}

/// Asks one question, or holds a conversation. A reader of standard output that has enough, as `head` has, ends it well.
///
/// # Errors
/// [`ChatError`]: the question was not answered. A conversation shows errors and goes on, unless it cannot begin.
pub async fn run(config: &Config, args: ChatArgs) -> Result<(), ChatError> {
    match talk_or_ask(config, args).await {
        Err(ChatError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

async fn talk_or_ask(config: &Config, args: ChatArgs) -> Result<(), ChatError> {
    let configured = config.http.keys.first().map(|named| named.key.clone());
    let server = match &args.url {
        Some(url) => Server::at(url, configured)?,
        None => {
            // A key that the server made for itself is for the server of this machine only.
            let key = configured.or_else(|| generated_key(config));
            Server::near(callable(config.http.listen), &config.http.base_path, key)?
        }
    };
    let mut talk = Talk::with(args.model.clone());
    let screen = Screen::new();
    for file in &args.file {
        let what = talk.attach(file)?;
        screen.hint(format_args!("{file}: {what}"));
    }
    let is_conversation = args.question.is_empty() && io::stdin().is_terminal() && screen.is_terminal();
    let mut session = Session::new(server, talk, screen);
    if is_conversation {
        return converse(session, args.save.as_deref()).await;
    }
    let question = question_of(&args.question)?;
    if question.is_empty() && args.file.is_empty() {
        return Err(ChatError::NoQuestion);
    }
    session.ask(&question).await?;
    match &args.save {
        Some(target) => session.save(Path::new(target)).await,
        None => Ok(()),
    }
}

/// The words of the command line, and what standard input has if it is not a terminal.
fn question_of(words: &[String]) -> Result<String, ChatError> {
    let mut question = words.join(" ");
    if !io::stdin().is_terminal() {
        let mut piped = Vec::new();
        io::stdin().lock().take(QUESTION_BYTES_MAX).read_to_end(&mut piped).map_err(ChatError::Input)?;
        let piped = String::from_utf8_lossy(&piped);
        if !question.is_empty() && !piped.trim().is_empty() {
            question.push_str("\n\n");
        }
        question.push_str(piped.trim_end());
    }
    Ok(question)
}

/// The key that the server made for itself. Without one in the state, the server says that a key is missing.
fn generated_key(config: &Config) -> Option<ApiKey> {
    (config.key_policy == KeyPolicy::GenerateKey).then(|| Store::generated_key(&config.state_dir)).flatten()
}
