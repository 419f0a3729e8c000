//! The meaning of a line that was typed.

/// A line of input, as a question or a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line of white space only.
    Empty,
    /// A question for the model.
    Question(&'a str),
    /// `/help`: shows the commands.
    Help,
    /// `/new`: a new conversation.
    New,
    /// `/quit`: ends the program.
    Quit,
    /// `/model`: lists the models, or switches to one.
    Model(Option<&'a str>),
    /// `/file PATH`: attaches a file to the next question; without a path, takes the attached ones off.
    File(Option<&'a str>),
    /// `/save PATH`: saves the pictures or the video of the last answer.
    Save(Option<&'a str>),
    /// A `/word` that is not a command.
    Unknown(&'a str),
}

/// The text of `/help`.
pub(crate) const HELP: &str = "\
/model [NAME]   list the models, or switch to one
/file PATH      attach a file or a picture to the next question; without a path, take all off
/save PATH      save the last pictures or video in a file or a folder
/new            begin a new conversation
/help           show this
/quit           leave; Ctrl-D does the same

Ctrl-C stops an answer. A line that begins with a space is a question, whatever follows.";

impl<'a> Line<'a> {
    /// Reads a line; leading white space makes a command a question.
    pub(crate) fn read(line: &'a str) -> Self {
        let text = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return if text.is_empty() { Self::Empty } else { Self::Question(text) };
        };
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
        match word.trim_end() {
            "help" | "?" => Self::Help,
            "new" | "clear" => Self::New,
            "quit" | "exit" | "bye" | "q" => Self::Quit,
            "model" | "models" => Self::Model(rest),
            "file" => Self::File(rest),
            "save" => Self::Save(rest),
            other => Self::Unknown(other),
        }
    }
}

/// The path in what was typed or dropped into the terminal: without quotes, escapes and with the home folder for `~`.
pub(crate) fn path_of(text: &str, home: Option<&str>) -> String {
    let quoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let path = match quoted {
        Some(path) => path.to_owned(),
        None if cfg!(windows) => text.to_owned(),
        None => {
            let mut path = String::with_capacity(text.len());
            let mut letters = text.chars();
            while let Some(letter) = letters.next() {
                path.extend(if letter == '\\' { letters.next() } else { Some(letter) });
            }
            path
        }
    };
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        for (line, expected) in [
            ("", Line::Empty),
            ("  \t", Line::Empty),
            (" hello ", Line::Question("hello")),
            ("what is /model", Line::Question("what is /model")),
            (" /etc/hosts says what?", Line::Question("/etc/hosts says what?")),
            ("/etc/hosts says what?", Line::Unknown("etc/hosts")),
            ("/model", Line::Model(None)),
            ("/model  qwen3-max ", Line::Model(Some("qwen3-max"))),
            ("/file a b.png", Line::File(Some("a b.png"))),
            ("/file", Line::File(None)),
            ("/new", Line::New),
            ("/help", Line::Help),
            ("/quit ", Line::Quit),
            ("/save x.png", Line::Save(Some("x.png"))),
            ("/", Line::Unknown("")),
        ] {
            assert_eq!(Line::read(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        for command in ["/model", "/file", "/save", "/new", "/help", "/quit"] {
            assert!(HELP.contains(command), "{command}");
        }
    }

    #[test]
    fn paths_are_read_as_terminals_write_them() {
        for (text, path) in [
            ("a.png", "a.png"),
            ("'a b.png'", "a b.png"),
            ("\"a b.png\"", "a b.png"),
            ("~/a.png", "/home/me/a.png"),
            ("it's.png", "it's.png"),
        ] {
            assert_eq!(path_of(text, Some("/home/me/")), path, "{text}");
        }
        #[cfg(unix)]
        assert_eq!(path_of("a\\ b\\(1\\).png", None), "a b(1).png");
        assert_eq!(path_of("~/a", None), "~/a");
    }
}
