//! `GET /admin/requests`, `/admin/requests/{id}` and `/admin/events`: what happened to the last requests and what
//! happens now, for the owner. Nothing of what a request or an answer says is in here.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse as _, Response, Sse};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::base::caller_key::KeyName;
use crate::chat::failure::Failure;
use crate::gateway::answer::trace::{Entry, History, What};
use crate::gateway::requests::{AskedFor, ENDED_MAX, EndedRequest, Happening, OpenRequest, RequestHead};
use crate::http::owner::accounts::view::accounts;
use crate::http::owner::advice::{Advice, advice};
use crate::http::owner::present::not_stored;
use crate::http::state::AppState;
use crate::pool::Now;

/// Interval in which the accounts are compared with the last state sent in a stream of events.
const ACCOUNTS_EVERY: Duration = Duration::from_secs(1);
/// Interval of keep-alives on a silent event stream.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/requests", get(list_requests))
        .route("/admin/requests/{id}", get(explain_request))
        .route("/admin/events", get(events))
}

/// The query of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Most ended requests in the answer.
    limit: Option<usize>,
    /// Of the caller's key with this name.
    key: Option<String>,
    /// Asked on this account last.
    account: Option<String>,
    /// With this outcome; `failed` for all but `ok`, `caller_left` and `open`.
    class: Option<String>,
}

impl Wanted {
    fn has(&self, request: &Shown<'_>) -> bool {
        let is = |wish: &Option<String>, found: Option<&str>| wish.as_deref().is_none_or(|wish| found == Some(wish));
        let is_of_class = match self.class.as_deref() {
            None => true,
            Some("failed") => !matches!(request.outcome, "ok" | "caller_left" | "open"),
            Some(class) => request.outcome == class,
        };
        is_of_class && is(&self.key, request.key) && is(&self.account, request.account)
    }
}

/// A request as the page shows it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: &'a str,
    at_ms: u64,
    method: &'a str,
    route: &'a str,
    key: Option<&'a str>,
    asked_for: Option<&'static str>,
    model: Option<&'a str>,
    account: Option<&'a str>,
    kind: Option<&'static str>,
    stream: bool,
    /// `None` until the answer begins.
    status: Option<u16>,
    outcome: &'a str,
    attempts: usize,
    prompt_tokens: u64,
    completion_tokens: u64,
    reasoning_tokens: u64,
    pictures: u32,
    first_token_ms: Option<u64>,
    total_ms: u64,
    advice: Advice,
}

impl<'a> Shown<'a> {
    fn new(
        head: &'a RequestHead,
        history: &'a History,
        status: Option<u16>,
        outcome: &'a str,
        total: Duration,
    ) -> Self {
        let account = history.account.as_ref();
        Self {
            id: &head.id,
            at_ms: millis(head.came_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            method: &head.method,
            route: &head.route,
            key: head.key.as_ref().map(KeyName::as_str),
            asked_for: head.asked_for.map(word),
            model: head.model.as_deref(),
            account: account.map(|(_, identity)| identity.as_str()),
            kind: account.map(|(kind, _)| kind.as_str()),
            stream: head.is_streamed,
            status,
            outcome,
            attempts: history.attempts,
            prompt_tokens: history.tokens.prompt,
            completion_tokens: history.tokens.completion,
            reasoning_tokens: history.tokens.reasoning,
            pictures: history.pictures,
            first_token_ms: history.first_content.map(millis),
            total_ms: millis(total),
            advice: advice(outcome, history),
        }
    }

    fn open(request: &'a OpenRequest) -> Self {
        Self::new(&request.head, &request.history, None, "open", request.age)
    }

    fn ended(request: &'a EndedRequest) -> Self {
        let status = Some(request.status).filter(|status| *status > 0);
        Self::new(&request.head, &request.history, status, request.outcome, request.total)
    }
}

async fn list_requests(
    State(state): State<AppState>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wanted) = wanted.map_err(|wrong| Failure::wrong_query(&wrong.body_text()))?;
    let limit = wanted.limit.unwrap_or(ENDED_MAX);
    if !(1..=ENDED_MAX).contains(&limit) {
        return Err(Failure::wrong_query(&format!("'limit' must be an integer from 1 to {ENDED_MAX}.")));
    }
    let (open, ended) = (state.0.observers.requests.all_open(), state.0.observers.requests.all_ended());
    let open: Vec<_> = open.iter().map(Shown::open).filter(|request| wanted.has(request)).collect();
    let recent: Vec<_> =
        ended.iter().map(|request| Shown::ended(request)).filter(|request| wanted.has(request)).take(limit).collect();
    Ok(not_stored(Json(json!({"open": open, "recent": recent})).into_response()))
}

async fn explain_request(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, Failure> {
    let requests = &state.0.observers.requests;
    if let Some(ended) = requests.all_ended().iter().find(|request| request.head.id == id) {
        return Ok(not_stored(explained(&Shown::ended(ended), &ended.head, &ended.history)));
    }
    let open = requests.all_open();
    let found =
        open.iter().find(|request| request.head.id == id).ok_or_else(|| Failure::request_not_kept(ENDED_MAX))?;
    Ok(not_stored(explained(&Shown::open(found), &found.head, &found.history)))
}

fn explained(shown: &Shown<'_>, head: &RequestHead, history: &History) -> Response {
    let mut body = json!(shown);
    if let Value::Object(fields) = &mut body {
        let notes: Vec<_> = head.notes.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        fields.insert("notes".to_owned(), Value::Array(notes));
        fields.insert("timeline".to_owned(), history.entries.iter().map(told).collect());
    }
    Json(body).into_response()
}

/// One moment of a request.
fn told(entry: &Entry) -> Value {
    let mut told = match &entry.what {
        What::Understood { name, value } => json!({"what": name.replace('-', "_"), "value": value}),
        What::PassedOver { identity, reason } => {
            json!({"what": "passed_over", "account": identity.as_str(), "reason": reason})
        }
        What::Chosen { identity, waited } => {
            json!({"what": "chosen", "account": identity.as_str(), "waited_ms": millis(*waited)})
        }
        What::NoAccount { kind, waited } => {
            json!({"what": "no_account", "kind": kind.as_str(), "waited_ms": millis(*waited)})
        }
        What::Token { identity, took, is_usable } => {
            json!({"what": "token", "account": identity.as_str(), "took_ms": millis(*took), "usable": is_usable})
        }
        What::Files { count, took } => json!({"what": "files", "count": count, "took_ms": millis(*took)}),
        What::Continued { saved_bytes } => json!({"what": "continued", "saved_bytes": saved_bytes}),
        What::NotContinued { class } => json!({"what": "not_continued", "class": class}),
        What::ToolsInText => json!({"what": "tools_in_text"}),
        What::Failed { identity, was_asked, class, next } => {
            json!({"what": "failed", "account": identity.as_str(), "asked": was_asked, "class": class, "next": next})
        }
        What::Answered { identity } => json!({"what": "answered", "account": identity.as_str()}),
        What::FirstContent => json!({"what": "first_content"}),
        What::AskedAgain { code } => json!({"what": "asked_again", "code": code}),
    };
    if let Value::Object(fields) = &mut told {
        fields.insert("at_ms".to_owned(), millis(entry.at).into());
    }
    told
}

async fn events(State(state): State<AppState>) -> Response {
    let mut looks = interval(ACCOUNTS_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let happenings = state.0.observers.requests.watch();
    let watch = Watch { state, happenings, looks, accounts: String::new() };
    let events = stream::unfold(watch, async |mut watch| {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    not_stored(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response())
}

/// One open stream of events.
struct Watch {
    state: AppState,
    happenings: Receiver<Happening>,
    /// Ticks at which the accounts are read, which announce no changes themselves.
    looks: Interval,
    /// The accounts as they were told last.
    accounts: String,
}

impl Watch {
    /// The next event; `None` when the server stops. A stream that fell behind gets the event `missed`, which means that the
    /// lists have to be read again.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let happened = tokio::select! {
                happened = self.happenings.recv() => happened,
                _ = self.looks.tick() => {
                    if let Some(event) = self.changed_accounts() {
                        return Some(event);
                    }
                    continue;
                }
                // A page that looks on is no answer, for which a stop would wait.
                () = self.state.0.owner.stopping.cancelled() => return None,
            };
            let event = match &happened {
                Ok(Happening::Open(open)) => Event::default().event("request").json_data(Shown::open(open)),
                Ok(Happening::Ended(ended)) => Event::default().event("request").json_data(Shown::ended(ended)),
                Err(RecvError::Lagged(_)) => Ok(Event::default().event("missed").data("{}")),
                Err(RecvError::Closed) => return None,
            };
            return event.ok();
        }
    }

    /// The accounts as `GET /admin/accounts` gives them, if they are not as they were.
    fn changed_accounts(&mut self) -> Option<Event> {
        let accounts = serde_json::to_string(&accounts(&self.state, Now::read())).ok()?;
        if accounts == self.accounts {
            return None;
        }
        self.accounts = accounts;
        Some(Event::default().event("accounts").data(&self.accounts))
    }
}

fn word(asked_for: AskedFor) -> &'static str {
    match asked_for {
        AskedFor::Answer => "answer",
        AskedFor::Picture => "picture",
        AskedFor::Video => "video",
        AskedFor::Embedding => "embedding",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
