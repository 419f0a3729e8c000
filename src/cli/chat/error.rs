//! Reasons why `chat` has no answer, each as a sentence for the terminal.

use std::io;

use reqwest::StatusCode;

/// Reasons why `chat` has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// `--url` is not the URL of a server.
    #[error("{0:?} is not the address of a server; write it as http://host:port")]
    Address(String),
    /// The question is missing: neither arguments nor text on standard input.
    #[error("there is no question: write one behind `chat`, or send one to its standard input")]
    NoQuestion,
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client that calls the server")]
    Client(#[source] reqwest::Error),
    /// No server answers at this URL.
    #[error("no server answers at {0}; start it with `qwen-bridge`, or name another with --url")]
    Unreachable(String, #[source] reqwest::Error),
    /// Something answers at this `https` URL, but without TLS.
    #[error("the server at {0} does not speak TLS; write http:// in place of https://")]
    NoTls(String),
    /// The server refused the request.
    #[error("{}", sentence(.0))]
    Refused(Refusal),
    /// The answer came from another kind of server.
    #[error("{0} answers, but not as this server does ({1}); is the address right?")]
    Stranger(String, StatusCode),
    /// The answer ended before its last word.
    #[error("the answer broke off{}", request(.0.as_deref()))]
    Broken(Option<String>, #[source] Option<reqwest::Error>),
    /// A file to send cannot be read.
    #[error("cannot read {0}")]
    File(String, #[source] io::Error),
    /// A file to send is larger than any server takes.
    #[error("{0} has {1}, and at most {2} can be sent")]
    TooLarge(String, String, String),
    /// The picture or video cannot be fetched.
    #[error("cannot fetch {0}")]
    Fetch(String, #[source] reqwest::Error),
    /// The picture or video cannot be written to a file.
    #[error("cannot write {0}")]
    Save(String, #[source] io::Error),
    /// Standard input or the terminal cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// Standard output is closed.
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

/// The server's refusal of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status; `None` for an error within a stream.
    pub status: Option<u16>,
    /// Sentence for people about the fault and its remedy.
    pub message: String,
    /// Machine-readable code, such as `model_not_found`.
    pub code: String,
    /// The id of the request, as the log and the owner's page have it.
    pub request_id: Option<String>,
}

fn sentence(refusal: &Refusal) -> String {
    let message = if refusal.message.is_empty() { "the server refused the request" } else { &refusal.message };
    let code = if refusal.code.is_empty() { String::new() } else { format!(" ({})", refusal.code) };
    let key = match refusal.status {
        Some(401) => "\nThe key is taken from API_KEY: in the environment, in .env or in config.json.",
        _ => "",
    };
    format!("{message}{code}{}{key}", request(refusal.request_id.as_deref()))
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!(", request {id}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_sentence_with_the_id_of_the_request() {
        let refusal = Refusal {
            status: Some(404),
            message: "The model 'x' does not exist.".to_owned(),
            code: "model_not_found".to_owned(),
            request_id: Some("r-1".to_owned()),
        };
        let shown = ChatError::Refused(refusal).to_string();
        assert_eq!(shown, "The model 'x' does not exist. (model_not_found), request r-1");
        assert_eq!(ChatError::Refused(Refusal::default()).to_string(), "the server refused the request");
        let unknown = Refusal { status: Some(401), ..Refusal::default() };
        assert!(ChatError::Refused(unknown).to_string().contains("API_KEY"));
        assert_eq!(ChatError::Broken(Some("r".to_owned()), None).to_string(), "the answer broke off, request r");
    }
}
