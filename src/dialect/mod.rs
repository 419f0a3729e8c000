//! The callers' dialects: each reads request bodies into the middle and writes answers from it.
//!
//! Pure, and independent of every upstream: this room never imports `upstream`, and `upstream` never imports it.

pub(crate) mod anthropic;
pub mod openai;
pub(crate) mod responses;
pub mod writer;

use crate::chat::failure::Failure;

/// The dialects, as far as errors are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's, also for every path that belongs to no other dialect.
    OpenAi,
    /// Anthropic's: `/v1/messages` and everything below it.
    Anthropic,
}

impl Dialect {
    /// The dialect that is spoken at a path, whether or not there is a route.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        match path.strip_prefix("/v1/messages") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }

    /// The JSON of a failed request's body.
    #[must_use]
    pub fn error_body(self, failure: &Failure, request_id: &str) -> Vec<u8> {
        let id = Some(request_id);
        let written = match self {
            Self::OpenAi => serde_json::to_vec(&openai::error::error_body(failure, id)),
            Self::Anthropic => serde_json::to_vec(&anthropic::error::error_body(failure, id)),
        };
        // Plain strings always serialise.
        written.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::failure::FailureKind;

    #[test]
    fn the_dialect_of_a_path() {
        for (path, expected) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messages/", Dialect::Anthropic),
            ("/v1/messagesx", Dialect::OpenAi),
            ("/messages", Dialect::OpenAi),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of_path(path), expected, "{path}");
        }
    }

    #[test]
    fn bodies() {
        let failure = Failure::new(FailureKind::NotFound, "model_not_found", "No \"such\" model.").about("model");
        let written = |dialect: Dialect| String::from_utf8(dialect.error_body(&failure, "id-1")).unwrap();
        insta::assert_snapshot!(written(Dialect::OpenAi), @r#"{"error":{"message":"No \"such\" model.","type":"invalid_request_error","param":"model","code":"model_not_found"},"request_id":"id-1"}"#);
        insta::assert_snapshot!(written(Dialect::Anthropic), @r#"{"type":"error","error":{"type":"not_found_error","message":"No \"such\" model."},"request_id":"id-1"}"#);
        let named = Failure::new(FailureKind::Gone, "login_expired", "Over.").typed("auth_poll_error");
        let body = String::from_utf8(Dialect::OpenAi.error_body(&named, "id-1")).unwrap();
        assert!(body.contains(r#""type":"auth_poll_error","param":null"#), "{body}");
    }
}
