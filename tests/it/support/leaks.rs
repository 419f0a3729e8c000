//! Secrets that a run has, and a search for them in what it wrote.
#![expect(clippy::string_slice, reason = "every index comes from a search or an ASCII secret")]

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{AccountScript, Era, RefreshRotation, Scenario};

use crate::support::program::KEY;

pub(crate) const WRONG_KEY: &str = "sk-CANARY-wrong-77ab01fe3c";
pub(crate) const PROMPT: &str = "CANARY-prompt-59d1c3";

/// A simulator with an account of each era.
pub(crate) async fn simulator() -> Simulator {
    let accounts = [
        AccountScript { refresh_rotation: RefreshRotation::New, ..AccountScript::new("bob", Era::B) },
        AccountScript::new("ada", Era::A),
    ];
    Simulator::start(Scenario::with_accounts(accounts)).await.unwrap()
}

/// A secret in all forms in which it could leak.
fn forms_of(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for padding in 0..3 {
        let padded = [vec![b'x'; padding], secret.as_bytes().to_vec()].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        // What depends on the neighbours is cut off.
        let inner = &text[4..text.len() - 4];
        forms.push(inner.to_owned());
        forms.push(inner.replace('+', "-").replace('/', "_"));
    }
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    forms.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    // Half a token is a leak as well.
    if secret.len() > 60 {
        forms.push(secret[secret.len() - 24..].to_owned());
        forms.push(secret[secret.len() / 2..secret.len() / 2 + 24].to_owned());
    }
    forms
}

/// Every credential that the run has seen.
pub(crate) fn credentials(simulator: &Simulator) -> Vec<String> {
    let mut secrets = simulator.record().secrets();
    for account in simulator.accounts().names() {
        let cookie = simulator.accounts().cookie(&account);
        secrets.extend(cookie.split("; ").filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())));
    }
    secrets.extend([KEY.to_owned(), WRONG_KEY.to_owned()]);
    secrets.retain(|secret| secret.len() >= 16);
    assert!(secrets.len() > 10);
    secrets
}

/// Fails when a text holds one of the secrets in any form.
#[track_caller]
pub(crate) fn must_not_hold(text: &str, secrets: &[String], what: &str) {
    for secret in secrets {
        for form in forms_of(secret) {
            if let Some(at) = text.find(&form) {
                let begin = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line: String = text[begin..].chars().take(400).collect();
                panic!("{what} holds {form:?} of {secret:?}: {line}");
            }
        }
    }
}

/// A client that keeps all answers.
pub(crate) struct Caller {
    pub(crate) client: reqwest::Client,
    pub(crate) address: SocketAddr,
    credential: String,
    pub(crate) answers: Vec<String>,
}

impl Caller {
    pub(crate) fn new(address: SocketAddr, credential: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Self { client, address, credential: credential.to_owned(), answers: Vec::new() }
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> u16 {
        let request = self.client.post(format!("http://{}{path}", self.address)).bearer_auth(&self.credential);
        let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let headers = format!("{:?}", response.headers());
        let text = response.text().await.unwrap_or_default();
        self.answers.push(headers + &text);
        status
    }

    pub(crate) async fn ask(&mut self, text: &str, stream: bool) -> u16 {
        let body = json!({
            "model": "qwen3-max", "stream": stream, "messages": [{"role": "user", "content": text}],
            "user": PROMPT, "metadata": {"note": PROMPT},
        });
        self.post("/v1/chat/completions", &body).await
    }

    pub(crate) fn last(&self) -> &str {
        self.answers.last().unwrap()
    }
}
