//! `POST /v1/responses` and what belongs to it: OpenAI's newer dialect, on every kind of upstream. Responses are kept
//! for their callers, who can fetch, continue and delete them.

use std::collections::HashMap;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::failure::Failure;
use crate::chat::reply::{Ending, ReplyEvent, ReplySink};
use crate::dialect::openai::error::error_type;
use crate::dialect::responses::items::reference;
use crate::dialect::responses::kept::{input_items, items, response_of_item};
use crate::dialect::responses::reply::{Finished, ResponseHead, ResponseReply};
use crate::dialect::responses::request::{ResponsesRequest, blame, previous_response_id};
use crate::dialect::responses::wire::ItemList;
use crate::dialect::writer::StreamWriter;
use crate::gateway::requests::AskedFor;
use crate::gateway::responses::{KeptResponses, NewResponse};
use crate::http::call::{Call, json_response, note_headers, unix_seconds, usage_header};
use crate::http::serve::admission::caller::Caller;
use crate::http::serve::content::json::{JsonBody, read_json};
use crate::http::serve::content::lift::put_back;
use crate::http::state::AppState;
use crate::store::{CHAIN_MAX, Chain, KeptResponse, StoreError};
use crate::telemetry::ErrorChain;

/// Items on a page when the caller does not say.
const PAGE_DEFAULT: usize = 20;
/// The most items on a page.
const PAGE_MAX: usize = 100;

/// The routes of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/responses", post(create_response))
        .route("/v1/responses/{id}", get(retrieve_response).delete(delete_response))
        .route("/v1/responses/{id}/input_items", get(list_input_items))
}

async fn create_response(call: Call, request: Request) -> Result<Response, Response> {
    call.record.asks(AskedFor::Answer);
    let body = read_json(request, &call.settings).await?;
    answer(call, body).await.map_err(Failure::into_response)
}

async fn answer(call: Call, mut body: JsonBody) -> Result<Response, Failure> {
    let (owner, responses) = (owner(&call.caller), call.state.0.responses.clone());
    let previous = previous_response_id(&body.value)?.map(str::to_owned);
    let earlier = earlier(&responses, &owner, previous.as_deref()).await?;
    fill_in_references(&responses, &owner, &mut body.value).await?;
    let route = call.choose(body.value.get("model").and_then(Value::as_str)).await?;
    let id = format!("resp_{}", Uuid::new_v4().simple());
    let (request, input) = read(body, earlier, &id, &responses).await?;
    let ResponsesRequest { chat, stream, echo, freeform } = request;
    call.log_question(|| chat.newest_user_text());
    let prepared =
        call.state.0.answers.prepare(&call.answering, chat, route, |model| call.may_use(model)).await.map_err(blame)?;
    call.record.model(&prepared.model);
    let keeper = input.map(|input| Keeper { responses, id: id.clone(), owner, previous, input });
    let head = ResponseHead { id, created_at: unix_seconds(), model: prepared.model.clone(), echo, freeform };
    let notes = note_headers(&prepared.notes);
    let mut response = if stream {
        call.stream(prepared, ResponseStream { reply: ResponseReply::streamed(head), keeper }).await?
    } else {
        let mut reply = ResponseReply::whole(head);
        let ending = call.whole(&prepared, &mut reply).await?;
        let finished = reply.finish(&ending);
        if let Some(keeper) = keeper {
            keeper.keep(finished);
        }
        let mut response = json_response(finished.json.clone());
        response.headers_mut().extend(usage_header(ending.is_usage_estimated));
        response
    };
    response.headers_mut().extend(notes);
    Ok(response)
}

/// The responses that a request continues, oldest first.
async fn earlier(responses: &KeptResponses, owner: &str, previous: Option<&str>) -> Result<Vec<KeptResponse>, Failure> {
    let Some(id) = previous else { return Ok(Vec::new()) };
    match responses.chain(owner, id).await.map_err(|error| unreadable(&error))? {
        Chain::Found(chain) if chain.last().is_some_and(|last| !last.is_continuable) => {
            let expected = "the id of a response that did not fail";
            Err(RequestError::invalid_value("previous_response_id", expected).into())
        }
        Chain::Found(chain) => Ok(chain),
        Chain::Missing => Err(Failure::previous_response_not_found(id)),
        Chain::TooLong => {
            let message =
                format!("This conversation has more than {CHAIN_MAX} responses, or too many bytes. Begin anew.");
            Err(RequestError::new(RequestErrorKind::TooLong, "previous_response_id", message).into())
        }
    }
}

/// Replaces references to items of kept responses by the items. A reference that is not found stays.
async fn fill_in_references(responses: &KeptResponses, owner: &str, body: &mut Value) -> Result<(), Failure> {
    let Some(Value::Array(input)) = body.get_mut("input") else { return Ok(()) };
    let mut known: HashMap<String, Vec<Value>> = HashMap::new();
    for item in input {
        let Some(id) = reference(item).map(str::to_owned) else { continue };
        let Some(response_id) = response_of_item(&id) else { continue };
        if !known.contains_key(&response_id) {
            let found = responses.find(owner, &response_id).await.map_err(|error| unreadable(&error))?;
            let (mut all, answered) = found.map(|kept| items(&kept.input, &kept.response)).unwrap_or_default();
            all.extend(answered);
            known.insert(response_id.clone(), all);
        }
        let named = known.get(&response_id).into_iter().flatten().find(|known| known.get("id") == Some(&json!(id)));
        if let Some(named) = named {
            *item = named.clone();
        }
    }
    Ok(())
}

/// Reads the body, and gives its input as it is kept; `None` where nothing is to be kept. Decoding and hashing of
/// large files would hold up other requests, so that is done aside.
async fn read(
    body: JsonBody,
    earlier: Vec<KeptResponse>,
    id: &str,
    responses: &KeptResponses,
) -> Result<(ResponsesRequest, Option<String>), Failure> {
    let lifted_bytes: u64 = body.lifted.iter().map(|blob| blob.len().saturating_mul(4) / 3).sum();
    let takes = responses.takes(body.bytes.saturating_add(usize::try_from(lifted_bytes).unwrap_or(usize::MAX)));
    let earlier_bytes: usize = earlier.iter().map(|kept| kept.input.len() + kept.response.len()).sum();
    let id = id.to_owned();
    let parse = move || {
        let mut history = Vec::new();
        for kept in &earlier {
            let (asked, answered) = items(&kept.input, &kept.response);
            history.extend(asked);
            history.extend(answered);
        }
        let mut request = ResponsesRequest::parse(&body.value, &history, &body.lifted)?;
        request.echo.store &= takes;
        if !request.echo.store {
            return Ok((request, None));
        }
        let mut input = body.value.get("input").cloned();
        if let Some(input) = &mut input {
            put_back(input, &body.lifted).map_err(|_| Failure::internal())?;
        }
        let input = Value::Array(input_items(input.as_ref(), &id)).to_string();
        Ok((request, Some(input)))
    };
    let (_share, read) = body.share.work(body.bytes + earlier_bytes, parse).await?;
    read
}

async fn retrieve_response(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let kept = find(&state, &caller, id).await?;
    let query = query.unwrap_or_default();
    if url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "stream" && value == "true") {
        let why = "A response that is over is given as a whole.";
        return Err(RequestError::unsupported("stream", why).into());
    }
    Ok(json_response(kept.response))
}

async fn delete_response(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Path(id) = id.map_err(|_| Failure::response_not_found(""))?;
    let forgotten = state.0.responses.forget(&owner(&caller), &id).await;
    if !forgotten.map_err(|error| unreadable(&error))? {
        return Err(Failure::response_not_found(&id));
    }
    Ok(json_response(json!({"id": id, "object": "response", "deleted": true}).to_string()))
}

/// Lists all that a response was made from: what it continues, then its own input.
async fn list_input_items(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let page = Page::read(&query.unwrap_or_default())?;
    let kept = find(&state, &caller, id).await?;
    let chain = state.0.responses.chain(&kept.owner, &kept.id).await.map_err(|error| unreadable(&error))?;
    // Without the responses that it continues there is still its own input.
    let chain = if let Chain::Found(chain) = chain { chain } else { vec![kept] };
    let mut all = Vec::new();
    for (place, kept) in chain.iter().enumerate() {
        let (asked, answered) = items(&kept.input, &kept.response);
        all.extend(asked);
        if place + 1 < chain.len() {
            all.extend(answered);
        }
    }
    let (data, has_more) = page.of(all)?;
    let id_of = |item: Option<&Value>| item.and_then(|item| item.get("id")?.as_str().map(str::to_owned));
    let (first, last) = (id_of(data.first()).unwrap_or_default(), id_of(data.last()).unwrap_or_default());
    let list = ItemList { object: "list", data: &data, first_id: &first, last_id: &last, has_more };
    Ok(json_response(serde_json::to_vec(&list).map_err(|_| Failure::internal())?))
}

/// The requested items of a list.
struct Page {
    after: Option<String>,
    limit: usize,
    is_newest_first: bool,
}

impl Page {
    fn read(query: &str) -> Result<Self, Failure> {
        let mut page = Self { after: None, limit: PAGE_DEFAULT, is_newest_first: true };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "after" => page.after = Some(value.into_owned()),
                "limit" => {
                    let wrong = || RequestError::invalid_value("limit", &format!("an integer from 1 to {PAGE_MAX}"));
                    page.limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(wrong)?;
                }
                "order" => match &*value {
                    "asc" => page.is_newest_first = false,
                    "desc" => page.is_newest_first = true,
                    _ => return Err(RequestError::invalid_value("order", "'asc' or 'desc'").into()),
                },
                _ => {}
            }
        }
        Ok(page)
    }

    /// The items of this page out of all, oldest first, and whether more follow.
    fn of(&self, mut all: Vec<Value>) -> Result<(Vec<Value>, bool), Failure> {
        if self.is_newest_first {
            all.reverse();
        }
        if let Some(after) = &self.after {
            let place = all.iter().position(|item| item.get("id").and_then(Value::as_str) == Some(after));
            let place = place.ok_or_else(|| RequestError::invalid_value("after", "the id of an item of the list"))?;
            all.drain(..=place);
        }
        let has_more = all.len() > self.limit;
        all.truncate(self.limit);
        Ok((all, has_more))
    }
}

async fn find(
    state: &AppState,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<KeptResponse, Failure> {
    // Bytes that are not UTF-8 once decoded name no response.
    let Path(id) = id.map_err(|_| Failure::response_not_found(""))?;
    let found = state.0.responses.find(&owner(caller), &id).await.map_err(|error| unreadable(&error))?;
    found.ok_or_else(|| Failure::response_not_found(&id))
}

fn owner(caller: &Caller) -> String {
    caller.hash().as_str().to_owned()
}

fn unreadable(error: &StoreError) -> Failure {
    warn!(error = %ErrorChain(error), "kept responses cannot be read");
    Failure::internal()
}

/// Keeps a response once it is over.
struct Keeper {
    responses: KeptResponses,
    id: String,
    owner: String,
    previous: Option<String>,
    input: String,
}

impl Keeper {
    fn keep(self, finished: &Finished) {
        let Self { responses, id, owner, previous, input } = self;
        let is_continuable = finished.status != "failed";
        let response = finished.json.clone();
        responses.keep(NewResponse { id, owner, previous, is_continuable, input, response });
    }
}

/// A response on its way out. One whose caller leaves before its end is not kept.
struct ResponseStream {
    reply: ResponseReply,
    keeper: Option<Keeper>,
}

impl ReplySink for ResponseStream {
    fn event(&mut self, event: ReplyEvent<'_>) {
        self.reply.event(event);
    }

    fn held_bytes(&self) -> usize {
        self.reply.held_bytes()
    }

    fn reset(&mut self) {
        self.reply.reset();
    }
}

impl StreamWriter for ResponseStream {
    fn head(&mut self) -> Option<Bytes> {
        Some(self.reply.head())
    }

    fn finish(&mut self, ending: &Ending) {
        let finished = self.reply.finish(ending);
        if let Some(keeper) = self.keeper.take() {
            keeper.keep(finished);
        }
    }

    fn fail(&mut self, failure: &Failure, _: &str) {
        let is_callers = error_type(failure.kind) == "invalid_request_error";
        let failed = self.reply.fail(failure.code, &failure.message, is_callers);
        if let Some(keeper) = self.keeper.take() {
            keeper.keep(failed);
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        self.reply.take()
    }
}
