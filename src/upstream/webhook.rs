//! The owner's webhook: short texts sent to an address of theirs, in the form that its service reads. The address may
//! be private; its path and query are secret and appear in no log and no error.

use std::fmt;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::upstream::web::client::WebClientError;

/// The address of a webhook and the form of its service.
#[derive(Clone)]
pub struct WebhookAddress {
    url: SecretString,
    form: WebhookForm,
}

/// The forms in which services take a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookForm {
    /// The facts as a JSON object, without title and text.
    Json,
    /// ntfy: the text as the body, the title as a header.
    Ntfy,
    /// Telegram's `sendMessage`, with `chat_id` in the query.
    Telegram,
    /// An incoming webhook of Slack; others understand the same.
    Slack,
    /// A bot of Feishu or Lark.
    Feishu,
}

/// The content of one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookText {
    /// One line, in English.
    pub title: String,
    /// A sentence or two, in English and in Chinese.
    pub text: String,
    /// The facts for programs, sent in the form [`WebhookForm::Json`].
    pub facts: Value,
}

/// Reasons why a text was not delivered. Holds no part of the address.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The address did not answer.
    #[error("the address cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The address answered with another status than 2xx.
    #[error("the address answered with status {0}")]
    Refused(u16),
    /// The service answered with success and a code that refuses the text.
    #[error("the service refused the text, code {0}")]
    NotTaken(i64),
}

impl WebhookAddress {
    /// Reads an address. Its form follows from the host, or from `ntfy+`, `telegram+`, `slack+`, `feishu+` or `json+` in front
    /// of it.
    ///
    /// # Errors
    /// A sentence about the form of an address.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let named = FORMS.iter().find_map(|(name, form)| Some((*form, text.strip_prefix(name)?.strip_prefix('+')?)));
        let (form, text) = named.map_or((None, text), |(form, rest)| (Some(form), rest));
        let url = Url::parse(text).map_err(|_| EXPECTED)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EXPECTED);
        }
        let host = url.host_str().ok_or(EXPECTED)?;
        let form = form.unwrap_or_else(|| WebhookForm::of_host(host));
        if form == WebhookForm::Telegram && !url.query_pairs().any(|(name, _)| name == CHAT_ID) {
            return Err("must name the chat, as https://api.telegram.org/bot<token>/sendMessage?chat_id=<id>");
        }
        Ok(Self { url: SecretString::from(url.as_str()), form })
    }
}

impl fmt::Debug for WebhookAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookAddress").field("form", &self.form).finish_non_exhaustive()
    }
}

impl WebhookForm {
    fn of_host(host: &str) -> Self {
        match host {
            "api.telegram.org" => Self::Telegram,
            "hooks.slack.com" => Self::Slack,
            "open.feishu.cn" | "open.larksuite.com" => Self::Feishu,
            host if host.starts_with("ntfy.") => Self::Ntfy,
            _ => Self::Json,
        }
    }
}

/// Sends texts to the owner's address.
pub(crate) struct Webhook {
    client: reqwest::Client,
    address: WebhookAddress,
}

impl Webhook {
    /// A client for this address.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub(crate) fn new(address: WebhookAddress, is_direct: bool) -> Result<Self, WebClientError> {
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("qwen-bridge/", env!("CARGO_PKG_VERSION")));
        let builder = if is_direct { builder.no_proxy() } else { builder };
        Ok(Self { client: builder.build().map_err(WebClientError::Client)?, address })
    }

    /// Sends a text once, within ten seconds.
    ///
    /// # Errors
    /// [`WebhookError`]: it was not delivered.
    pub(crate) async fn send(&self, text: &WebhookText) -> Result<(), WebhookError> {
        let request = self.client.post(self.address.url.expose_secret());
        let whole = format!("{}\n{}", text.title, text.text);
        let as_json = |body: Value| (body.to_string(), "application/json");
        let (body, content_type) = match self.address.form {
            WebhookForm::Json => as_json(text.facts.clone()),
            // A header carries ASCII only, so the title is the English one.
            WebhookForm::Ntfy => (text.text.clone(), "text/plain; charset=utf-8"),
            WebhookForm::Telegram => as_json(json!({"chat_id": self.chat_id(), "text": whole})),
            WebhookForm::Slack => as_json(json!({"text": whole})),
            WebhookForm::Feishu => as_json(json!({"msg_type": "text", "content": {"text": whole}})),
        };
        let mut request = request.header(CONTENT_TYPE, content_type).body(body);
        if self.address.form == WebhookForm::Ntfy {
            request = request.header("Title", text.title.as_str());
        }
        // Without this the address would be part of the error's text.
        let unreachable = |error: reqwest::Error| WebhookError::Unreachable(error.without_url());
        let mut response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(WebhookError::Refused(response.status().as_u16()));
        }
        let mut said = Vec::new();
        while said.len() < ANSWER_BYTES_MAX
            && let Some(piece) = response.chunk().await.map_err(unreachable)?
        {
            said.extend_from_slice(&piece);
        }
        match self.address.form {
            // Feishu answers 200 to a text that it refuses.
            WebhookForm::Feishu => {
                let said: Value = serde_json::from_slice(&said).unwrap_or_default();
                match said.get("code").and_then(Value::as_i64) {
                    None | Some(0) => Ok(()),
                    Some(code) => Err(WebhookError::NotTaken(code)),
                }
            }
            WebhookForm::Json | WebhookForm::Ntfy | WebhookForm::Telegram | WebhookForm::Slack => Ok(()),
        }
    }

    fn chat_id(&self) -> String {
        let url = Url::parse(self.address.url.expose_secret()).ok();
        let found =
            url.and_then(|url| url.query_pairs().find(|(name, _)| name == CHAT_ID).map(|(_, id)| id.into_owned()));
        found.unwrap_or_default()
    }
}

/// Prefixes of an address, and the forms that they choose.
const FORMS: [(&str, WebhookForm); 5] = [
    ("json", WebhookForm::Json),
    ("ntfy", WebhookForm::Ntfy),
    ("telegram", WebhookForm::Telegram),
    ("slack", WebhookForm::Slack),
    ("feishu", WebhookForm::Feishu),
];
const EXPECTED: &str = "must be an address such as https://ntfy.sh/topic, or ntfy+, telegram+, slack+, feishu+ or json+ \
                        and an address";
const CHAT_ID: &str = "chat_id";
/// Time limit of one try.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_from_the_host_or_from_the_word_in_front() {
        for (text, expected) in [
            ("https://ntfy.sh/mine", WebhookForm::Ntfy),
            ("https://ntfy.example.org/mine", WebhookForm::Ntfy),
            ("https://api.telegram.org/bot1:x/sendMessage?chat_id=5", WebhookForm::Telegram),
            ("https://hooks.slack.com/services/T/B/x", WebhookForm::Slack),
            ("https://open.feishu.cn/open-apis/bot/v2/hook/x", WebhookForm::Feishu),
            ("https://open.larksuite.com/open-apis/bot/v2/hook/x", WebhookForm::Feishu),
            ("http://192.168.1.5:8080/hook", WebhookForm::Json),
            ("slack+http://127.0.0.1:1/x", WebhookForm::Slack),
            ("json+https://ntfy.sh/mine", WebhookForm::Json),
        ] {
            let address = WebhookAddress::parse(text).unwrap();
            assert_eq!(address.form, expected, "{text}");
            assert!(
                !format!("{address:?}").contains("mine") && !format!("{address:?}").contains("http"),
                "{address:?}"
            );
        }
        for text in [
            "",
            "ntfy.sh/mine",
            "ftp://ntfy.sh/x",
            "ntfy+",
            "irc+https://x/",
            "https://api.telegram.org/bot1/sendMessage",
        ] {
            assert!(WebhookAddress::parse(text).is_err(), "{text}");
        }
    }
}
